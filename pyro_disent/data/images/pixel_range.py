"""Pixels of any range as bytes, and warnings about images that hardly use their range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_disent.data.images.store import Images
from pyro_disent.errors import InputError

LITTLE = 64
"""A number of the 256 values: images whose pixels all lie closer together use almost none of their range."""
SOME = 0.1
"""The share of dim images that is a mistake rather than photographs taken at night."""
MOST = 4_096
"""Images that are examined."""
_HOT = 0.005
_PART = 256  # images examined together

WAY_OUT = "say which value is white: `white=N` (bool arrays need none)"


def check_white(white: float | None) -> None:
    """Raises InputError for a value that cannot be white."""
    if white is not None and not (isinstance(white, int | float) and 0 < white < float("inf")):
        raise InputError(f"`white={white}` is no number above 0")


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


def unused_range(images: Sequence[Images], name: str, called: Callable[[int, int], str] | None = None) -> list[str]:
    """Warnings about images that use almost none of their range; empty for ordinary images.

    At most about `MOST` images are examined, evenly spread. The brightest `_HOT` of a dim image's pixels do not count,
    because single pixels of a sensor may be hot. A black image is not an error.

    Args:
        images: of each split.
        called: a split's place, and an image's place in it -> the image's name; None: its place is its name.

    Raises:
        InputError: where at least half of the images that are not black have no pixel above 1 of 255: such images of 0
            and 1 would look black.
    """
    count = sum(map(len, images))
    step = -(-count // MOST)
    places = [(split, place) for split, part in enumerate(images) for place in range(0, len(part), step)]
    lows, peaks, dim = [], [], []
    for part in images:
        index = torch.arange(0, len(part), step)
        for few in index.split(_PART) if len(index) else ():
            pixels = part[few].reshape(len(few), -1).numpy()
            hot = max(1, round(_HOT * pixels.shape[1]))
            low, bright = pixels.min(1), (pixels >= LITTLE).sum(1)
            lows.append(low)
            peaks.append(pixels.max(1))
            dim.append((bright <= hot) & ((pixels > low[:, None]).sum(1) - bright > hot))
    low, peak, is_dim = map(np.concatenate, (lows, peaks, dim))
    looked = f"{len(peak)}" if step == 1 else f"{len(peak):,} that were looked at of {count:,}"

    def first(which: NDArray[np.bool_]) -> str:
        split, place = places[int(np.flatnonzero(which)[0])]
        return called(split, place) if called else f"image {place} of split {split}"

    masks = peak == 1
    if masks.any() and masks.sum() == (peak > 0).sum():
        raise InputError(f"every pixel of {name} is 0 or 1 where white is 255, so all images are black: {WAY_OUT}")
    about_masks = (
        f"{int(masks.sum())} of {looked} images of {name} have only pixels of 0 and 1 where white is 255, so they are "
        f"black, the first is {first(masks)}"
        if masks.any()
        else ""
    )
    if 2 * masks.sum() >= max(1, (peak > 0).sum()):
        raise InputError(f"{about_masks}: save them with a white of 255, as the others are")
    if int(peak.max()) - int(low.min()) < LITTLE:
        return [
            f"all pixels of {name} lie from {low.min()} to {peak.max()} where black is 0 and white is 255: if that is "
            f"not how the images look, {WAY_OUT}"
        ]
    notes = [about_masks] if about_masks else []
    is_dim &= ~masks
    if is_dim.any() and is_dim.sum() >= SOME * len(peak):
        notes.append(
            f"{int(is_dim.sum())} of {looked} images of {name} use less than a quarter of their range, the first is "
            f"{first(is_dim)}: if that is not how they look, {WAY_OUT}"
        )
    return notes
