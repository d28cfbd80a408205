"""Discrete latents: a unit is one choice among several, or a bit. Draws are hard, gradients straight-through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints, register_kl
from torch.nn import functional

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family


class _OneHots(constraints.Constraint):
    """One-hot vectors side by side, each of ``values`` numbers."""

    event_dim = 1
    is_discrete = True

    def __init__(self, values: int) -> None:
        self.values = values

    def check(self, value: Tensor) -> Tensor:
        parts = value.unflatten(-1, (-1, self.values))
        return (((parts == 0) | (parts == 1)).all(-1) & (parts.sum(-1) == 1)).all(-1)


class OneHots(dist.TorchDistribution):
    """Independent choices side by side, each as a one-hot vector.

    A draw is hard, and its gradient is that of the probabilities: straight-through (Bengio et al. 2013, torch's
    `OneHotCategoricalStraightThrough`). The gradient is unbiased for a function that is linear in the draw, such as
    `log_prob`, and biased for a decoder. Torch's class draws by `multinomial`, which cannot be traced with its
    gradient.

    Args:
        logits: ``(..., units, values)``; batch shape ``(...)``, event shape ``(units x values,)``.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.independent(constraints.real, 2)}
    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        shape = logits.shape
        super().__init__(shape[:-2], torch.Size((shape[-2] * shape[-1],)), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return _OneHots(self.logits.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHots:
        return OneHots(self.logits.expand(*batch_shape, *self.logits.shape[-2:]), validate_args=False)

    @property
    def log_probabilities(self) -> Tensor:
        """``(..., units, values)``."""
        return self.logits.log_softmax(-1)

    @property
    def probabilities(self) -> Tensor:
        """``(..., units, values)``."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        return self.probabilities.flatten(-2)

    @property
    def variance(self) -> Tensor:
        return (self.probabilities * (1 - self.probabilities)).flatten(-2)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        logits = self.logits.expand(*sample_shape, *self.logits.shape)
        return _straight_through(one_hot(gumbel_argmax(logits), logits), self.probabilities).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Linear in the value, ``(...)``."""
        if self._validate_args:
            self._validate_sample(value)
        return (value.unflatten(-1, (-1, self.logits.shape[-1])) * self.log_probabilities).sum((-2, -1))


class StraightThroughBernoulli(dist.Bernoulli):
    """A Bernoulli whose draws are 0 or 1, with the gradient of the probability; see `OneHots`."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        logits = self.logits.expand(*sample_shape, *self.logits.shape)
        probability = logits.sigmoid()
        noise = torch.rand(logits.shape, dtype=logits.dtype, device=logits.device)
        return _straight_through((noise < probability).to(probability), probability)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Linear in the value, and differentiable in it."""
        if self._validate_args:
            self._validate_sample(value)
        return value * functional.logsigmoid(self.logits) + (1 - value) * functional.logsigmoid(-self.logits)


@register_kl(OneHots, OneHots)
def _kl_one_hots(q: OneHots, p: OneHots) -> Tensor:
    return _kl_of_choices(q, p).sum(-1)


def _kl_of_choices(q: OneHots, p: OneHots) -> Tensor:
    return (q.probabilities * (q.log_probabilities - p.log_probabilities)).sum(-1)


@register_kl(StraightThroughBernoulli, StraightThroughBernoulli)
def _kl_bernoullis(q: StraightThroughBernoulli, p: StraightThroughBernoulli) -> Tensor:
    # Torch's KL looks up the indices of infinities, which waits for the device.
    probability = q.logits.sigmoid()
    one = functional.logsigmoid(q.logits) - functional.logsigmoid(p.logits)
    zero = functional.logsigmoid(-q.logits) - functional.logsigmoid(-p.logits)
    return probability * one + (1 - probability) * zero


class Categorical(Family):
    """A unit is one choice among several, in the code a one-hot vector of ``values`` numbers.

    `FactoredVAE.encode` gives the most probable value's index, from 0, and the probability of all others together. The
    decoder sees whole choices only, so a posterior's center is its most probable one. A prior draw is a choice of each
    unit; a traversal visits every value once, in order, whatever the number of columns.

    Args:
        values: how many choices a unit has, at least 2.
        learnt: learn the prior's probabilities, for each unit separately; else all choices are equally probable.
    """

    name: ClassVar[str] = "categorical"
    # The covariance of one-hot vectors is never the identity.
    euclidean: ClassVar[bool] = False

    def __init__(self, values: int, learnt: bool = False) -> None:
        super().__init__()
        if isinstance(values, bool) or not isinstance(values, int) or values < 2:
            raise InputError(f"a categorical latent needs values, 2 or more, got {values!r}")
        self.values, self.learnt = values, learnt
        self.numbers = values
        self.prior_logits: nn.Parameter | None = None

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        if self.learnt and self.prior_logits is None:
            self.prior_logits = nn.Parameter(torch.zeros(units, self.values))

    @property
    def choices(self) -> int:
        return self.values

    def posterior_parameters(self, units: int) -> int:
        return units * self.values

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        return OneHots(like.new_zeros(units, self.values) if self.prior_logits is None else self.prior_logits)

    def posterior(self, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        return OneHots(parameters.unflatten(-1, (-1, self.values)))

    def kl(self, q: Distribution, p: Distribution, draw: Tensor) -> Tensor:
        """The KL of each unit, a sum over its values."""
        if isinstance(q, OneHots) and isinstance(p, OneHots):
            return _kl_of_choices(q, p)
        return super().kl(q, p, draw)

    def embed(self, values: Tensor) -> Tensor:
        """One-hot vectors of choices, counted from 0."""
        places = torch.arange(self.values, dtype=values.dtype, device=values.device)
        return (values.unsqueeze(-1) == places).to(values.dtype).flatten(-2)

    def log_prob(self, p: Distribution, code: Tensor) -> Tensor:
        if isinstance(p, OneHots):
            return (code.unflatten(-1, (-1, self.values)) * p.log_probabilities).sum(-1)
        return super().log_prob(p, code)

    def center(self, q: Distribution) -> Tensor:
        """The most probable choice, with the gradient of the probabilities."""
        assert isinstance(q, OneHots)
        return _straight_through(one_hot(q.logits.argmax(-1), q.logits), q.probabilities).flatten(-2)

    def location(self, q: Distribution) -> Tensor:
        """The index of the most probable value."""
        assert isinstance(q, OneHots)
        return q.logits.argmax(-1).to(q.logits)

    def spread(self, q: Distribution) -> Tensor:
        """The probability that it is another value."""
        assert isinstance(q, OneHots)
        return 1 - q.probabilities.amax(-1)

    def quantities(self, q: Distribution) -> dict[str, Tensor]:
        """Also the probability of each value."""
        assert isinstance(q, OneHots)
        each = {f"probability_{value}": q.probabilities[..., value] for value in range(self.values)}
        return {**super().quantities(q), **each}

    def code_of(self, values: Tensor) -> Tensor:
        if not bool(((values >= 0) & (values < self.values) & (values == values.round())).all()):
            raise InputError(f"a choice is a whole number from 0 to {self.values - 1}")
        return one_hot(values.long(), values.new_zeros(self.values)).flatten(-2)

    def values_of(self, code: Tensor) -> Tensor:
        return code.unflatten(-1, (-1, self.values)).argmax(-1).to(code)

    def levels(self, count: int) -> Tensor:
        """One for each value, ``(values,)``, whatever ``count`` is, so that every choice is seen."""
        return _middles(self.values)

    def level_label(self, probability: float) -> str:
        return f"value {int(probability * self.values)}"

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        """The value of each level, whatever its probability under the prior, as choices have no order."""
        assert isinstance(p, OneHots)
        index = (probability.to(p.logits) * self.values).long().clamp(0, self.values - 1)
        hot = one_hot(index, p.logits).view(len(probability), *[1] * (p.logits.dim() - 1), self.values)
        return hot.expand(len(probability), *p.logits.shape).flatten(-2)

    def settings(self) -> dict[str, Any]:
        return {"values": self.values, "learnt": self.learnt}


class Binary(Family):
    """A unit is 0 or 1.

    `FactoredVAE.encode` gives the probability of a 1 and its standard deviation. The decoder sees whole bits only, so a
    posterior's center is the more probable one. A prior draw is a bit of each unit; a traversal visits 0 and 1.

    Args:
        probability: of a 1 under the prior, above 0 and below 1.
        learnt: learn the prior's probability, for each unit separately, starting from ``probability``.
    """

    name: ClassVar[str] = "binary"
    # The variance of a bit is never 1.
    euclidean: ClassVar[bool] = False

    def __init__(self, probability: float = 0.5, learnt: bool = False) -> None:
        super().__init__()
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 < probability < 1:
            raise InputError(f"a binary latent needs a probability above 0 and below 1, got {probability!r}")
        self.probability, self.learnt = float(probability), learnt
        self.prior_logits: nn.Parameter | None = None

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        if self.learnt and self.prior_logits is None:
            self.prior_logits = nn.Parameter(torch.full((units,), self.probability).logit())

    @property
    def choices(self) -> int:
        return 2

    def posterior_parameters(self, units: int) -> int:
        return units

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        fixed = like.new_full((units,), self.probability).logit()
        logits = fixed if self.prior_logits is None else self.prior_logits
        return StraightThroughBernoulli(logits=logits).to_event(1)

    def posterior(self, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        return StraightThroughBernoulli(logits=parameters).to_event(1)

    def center(self, q: Distribution) -> Tensor:
        """The more probable bit, with the gradient of the probability."""
        return _straight_through((q.mean > 0.5).to(q.mean), q.mean)

    def levels(self, count: int) -> Tensor:
        """Two, for 0 and 1, whatever ``count`` is."""
        return _middles(2)

    def level_label(self, probability: float) -> str:
        return "0" if probability < 0.5 else "1"

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        """0 for levels below 0.5, else 1, whatever their probability under the prior."""
        like = p.mean
        bits = (probability.to(like) >= 0.5).to(like).view(-1, *[1] * like.dim())
        return bits.expand(len(probability), *like.shape)

    def settings(self) -> dict[str, Any]:
        return {"probability": self.probability, "learnt": self.learnt}


def gumbel_argmax(logits: Tensor) -> Tensor:
    """A draw of each choice's index, ``(...)`` for logits ``(..., values)``."""
    uniform = torch.rand(logits.shape, dtype=logits.dtype, device=logits.device)
    return (logits - (-uniform.log()).log()).argmax(-1)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """One-hot vectors with the last axis and the type of ``like``; torch's function reads the index on the host."""
    return (index.unsqueeze(-1) == torch.arange(like.shape[-1], device=index.device)).to(like.dtype)


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    # In this order the bracket is exactly 0, and the sum is exactly the hard value.
    return hard + (soft - soft.detach())


def _middles(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float32, device="cpu") + 0.5) / count
