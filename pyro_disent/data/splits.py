"""Images that a user brings, from a folder or from Python, as a data set: one rule for splits, pairs and factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.data.dataset import DataSet, Factor, Images, Source
from pyro_disent.data.grouped import GroupedSplit
from pyro_disent.errors import InputError

UNRECORDED = "all else"
"""A factor of every pair, never equal in its two views: what differs between two images beside what is recorded.

Nobody records all causes of a photograph. ``y`` stands for every factor without a latent of its own, so this one keeps
``y`` from being shared where what happens to be recorded is equal (for a person's gender that is every pair).
"""
TAKEN = ("z", "y", UNRECORDED)
"""Names no factor may have: a latent of that name would be shared where the factor is equal, which nobody meant."""
MOST_CATEGORIES = 100
"""A text with more values than this describes an image rather than a factor of it."""
FEW_VALUES = 10
"""A number with at most so many values is told apart by every one of them."""


class Column(NamedTuple):
    """What is known of one thing in every image."""

    values: NDArray[np.float32]
    """``(images,)``, NaN where it is not known; for texts their places in ``categories``."""
    categories: tuple[str, ...] = ()
    """What its values are called, where they are texts, in sorted order."""

    @classmethod
    def of_numbers(cls, numbers: NDArray[Any], label: str) -> Column:
        """A column of numbers, NaN where they are not known; ``label`` is what messages call it.

        Raises:
            InputError: for a number that is infinite, or so large that a float32 cannot hold it.
        """
        with np.errstate(over="ignore"):
            values = np.asarray(numbers, np.float64).astype(np.float32)
        if np.isinf(values).any():
            raise InputError(f"{label} holds {numbers[np.isinf(values)][0]}, which is no finite float32")
        return cls(values)

    @classmethod
    def of_texts(cls, texts: Sequence[str | None]) -> Column:
        """A column of texts, None where they are not known."""
        categories = sorted({text for text in texts if text is not None})
        places: dict[str | None, float] = {text: place for place, text in enumerate(categories)}
        return cls(np.array([places.get(text, np.nan) for text in texts], np.float32), tuple(categories))

    def why_no_factor(self) -> str | None:
        """Why this is no factor of these images, in words; None where it is one."""
        if len(self.categories) > MOST_CATEGORIES:
            return f"{len(self.categories)} different texts"
        count = len(np.unique(self.values[~np.isnan(self.values)]))
        return "nowhere known" if count == 0 else "the same everywhere" if count == 1 else None


@dataclass(frozen=True)
class Known:
    """What is known of images beside their pixels.

    Args:
        count: of images.
        identity: ``(images,)`` int64, from 0, numbered in the order of the identities' names; None where nothing says
            which images belong together.
        columns: factor's name -> its column; those that are no factors are left out, see `no_factors`.
        labels: label's name -> ``(images,)`` int64.
        split: ``(images,)`` int64, 0 for training, 1 for validation, 2 for testing; None where nothing says it.

    Raises:
        InputError: for a column with a name of `TAKEN`.
    """

    count: int
    identity: NDArray[np.int64] | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    split: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        check_names(self.columns)

    @cached_property
    def factors(self) -> dict[str, Column]:
        """The columns that are factors of these images."""
        return {name: column for name, column in self.columns.items() if column.why_no_factor() is None}

    def no_factors(self) -> str:
        """Which columns are no factors and why, as the end of a sentence; empty where all are."""
        why = {name: reason for name, column in self.columns.items() if (reason := column.why_no_factor())}
        return ", no factors: " + ", ".join(f"{name} ({reason})" for name, reason in why.items()) if why else ""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be hashed with the pixels."""
        identity = {} if self.identity is None else {"identity": self.identity}
        split = {} if self.split is None else {"split": self.split}
        factors = {f"factors/{name}": column.values for name, column in self.factors.items()}
        categories = {f"categories/{name}": np.array(column.categories) for name, column in self.factors.items()}
        return {
            **identity,
            **split,
            **factors,
            **categories,
            **{f"labels/{name}": label for name, label in self.labels.items()},
        }


def check_names(factors: Iterable[str]) -> None:
    """Raises InputError for names of factors or columns that are among `TAKEN`."""
    for name in factors:
        if name in TAKEN:
            raise InputError(
                f"a factor or column cannot be called {name!r}, as a latent of its name would be shared where it is "
                "equal: rename it"
            )


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """Each name's place among all names in sorted order."""
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([places[name] for name in names], np.int64)


def data_set(
    name: str,
    images: Callable[[NDArray[np.int64]], Images],
    known: Known,
    *,
    identities: str,
    seed: int,
    limit: int | None,
    source: Source,
    options: dict[str, Any],
) -> DataSet:
    """The three splits, and pairs within identities where there are any.

    Identities are dealt out by a permutation of their sorted names that ``seed`` fixes, whatever the order in which
    images were found: a tenth, at least one, each for testing and validation, the rest for training. Without
    identities every image is one. Splits that are known are kept, see `named_splits`. Bins of numbers come from
    training images: between neighbors of at most `FEW_VALUES` values, else below and above the median.

    Args:
        images: which images -> their pixels.
        identities: what messages call the identities.
        seed: of the split.
        limit: use this many training images at most: the first ones of the first identities, without one that would
            have no partner.

    Raises:
        InputError: for fewer than 3 identities, and a limit that leaves no pair.
    """
    paired = known.identity is not None
    identity = np.arange(known.count) if known.identity is None else known.identity
    train, validation, test = (
        split_by_identity(identity, seed, identities) if known.split is None else named_splits(known, seed, identities)
    )
    if limit is not None:
        train = _first(train, identity, limit, paired)
    factors = tuple(
        Factor(name, edges=_edges(column, column.values[train]), categories=column.categories)
        for name, column in known.factors.items()
    )

    def split(rows: NDArray[np.int64]) -> GroupedSplit:
        labels = {name: torch.from_numpy(label[rows]) for name, label in known.labels.items()}
        values = {name: torch.from_numpy(column.values[rows]) for name, column in known.factors.items()}
        groups: list[Tensor] = []
        if paired:
            labels["identity"] = torch.from_numpy(identity[rows])
            values[UNRECORDED] = torch.arange(len(rows), dtype=torch.float32)
            groups.append(labels["identity"])
        return GroupedSplit(images(rows), labels, values, groups)

    return DataSet(name, split(train), split(validation), split(test), factors, source, options)


def split_by_identity(identity: NDArray[np.int64], seed: int, identities: str) -> list[NDArray[np.int64]]:
    """Which images are for training, for validation and for testing, see `data_set`; sorted by identity.

    Raises:
        InputError: for fewer than 3 identities, which messages call ``identities``.
    """
    count = len(np.unique(identity))
    check_enough(count, identities)
    order = np.random.default_rng(seed).permutation(count)
    held_out = max(1, round(count / 10))
    by_identity = np.argsort(identity, kind="stable")
    dealt = np.split(order, [held_out, 2 * held_out])
    test, validation, train = (by_identity[np.isin(identity[by_identity], part)] for part in dealt)
    return [train, validation, test]


def named_splits(known: Known, seed: int, identities: str) -> list[NDArray[np.int64]]:
    """Which images are for training, for validation and for testing, as it is known; sorted by identity.

    A split that is nowhere named is a tenth of the training identities, at least one, dealt as `data_set` says.

    Raises:
        InputError: where nothing is for training, or nothing is left of it.
    """
    assert known.split is not None
    identity = np.arange(known.count) if known.identity is None else known.identity
    by_identity = np.argsort(identity, kind="stable")
    parts = [by_identity[known.split[by_identity] == place] for place in range(3)]
    missing = [place for place in (2, 1) if len(parts[place]) == 0]
    count = len(np.unique(identity[parts[0]]))
    if count <= len(missing):
        raise InputError(
            f"too few {identities}: {count} for training, of which {len(missing)} would be held out for splits that "
            "nothing is named for"
        )
    order = np.random.default_rng(seed).permutation(np.unique(identity[parts[0]]))
    held_out = max(1, round(count / 10))
    for number, place in enumerate(missing):
        taken = np.isin(identity[parts[0]], order[number * held_out : (number + 1) * held_out])
        parts[0], parts[place] = parts[0][~taken], parts[0][taken]
    return parts


def check_enough(count: int, identities: str) -> None:
    """Raises InputError for fewer identities than there are splits; messages call them ``identities``."""
    if count < 3:
        raise InputError(
            f"too few {identities}: {count}, where training, validation and test need one each and have none in common"
        )


def _first(rows: NDArray[np.int64], identity: NDArray[np.int64], limit: int, paired: bool) -> NDArray[np.int64]:
    kept = rows[:limit]
    if not paired:
        return kept
    if limit < 2:
        raise InputError(f"--limit {limit} is too few: a pair needs two training images")
    return kept[:-1] if (identity[kept] == identity[kept[-1]]).sum() == 1 else kept


def _edges(column: Column, training: NDArray[np.float32]) -> tuple[float, ...]:
    """Inner edges of the bins a predictor sees a factor in; empty where the training images have one value only."""
    if column.categories:
        return tuple(place + 0.5 for place in range(len(column.categories) - 1))
    known = training[~np.isnan(training)].astype(np.float64)
    values = np.unique(known)
    if len(values) < 2:
        return ()
    between = (values[:-1] + values[1:]) / 2
    if len(values) <= FEW_VALUES:
        return tuple(between.tolist())
    # A value on the edge is above it: where half of them are the lowest one, nothing is below the median.
    median = float(np.median(known))
    return (median if median > values[0] else float(between[0]),)
