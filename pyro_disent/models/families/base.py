"""The base class of the families: everything that depends on the form of a prior and of a posterior."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
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
    """The prior p(latent | earlier latents, batch) of a latent, the form of its posterior, and computations with both.

    A latent has units. In the code that the decoder sees, a unit takes one number, or several side by side:
    ``width = units x numbers``. Distributions have one event dimension, of that width. The base class is a standard
    normal prior with a diagonal normal posterior; a subclass overrides the methods that differ.
    """

    name: ClassVar[str]
    """Its name on the command line and in a run's record."""
    numbers: int = 1
    """How many numbers of the code a unit takes."""
    euclidean: ClassVar[bool] = True
    """Whether the covariance of codes over images is meaningful; on a circle it is not."""
    circular: ClassVar[bool] = False
    """Whether a value of a unit is an angle, in radians."""

    @property
    def measured_in(self) -> str:
        """The physical unit of `location`, empty for none."""
        return "radians" if self.circular else ""

    @property
    def choices(self) -> int | None:
        """How many values a unit can have; None: any number, or any angle."""
        return None

    labels: Mapping[str, Label] = {}
    """Labels that the prior depends on, by name: each is a site of the model, and a one-hot vector in ``earlier``."""

    def __init__(self) -> None:  # nn.Module's constructor accepts any arguments
        super().__init__()

    def stand_for(self, factors: tuple[str, ...]) -> None:
        """Called by a latent whose units explain one factor each, with these, before the model binds it."""

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        """Called once by the model, with the number of units and the widths of the latents declared before."""

    def dependent_units(self, parent: str, units: int) -> Sequence[int]:
        """The units whose prior depends on this parent, a latent or a label; all, where a family does not know."""
        return range(units)

    def width(self, units: int) -> int:
        """Numbers in the code that the decoder sees."""
        return units * self.numbers

    def posterior_parameters(self, units: int) -> int:
        """How many numbers the guide's head must give."""
        return 2 * units

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        """p(latent | earlier, batch).

        Args:
            earlier: latent's name -> value ``(..., width)``, of the latents declared before this one.
            like: a tensor of the model's type, on its device.
            batch: the batch that the model is conditioned on, as for its labels; None if it draws from its prior.
        """
        return dist.Normal(like.new_zeros(units), like.new_ones(units)).to_event(1)

    def posterior(self, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        """q(latent | x) from ``(..., posterior_parameters)``; batch shape ``(...,)``, event shape ``(width,)``."""
        loc, log_variance = parameters.chunk(2, -1)
        # No posterior of a unit-scale latent needs a scale below exp(-10) or above exp(10); its square could leave
        # float32.
        return dist.Normal(loc, (0.5 * log_variance.clamp(-20.0, 20.0)).exp()).to_event(1)

    def kl(self, q: Distribution, p: Distribution, draw: Tensor) -> Tensor:
        """KL(q || p) in nats, ``(..., units)``, or ``(..., 1)`` where it does not factorize over the units.

        Exact if torch knows a closed form, else log q - log p at the draw: see `kl_is_exact`.

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
        """Whether `kl` of these is exact, and not an unbiased estimate from one draw."""
        return _closed_form(*_by_unit(q, p)[:2]) is not None

    def embed(self, values: Tensor) -> Tensor:
        """The code of observed values, ``(..., width)`` for values ``(..., units)``.

        A number is its own code. Angles are in radians, and choices are counted from 0.

        Raises:
            InputError: for a family whose units take several numbers, if it does not override this method.
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
        """The variance of each number of the code, ``(..., width)``; used for Euclidean families only."""
        return q.variance

    def location(self, q: Distribution) -> Tensor:
        """The location of each unit's posterior, ``(..., units)``: a mean, or an angle in radians."""
        return q.mean

    def spread(self, q: Distribution) -> Tensor:
        """The spread of each unit's posterior in the unit of `location`, ``(..., units)``: a standard deviation."""
        return q.stddev

    def summary(self, q: Distribution) -> tuple[Tensor, Tensor]:
        """The two tensors that `FactoredVAE.encode` gives, both ``(..., units)``: location and spread."""
        return self.location(q), self.spread(q)

    def quantities(self, q: Distribution) -> dict[str, Tensor]:
        """What tables hold of each unit, ``(..., units)`` by name: `location`, `spread`, and others of a family."""
        return {"location": self.location(q), "spread": self.spread(q)}

    def read(self, text: str) -> float:
        """A unit's value as a number, in the unit of `location`, from the text that people write.

        Raises:
            InputError: for text that is not a number.
        """
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{text!r} is not a number") from None

    def code_of(self, values: Tensor) -> Tensor:
        """The code ``(..., width)`` of units' values ``(..., units)``, which are in the unit of `location`.

        Raises:
            InputError: for a value that a unit cannot have.
        """
        if self.numbers > 1:
            raise InputError(f"the family {type(self).__name__} does not say which code a value has (`code_of`)")
        if not bool(values.isfinite().all()):
            raise InputError("a unit's value must be finite")
        return values

    def values_of(self, code: Tensor) -> Tensor:
        """Inverse of `code_of`, ``(..., units)``; the code itself unless a family overrides it."""
        return code

    def between(self, first: Tensor, last: Tensor, parts: Tensor) -> Tensor:
        """Codes between two codes, ``(count, width)``, at parts ``(count,)`` of the way from 0 to 1.

        On a straight line if the family is Euclidean, otherwise the nearer of the two.

        Args:
            first, last: ``(width,)``.
        """
        parts = parts.to(first).unsqueeze(-1)
        return torch.lerp(first, last, parts) if self.euclidean else torch.where(parts < 0.5, first, last)

    def levels(self, count: int) -> Tensor:
        """The probabilities of the prior's quantiles that a traversal visits, ``(count,)``: from 5 % to 95 %.

        A discrete family gives one for each of its values, whatever ``count`` is.
        """
        return torch.linspace(0.05, 0.95, count, dtype=torch.float32, device="cpu")

    def level_label(self, probability: float) -> str:
        """The text above a traversal's column."""
        return f"{100 * probability:.0f} %"

    def quantiles(self, p: Distribution, probability: Tensor) -> Tensor:
        """Each unit's quantiles under a prior, ``(count, ..., width)`` for probabilities ``(count,)``."""
        base = p.base_dist if isinstance(p, dist.Independent) else p
        shape = (len(probability), *[1] * len(p.batch_shape + p.event_shape))
        return base.icdf(probability.view(shape).to(next(iter(_tensors(base)))))

    def map(self, q: D, function: Callable[[Tensor], Tensor]) -> D:
        """The same posterior with a function applied to each of its tensors, such as a flip of views or a detach."""
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
        """The arguments of its constructor that make it again, as JSON; see `families.make`.

        Raises:
            ValueError: if JSON cannot describe an argument, such as a network from Python.
        """
        return {}


def _by_unit(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution, bool]:
    """Both as distributions of single units if they are independent over units, and whether they are."""
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
    """A parameter with all axes of the batch; it may lack some, or have size 1 in them."""
    axes = tensor.shape[: len(batch)]
    if axes == batch:
        return tensor
    if len(axes) == len(batch) and all(size in (1, whole) for size, whole in zip(axes, batch, strict=True)):
        return tensor.expand(batch + tensor.shape[len(batch) :])
    return tensor.expand(batch + tensor.shape)


def _is_point(distribution: Distribution) -> bool:
    """Whether it is declared as a point mass; its KL is -log p of its value, whatever p is."""
    base = getattr(distribution, "base_dist", None)
    return _is_point(base) if isinstance(base, Distribution) else isinstance(distribution, dist.Delta)


def _is_mass(distribution: Distribution) -> bool:
    """Whether it is discrete."""
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
