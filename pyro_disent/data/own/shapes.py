"""Notes on the shapes of images before training: what happens to images that are not square, and which are unusual."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from pyro_disent.data.images.headers import Header
from pyro_disent.data.own.listing import SHOWN, shown

SHAPES = ("crop", "pad")
SIZE_UNLIKE, SHAPE_UNLIKE = 4.0, 2.0
"""Factors by which the side of a square of an image's area, and the ratio of its sides, may differ from the median."""


def channels_of(headers: Mapping[str, Header]) -> int:
    """1 where every image is grey, else 3."""
    return 1 if headers and all(header.channels == 1 for header in headers.values()) else 3


def about_channels(headers: Mapping[str, Header], channels: int) -> str:
    """How many channels images get, and how many images are converted for it, as one sentence."""
    grey = sum(header.channels == 1 for header in headers.values())
    if channels == 1:
        others = f", where {len(headers) - grey} of {len(headers)} images have color" if grey < len(headers) else ""
        return f"1 channel, grey{others}" + ("" if others else ", as all images are")
    return "3 channels, RGB" + (f", where {grey} of {len(headers)} images are grey" if grey else "")


def about_shapes(headers: Mapping[str, Header], size: int, shape: str) -> list[str]:
    """What happens to images that are not square, and which images are unlike the others, in sentences."""
    if not headers:
        return []
    elongated = {name: _elongation(header) for name, header in headers.items()}
    count = sum(ratio > 1 for ratio in elongated.values())
    notes = []
    if count:
        all_of = f"{count} of {len(headers)} images are not square"
        least = 100 / max(elongated.values())
        notes.append(
            f"{all_of} and get black margins (`shape=pad`)"
            if shape == "pad"
            else f"{all_of}: cropping them about their center keeps {least:.0f} % of the longer side, or more; "
            "`shape=pad` keeps all of each, between black margins"
        )
    side, ratio = median(map(_side, headers.values())), median(elongated.values())
    unlike = [
        name
        for name, header in headers.items()
        if not 1 / SIZE_UNLIKE <= _side(header) / side <= SIZE_UNLIKE
        or not 1 / SHAPE_UNLIKE <= elongated[name] / ratio <= SHAPE_UNLIKE
    ]
    if unlike:
        examples = ", ".join(f"{shown(name)} ({headers[name].width}x{headers[name].height})" for name in unlike[:SHOWN])
        rest = f" and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
        usual = f"{side * ratio**0.5:.0f}x{side / ratio**0.5:.0f}"
        notes.append(f"much unlike the others in size or shape: {examples}{rest}, where {usual} or upright is usual")
    return notes


def _side(header: Header) -> float:
    """Side of a square with the same number of pixels."""
    return (header.width * header.height) ** 0.5


def _elongation(header: Header) -> float:
    """Longer side divided by the shorter one: portrait and landscape are equal."""
    return max(header.width, header.height) / min(header.width, header.height)
