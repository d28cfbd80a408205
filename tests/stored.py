"""Small images, each another one, and the files beside those on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_disent.errors import InputError

SHAPE = (3, 4, 5)


BYTES = 60


TOTAL = 37


def picture(item: int) -> NDArray[np.uint8]:
    return np.random.default_rng(item).integers(0, 256, SHAPE, dtype=np.uint8)


def pictures(total: int = TOTAL) -> NDArray[np.uint8]:
    return np.stack([picture(item) for item in range(total)])


def but_not(*bad: int) -> Callable[[int], NDArray[np.uint8]]:
    def convert(item: int) -> NDArray[np.uint8]:
        if item in bad:
            raise InputError(f"item {item} is bad")
        return picture(item)

    return convert


class Counting:
    """Converts, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def __call__(self, item: int) -> NDArray[np.uint8]:
        self.items.append(item)
        return picture(item)


class Stop(BaseException):
    """What ends a conversion early in these tests; nobody catches it by mistake."""


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
