"""Latents on a circle: each unit is an angle, and its cosine and sine stand in the code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family

MOST_CONCENTRATED = 40.0
"""Upper bound on a concentration's norm: below it, `POINTS` angles give the KL to within 1e-7 nats."""
POINTS = 256


class _OnCircles(constraints.Constraint):
    """Vectors of cosine and sine, one pair a unit."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ((value.unflatten(-1, (-1, 2)).norm(dim=-1) - 1).abs() < 1e-3).all(-1)


class ProjectedNormal(dist.TorchDistribution):
    """The direction of a normal vector with unit covariance, for several circles side by side.

    ``u = v / |v|, v ~ N(concentration, I)``. Concentration 0 is the uniform distribution. Its draws are differentiable;
    draws of von Mises are not. Pyro's class of this name clamps its density in float32, and is wrong by 20 nats
    opposite a mode of concentration 8.

    Args:
        concentration: ``(..., units, 2)``; batch shape ``(...)``, event shape ``(2 x units,)``.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"concentration": constraints.independent(constraints.real, 2)}
    support = _OnCircles()
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-2], torch.Size((shape[-2] * 2,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ProjectedNormal:
        shape = (*batch_shape, *self.concentration.shape[-2:])
        return ProjectedNormal(self.concentration.expand(shape), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.concentration.shape)
        noise = torch.randn(shape, dtype=self.concentration.dtype, device=self.concentration.device)
        return functional.normalize(self.concentration + noise, dim=-1).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """The density with respect to the angles, ``(...)``."""
        if self._validate_args:
            self._validate_sample(value)
        return self.log_density(value.unflatten(-1, (-1, 2))).sum(-1)

    def log_density(self, direction: Tensor) -> Tensor:
        """The log density of each unit's angle, ``(..., units)`` for directions ``(..., units, 2)``.

        A normal N(c, I) in polar coordinates has ``log(1 + t Phi(t) / phi(t)) - |c|^2 / 2 - log 2 pi`` with t = c . u.
        For each range of t, a form of it is used that neither cancels nor overflows there.
        """
        t = (self.concentration * direction).sum(-1)
        far, near = t.clamp(max=-12.0), t.clamp(min=-12.0)
        # Mills' ratio for t -> -infinity: 1 + t Phi / phi = 1 / t^2 - 3 / t^4 + ...
        log_far = torch.log1p(-3 / far**2 + 15 / far**4 - 105 / far**6) - 2 * (-far).log()
        negative, positive = near.clamp(max=0.0), near.clamp(min=0.0)
        mills = math.sqrt(math.pi / 2) * torch.special.erfcx(-negative / math.sqrt(2))
        log_negative = torch.log1p(negative * mills)
        half_square = 0.5 * positive.square()
        rest = positive * math.sqrt(math.pi / 2) * (1 + torch.erf(positive / math.sqrt(2)))
        log_positive = half_square + ((-half_square).exp() + rest).log()
        log_ratio = torch.where(t < -12.0, log_far, torch.where(near < 0, log_negative, log_positive))
        return log_ratio - 0.5 * self.concentration.square().sum(-1) - math.log(2 * math.pi)


class Circle(Family):
    """Uniform prior, projected normal posterior: for angles, such as an azimuth.

    `FactoredVAE.encode` gives the angle in radians, from -pi to pi, and the concentration.
    """

    name: ClassVar[str] = "circle"
    numbers = 2
    euclidean: ClassVar[bool] = False
    circular: ClassVar[bool] = True

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        return ProjectedNormal(like.new_zeros(units, 2))

    def posterior(self, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        vectors = parameters.unflatten(-1, (-1, 2))
        bound = (1 + vectors.square().sum(-1, keepdim=True) / MOST_CONCENTRATED**2).rsqrt()
        return ProjectedNormal(vectors * bound)

    def kl(self, q: Distribution, p: Distribution, draw: Tensor) -> Tensor:
        """By the trapezoidal rule around the circle; its error falls exponentially, see `MOST_CONCENTRATED`."""
        if not (isinstance(q, ProjectedNormal) and isinstance(p, ProjectedNormal)):
            return super().kl(q, p, draw)
        index = torch.arange(POINTS, device=q.concentration.device).to(q.concentration)
        angle = index * (2 * math.pi / POINTS)
        batch = torch.broadcast_shapes(q.concentration.shape, p.concentration.shape)[:-1]
        direction = torch.stack([angle.cos(), angle.sin()], -1).view(POINTS, *[1] * len(batch), 2)
        log_q, log_p = q.log_density(direction), p.log_density(direction)
        return (log_q.exp() * (log_q - log_p)).sum(0) * (2 * math.pi / POINTS)

    def kl_is_exact(self, q: Distribution, p: Distribution) -> bool:
        both = isinstance(q, ProjectedNormal) and isinstance(p, ProjectedNormal)
        return both or super().kl_is_exact(q, p)

    def embed(self, values: Tensor) -> Tensor:
        """Cosine and sine of angles in radians."""
        return torch.stack([values.cos(), values.sin()], -1).flatten(-2)

    def log_prob(self, p: Distribution, code: Tensor) -> Tensor:
        """The log density of each unit's angle."""
        if isinstance(p, ProjectedNormal):
            return p.log_density(code.unflatten(-1, (-1, 2)))
        return super().log_prob(p, code)

    def center(self, q: Distribution) -> Tensor:
        return functional.normalize(_concentration(q), dim=-1).flatten(-2)

    def location(self, q: Distribution) -> Tensor:
        cosine, sine = _concentration(q).unbind(-1)
        return torch.atan2(sine, cosine)

    def spread(self, q: Distribution) -> Tensor:
        """The circular standard deviation, sqrt(-2 log R) with R = |E u| (Mardia & Jupp 2000), in radians."""
        quarter = _concentration(q).square().sum(-1) / 4
        ratio = torch.special.i0e(quarter) + torch.special.i1e(quarter)
        resultant = math.sqrt(math.pi / 2) * quarter.sqrt() * ratio
        return (-2 * resultant.clamp(1e-12, 1.0).log()).sqrt()

    def summary(self, q: Distribution) -> tuple[Tensor, Tensor]:
        """The angle, and the concentration: the norm of the projected normal's mean; both ``(..., units)``."""
        return self.location(q), _concentration(q).norm(dim=-1)

    def quantities(self, q: Distribution) -> dict[str, Tensor]:
        return {**super().quantities(q), "concentration": _concentration(q).norm(dim=-1)}

    def read(self, text: str) -> float:
        """An angle in radians, from radians, or from degrees as ``90deg`` or ``90°``."""
        number = text.removesuffix("°").removesuffix("deg")
        value = super().read(number)
        return value if number == text else math.radians(value)

    def code_of(self, values: Tensor) -> Tensor:
        if not bool((values.abs() <= 2 * math.pi + 1e-6).all()):
            raise InputError(
                "an angle is at most once around: a number is in radians, from -2 pi to 2 pi, and degrees are written "
                "as 90deg, from -360deg to 360deg"
            )
        return torch.stack([values.cos(), values.sin()], -1).flatten(-2)

    def values_of(self, code: Tensor) -> Tensor:
        cosine, sine = code.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.atan2(sine, cosine)

    def between(self, first: Tensor, last: Tensor, parts: Tensor) -> Tensor:
        """Along the shorter way around each circle."""
        start = self.values_of(first)
        turn = torch.remainder(self.values_of(last) - start + math.pi, 2 * math.pi) - math.pi
        return self.code_of(torch.remainder(start + parts.to(first).unsqueeze(-1) * turn, 2 * math.pi))

    def levels(self, count: int) -> Tensor:
        """Once around the circle, without the first angle again at the end."""
        return torch.arange(count, dtype=torch.float32, device="cpu") / count

    def level_label(self, probability: float) -> str:
        return f"{360 * probability:.0f}°"

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        """The angles 2 pi x probability, the quantiles of the uniform prior."""
        concentration = _concentration(p)
        angle = 2 * math.pi * probability.to(concentration).view(-1, *[1] * (concentration.dim() - 1))
        angle = angle.expand(len(probability), *concentration.shape[:-1])
        return torch.stack([angle.cos(), angle.sin()], -1).flatten(-2)


def _concentration(q: Distribution) -> Tensor:
    assert isinstance(q, ProjectedNormal)
    return q.concentration
