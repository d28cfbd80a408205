"""What the methods add to an ELBO: one small class per term, with its equation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution
from torch.func import functional_call

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent
from pyro_disent.models.opponents import FactorPredictor, Opponent, PermutationDiscriminator
from pyro_disent.models.program import at_least_float32
from pyro_disent.objectives.exchange import Replace, per_number
from pyro_disent.objectives.gathered import first_row, gathered
from pyro_disent.objectives.step import AdversarialTerm, Step, Term


class Similarity(Term):
    """Eq. 1: KL[q(z | x) || q(z | x')] over what the pair shares (section 5.4: unit by unit), mean over both views."""

    name, default_weight, needs_shared = "similarity", 0.6, True

    def forward(self, step: Step) -> Tensor:
        return _agreement(step, step, lambda x: x.flip(0))


class ReverseCycle(Term):
    """Decode z with what is not shared drawn from its prior, encode again: KL[q(z | decoded) || q(z | x)].

    The forward cycle alone permits a leaky or an empty z (Jha et al. 2018 close the cycle both ways). q(z | x) is
    detached, so that the target does not move.
    """

    name, default_weight, needs_shared = "reverse-cycle", 1.0, True

    def forward(self, step: Step) -> Tensor:
        shared = step.batch.shared
        with Replace({name: step.draw(name) for name in shared}, where=shared):
            p = poutine.trace(step.model).get_trace(step.batch, observe=False)
        images = cast(Distribution, p.nodes["x"]["fn"]).mean
        decoded = Batch.unchecked(images, shared, step.batch.factors, step.batch.pairing)
        encoded = step._replace(q=poutine.trace(step.guide).get_trace(decoded))
        return _agreement(encoded, step, torch.detach)


class Prediction(AdversarialTerm):
    """Eq. 3: an opponent g guesses the quantized factors from z; the encoder makes it guess nothing.

    Args:
        predictor: g.
        edges: factor's name -> increasing inner edges of its bins, ``(bins - 1,)``.
        latents: what g sees, side by side: those that the factors are hidden from.
        side: the encoder's: ``entropy`` maximizes the entropy of g's answer (the paper's text and code),
            ``cross-entropy`` maximizes g's error (the equation).
        on: ``sample`` of the posterior (the equation) or its ``mean``, the center (the published code).
    """

    name, default_weight = "predictor", 20.0
    optimizer: ClassVar[dict[str, Any]] = {"lr": 1e-3}

    def __init__(
        self,
        predictor: FactorPredictor,
        edges: Mapping[str, Tensor],
        latents: tuple[str, ...],
        side: Literal["entropy", "cross-entropy"] = "entropy",
        on: Literal["sample", "mean"] = "sample",
    ) -> None:
        super().__init__()
        self.predictor, self.latents, self.side, self.on = predictor, latents, side, on
        self.factors = tuple(edges)
        for index, factor in enumerate(self.factors):
            self.register_buffer(f"edges_{index}", edges[factor])

    def forward(self, step: Step) -> Tensor:
        log_p = self._log_probabilities(frozen(self.predictor, self.code(step)))
        if self.side == "cross-entropy":
            return -self._cross_entropy(log_p, step)
        return torch.stack([(p.exp() * p).sum(-1) for p in log_p]).sum(0)

    def opponent_loss(self, step: Step) -> Tensor:
        return self._cross_entropy(self._log_probabilities(self.predictor(self.code(step).detach())), step)

    def skill(self, step: Step) -> dict[str, Tensor]:
        """The opponent's accuracy for each factor, beside that of the most frequent bin."""
        return self.skill_on(self.code(step), step.batch.factors)

    def skill_on(self, code: Tensor, factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`skill` on what the opponent sees, ``(views, images, width)``, and the factors behind it."""
        log_p = self._log_probabilities(self.predictor(code))
        result = {}
        for factor, p, labels in zip(self.factors, log_p, self.labels(factors), strict=True):
            count = (labels != UNKNOWN).sum().clamp(min=1)
            result[f"accuracy.{factor}"] = (p.argmax(-1) == labels).sum() / count
            in_bin = torch.stack([(labels == bin).sum() for bin in range(p.shape[-1])])
            result[f"chance.{factor}"] = in_bin.max() / count
        return result

    def labels(self, factors: Mapping[str, Tensor]) -> list[Tensor]:
        """Every factor's bin in every view, ``(views, images)`` int64; `UNKNOWN` where its value is NaN."""
        return [
            quantized(factors[factor], getattr(self, f"edges_{index}")) for index, factor in enumerate(self.factors)
        ]

    def code(self, step: Step) -> Tensor:
        """What the opponent sees, ``(views, images, width)``."""
        sees = step.draw if self.on == "sample" else step.center
        return torch.cat([sees(latent) for latent in self.latents], -1)

    def _log_probabilities(self, logits: Tensor) -> list[Tensor]:
        return [part.log_softmax(-1) for part in logits.split(list(self.predictor.bins.values()), -1)]

    def _cross_entropy(self, log_p: list[Tensor], step: Step) -> Tensor:
        labels, counts = self.labels(step.batch.factors), step.batch.counts
        losses = [
            F.nll_loss(p.flatten(0, -2), bins.flatten(), ignore_index=UNKNOWN, reduction="sum")
            / (counts[factor].to(p.dtype) if factor in counts else (bins != UNKNOWN).sum().clamp(min=1))
            for factor, p, bins in zip(self.factors, log_p, labels, strict=True)
        ]
        return torch.stack(losses).sum()


UNKNOWN = -100
"""The bin of an unknown value."""


def quantized(values: Tensor, edges: Tensor) -> Tensor:
    """Each value's bin, int64: how many of the edges it is not below; `UNKNOWN` where it is NaN."""
    dtype = torch.promote_types(values.dtype, edges.dtype)
    return torch.bucketize(values.to(dtype).contiguous(), edges.to(dtype), right=True).masked_fill(
        values.isnan(), UNKNOWN
    )


class TotalCorrelation(AdversarialTerm):
    """FactorVAE (Kim & Mnih 2018): KL[q(code) || product of its marginals] by the density ratio trick.

    The discriminator tells codes from codes in which each unit was permuted over the batch, over views and images
    alike. Algorithm 2 of the paper permutes a second batch instead. The numbers of a unit stay together.

    Args:
        discriminator: D.
        latents: those whose units are permuted.
    """

    name, default_weight, of_whole_batch = "total-correlation", 6.4, True
    optimizer: ClassVar[dict[str, Any]] = {"lr": 1e-4, "betas": (0.5, 0.9)}

    def __init__(self, discriminator: PermutationDiscriminator, latents: tuple[Latent, ...]) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.latents = tuple(latent.name for latent in latents)
        self.units = [latent.units for latent in latents]
        self.numbers = [latent.family.numbers for latent in latents]

    def forward(self, step: Step) -> Tensor:
        code = self._code(step)
        logits = frozen(self.discriminator, code.flatten(0, -2)).unflatten(0, code.shape[:-1])
        return logits[..., 0] - logits[..., 1]

    def opponent_loss(self, step: Step) -> Tensor:
        code = self._code(step).detach().flatten(0, -2)
        permuted = gathered(code).gather(0, self._order(code))
        joint, product = self.discriminator(torch.cat([code, permuted])).log_softmax(-1).chunk(2)
        return -0.5 * (joint[:, 0].mean() + product[:, 1].mean())

    def _order(self, code: Tensor) -> Tensor:
        """Where every number of each code comes from, ``(images, width)``; the same place within a unit.

        The places are among the images of all processes, which draw one order together, and each takes its rows of it.
        """
        drawn = torch.rand(len(code), sum(self.units), dtype=code.dtype, device=code.device)
        start = first_row(code)
        order = gathered(drawn).argsort(0)[start : start + len(code)]
        parts = zip(order.split(self.units, -1), self.numbers, strict=True)
        return torch.cat([part.repeat_interleave(numbers, -1) for part, numbers in parts], -1)

    def _code(self, step: Step) -> Tensor:
        return torch.cat([step.draw(latent) for latent in self.latents], -1)


class DIP(Term):
    """DIP-VAE-II (Kumar et al. 2018): the aggregate posterior's covariance is drawn to the identity.

    Only Euclidean latents take part: a covariance of points on a circle is not meaningful.
    """

    name, default_weight, unit, of_whole_batch = "dip", 10.0, "squared covariance", True

    def forward(self, step: Step) -> Tensor:
        latents = [latent for latent in step.latents if step.family(latent).euclidean]
        if not latents:
            raise InputError("DIP is about the covariance of codes, and no latent is of a family that has one")
        mean = gathered(torch.cat([step.center(latent) for latent in latents], -1).flatten(0, -2))
        variances = torch.cat([step.family(latent).variance(step.posterior(latent)) for latent in latents], -1)
        centered = mean - mean.mean(0)
        with without_autocast(mean.device):
            covariance = centered.T @ centered / len(mean) + gathered(variances.flatten(0, -2)).mean(0).diag()
        return (covariance - torch.eye(len(covariance), dtype=mean.dtype, device=mean.device)).square().sum()


class InfoNCE(Term):
    """InfoNCE (van den Oord et al. 2018) on what the pair shares: each view must find its other view, both directions.

    Cosine similarity of posterior centers at a temperature. The negatives are the other views of the other images;
    SimCLR also takes the images of the same view.
    """

    name, default_weight, needs_shared, of_whole_batch = "info-nce", 20.0, True, True

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(f"the temperature of InfoNCE must be greater than 0, got {temperature}")
        self.temperature = temperature

    def forward(self, step: Step) -> Tensor:
        masked = []
        for latent, mask in step.batch.shared.items():
            center = step.center(latent)
            masked.append(center * per_number(mask, latent, center.shape[-1]))
        first, second = F.normalize(torch.cat(masked, -1), dim=-1)
        with without_autocast(first.device):
            both = [view @ gathered(other).T / self.temperature for view, other in ((first, second), (second, first))]
        start = first_row(first)
        right = torch.arange(start, start + len(first), device=first.device)
        return torch.stack([F.cross_entropy(logits, right, reduction="none") for logits in both])


def _agreement(step: Step, target: Step, changed: Callable[[Tensor], Tensor]) -> Tensor:
    """KL(q || q') over the shared units, summed over latents, ``(views, images)``.

    q is the step's posterior, q' is the target's with ``changed`` applied to its tensors.
    """
    batch = target.batch
    total = batch.images.new_zeros(batch.images.shape[:2])
    for latent, mask in batch.shared.items():
        if latent not in step.q.nodes:  # it is observed, and has no posterior
            continue
        family = target.family(latent)
        q, other = step.posterior(latent), family.map(target.posterior(latent), changed)
        kl = family.kl(q, other, step.draw(latent))
        total = total + (kl * per_number(mask, latent, kl.shape[-1])).sum(-1)
    return total


def frozen(opponent: Opponent, code: Tensor) -> Tensor:
    """The opponent's answer with detached weights: the gradient reaches the code alone."""
    weights = {name: parameter.detach() for name, parameter in opponent.network.named_parameters()}
    return at_least_float32(functional_call(opponent.network, weights, code))


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Keep a term's matrix products in full precision; autocast would treat them like a network's."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
