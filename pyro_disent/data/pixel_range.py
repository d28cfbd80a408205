"""Pixels of any range as bytes, and whether a set of images uses the range it came in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_disent.data.dataset import Images
from pyro_disent.errors import InputError

LITTLE = 64
"""Of 256 values: images that differ by fewer in all their pixels together use almost none of their range."""
_PART = 256  # images looked at together

WAY_OUT = "say which value is white: --white N for a folder, white=N in Python (bool arrays need none)"


def check_white(white: float | None) -> None:
    """Raises InputError for a value that cannot be white."""
    if white is not None and not (isinstance(white, int | float) and 0 < white < float("inf")):
        raise InputError(f"--white {white} is no number above 0")


def as_bytes(values: NDArray[Any], white: float, label: Callable[[int], str]) -> NDArray[np.uint8]:
    """Pixels from 0 to ``white`` as bytes from 0 to 255; ``label`` is what messages call a place of the first axis.

    Raises:
        InputError: for a pixel that is below 0, above ``white`` or not a number.
    """
    outside = ~((values >= 0) & (values <= white))  # as NaN is
    if outside.any():
        raise InputError(
            f"{label(int(np.argwhere(outside)[0, 0]))} has a pixel of {values[outside][0]}, but black is 0 and white "
            f"is said to be {white:g}"
        )
    return (values.astype(np.float64) * (255 / white)).round().astype(np.uint8)


def unused_range(images: Sequence[Images], name: str) -> str | None:
    """What to say of images that use almost none of their range, all together; None of usual ones.

    Raises:
        InputError: where no pixel is above 1 of 255, and some are: images of 0 and 1, taken for black.
    """
    low, high = 255, 0
    for split in images:
        for start in range(0, len(split), _PART):
            part = split[start : start + _PART]
            low, high = min(low, int(part.min())), max(high, int(part.max()))
            if high - low >= LITTLE:
                return None
    if high == 1:
        raise InputError(f"every pixel of {name} is 0 or 1 where white is 255, so all images are black: {WAY_OUT}")
    return (
        f"all pixels of {name} lie from {low} to {high} where black is 0 and white is 255: if that is not how the "
        f"images look, {WAY_OUT}"
    )
