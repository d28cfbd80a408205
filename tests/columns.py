"""A column of its own, and what columns of a data set are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_disent.data.own.columns import Column, column

IDS = np.repeat(np.arange(12), 3)


PIXELS = np.random.default_rng(0).integers(0, 256, (36, 1, 8, 8), dtype=np.uint8)


PIXELS[:, 0, -1, -1] = np.arange(36)


def read(values: Any, kind: str | None = None) -> Column:
    return column(values, "size", "column size", lambda place: f"row {place}", kind)


class Series:
    """As a pandas series: no array, no list, but one for NumPy."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self.values), object)
        array[:] = self.values
        return array if dtype is None else array.astype(dtype)
