"""What a family of latents is: everything that hangs on the form of a prior and of a posterior, in one class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.labels import Label

D = TypeVar("D", bound=Distribution)


class Family(nn.Module):
    """What a latent is: its prior p(latent | earlier latents, batch), the form of its posterior, and what follows.

    A latent has units, and a unit one number or several in the code that the decoder sees, which are neighbors there:
    ``width = units x numbers``. Distributions have one event dimension, of that width. The base class is the standard
    normal prior with a diagonal normal posterior; a family overrides what differs.
    """

    name: ClassVar[str]
    """On the command line and in a run's record."""
    numbers: int = 1
    """Numbers of the code that a unit takes."""
    euclidean: ClassVar[bool] = True
    """Whether a code's covariance over images means something; on a circle it does not."""
    circular: ClassVar[bool] = False
    """Whether a value of a unit is an angle, in radians."""

    @property
    def measured_in(self) -> str:
        """The physical unit of `location`, empty for none."""
        return "radians" if self.circular else ""

    @property
    def choices(self) -> int | None:
        """Values that a unit can have; None: any number, or any angle."""
        return None

    labels: Mapping[str, Label] = {}
    """Labels that the prior depends on, by name: each is a site of the model, and among ``earlier`` as one-hot."""

    def __init__(self) -> None:  # an nn.Module's own takes anything
        super().__init__()

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        """Told once, by the model: how many units there are, and the widths of the latents declared before."""

    def width(self, units: int) -> int:
        """Numbers in the code that the decoder sees."""
        return units * self.numbers

    def posterior_parameters(self, units: int) -> int:
        """Numbers the guide's head must give."""
        return 2 * units

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        """p(latent | earlier, batch).

        Args:
            earlier: latent's name -> value ``(..., width)``, of the latents declared before this one.
            like: a tensor of the model's type, on its device.
            batch: what the model is conditioned on, where labels are parents; None where it draws from its prior.
        """
        return dist.Normal(like.new_zeros(units), like.new_ones(units)).to_event(1)

    def posterior(self, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        """q(latent | x) from ``(..., posterior_parameters)``; batch shape ``(...,)``, event shape ``(width,)``."""
        loc, log_variance = parameters.chunk(2, -1)
        # A scale below exp(-10) or above exp(10) is no longer a statement about a unit-scale latent, and its square
        # would leave float32.
        return dist.Normal(loc, (0.5 * log_variance.clamp(-20.0, 20.0)).exp()).to_event(1)

    def kl(self, q: Distribution, p: Distribution, draw: Tensor) -> Tensor:
        """KL(q || p) in nats, ``(..., units)``, or ``(..., 1)`` where it does not factorize over the units.

        Exact where torch knows a closed form, else log q - log p at the draw: see `kl_is_exact`.

        Args:
            q: a posterior of this family.
            p: a prior or another posterior.
            draw: from ``q``, ``(..., width)``.

        Raises:
            InputError: for a density against a mass, which have no divergence.
        """
        one, other, by_unit = _by_unit(q, p)
        if not _is_point(one) and _is_mass(one) != _is_mass(other):
            raise InputError(
                f"there is no KL between a density and a mass, here {_called(q)} and {_called(p)}: give prior and "
                "posterior the same kind of support"
            )
        exact = _closed_form(one, other)
        value = one.log_prob(draw) - other.log_prob(draw) if exact is None else exact
        return value if by_unit else value.unsqueeze(-1)

    def kl_is_exact(self, q: Distribution, p: Distribution) -> bool:
        """Whether `kl` of these is exact, and not one draw's unbiased estimate."""
        return _closed_form(*_by_unit(q, p)[:2]) is not None

    def embed(self, values: Tensor) -> Tensor:
        """The code of values that a latent is observed to have, ``(..., width)`` for values ``(..., units)``.

        A number is its own code. Angles are in radians, and choices are counted from 0.

        Raises:
            InputError: of a family whose units take several numbers, which has to say how.
        """
        if self.numbers != 1:
            raise InputError(
                f"a latent of the family {type(self).__name__} cannot be observed: it takes {self.numbers} numbers a "
                "unit, and has no embed of its own"
            )
        return values

    def log_prob(self, p: Distribution, code: Tensor) -> Tensor:
        """log p(code), ``(..., units)``, or ``(..., 1)`` where it does not factorize over the units.

        Args:
            p: a prior or a posterior of this family.
            code: ``(..., width)``, as `embed` gives it.
        """
        one, _, by_unit = _by_unit(p, p)
        value = one.log_prob(code)
        if not by_unit:
            return value.unsqueeze(-1)
        return value if self.numbers == 1 else value.unflatten(-1, (-1, self.numbers)).sum(-1)

    def center(self, q: Distribution) -> Tensor:
        """The posterior's center as the decoder takes it, ``(..., width)``."""
        return q.mean

    def variance(self, q: Distribution) -> Tensor:
        """The variance of each number of the code, ``(..., width)``; asked of Euclidean families alone."""
        return q.variance

    def location(self, q: Distribution) -> Tensor:
        """Where each unit is, in its own terms, ``(..., units)``: a mean, or an angle in radians."""
        return q.mean

    def spread(self, q: Distribution) -> Tensor:
        """How far each unit may be from there, in the same terms, ``(..., units)``: a standard deviation."""
        return q.stddev

    def summary(self, q: Distribution) -> tuple[Tensor, Tensor]:
        """What `FactoredVAE.encode` gives of each unit, both ``(..., units)``: its location and its spread."""
        return self.location(q), self.spread(q)

    def quantities(self, q: Distribution) -> dict[str, Tensor]:
        """What is written of each unit, ``(..., units)`` by name: `location`, `spread`, and what a family adds."""
        return {"location": self.location(q), "spread": self.spread(q)}

    def read(self, text: str) -> float:
        """A unit's value in the terms of `location`, as people write it.

        Raises:
            InputError: for what is no number.
        """
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{text!r} is not a number") from None

    def code_of(self, values: Tensor) -> Tensor:
        """Units' values ``(..., units)`` in the terms of `location`, as the decoder sees them, ``(..., width)``.

        Raises:
            InputError: for a value that a unit cannot have.
        """
        if self.numbers > 1:
            raise InputError(f"the family {type(self).__name__} does not say which code a value has (`code_of`)")
        if not bool(values.isfinite().all()):
            raise InputError("a unit's value must be finite")
        return values

    def values_of(self, code: Tensor) -> Tensor:
        """What `code_of` turns around: ``(..., units)``; the code itself, where a family does not say it."""
        return code

    def between(self, first: Tensor, last: Tensor, parts: Tensor) -> Tensor:
        """Codes on the way from one to another, ``(count, width)`` at parts ``(count,)`` of it from 0 to 1.

        A straight line where the family is Euclidean, otherwise whichever of the two is nearer.

        Args:
            first, last: ``(width,)``.
        """
        parts = parts.to(first).unsqueeze(-1)
        return torch.lerp(first, last, parts) if self.euclidean else torch.where(parts < 0.5, first, last)

    def levels(self, count: int) -> Tensor:
        """Probabilities at which a traversal looks at the prior's quantiles, ``(count,)``: from 5 % to 95 %.

        A discrete family gives one for each of its values, whatever ``count`` says.
        """
        return torch.linspace(0.05, 0.95, count, dtype=torch.float32, device="cpu")

    def level_label(self, probability: float) -> str:
        """What stands above a traversal's column."""
        return f"{100 * probability:.0f} %"

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        """Each unit's quantiles under a prior, ``(count, ..., width)`` for probabilities ``(count,)``."""
        base = p.base_dist if isinstance(p, dist.Independent) else p
        shape = (len(probability), *[1] * len(p.batch_shape + p.event_shape))
        return base.icdf(probability.view(shape).to(next(iter(_tensors(base)))))

    def map(self, q: D, function: Callable[[Tensor], Tensor]) -> D:
        """The same posterior with a function applied to every tensor in it: a flip of views, a detach, an average."""
        if getattr(q, "transforms", None):
            raise InputError(f"{type(q).__name__} holds transforms, which no map reaches: its family overrides map")
        mapped = copy.copy(q)
        for name, value in vars(q).items():
            if isinstance(value, Tensor):
                setattr(mapped, name, function(_with_batch(value, q.batch_shape)))
            elif isinstance(value, Distribution):
                setattr(mapped, name, self.map(value, function))
        return mapped

    def settings(self) -> dict[str, Any]:
        """What its constructor takes to make it again, as JSON; see `families.make`.

        Raises:
            ValueError: where it holds something that no settings can say, as a network handed over from Python.
        """
        return {}


def _by_unit(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution, bool]:
    """Both as distributions of single units, where they are independent over these, and whether they are."""
    if not (isinstance(q, dist.Independent) and isinstance(p, dist.Independent)):
        return q, p, False
    if (q.reinterpreted_batch_ndims, p.reinterpreted_batch_ndims) != (1, 1):
        return q, p, False
    return q.base_dist, p.base_dist, True


def _closed_form(q: Distribution, p: Distribution) -> Tensor | None:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def _with_batch(tensor: Tensor, batch: torch.Size) -> Tensor:
    """A parameter with all axes of the batch, some of which it may share among them."""
    axes = tensor.shape[: len(batch)]
    if axes == batch:
        return tensor
    if len(axes) == len(batch) and all(own in (1, whole) for own, whole in zip(axes, batch, strict=True)):
        return tensor.expand(batch + tensor.shape[len(batch) :])
    return tensor.expand(batch + tensor.shape)


def _is_point(distribution: Distribution) -> bool:
    """Whether it is declared as a point mass, whose KL is -log p of its value, whatever p is."""
    base = getattr(distribution, "base_dist", None)
    return _is_point(base) if isinstance(base, Distribution) else isinstance(distribution, dist.Delta)


def _is_mass(distribution: Distribution) -> bool:
    """Whether it puts mass on single values."""
    if isinstance(distribution, dist.Independent | dist.MaskedDistribution | dist.ExpandedDistribution):
        return _is_mass(distribution.base_dist)
    try:
        return bool(distribution.support.is_discrete)  # type: ignore[union-attr]
    except (AttributeError, NotImplementedError):
        return False


def _called(distribution: Distribution) -> str:
    base = getattr(distribution, "base_dist", None)
    return (
        _called(base)
        if isinstance(base, Distribution) and "Independent" in type(distribution).__name__
        else (f"{type(distribution).__name__} ({'a mass' if _is_mass(distribution) else 'a density'})")
    )


def _tensors(distribution: Distribution) -> list[Tensor]:
    return [value for value in vars(distribution).values() if isinstance(value, Tensor)]
