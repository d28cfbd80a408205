"""The coefficients of an objective: tensors, so that a compiled step never has one frozen into it."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyro_disent.errors import InputError


@dataclass(frozen=True)
class WarmUp:
    """A weight that rises linearly from 0 to ``weight`` over the first ``steps`` steps, and stays.

    Under `pyro.infer.SVI` an ELBO counts its steps, and `pyro_disent.fit` counts those of the run. With a torch
    optimizer, call ``objective.weights.set_step(step)`` before each step, from 0.

    Raises:
        InputError: for fewer than one step, and a weight that is not a finite number.
    """

    weight: float
    steps: int

    def __post_init__(self) -> None:
        if not _is_number(self.weight):
            raise InputError(f"a warm-up rises to a finite number, not {self.weight!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, Integral) or self.steps < 1:
            raise InputError(f"a warm-up takes a whole number of steps, 1 or more, not {self.steps!r}")
        # NumPy's numbers cannot be written as JSON.
        object.__setattr__(self, "weight", self.weight if isinstance(self.weight, int) else float(self.weight))
        object.__setattr__(self, "steps", int(self.steps))


Weight = float | WarmUp


def _is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def weight_at(weight: Weight, step: int) -> float:
    """The value of a weight at a step, counted from 0."""
    if not isinstance(weight, WarmUp):
        return float(weight)
    return weight.weight * min(1.0, step / weight.steps)


class Weights(nn.Module):
    """Named weights as one float32 buffer, ``weights[name]`` being a 0-d tensor."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not isinstance(weight, WarmUp) and not _is_number(weight):
                raise InputError(f"the weight {name} is a finite number or a WarmUp(weight, steps), not {weight!r}")
        self.by_name = dict(weights)
        self.is_told = False
        """Whether `set_step` was ever called."""
        self.step = 0
        """The step that the values belong to, counted from 0."""
        self.values: Tensor
        start = [weight_at(weight, 0) for weight in self.by_name.values()]
        self.register_buffer("values", torch.tensor(start, dtype=torch.float32, device="cpu"), persistent=False)

    def set_step(self, step: int) -> None:
        """Give every scheduled weight its value at this step.

        Raises:
            InputError: for anything but a whole number, 0 or more.
        """
        if isinstance(step, bool) or not isinstance(step, Integral) or step < 0:
            raise InputError(f"a step is a whole number, counted from 0, not {step!r}")
        self.step, self.is_told = int(step), True
        self._take_values_of(step)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """After a change of type, as by ``double()``, the weights are exact again and not rounded to float32."""
        super()._apply(fn, recurse)
        for index, weight in enumerate(self.by_name.values()):
            self.values[index] = weight_at(weight, self.step)
        return self

    def check_told(self) -> None:
        """Raises InputError where a weight warms up and `set_step` was never called: it would stay 0."""
        if not self.is_told and any(isinstance(weight, WarmUp) for weight in self.by_name.values()):
            raise InputError(
                "a weight of this objective warms up, and nobody says which step it is, so that it would stay 0: call "
                "objective.weights.set_step(step) before each step, from 0, or train by pyro.infer.SVI, which counts"
            )

    def _take_values_of(self, step: int) -> None:
        for index, weight in enumerate(self.by_name.values()):
            if isinstance(weight, WarmUp):
                self.values[index] = weight_at(weight, step)

    @contextlib.contextmanager
    def warm(self) -> Iterator[None]:
        """Within this context, every scheduled weight has its final value."""
        before = self.values.clone()
        self._take_values_of(sys.maxsize)
        try:
            yield
        finally:
            self.values.copy_(before)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> Tensor:
        return self.values[list(self.by_name).index(name)]


BETA, ALPHA = "beta", "alpha"
"""The names of the weights on the KL of every latent, and on -log q of the latents that are observed."""


def kl_weight(latent: str) -> str:
    """The name of the weight on one latent's KL."""
    return f"beta:{latent}"


def value_weight(latent: str, unit: int | None = None) -> str:
    """The name of the weight on -log q of a latent's value: one for all units, or one for a single unit."""
    return f"known:{latent}" if unit is None else f"known:{latent}[{unit}]"


def elbo_weights(
    defaults: Mapping[str, float],
    overrides: Mapping[str, Weight],
    beta: Weight | Mapping[str, Weight],
    alpha: Weight,
    shares: Mapping[str, float | Sequence[float]],
) -> Weights:
    """All weights of a `DisentanglingELBO`, whose arguments these are.

    Args:
        defaults: term's name -> its default weight.
        overrides: term's name -> the weight that replaces its default.
        shares: latent's name -> the share of training images whose value is known, one number or one per unit.

    Raises:
        InputError: for a share that is not above 0 and at most 1, and a weight that is not a finite number.
        ValueError: for a weight of a term that does not exist.
    """
    if unknown := overrides.keys() - defaults.keys():
        raise ValueError(f"weights of terms that are not there: {', '.join(sorted(unknown))}")
    term_weights = {name: overrides.get(name, default) for name, default in defaults.items()}
    betas = {kl_weight(name): weight for name, weight in beta.items()} if isinstance(beta, Mapping) else {}
    value_weights: dict[str, Weight] = {
        value_weight(name, unit): 1 / _share(name, share)
        for name, each in shares.items()
        for unit, share in (enumerate(each) if isinstance(each, Sequence) else [(None, each)])
    }
    if alpha != 1.0 or value_weights:
        value_weights[ALPHA] = alpha
    return Weights({BETA: 1.0 if isinstance(beta, Mapping) else beta, **betas, **term_weights, **value_weights})


def _share(latent: str, share: Any) -> float:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"the share of images that {latent!r} is known of is above 0 and at most 1, not {share!r}")
    return float(share)
