"""Normal latents whose prior is a learnt mixture of normals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.families.discrete import gumbel_argmax, one_hot

_HALVINGS = 60


class NormalMixture(dist.TorchDistribution):
    """A mixture of diagonal normals over vectors: all numbers of a draw come from one component.

    Torch's `MixtureSameFamily` draws by `multinomial`, which cannot be traced with its gradient.

    Args:
        logits: of the components, ``(..., components)``; batch shape ``(...)``.
        loc: ``(..., components, width)``; event shape ``(width,)``.
        scale: as ``loc``.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NormalMixture:
        logits = self.logits.expand(*batch_shape, *self.logits.shape[-1:])
        loc = self.loc.expand(*batch_shape, *self.loc.shape[-2:])
        scale = self.scale.expand(*batch_shape, *self.scale.shape[-2:])
        return NormalMixture(logits, loc, scale, validate_args=False)

    @property
    def weights(self) -> Tensor:
        """``(..., components, 1)``."""
        return self.logits.softmax(-1).unsqueeze(-1)

    @property
    def mean(self) -> Tensor:
        return (self.weights * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        around = self.scale.square() + (self.loc - self.mean.unsqueeze(-2)).square()
        return (self.weights * around).sum(-2)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            logits = self.logits.expand(*sample_shape, *self.logits.shape)
            chosen = one_hot(gumbel_argmax(logits), logits).unsqueeze(-1)
            loc, scale = (chosen * self.loc).sum(-2), (chosen * self.scale).sum(-2)
            return loc + scale * torch.randn(loc.shape, dtype=loc.dtype, device=loc.device)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        each = torch.distributions.Normal(self.loc, self.scale, validate_args=False).log_prob(value.unsqueeze(-2))
        return (self.logits.log_softmax(-1) + each.sum(-1)).logsumexp(-1)

    def cdf(self, value: Tensor) -> Tensor:
        """The distribution function of each number's marginal, ``(..., width)``."""
        return (self.weights * torch.special.ndtr((value.unsqueeze(-2) - self.loc) / self.scale)).sum(-2)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantiles of each number's marginal, ``(..., width)``, by bisection between its components' quantiles."""
        each = self.loc + self.scale * torch.special.ndtri(value.unsqueeze(-2))
        below, above = each.amin(-2), each.amax(-2)
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            less = self.cdf(middle) < value
            below, above = torch.where(less, middle, below), torch.where(less, above, middle)
        return (below + above) / 2


class Mixture(Family):
    """A learnt mixture of normals as prior, a diagonal normal posterior: for data in groups that nobody labelled.

    A component covers all units of the latent. So the KL is that of the latent as a whole, from the posterior's draw. A
    prior draw is from one component. A traversal visits the quantiles of each unit's marginal, from 5 % to 95 %, and
    holds all other units.

    Args:
        components: how many, at least 1. Their means start as draws from N(0, 1), their scales at 1, their weights
            equal; all are learnt.
    """

    name: ClassVar[str] = "mixture"

    def __init__(self, components: int = 10) -> None:
        super().__init__()
        if isinstance(components, bool) or not isinstance(components, int) or components < 1:
            raise InputError(f"a mixture prior needs components, 1 or more, got {components!r}")
        self.components = components
        self.logits: nn.Parameter | None = None
        self.loc: nn.Parameter | None = None
        self.log_scale: nn.Parameter | None = None

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        if self.loc is None:
            self.logits = nn.Parameter(torch.zeros(self.components))
            # Components that start equal would stay equal.
            self.loc = nn.Parameter(torch.randn(self.components, units))
            self.log_scale = nn.Parameter(torch.zeros(self.components, units))

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        assert self.logits is not None and self.loc is not None and self.log_scale is not None
        return NormalMixture(self.logits, self.loc, self.log_scale.clamp(-10.0, 10.0).exp())

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        if not isinstance(p, NormalMixture):
            return super().quantiles(p, probability)
        level = probability.to(p.loc).view(-1, *[1] * len(p.batch_shape + p.event_shape))
        return p.icdf(level.expand(len(probability), *p.batch_shape, *p.event_shape))

    def settings(self) -> dict[str, Any]:
        return {"components": self.components}
