"""What an objective looks at: the traces of a step, the terms that read them, and the record of what came of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.families import Family, Normal
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.exchange import per_number

_ANY_FAMILY = Normal()
"""Of a site that is no declared latent: its KL by torch's closed form, or from the draw."""


class LossRecord(NamedTuple):
    """One evaluation of an objective, in nats: of each image, or as their mean.

    What is of each image is ``(views, images)``, what is of the batch as a whole a 0-d tensor; `mean` makes all of it
    0-d. Only ``loss`` is weighted; everything else is as it is, so that records of different weights compare.
    """

    loss: Tensor
    """reconstruction + beta x (KL + observed) + alpha x told + weighted terms; the opponents' own losses are not part
    of it."""
    reconstruction: Tensor
    """-log p(x | what the decoder saw)."""
    kl: dict[str, Tensor]
    """latent's name -> KL of its posterior to its prior, summed over units."""
    terms: dict[str, Tensor]
    """term's name -> its value."""
    opponents: dict[str, Tensor]
    """term's name -> its opponent's own loss."""
    observed: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    """name of a latent that is observed, by `pyro.condition` or by `Batch.observed` -> -log p of its value, summed over
    the units that are; these have no KL."""
    told: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    """name of a latent that `Batch.observed` observes -> -log q(value | x), summed over the units that are, each over
    the share of the training images that it is known of."""

    def map(self, function: Callable[..., Tensor], *others: LossRecord) -> LossRecord:
        """The record of a function of each tensor, and of its likes in other records of the same objective."""
        # Not torch's `tree_map`, which would take a tenth of a small step.
        parts: list[Any] = []
        for part, *likes in zip(self, *others, strict=True):
            if isinstance(part, dict):
                parts.append({name: function(value, *(like[name] for like in likes)) for name, value in part.items()})
            else:
                parts.append(function(part, *likes))
        return LossRecord(*parts)

    def mean(self) -> LossRecord:
        """Means over views and images, 0-d."""
        return self.map(torch.mean)


class Step(NamedTuple):
    """What a term may look at."""

    model: nn.Module
    guide: nn.Module
    batch: Batch
    q: poutine.Trace
    """The guide's trace: posteriors and their draws."""
    p: poutine.Trace
    """The model's trace, replayed on those draws, and on the value of a latent where `Batch.observed` has it."""

    @property
    def latents(self) -> list[str]:
        """Names of the latents that have a posterior: what the guide draws and the model does not observe, in order."""
        return [name for name in drawn(self.q) if not self.p.nodes[name]["is_observed"]]

    def family(self, latent: str) -> Family:
        """What the latent is, which knows how its posterior is handled."""
        return family_of(declared(self.model, self.guide), latent)

    def posterior(self, latent: str) -> Distribution:
        """q(latent | x), batch shape ``(views, images)``."""
        return cast(Distribution, self.q.nodes[latent]["fn"])

    def prior(self, latent: str) -> Distribution:
        """p(latent | what it depends on), batch shape ``(views, images)``."""
        return cast(Distribution, self.p.nodes[latent]["fn"])

    def known(self, latent: str) -> Tensor | None:
        """Where the batch observes the latent, ``(views, images, units)`` bool; None where it says nothing of it."""
        values = self.batch.observed.get(latent)
        return None if values is None else ~values.isnan()

    def draw(self, latent: str) -> Tensor:
        """The posterior's draw, ``(views, images, width)``, whatever is observed."""
        return cast(Tensor, self.q.nodes[latent]["value"])

    def center(self, latent: str) -> Tensor:
        """The posterior's center as the decoder takes it, ``(views, images, width)``."""
        return self.family(latent).center(self.posterior(latent))

    def kl_is_exact(self, latent: str) -> bool:
        """Whether `kl` is exact, and not estimated from the draw."""
        return self.family(latent).kl_is_exact(self.posterior(latent), self.prior(latent))

    def kl(self, latent: str) -> Tensor:
        """KL(q || p) unit by unit, ``(views, images, units)``, or ``(views, images, 1)`` where it has no such parts."""
        return self.family(latent).kl(self.posterior(latent), self.prior(latent), self.draw(latent))


class Term(nn.Module):
    """Something added to an ELBO: in nats per image, unless its ``unit`` says otherwise."""

    name: str
    default_weight: float
    unit: ClassVar[str] = "nats"
    needs_shared: ClassVar[bool] = False
    """Whether it is about what a pair shares."""

    def forward(self, step: Step) -> Tensor:
        """Its value: of each image, ``(views, images)``, or of the batch as a whole, 0-d."""
        raise NotImplementedError


class AdversarialTerm(Term):
    """A term with an opponent, as two stop-gradiented halves.

    ``forward`` plays against frozen weights of the opponent, `opponent_loss` trains it on detached latents. One
    backward of the sum gives both sides exactly the gradients of two separate phases. ``optimizer`` holds the settings
    of the opponent's own parameter group.
    """

    optimizer: ClassVar[dict[str, Any]] = {}

    def opponent_loss(self, step: Step) -> Tensor:
        """What the opponent minimizes, shaped as `forward`; no gradient reaches the model or the guide."""
        raise NotImplementedError

    def skill(self, step: Step) -> dict[str, Tensor]:
        """How well the opponent does on held-out images, name -> 0-d tensor, for the log."""
        return {}


def declared(model: Any, guide: Any) -> tuple[Latent, ...]:
    """The latents of our programs, also where handlers as `pyro.condition` lie around them."""
    for program in (model, guide):
        while isinstance(program, functools.partial) and program.args:  # what a handler around a program is
            program = program.args[-1]
        if latents := getattr(program, "latents", ()):
            return tuple(latents)
    return ()


def family_of(latents: tuple[Latent, ...], name: str) -> Family:
    """What a latent is, of a program's."""
    return next((each.family for each in latents if each.name == name), _ANY_FAMILY)


def drawn(trace: poutine.Trace) -> list[str]:
    return [n for n, site in trace.nodes.items() if site["type"] == "sample" and not site_is_subsample(site)]


def observed_latents(step: Step) -> list[str]:
    """Latents whose value the model was given, by `pyro.condition` or as data: those that are declared or guided."""
    names = [latent.name for latent in declared(step.model, step.guide)]
    sites = step.p.nodes
    return [n for n in dict.fromkeys([*names, *drawn(step.q)]) if n in sites and sites[n]["is_observed"]]


def with_observed(q: poutine.Trace, batch: Batch, latents: tuple[Latent, ...]) -> poutine.Trace:
    """A guide's trace with each latent's value where the batch observes it: what the model is replayed on.

    So the decoder and the priors of later latents see the value, at the latent's own site and name, while the guide's
    trace keeps the posteriors and their draws.

    Raises:
        InputError: for latents that the guide does not draw, and values of other units than they have.
    """
    if not batch.observed:
        return q
    if unknown := [name for name in batch.observed if name not in drawn(q)]:
        raise InputError(f"a batch observes {', '.join(unknown)}, and the guide draws no such latent")
    units = {latent.name: latent.units for latent in latents}
    mixed = q.copy()
    for name, values in batch.observed.items():
        site = q.nodes[name]
        wanted = units.get(name, values.shape[-1])
        if values.shape[-1] != wanted:
            raise InputError(f"a batch observes {values.shape[-1]} units of {name!r}, which has {wanted}")
        known, draw = ~values.isnan(), cast(Tensor, site["value"])
        code = family_of(latents, name).embed(values.to(draw.dtype).masked_fill(~known, 0.0))
        mixed.nodes[name] = {**site, "value": torch.where(per_number(known, name, draw.shape[-1]), code, draw)}
    return mixed
