"""The coefficients of an objective: tensors, so that a compiled step never has one frozen into it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class WarmUp(NamedTuple):
    """A weight that rises linearly from 0 to ``weight`` over the first ``steps`` steps, and stays."""

    weight: float
    steps: int


Weight = float | WarmUp


def weight_at(weight: Weight, step: int) -> float:
    """The value of a weight at a step, counted from 0."""
    if not isinstance(weight, WarmUp):
        return float(weight)
    return weight.weight * min(1.0, step / weight.steps) if weight.steps > 0 else weight.weight


class Weights(nn.Module):
    """Named weights as one float32 buffer, ``weights[name]`` being a 0-d tensor."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        super().__init__()
        self.given = dict(weights)
        self.values: Tensor
        start = [weight_at(weight, 0) for weight in self.given.values()]
        self.register_buffer("values", torch.tensor(start, dtype=torch.float32), persistent=False)

    def set_step(self, step: int) -> None:
        """Give every scheduled weight its value at this step."""
        for index, weight in enumerate(self.given.values()):
            if isinstance(weight, WarmUp):
                self.values[index] = weight_at(weight, step)

    @contextlib.contextmanager
    def warm(self) -> Iterator[None]:
        """Every scheduled weight at its final value meanwhile."""
        before = self.values.clone()
        self.set_step(sys.maxsize)
        try:
            yield
        finally:
            self.values.copy_(before)

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def __getitem__(self, name: str) -> Tensor:
        return self.values[list(self.given).index(name)]
