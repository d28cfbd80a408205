"""The evidence lower bound over named latents, with the paper's terms added to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.elbo import ELBOModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_disent.batch import Batch
from pyro_disent.objectives.exchange import Exchange
from pyro_disent.objectives.kl import kl_per_unit
from pyro_disent.objectives.weights import Weight, Weights


class LossRecord(NamedTuple):
    """One evaluation of an objective: 0-d tensors in nats per image, means over views and images.

    Only ``loss`` is weighted; everything else is as it is, so that records of different weights compare.
    """

    loss: Tensor
    """reconstruction + beta x KL + weighted terms; the opponents' own losses are not part of it."""
    reconstruction: Tensor
    """-log p(x | what the decoder saw)."""
    kl: dict[str, Tensor]
    """latent's name -> KL of its posterior to its prior, summed over units."""
    terms: dict[str, Tensor]
    """term's name -> its value."""
    opponents: dict[str, Tensor]
    """term's name -> its opponent's own loss."""


class Step(NamedTuple):
    """What a term may look at."""

    model: nn.Module
    guide: nn.Module
    batch: Batch
    q: poutine.Trace
    """The guide's trace: posteriors and their draws."""
    p: poutine.Trace
    """The model's trace, replayed on those draws."""

    @property
    def latents(self) -> list[str]:
        """Names of the guide's latents, in order."""
        return [n for n, site in self.q.nodes.items() if site["type"] == "sample" and not site_is_subsample(site)]

    def posterior(self, latent: str) -> Distribution:
        """q(latent | x), batch shape ``(views, images)``."""
        return cast(Distribution, self.q.nodes[latent]["fn"])

    def prior(self, latent: str) -> Distribution:
        """p(latent | what it depends on), batch shape ``(views, images)``."""
        return cast(Distribution, self.p.nodes[latent]["fn"])

    def draw(self, latent: str) -> Tensor:
        """The posterior's draw, ``(views, images, width)``."""
        return cast(Tensor, self.q.nodes[latent]["value"])


class Term(nn.Module):
    """Something added to an ELBO: in nats per image, unless its ``unit`` says otherwise."""

    name: str
    default_weight: float
    unit: ClassVar[str] = "nats"

    def forward(self, step: Step) -> Tensor:
        """Its value, a 0-d tensor: mean over views and images."""
        raise NotImplementedError


class AdversarialTerm(Term):
    """A term with an opponent, as two stop-gradiented halves.

    ``forward`` plays against frozen weights of the opponent, `opponent_loss` trains it on detached latents. One
    backward of the sum gives both sides exactly the gradients of two separate phases. ``optimizer`` holds the settings
    of the opponent's own parameter group.
    """

    optimizer: ClassVar[dict[str, Any]]

    def opponent_loss(self, step: Step) -> Tensor:
        """What the opponent minimizes, a 0-d tensor; no gradient reaches the model or the guide."""
        raise NotImplementedError

    def skill(self, step: Step) -> dict[str, Tensor]:
        """How well the opponent does on held-out images, name -> 0-d tensor, for the log."""
        return {}


class DisentanglingELBO(ELBO):
    """Minus the ELBO with exact KLs unit by unit, a weight on each, and terms added to it.

    Works wherever Pyro takes an ELBO: ``SVI(vae.model, vae.guide, optim, loss=DisentanglingELBO())``, or bound to model
    and guide as an ``nn.Module`` (`Objective`).

    Args:
        terms: what is added.
        weights: term's name -> weight; its own default where it is not named.
        beta: weight on the KL of every latent, or latent's name -> weight (1 for the others). A weight of this
            objective only: the record stays in unweighted nats.
        exchange: decode under the exchange of what the pair shares (Eq. 2).

    Raises:
        ValueError: for a weight of a term that is not there.
    """

    def __init__(
        self,
        terms: Iterable[Term] = (),
        *,
        weights: Mapping[str, Weight] | None = None,
        beta: Weight | Mapping[str, Weight] = 1.0,
        exchange: bool = False,
    ) -> None:
        super().__init__()
        added = list(terms)
        self.terms = nn.ModuleDict({term.name: term for term in added})
        self.exchange = exchange
        given = dict(weights or {})
        if unknown := given.keys() - self.terms.keys():
            raise ValueError(f"weights of terms that are not there: {', '.join(sorted(unknown))}")
        term_weights = {term.name: given.get(term.name, term.default_weight) for term in added}
        betas = {_beta(name): weight for name, weight in beta.items()} if isinstance(beta, Mapping) else {}
        self.weights = Weights({"beta": 1.0 if isinstance(beta, Mapping) else beta, **betas, **term_weights})

    def __call__(self, model: nn.Module, guide: nn.Module) -> Objective:
        return Objective(model, guide, self)

    def step(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> Step:
        """Take both traces: the guide's, and the model's replayed on it, under the exchange if this ELBO has one."""
        batch = Batch.of(batch)
        q = poutine.trace(guide).get_trace(batch)
        decoder_sees = Exchange(batch.shared) if self.exchange and batch.views == 2 else contextlib.nullcontext()
        with decoder_sees:
            p = poutine.trace(poutine.replay(model, trace=q)).get_trace(batch)
        return Step(model, guide, batch, q, p)

    def evaluate(self, step: Step, *, adversarial: bool = True) -> LossRecord:
        """The record of two traces; nothing is read back to the host.

        Args:
            adversarial: include terms with an opponent (held-out objectives leave them out).
        """
        step.p.compute_log_prob(lambda _, site: site["is_observed"] and not (site["infer"] or {}).get("_deterministic"))
        log_likelihoods = [site["log_prob"].mean() for site in step.p.nodes.values() if "log_prob" in site]
        reconstruction = -torch.stack(log_likelihoods).sum()
        kl = {
            latent: kl_per_unit(step.posterior(latent), step.prior(latent), step.draw(latent)).sum(-1).mean()
            for latent in step.latents
        }
        active = {n: t for n, t in self.terms.items() if adversarial or not isinstance(t, AdversarialTerm)}
        terms = {name: term(step) for name, term in active.items()}
        opponents = {
            name: term.opponent_loss(step) for name, term in active.items() if isinstance(term, AdversarialTerm)
        }
        loss = reconstruction + sum(self._beta(name) * value for name, value in kl.items())
        loss = loss + sum(self.weights[name] * value for name, value in terms.items())
        return LossRecord(loss, reconstruction, kl, terms, opponents)

    def record(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> LossRecord:
        """`evaluate` of a fresh `step`."""
        return self.evaluate(self.step(model, guide, batch))

    def _beta(self, latent: str) -> Tensor:
        return self.weights[_beta(latent) if _beta(latent) in self.weights else "beta"]

    def differentiable_loss(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> Tensor:
        """The scalar to differentiate, `total` of the record."""
        return total(self.record(model, guide, batch))

    def loss_and_grads(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> float:
        """SVI's entry: adds to the gradients, gives the loss.

        Raises:
            RuntimeError: under ``module_local_params``, where SVI would silently train nothing.
        """
        if pyro.settings.get("module_local_params"):
            raise RuntimeError(
                "SVI finds parameters in Pyro's store, which stays empty under module_local_params: use SVI outside of "
                "that setting, or a torch optimizer on the parameters of objective = elbo(model, guide)"
            )
        record = self.record(model, guide, batch)
        total(record).backward()
        return record.loss.item()

    def loss(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> float:
        """The record's loss as a float, without gradients."""
        with torch.no_grad():
            return self.record(model, guide, batch).loss.item()

    def _get_trace(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("both traces are taken in record()")


class ForwardCycle(DisentanglingELBO):
    """Eq. 2: each view is reconstructed from its own y and the other view's z; the KLs are those of its own posterior.

    -E[log p(x | z', y)] + KL[q(z, y | x) || p(z, y)], mean over both views.
    """

    def __init__(
        self,
        terms: Iterable[Term] = (),
        *,
        weights: Mapping[str, Weight] | None = None,
        beta: Weight | Mapping[str, Weight] = 1.0,
    ) -> None:
        super().__init__(terms, weights=weights, beta=beta, exchange=True)


class Objective(ELBOModule):
    """An ELBO bound to model and guide: an ``nn.Module`` that holds p, q, opponents and weights.

    ``objective(batch)`` is the loss to differentiate. Pyro's parameter store is not used.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: DisentanglingELBO) -> None:
        super().__init__(model, guide, elbo)
        self.elbo: DisentanglingELBO
        self.terms, self.weights = elbo.terms, elbo.weights

    def forward(self, batch: Batch | Tensor) -> Tensor:
        return total(self.record(batch))

    def step(self, batch: Batch | Tensor) -> Step:
        """`DisentanglingELBO.step` of this model and guide."""
        with pyro.settings.context(module_local_params=True):
            return self.elbo.step(self.model, self.guide, batch)

    def evaluate(self, step: Step, *, adversarial: bool = True) -> LossRecord:
        """`DisentanglingELBO.evaluate` of this model and guide."""
        with pyro.settings.context(module_local_params=True):
            return self.elbo.evaluate(step, adversarial=adversarial)

    def record(self, batch: Batch | Tensor) -> LossRecord:
        """`evaluate` of a fresh `step`."""
        return self.evaluate(self.step(batch))

    def opponents(self) -> list[AdversarialTerm]:
        """The terms with an opponent, whose parameters have an optimizer group of their own."""
        return [term for term in self.terms.values() if isinstance(term, AdversarialTerm)]

    def betas(self, latents: Iterable[str]) -> dict[str, float]:
        """latent's name -> the weight on its KL, when it is warm."""
        with self.weights.warm():
            return {latent: self.elbo._beta(latent).item() for latent in latents}

    def vae_parameters(self) -> list[nn.Parameter]:
        """The parameters of p and q, and of terms without an opponent."""
        opponents = {id(parameter) for term in self.opponents() for parameter in term.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in opponents]


def _beta(latent: str) -> str:
    return f"beta:{latent}"


def total(record: LossRecord) -> Tensor:
    """What is differentiated: the record's loss and every opponent's own."""
    return record.loss + sum(record.opponents.values())
