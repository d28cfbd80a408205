"""The evidence lower bound over named latents, with the paper's terms added to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.elbo import ELBOModule
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models import param_store
from pyro_disent.models.latents import Latent, check_shared, sharing
from pyro_disent.models.program import Program
from pyro_disent.objectives.exchange import Exchange
from pyro_disent.objectives.step import (
    AdversarialTerm,
    LossRecord,
    Step,
    Term,
    declared,
    drawn,
    observed_latents,
    with_observed,
)
from pyro_disent.objectives.weights import ALPHA, BETA, Weight, elbo_weights, kl_weight, value_weight


class DisentanglingELBO(ELBO):
    """Minus the ELBO with exact KLs unit by unit, a weight on each, and terms added to it.

    Works wherever Pyro takes an ELBO: ``SVI(vae.model, vae.guide, optim, loss=DisentanglingELBO())``, or bound to model
    and guide as an ``nn.Module`` (`Objective`).

    Where a batch has a latent's value v (`Batch.observed`), decoder and priors see v, and beta KL(q || p) is replaced
    by ``-beta log p(v | parents) - alpha log q(v | x)``, unit by unit, as Kingma et al. 2014 do with a label. The terms
    still see the posterior. Under the exchange, the result is not a bound on log p(x, v).

    Args:
        terms: added to minus the ELBO.
        weights: term's name -> weight; a term that is not named has its default. Any weight may be a `WarmUp`.
        beta: weight on the KL of every latent, or latent's name -> weight (1 for the others). A weight of this
            objective only: the record stays in unweighted nats.
        exchange: decode under the exchange of what the pair shares (Eq. 2).
        num_particles: posterior draws that each evaluation is averaged over.
        alpha: weight on -log q(v | x) of latents that are observed.
        known: latent's name -> the share of training images whose value is known, one number or one per unit.
            -log q(v | x) is divided by it, so that alpha is a weight per image that has a value, however few in a batch
            have one. Default: 1.

    Raises:
        InputError: for a share that is not above 0 and at most 1.
        ValueError: for a weight of a term that does not exist.
    """

    def __init__(
        self,
        terms: Iterable[Term] = (),
        *,
        weights: Mapping[str, Weight] | None = None,
        beta: Weight | Mapping[str, Weight] = 1.0,
        exchange: bool = False,
        num_particles: int = 1,
        alpha: Weight = 1.0,
        known: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
            raise InputError(f"num_particles={num_particles!r} is not a whole number from 1")
        super().__init__(num_particles=num_particles)
        added = list(terms)
        self.terms = nn.ModuleDict({term.name: term for term in added})
        self.exchange = exchange
        self._beta_names = frozenset(beta) if isinstance(beta, Mapping) else frozenset()
        defaults = {term.name: term.default_weight for term in added}
        self.weights = elbo_weights(defaults, weights or {}, beta, alpha, known or {})

    @property
    def needs_pairs(self) -> bool:
        """Whether it depends on what pairs share, and so needs two views."""
        return self.exchange or any(term.needs_shared for term in self.terms.values())

    def __call__(self, model: nn.Module, guide: nn.Module) -> Objective:
        return Objective(model, guide, self)

    def step(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> Step:
        """Take both traces: the guide's, and the model's replayed on it, under the exchange if this ELBO has one.

        Raises:
            InputError: for a batch that does not say what its pairs share where that is needed, or names latents that
                the model does not have; for a guide that draws what the model does not; where ``beta`` names a latent
                that does not exist; and for observed values that do not fit their latents.
        """
        latents = declared(model, guide)
        batch = self._with_masks(latents, Batch.of(batch))
        q = poutine.trace(guide).get_trace(batch)
        values = with_observed(q, batch, latents)
        decoder_sees = Exchange(batch.shared) if self.exchange and batch.views == 2 else contextlib.nullcontext()
        with decoder_sees:
            p = poutine.trace(poutine.replay(model, trace=values)).get_trace(batch)
        if extra := [name for name in drawn(q) if name not in p.nodes]:
            raise InputError(
                f"the guide draws {', '.join(extra)}, which the model does not: a guide for this objective gives "
                "every latent of the model its posterior by name, as FactoredVAE.guide does; automatic guides do not"
            )
        if missing := batch.shared.keys() - p.nodes.keys():
            raise InputError(f"a batch says what its pairs share of {', '.join(sorted(missing))}, which are no sites")
        if unknown := self._beta_names - p.nodes.keys():
            raise InputError(f"beta names {', '.join(sorted(unknown))}, and there is no such latent")
        unlabelled = [n for n, s in p.nodes.items() if (s.get("infer") or {}).get("label") and not s["is_observed"]]
        if unlabelled:
            raise InputError(
                f"a prior depends on {', '.join(unlabelled)}, which the batch does not have among its factors: a KL "
                "needs it"
            )
        return Step(model, guide, batch, q, p)

    def _with_masks(self, latents: tuple[Latent, ...], batch: Batch) -> Batch:
        """Pairs with masks of what they share; the model's latents decide where the batch only names factors."""
        if latents:
            check_shared(latents, batch)
        if batch.views == 1:
            return batch
        has_factors = batch.factors or batch.pairing is not None
        if has_factors and any(latent.name not in batch.shared for latent in latents):
            return sharing(latents, batch)
        if batch.shared:
            return batch
        if self.needs_pairs:
            raise InputError(
                "a batch of two views says nothing of what its pairs share, which this objective needs: give it "
                "shared={latent: mask}, or factors that the latents explain"
            )
        return batch

    def record_of(self, step: Step, *, adversarial: bool = True) -> LossRecord:
        """The record of two traces, means over images; nothing is read back to the host.

        Args:
            adversarial: include terms with an opponent (held-out objectives leave them out).
        """
        return self.per_image(step, adversarial=adversarial).mean()

    def per_image(self, step: Step, *, adversarial: bool = True) -> LossRecord:
        """The record of each image, ``(views, images)``; terms over a batch as a whole are 0-d.

        A latent's KL is scaled and masked by `poutine.scale` and `poutine.mask` at the guide's site.
        """
        latents, observed = step.latents, observed_latents(step)
        # The objective is conditioned on labels: their frequency is not part of it.
        left_out = ("_deterministic", "label")
        step.p.compute_log_prob(
            lambda _, site: site["is_observed"] and not any((site["infer"] or {}).get(key) for key in left_out)
        )
        log_prob = {name: site["log_prob"] for name, site in step.p.nodes.items() if "log_prob" in site}
        reconstruction = -_sum([value for name, value in log_prob.items() if name not in observed])
        kl: dict[str, Tensor] = {}
        prior_nats, posterior_nats = {name: -log_prob[name] for name in observed}, {}
        for name in latents:
            nats, site, mask = step.kl(name), step.q.nodes[name], step.known(name)
            if mask is not None:
                nats, prior, posterior = self._by_unit(step, name, nats, mask)
                prior_nats[name] = _scaled(prior.sum(-1), site)
                posterior_nats[name] = _scaled(posterior.sum(-1), site)
            kl[name] = _scaled(nats.sum(-1), site)
        active = {n: t for n, t in self.terms.items() if adversarial or not isinstance(t, AdversarialTerm)}
        terms = {name: term(step) for name, term in active.items()}
        opponents = {
            name: term.opponent_loss(step) for name, term in active.items() if isinstance(term, AdversarialTerm)
        }
        loss = reconstruction + sum(self._beta(name) * value for name, value in (*kl.items(), *prior_nats.items()))
        if posterior_nats:
            value_nats = sum(posterior_nats.values())
            loss = loss + (self.weights[ALPHA] * value_nats if ALPHA in self.weights else value_nats)
        loss = loss + sum(self.weights[name] * value for name, value in terms.items())
        return LossRecord(loss, reconstruction, kl, terms, opponents, prior_nats, posterior_nats)

    def _by_unit(self, step: Step, latent: str, kl: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(views, images, units)`` each: the KL where the value is unknown, elsewhere its -log p and -log q."""
        if kl.shape[-1] != mask.shape[-1]:
            raise InputError(
                f"a batch observes {mask.shape[-1]} units of {latent!r}, whose KL has no parts: observe a latent of "
                "one unit, or of a family that is independent over its units"
            )
        family, value = step.family(latent), cast(Tensor, step.p.nodes[latent]["value"])
        prior = -family.log_prob(step.prior(latent), value)
        posterior = -family.log_prob(step.posterior(latent), value)
        if value_weight(latent) in self.weights:
            posterior = posterior * self.weights[value_weight(latent)]
        elif value_weight(latent, 0) in self.weights:
            columns = enumerate(posterior.unbind(-1))
            posterior = torch.stack([nats * self.weights[value_weight(latent, unit)] for unit, nats in columns], -1)
        return kl.masked_fill(mask, 0.0), prior.masked_fill(~mask, 0.0), posterior.masked_fill(~mask, 0.0)

    def record(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> LossRecord:
        """`record_of` fresh steps, averaged over ``num_particles`` of them."""
        first, *others = (self.record_of(self.step(model, guide, batch)) for _ in range(self.num_particles))
        return first.map(lambda *values: torch.stack(values).mean(0), *others) if others else first

    def _beta(self, latent: str) -> Tensor:
        return self.weights[kl_weight(latent) if kl_weight(latent) in self.weights else BETA]

    def differentiable_loss(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> Tensor:
        """The scalar to differentiate, `total` of the record."""
        return total(self.record(model, guide, batch))

    def loss_and_grads(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> float:
        """Called by SVI: adds to the gradients, returns the loss, and counts a step of the weights that warm up.

        If the model has a name, opponents are named after it in Pyro's store: ``<name>.<term>.<...>``.

        Raises:
            RuntimeError: under ``module_local_params``, where SVI would silently train nothing.
            InputError: where every parameter is frozen.
        """
        if pyro.settings.get("module_local_params"):
            raise RuntimeError(
                "SVI finds parameters in Pyro's store, which stays empty under module_local_params: use SVI outside of "
                "that setting, or a torch optimizer on the parameters of objective = elbo(model, guide)"
            )
        self._name_opponents(model)
        record = self.record(model, guide, batch)
        loss = total(record)
        if not loss.requires_grad:
            raise InputError(ALL_FROZEN)
        loss.backward()
        self.weights.set_step(self.weights.step + 1)
        return record.loss.item()

    def loss(self, model: nn.Module, guide: nn.Module, batch: Batch | Tensor) -> float:
        """The record's loss as a float, without gradients."""
        self._name_opponents(model)
        with torch.no_grad():
            return self.record(model, guide, batch).loss.item()

    def _name_opponents(self, model: nn.Module) -> None:
        model_name = getattr(model, "store_name", None)
        if model_name is None or not param_store.is_given(model_name):
            return
        for path, program in self.terms.named_modules():
            if isinstance(program, Program):
                if not param_store.is_given(program.store_name):
                    program.store_name = f"{model_name.removesuffix('.model')}.{path}"
                param_store.take_up(program)  # already here, as a term may call its network alone

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
        num_particles: int = 1,
        alpha: Weight = 1.0,
        known: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            terms,
            weights=weights,
            beta=beta,
            exchange=True,
            num_particles=num_particles,
            alpha=alpha,
            known=known,
        )


class Objective(ELBOModule):
    """An ELBO bound to model and guide: an ``nn.Module`` that holds p, q, opponents and weights.

    ``objective(batch)`` is the loss to differentiate. Pyro's parameter store is not used.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: DisentanglingELBO) -> None:
        super().__init__(model, guide, elbo)
        self.elbo: DisentanglingELBO
        self.terms, self.weights = elbo.terms, elbo.weights
        self._take_up()

    def _take_up(self) -> None:
        """Copy what was loaded into Pyro's store for model, guide or opponents into their parameters."""
        for module in self.modules():
            if isinstance(module, Program):
                param_store.take_up(module)

    @contextlib.contextmanager
    def _local_parameters(self) -> Iterator[None]:
        """Keep out of Pyro's store, after taking the values that it holds for us."""
        if len(pyro.get_param_store()):
            self._take_up()
        with pyro.settings.context(module_local_params=True):
            yield

    def forward(self, batch: Batch | Tensor) -> Tensor:
        """The loss to differentiate, 0-d.

        Raises:
            InputError: where a weight warms up, gradients are enabled, and ``weights.set_step`` was never called.
        """
        if torch.is_grad_enabled():
            self.weights.check_told()
        return total(self.record(batch))

    def step(self, batch: Batch | Tensor) -> Step:
        """`DisentanglingELBO.step` of this model and guide."""
        with self._local_parameters():
            return self.elbo.step(self.model, self.guide, batch)

    def record_of(self, step: Step, *, adversarial: bool = True) -> LossRecord:
        """`DisentanglingELBO.record_of` for a step of this model and guide."""
        with self._local_parameters():
            return self.elbo.record_of(step, adversarial=adversarial)

    def per_image(self, batch: Batch | Tensor) -> LossRecord:
        """`DisentanglingELBO.per_image` for a fresh `step`."""
        with self._local_parameters():
            return self.elbo.per_image(self.elbo.step(self.model, self.guide, batch))

    def record(self, batch: Batch | Tensor) -> LossRecord:
        """`DisentanglingELBO.record` of this model and guide."""
        with self._local_parameters():
            return self.elbo.record(self.model, self.guide, batch)

    def sharing(self, batch: Batch) -> Batch:
        """Pairs with masks for every latent, as `step` takes them."""
        return self.elbo._with_masks(declared(self.model, self.guide), batch)

    def opponents(self) -> list[AdversarialTerm]:
        """The terms with an opponent, whose parameters have an optimizer group of their own."""
        return [term for term in self.terms.values() if isinstance(term, AdversarialTerm)]

    def betas(self, latents: Iterable[str]) -> dict[str, float]:
        """latent's name -> the weight on its KL after warm-up."""
        with self.weights.warm():
            return {latent: self.elbo._beta(latent).item() for latent in latents}

    def vae_parameters(self) -> list[nn.Parameter]:
        """The parameters of p and q, and of terms without an opponent."""
        opponents = {id(parameter) for term in self.opponents() for parameter in term.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in opponents]


def _scaled(value: Tensor, site: Any) -> Tensor:
    """Scaled and masked as `poutine.scale` and `poutine.mask` say at a site; usually unchanged."""
    return cast(Tensor, scale_and_mask(value, scale=site["scale"], mask=site["mask"]))


def _sum(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(torch.broadcast_tensors(*values)).sum(0)


ALL_FROZEN = "nothing is left to train: all parameters that the loss depends on are frozen (requires_grad=False)"


def total(record: LossRecord) -> Tensor:
    """The scalar to differentiate: the record's loss plus every opponent's loss."""
    return record.loss + sum(record.opponents.values())
