"""Operations that a compiled step replaces on a CPU, where the library's are too slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.polynomial.polynomial import polyadd, polymulx
from torch import Tensor

LEVELS = 13  # levels of the continued fraction, which is exact to 4e-8 where |x| < LIMIT
LIMIT = 7.9  # beyond it, tanh is 1 to within 3e-7


def _lambert(levels: int) -> tuple[list[float], list[float]]:
    """Lambert's continued fraction x / (1 + x² / (3 + x² / (5 + ...))) as x P(x²) / Q(x²), coefficients ascending."""
    # Start at the innermost level, and go outwards.
    numerator, denominator = np.array([2.0 * levels - 1.0]), np.array([1.0])
    for odd in range(2 * levels - 3, 0, -2):
        numerator, denominator = polyadd(odd * numerator, polymulx(denominator)), numerator
    return (denominator / denominator[0]).tolist(), (numerator / denominator[0]).tolist()


P, Q = _lambert(LEVELS)


def tanh(x: Tensor) -> Tensor:
    """tanh in float32 with a relative error below 4e-7, three times as fast as the vectorized library's.

    All coefficients are positive, so nothing cancels. Other types and devices use torch's tanh.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return NotImplemented
    x = x.clamp(-LIMIT, LIMIT)
    square = x * x
    return x * _polynomial(P, square) / _polynomial(Q, square)


def _polynomial(coefficients: list[float], x: Tensor) -> Tensor:
    """By Horner's rule."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def channels_last(weight: Tensor) -> Tensor:
    """A convolution's weight (four dimensions) with channels innermost, a layout that its output has too.

    Convolutions are faster in this layout. Inductor would choose it as well, but for each convolution by itself, and
    would copy the activations between two of them to another layout and back.
    """
    if weight.device.type != "cpu" or weight.dim() != 4:
        return weight
    return weight.to(memory_format=torch.channels_last)


DECOMPOSITIONS: dict[Any, Callable[..., Tensor]] = {torch.ops.aten.tanh.default: tanh}
"""For ``make_fx``: operation -> its replacement in the trace."""
