"""Values from users: which are missing, which are numbers, and which are equal."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_disent.errors import InputError

# fmt: off
MISSING = frozenset((
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "NaT", "None", "n/a", "nan", "null",
))
# fmt: on
"""Texts that mark a missing value: those of ``pandas.read_csv``, and what pandas writes for a missing date."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Row = Callable[[int], str]
"""What messages call an image, by its place."""


class Distinct(NamedTuple):
    """The different values of a column, and the place of each image's value among them: -1 where it is missing."""

    values: list[Any]
    places: NDArray[np.int64]

    def first(self, place: int) -> int:
        """The first image with this value."""
        return int(np.flatnonzero(self.places == place)[0])


def is_missing(value: Any, *, is_text: bool = False) -> bool:
    """Whether a value is missing: None, NaN, NaT, ``pandas.NA``, a masked value, or a text of `MISSING`.

    Args:
        is_text: only blank texts are missing.
    """
    if isinstance(value, str):
        return value.strip() == "" or (not is_text and value.strip() in MISSING)
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, Decimal):  # a signaling NaN cannot even be compared
        return value.is_nan()
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA compares as neither equal nor unequal
        return str(value) in MISSING
    except (ValueError, RuntimeError):  # an array or tensor
        return False


def distinct(values: Sequence[Any] | NDArray[Any], label: str, row: Row, *, is_text: bool) -> Distinct:
    """The values of a column.

    Raises:
        InputError: for a value that is neither a number nor a text. See `is_missing` for ``is_text``.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        unique, places = np.unique(values, return_inverse=True)
        places = places.astype(np.int64)
        if len(unique) and unique[-1] != unique[-1]:  # NaN
            places[places == len(unique) - 1] = -1
            unique = unique[:-1]
        return Distinct(list(unique), places)
    index_of: dict[tuple[bool, Any], int] = {}
    places = np.empty(len(values), np.int64)
    for image, value in enumerate(values):
        if is_missing(value, is_text=is_text):
            places[image] = -1
            continue
        if not isinstance(value, str | bool | np.bool_ | numbers.Real | Decimal):
            raise InputError(f"{label}: {row(image)} has a {type(value).__name__}: numbers or texts are needed")
        places[image] = index_of.setdefault((isinstance(value, bool | np.bool_), value), len(index_of))
    return Distinct([value for _, value in index_of], places)


def as_decimal(value: Any) -> Decimal | None:
    """The exact number; None for a text that is not a number."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value.strip()):
            return None
        try:
            return Decimal(value.strip())
        except InvalidOperation:  # an exponent of twenty digits
            return Decimal("Infinity")
    if isinstance(value, Decimal):
        return value
    return Decimal(int(value)) if isinstance(value, numbers.Integral | np.bool_) else Decimal(float(value))


def as_text(value: Any) -> str:
    """A value as the user wrote it; a whole number has no point."""
    if isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    return value if isinstance(value, str) else str(value)
