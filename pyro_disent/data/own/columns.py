"""What is known of images beside their pixels, column by column: numbers, angles and categories.

One rule for a table's cells and for values from Python. A value that pandas takes for missing is missing here too. A
column whose values are all numbers is numbers, and any other is categories, unless the user names its kind:

* ``number``: quantities. They are compared exactly; a batch holds them standardized.
* ``angle``, ``degrees``: numbers around a circle, in radians or in degrees; a batch holds radians.
* ``category``: every value is a category; where all are numbers, 7, 7.0 and 07 are the same.
* ``text``: every spelling is a category, and only a blank is missing: ``NA`` may be a name, 007 is not 7.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_disent.data.dataset import Factor
from pyro_disent.data.own.values import NUMBER, Distinct, Row, as_decimal, as_text, distinct
from pyro_disent.errors import InputError, did_you_mean

KINDS = ("number", "category", "angle", "degrees", "text")
_ANGLES = re.compile(r"(?<![a-z])(angle|azimuth|rotation|orientation|yaw|pitch|heading)(?![a-z])", re.IGNORECASE)
_NUMERIC = ("number", "angle", "degrees")
MOST_CATEGORIES = 100
"""A text with more values than this describes an image and not a factor of it, unless the user names its kind."""
FEW_VALUES = 10
"""A number with at most this many values gets a bin for each of them."""

_GROUPED = re.compile(r"[+-]?\d{1,3}((\.\d{3})+(,\d+)?|(,\d{3})+(\.\d+)?)", re.ASCII)
"""A number whose thousands are grouped."""
_EXACTLY = Context(prec=60)
"""Digits for differences of numbers that float64 would round, whatever the user's decimal context is."""
_STEPS = 1 << 40
"""Parts of a turn to which angles are rounded before they are compared: radians cannot express a whole turn."""


@dataclass(frozen=True)
class Column:
    """One property of every image.

    Args:
        kind: ``number``, ``angle`` or ``category``.
        codes: ``(images,)`` int64: each value's place in `names`; -1 where it is missing.
        names: its different values in increasing order, as they were written.
        levels: what a batch holds for each of them, ``(values,)`` float32, strictly increasing: places of categories,
            radians, or standardized numbers.
        center, scale: a number as it was written is ``center + scale * level``.
        turn: where an angle's circle begins and ends, in radians.
        raw: ``(values,)``, the values that the hash is made of.
        is_named: whether the user named its kind.
        notes: what the user may not have meant, a sentence each.
        spellings: numbers that are written in several ways, in words.
    """

    kind: str
    codes: NDArray[np.int64]
    names: tuple[str, ...]
    levels: NDArray[np.float32]
    raw: NDArray[Any]
    center: float = 0.0
    scale: float = 1.0
    turn: tuple[float, float] | None = None
    is_named: bool = False
    notes: tuple[str, ...] = ()
    spellings: str = ""

    @property
    def values(self) -> NDArray[np.float32]:
        """What a batch holds, ``(images,)``, NaN where the value is missing."""
        return np.append(self.levels, np.float32(np.nan))[self.codes]

    @property
    def missing(self) -> int:
        """How many images have no value."""
        return int((self.codes < 0).sum())

    def why_no_factor(self) -> str | None:
        """Why this is no factor of these images, in words; None where it is one."""
        count = len(self.names)
        if self.kind == "category" and count > MOST_CATEGORIES and not self.is_named:
            return f"{count} different texts"
        return "nowhere known" if count == 0 else "the same everywhere" if count == 1 else None

    def factor(self, name: str, training: NDArray[np.int64]) -> Factor:
        """This column as a factor; its bins are made of the training images' values."""
        is_category = self.kind == "category"
        return Factor(
            name,
            unit="radians" if self.kind == "angle" else "",
            circular=self.kind == "angle",
            edges=self._edges(self.codes[training]),
            range=self.turn,
            categories=self.names if is_category else (),
            center=self.center,
            scale=self.scale,
            written={} if is_category else dict(zip(self.levels.tolist(), self.names, strict=True)),
        )

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """All of it, to be hashed."""
        if self.kind == "category":
            return {f"factors/{name}": self.values, f"categories/{name}": np.array(self.names)}
        with np.errstate(over="ignore"):
            single = self.raw.astype(np.float32)
        factor_arrays = {f"factors/{name}": np.append(single, np.float32(np.nan))[self.codes]}
        # Columns that float32 resolves keep the hash that older versions gave them.
        spread = np.ptp(self.raw) if len(self.raw) else 0.0
        if (np.diff(single) > 0).all() and (np.abs(single - self.raw) <= 1e-6 * spread).all():
            return factor_arrays
        return {**factor_arrays, f"values/{name}": np.array(self.names)[self.codes]}

    @property
    def summary(self) -> str:
        """Its kind, its range and what is missing, in words."""
        count = len(self.names)
        text = f"{self.kind}, {count} value{'s' * (count != 1)}"
        if self.kind == "category":
            text += ": " * (count > 0) + ", ".join(self.names[:6]) + ", ..." * (count > 6)
        elif count:
            text += f" from {self.names[0]} to {self.names[-1]}"
        return text + (f", {self.missing} of {len(self.codes)} missing" if self.missing else ", none missing")

    def described(self, factor: Factor | None) -> str:
        """What the column was taken for, and how many bins a predictor sees, in words."""
        if factor is None:
            return f"{self.summary}; no factor, as it is {self.why_no_factor()}"
        bins = len(factor.edges) + 1
        if bins == len(self.names):
            return self.summary
        if bins == 1:
            return f"{self.summary}; not predicted, as training images have one value"
        return f"{self.summary}; a predictor sees {bins} bins of it"

    def _edges(self, training: NDArray[np.int64]) -> tuple[float, ...]:
        """Inner edges of the bins a predictor sees it in; empty where the training images have one value only."""
        if self.kind == "category":
            return tuple(place + 0.5 for place in range(len(self.names) - 1))
        present = self.levels[training[training >= 0]]
        values = np.unique(present)
        if len(values) < 2:
            return ()
        below, above = values[:-1], values[1:]
        middle = ((below.astype(np.float64) + above) / 2).astype(np.float32)
        # A value on an edge counts as above it. Adjacent float32 numbers have no number between them.
        between = np.where(middle > below, middle, above)
        if len(values) <= FEW_VALUES:
            return tuple(between.tolist())
        # Where half of the values are the lowest one, nothing is below the median.
        median = float(np.median(present))
        return (median if median > values[0] else float(between[0]),)


def column(values: Sequence[Any] | NDArray[Any], name: str, label: str, row: Row, kind: str | None = None) -> Column:
    """A column from one value an image: texts, numbers, bools, and markers of missing values.

    Args:
        name: the column's name, as ``kinds`` takes it.
        label: what messages call the column.
        row: what messages call an image.
        kind: one of `KINDS`; None: as the values are.

    Raises:
        InputError: for a value that is not a number where the kind needs one, a number that is not finite, numbers
            beside texts where the user names no kind, and values that are neither.
    """
    result = _column(values, name, label, row, kind)
    if result.kind != "number" or result.is_named or not _ANGLES.search(name) or not _in_degrees(result.raw):
        return result
    hint = f"{label} is taken for a number: if it is an angle, say `kinds={{{name!r}: 'degrees'}}`"
    return dataclasses.replace(result, notes=(*result.notes, hint))


def _in_degrees(values: NDArray[Any]) -> bool:
    """Whether numbers may be degrees, and are too large for radians."""
    return len(values) > 1 and bool((np.abs(values) <= 360).all()) and float(np.ptp(values)) > math.tau


def _column(values: Sequence[Any] | NDArray[Any], name: str, label: str, row: Row, kind: str | None) -> Column:
    cells = distinct(values, label, row, is_text=kind == "text")
    is_bool = [isinstance(value, bool | np.bool_) for value in cells.values]
    if all(is_bool) and kind not in _NUMERIC:
        return _categories(cells, name, label, row, kind)
    exact = [as_decimal(value) for value in cells.values]
    if None in exact and kind in _NUMERIC:
        place = exact.index(None)
        raise InputError(
            f"{label}: {row(cells.first(place))} has {cells.values[place]!r}, which is no number, but its kind is "
            f"{kind}: leave blank what is not known, or say `kinds={{{name!r}: 'category'}}`"
        )
    if None in exact and kind is None and not all(isinstance(value, str) for value in cells.values):
        place = exact.index(None)
        raise InputError(
            f"{label} mixes kinds of values: {row(cells.first(place))} has {cells.values[place]!r}, others have "
            f"numbers; say its kind, as by `kinds={{{name!r}: 'text'}}`"
        )
    if None in exact or kind == "text":
        return _categories(cells, name, label, row, kind)
    decimals = [value for value in exact if value is not None]
    for place, value in enumerate(decimals):
        if not math.isfinite(float(value)):
            raise InputError(f"{label} holds {as_text(cells.values[place])}, which is no finite number")
    if decimals and not math.isfinite(float(max(decimals)) - float(min(decimals))):
        raise InputError(f"{label} holds {float(min(decimals))} and {float(max(decimals))}, too far apart for float64")
    return _numbers(cells, decimals, kind or "number", is_explicit=kind is not None)


def identity_column(
    values: Sequence[Any] | NDArray[Any], name: str, label: str, row: Row, kind: str | None = None
) -> tuple[Column, str]:
    """A column that says which images belong together, and what it was taken for, in words.

    Its codes follow the order of its names: numbers sort as numbers, texts as texts.

    Raises:
        InputError: as `column`, and for angles.
    """
    if kind in ("angle", "degrees"):
        raise InputError(f"{label} says which images belong together, so its kind cannot be {kind}")
    members = _column(values, name, label, row, kind)
    order = list(range(len(members.names)))
    if any(isinstance(value, str) for value in values):
        order = sorted(order, key=members.names.__getitem__)
    place = np.append(np.argsort(order), -1).astype(np.int64)
    how = ", compared as numbers" if members.kind == "number" else ""
    alike = f"{name} is compared as numbers: {members.spellings}; `kinds={{{name!r}: 'text'}}` tells spellings apart"
    identity = dataclasses.replace(
        members,
        kind="category",
        codes=place[members.codes],
        names=tuple(members.names[level] for level in order),
        levels=np.arange(len(order), dtype=np.float32),
        notes=(*members.notes, alike) if members.spellings else members.notes,
    )
    return identity, f"{name}: {identity.summary}{how}; what pairs have in common"


def check_kinds(kinds: Mapping[str, str], names: Iterable[str], whose: str) -> None:
    """Raises InputError for kinds that do not exist, and for columns that are not among ``names``."""
    names = tuple(names)
    for name, kind in kinds.items():
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise InputError(f"`kinds={{{name!r}: {kind!r}}}`{hint}: a column's kind is one of {', '.join(KINDS)}")
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(
                f"`kinds={{{name!r}: {kind!r}}}`{hint}: {whose} has no such column; it has {', '.join(names) or 'none'}"
            )


def _categories(cells: Distinct, name: str, label: str, row: Row, kind: str | None) -> Column:
    names = [as_text(value) for value in cells.values]
    unique = sorted(set(names))
    place = {text: index for index, text in enumerate(unique)}
    codes = np.array([*(place[text] for text in names), -1], np.int64)[cells.places]
    levels = np.arange(len(unique), dtype=np.float32)
    notes = () if kind else _almost_numbers(cells, name, label, row)
    return Column("category", codes, tuple(unique), levels, levels, is_named=kind is not None, notes=notes)


def _almost_numbers(cells: Distinct, name: str, label: str, row: Row) -> tuple[str, ...]:
    """A warning where most images, or most different texts, have a number, with a decimal point or comma."""
    texts = [value.strip() if isinstance(value, str) else "" for value in cells.values]
    alike = [bool(NUMBER.fullmatch(text.replace(",", ".", 1)) or _GROUPED.fullmatch(text)) for text in texts]
    like, valid = np.array([*alike, False])[cells.places], cells.places >= 0
    # Most images may share one text that stands for a missing number.
    if 2 * like.sum() <= valid.sum() and 2 * sum(alike) <= len(alike):
        return ()
    is_number = np.array([*(bool(NUMBER.fullmatch(text)) for text in texts), True])[cells.places]
    image = int(np.flatnonzero(~is_number)[0])
    comma = " (write decimals with a point)" if like[image] else ""
    return (
        f"{label} is taken for text: {int(like.sum())} of {int(valid.sum())} values are numbers, but the first that is "
        f"none is {texts[cells.places[image]]!r} of {row(image)}{comma}; leave blank what is not known, or say "
        f"`kinds={{{name!r}: 'text'}}`",
    )


def _numbers(cells: Distinct, exact: list[Decimal], kind: str, *, is_explicit: bool) -> Column:
    names = [as_text(value) for value in cells.values]
    # The shortest spelling of a number is its name, whatever the order of the images.
    order = sorted(range(len(names)), key=lambda place: (exact[place], len(names[place]), names[place]))
    keys: list[Any] = [exact[place] for place in order]
    turns: list[float] = []
    if kind in ("angle", "degrees"):
        whole = 360.0 if kind == "degrees" else math.tau
        turns = [float(key) % whole / whole for key in keys]
        keys = [round(turn * _STEPS) % _STEPS for turn in turns]
        around = sorted(range(len(order)), key=keys.__getitem__)
        order, keys = [order[place] for place in around], [keys[place] for place in around]
    level_of = np.full(len(names) + 1, -1, np.int64)
    levels: list[Any] = []
    spelled: list[list[str]] = []
    for place, key in zip(order, keys, strict=True):
        if not levels or levels[-1] != key:
            levels.append(key)
            spelled.append([])
        level_of[place] = len(levels) - 1
        spelled[-1].append(names[place])
    codes = level_of[cells.places]
    if turns:
        shortest = [min(texts, key=lambda text: (len(text), text)) for texts in spelled]
        return _angles(codes, levels, shortest, kind, is_explicit=is_explicit)
    several = [f"{', '.join(texts[1:])} is {texts[0]}" for texts in spelled if len(set(texts)) > 1]
    called = tuple(texts[0] for texts in spelled)
    spellings = " and ".join(several[:2])
    if kind == "category":
        places = np.arange(len(levels), dtype=np.float32)
        return Column("category", codes, called, places, places, is_named=is_explicit, spellings=spellings)
    center, scale, standardized = _standardized(levels, codes)
    raw = np.array([float(level) for level in levels], np.float64)
    return Column(
        "number",
        codes,
        called,
        _increasing(standardized),
        raw,
        center,
        scale,
        is_named=is_explicit,
        spellings=spellings,
    )


def _standardized(levels: list[Decimal], codes: NDArray[np.int64]) -> tuple[float, float, NDArray[np.float64]]:
    """Mean and standard deviation over images, and the levels standardized by them, from exact differences."""
    if len(levels) < 2:
        return float(levels[0]) if levels else 0.0, 1.0, np.zeros(len(levels))
    with localcontext(_EXACTLY):
        low, spread = levels[0], levels[-1] - levels[0]
        share = np.array([float((level - low) / spread) for level in levels])
        present = share[codes[codes >= 0]]
        mean, deviation = float(present.mean()), float(present.std())
        center, scale = float(low + spread * Decimal(mean)), float(spread * Decimal(deviation))
    return center, scale, (share - mean) / deviation


def _angles(codes: NDArray[np.int64], steps: list[int], names: list[str], kind: str, *, is_explicit: bool) -> Column:
    """Angles as a batch holds them: in radians. The circle is cut at its widest gap, so that neighbors stay near."""
    places = np.array(steps, np.int64)
    gaps = (places - np.roll(places, 1)) % _STEPS
    if len(places) == 1:
        gaps[:] = _STEPS
    # Equal gaps differ by rounding only: then the circle is cut before its zero.
    first = 0 if not len(gaps) or gaps[0] >= gaps.max() - 4 else int(gaps.argmax())
    places = np.roll(places, -first)
    unrolled = (places[0] + (places - places[0]) % _STEPS if len(places) else places) / _STEPS * math.tau
    start = float(unrolled[0] - gaps[first] / _STEPS * math.pi) if len(places) else 0.0
    if len(places) and unrolled[0] >= math.pi:
        unrolled, start = unrolled - math.tau, start - math.tau
    place = np.append((np.arange(len(places)) - first) % max(len(places), 1), -1)
    suffix = "°" if kind == "degrees" else ""
    return Column(
        "angle",
        place[codes],
        tuple(name + suffix for name in np.roll(names, -first).tolist()) if names else (),
        _increasing(unrolled),
        unrolled,
        turn=(start, start + math.tau),
        is_named=is_explicit,
    )


def _increasing(levels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Increasing numbers as float32, each moved just far enough to stay above the one before it."""
    result = levels.astype(np.float32)
    for place in np.flatnonzero(result[1:] <= result[:-1]) + 1 if len(result) else ():
        while place < len(result) and result[place] <= result[place - 1]:
            result[place] = np.nextafter(result[place - 1], np.float32(np.inf))
            place += 1
    return result
