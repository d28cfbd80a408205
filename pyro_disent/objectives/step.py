"""What an objective reads and returns: the traces of a step, the terms that read them, and the loss record."""

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
"""For a site that is not a declared latent: its KL is torch's closed form, or comes from the draw."""


class LossRecord(NamedTuple):
    """One evaluation of an objective, in nats: per image, or the mean over images.

    Values per image are ``(views, images)``, values of the batch as a whole 0-d; `mean` makes all of them 0-d. Only
    ``loss`` is weighted, so that records of different weights compare.
    """

    loss: Tensor
    """reconstruction + beta x (KL + observed) + alpha x told + weighted terms, without the opponents' losses."""
    reconstruction: Tensor
    """-log p(x | what the decoder saw)."""
    kl: dict[str, Tensor]
    """latent's name -> KL of its posterior to its prior, summed over units."""
    terms: dict[str, Tensor]
    """term's name -> its value."""
    opponents: dict[str, Tensor]
    """term's name -> its opponent's loss."""
    observed: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    """name of a latent observed by `pyro.condition` or by `Batch.observed` -> -log p of its value, summed over the
    observed units, which have no KL."""
    told: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    """name of a latent in `Batch.observed` -> -log q(value | x), summed over the observed units, each divided by the
    share of training images whose value is known."""

    def map(self, function: Callable[..., Tensor], *others: LossRecord) -> LossRecord:
        """The record of a function of each tensor and its counterparts in other records of the same objective."""
        # Not torch's `tree_map`, which would take a tenth of a small step.
        parts: list[Any] = []
        for part, *counterparts in zip(self, *others, strict=True):
            if isinstance(part, dict):
                parts.append({name: function(part[name], *(other[name] for other in counterparts)) for name in part})
            else:
                parts.append(function(part, *counterparts))
        return LossRecord(*parts)

    def mean(self) -> LossRecord:
        """Means over views and images, 0-d."""
        return self.map(torch.mean)


class Step(NamedTuple):
    """What a term can read."""

    model: nn.Module
    guide: nn.Module
    batch: Batch
    q: poutine.Trace
    """The guide's trace: posteriors and their draws."""
    p: poutine.Trace
    """The model's trace, replayed on those draws, and on the value of a latent where `Batch.observed` has it."""

    @property
    def latents(self) -> list[str]:
        """Names of the latents that the guide draws and the model does not observe, in order."""
        return [name for name in drawn(self.q) if not self.p.nodes[name]["is_observed"]]

    def family(self, latent: str) -> Family:
        """The latent's family, which knows how to handle its posterior."""
        return family_of(declared(self.model, self.guide), latent)

    def posterior(self, latent: str) -> Distribution:
        """q(latent | x), batch shape ``(views, images)``."""
        return cast(Distribution, self.q.nodes[latent]["fn"])

    def prior(self, latent: str) -> Distribution:
        """p(latent | what it depends on), batch shape ``(views, images)``."""
        return cast(Distribution, self.p.nodes[latent]["fn"])

    def known(self, latent: str) -> Tensor | None:
        """Where the batch observes the latent, ``(views, images, units)`` bool; None where it has no value at all."""
        values = self.batch.observed.get(latent)
        return None if values is None else ~values.isnan()

    def draw(self, latent: str) -> Tensor:
        """The posterior's draw, ``(views, images, width)``, even where a value is observed."""
        return cast(Tensor, self.q.nodes[latent]["value"])

    def center(self, latent: str) -> Tensor:
        """The posterior's center as the decoder takes it, ``(views, images, width)``."""
        return self.family(latent).center(self.posterior(latent))

    def kl_is_exact(self, latent: str) -> bool:
        """Whether `kl` is exact, and not estimated from the draw."""
        return self.family(latent).kl_is_exact(self.posterior(latent), self.prior(latent))

    def kl(self, latent: str) -> Tensor:
        """KL(q || p) unit by unit, ``(views, images, units)``, or ``(..., 1)`` where it does not factorize."""
        return self.family(latent).kl(self.posterior(latent), self.prior(latent), self.draw(latent))


class Term(nn.Module):
    """Something added to an ELBO: in nats per image, unless its ``unit`` says otherwise."""

    name: str
    default_weight: float
    unit: ClassVar[str] = "nats"
    needs_shared: ClassVar[bool] = False
    """Whether it depends on what a pair shares."""
    of_whole_batch: ClassVar[bool] = False
    """Whether it compares images of a batch with each other, so that a batch cannot be taken in parts one by one."""

    def forward(self, step: Step) -> Tensor:
        """Its value per image, ``(views, images)``, or for the batch as a whole, 0-d."""
        raise NotImplementedError


class AdversarialTerm(Term):
    """A term with an opponent, as two stop-gradiented halves.

    ``forward`` plays against frozen weights of the opponent, `opponent_loss` trains it on detached latents. One
    backward of the sum gives both sides exactly the gradients of two separate phases. ``optimizer`` holds the settings
    of the opponent's parameter group.
    """

    optimizer: ClassVar[dict[str, Any]] = {}

    def opponent_loss(self, step: Step) -> Tensor:
        """What the opponent minimizes, shaped as `forward`; no gradient reaches the model or the guide."""
        raise NotImplementedError

    def skill(self, step: Step) -> dict[str, Tensor]:
        """How well the opponent does on held-out images, name -> 0-d tensor, for the log."""
        return {}


def declared(model: Any, guide: Any) -> tuple[Latent, ...]:
    """The latents of our programs, also inside handlers such as `pyro.condition`."""
    for program in (model, guide):
        while isinstance(program, functools.partial) and program.args:  # a handler around a program
            program = program.args[-1]
        if latents := getattr(program, "latents", ()):
            return tuple(latents)
    return ()


def family_of(latents: tuple[Latent, ...], name: str) -> Family:
    """The family of the latent of this name."""
    return next((each.family for each in latents if each.name == name), _ANY_FAMILY)


def drawn(trace: poutine.Trace) -> list[str]:
    return [n for n, site in trace.nodes.items() if site["type"] == "sample" and not site_is_subsample(site)]


def observed_latents(step: Step) -> list[str]:
    """Latents, declared or in the guide, whose value the model observes by `pyro.condition` or as data."""
    names = [latent.name for latent in declared(step.model, step.guide)]
    sites = step.p.nodes
    return [n for n in dict.fromkeys([*names, *drawn(step.q)]) if n in sites and sites[n]["is_observed"]]


def with_observed(q: poutine.Trace, batch: Batch, latents: tuple[Latent, ...]) -> poutine.Trace:
    """A copy of the guide's trace with the batch's observed values; the model is replayed on it.

    So the decoder and the priors of later latents see the value at the latent's site, while the guide's trace keeps the
    posteriors and their draws.

    Raises:
        InputError: for latents that the guide does not draw, and a wrong number of units.
    """
    if not batch.observed:
        return q
    if unknown := [name for name in batch.observed if name not in drawn(q)]:
        raise InputError(f"a batch observes {', '.join(unknown)}, and the guide draws no such latent")
    units = {latent.name: latent.units for latent in latents}
    mixed = q.copy()
    for name, values in batch.observed.items():
        site = q.nodes[name]
        expected = units.get(name, values.shape[-1])
        if values.shape[-1] != expected:
            raise InputError(f"a batch observes {values.shape[-1]} units of {name!r}, which has {expected}")
        mask, draw = ~values.isnan(), cast(Tensor, site["value"])
        code = family_of(latents, name).embed(values.to(draw.dtype).masked_fill(~mask, 0.0))
        mixed.nodes[name] = {**site, "value": torch.where(per_number(mask, name, draw.shape[-1]), code, draw)}
    return mixed
