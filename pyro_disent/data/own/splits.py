"""Images that a user brings, from a folder or from Python, as a data set: one rule for splits, pairs and factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.data.dataset import DataSet, Images, Pairs, Source
from pyro_disent.data.grouped import GroupedSplit
from pyro_disent.data.images.pixel_range import unused_range
from pyro_disent.data.own.columns import Column
from pyro_disent.errors import InputError

IDENTITY = "identity"
"""Name and label of what a pair has in common, where the user gives no other name."""


@dataclass(frozen=True)
class Facts:
    """Everything about images except their pixels.

    Args:
        count: of images.
        identity: ``(images,)`` int64, from 0, numbered in the order of the identities' names; None where nothing says
            which images belong together.
        columns: factor's name -> its column; columns that are not factors are ignored, see `no_factors`.
        labels: label's name -> ``(images,)`` int64.
        split: ``(images,)`` int64, 0 for training, 1 for validation, 2 for testing; None where nothing says it.
        about: what the identities were taken for, in words.
        notes: what the user may not have meant, a sentence each.
        pair_by: what each kind of pair has in common: the name of the identity first, then names of factors.

    Raises:
        InputError: for a column with the name of the identity, and for kinds of pairs that do not name factors.
    """

    count: int
    identity: NDArray[np.int64] | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    split: NDArray[np.int64] | None = None
    about: str = ""
    notes: tuple[str, ...] = ()
    pair_by: tuple[str, ...] = (IDENTITY,)

    def __post_init__(self) -> None:
        check_names(self.columns, self.pair_by[0])
        for name in (name for kind in self.pair_by for name in self.factors_of(kind)):
            if name == self.pair_by[0]:
                continue
            if name not in self.columns or (why := self.columns[name].why_no_factor()):
                reason = f" ({why})" if name in self.columns else ""
                raise InputError(
                    f"pairs cannot be made by {name}{reason}: factors are {', '.join(self.factors) or 'none'}"
                )

    def factors_of(self, kind: str) -> tuple[str, ...]:
        """What a kind of pair has in common: one factor, or several joined by ``+``."""
        is_one = kind in self.columns or kind == self.pair_by[0]
        return (kind,) if is_one else tuple(name.strip() for name in kind.split("+"))

    @cached_property
    def factors(self) -> dict[str, Column]:
        """The columns that are factors of these images."""
        return {name: column for name, column in self.columns.items() if column.why_no_factor() is None}

    def no_factors(self) -> str:
        """Which columns are not factors and why, as the end of a sentence; empty where all are factors."""
        why = {name: reason for name, column in self.columns.items() if (reason := column.why_no_factor())}
        return ", no factors: " + ", ".join(f"{name} ({reason})" for name, reason in why.items()) if why else ""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, to be hashed with the pixels."""
        identity = {} if self.identity is None else {"identity": self.identity}
        split = {} if self.split is None else {"split": self.split}
        factors = {key: array for name, column in self.factors.items() for key, array in column.arrays(name).items()}
        return {**identity, **split, **factors, **{f"labels/{name}": label for name, label in self.labels.items()}}


def check_names(factors: Iterable[str], identity: str = IDENTITY) -> None:
    """Raises InputError for a factor or column with the name of the identity."""
    if identity in factors:
        raise InputError(
            f"a factor or column cannot be called {identity!r}, which is what pairs have in common: rename it"
        )


def indices_of(names: Sequence[str]) -> NDArray[np.int64]:
    """Each name's place among the different names in sorted order."""
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([places[name] for name in names], np.int64)


def data_set(
    name: str,
    images: Callable[[NDArray[np.int64]], Images],
    facts: Facts,
    *,
    identities: str,
    seed: int,
    limit: int | None,
    source: Source,
    options: dict[str, Any],
    test_share: float | None = None,
    names: Callable[[NDArray[np.int64]], list[str]] | None = None,
) -> DataSet:
    """The three splits, and pairs within identities where there are any.

    ``seed`` permutes the sorted names of identities, so the order of the images does not matter. A tenth, at least one
    identity, is for testing, as many are for validation, and the rest is for training. Without identities every image
    is one. Splits that the user names are used, see `named_splits`. Bins of numbers and angles come from training
    images: one bin a value for at most `columns.FEW_VALUES` values, else below and above the median.

    Args:
        images: places of images -> their pixels.
        identities: what messages call the identities.
        seed: of the split.
        limit: use this many training images at most: the first ones of the first identities, without an image that
            would have no partner.
        test_share: share of the identities for testing; None: a tenth.
        names: places of images -> their names in figures.

    Raises:
        InputError: for fewer than 3 identities, a limit that leaves no pair, a share that leaves nobody to train on,
            and images that look black because their range is another one, see `pixel_range.unused_range`.
    """
    paired = facts.identity is not None
    identity = np.arange(facts.count) if facts.identity is None else facts.identity
    train, validation, test = (
        split_by_identity(identity, seed, identities, test_share)
        if facts.split is None
        else named_splits(facts, seed, identities, test_share)
    )
    if limit is not None:
        train = _first(train, identity, limit, paired)
    factors = {name: column.factor(name, train) for name, column in facts.factors.items()}
    # Columns never record all causes of a photograph, so two images differ in more than their columns.
    kinds = tuple(facts.factors_of(kind) for kind in facts.pair_by)
    pairs = Pairs(kinds, True, facts.pair_by[:1]) if paired else None

    def split(rows: NDArray[np.int64]) -> GroupedSplit:
        labels = {name: torch.from_numpy(label[rows]) for name, label in facts.labels.items()}
        values = {name: torch.from_numpy(column.values[rows]) for name, column in facts.factors.items()}
        identities: dict[str, Tensor] = {}
        if pairs is not None:
            labels[IDENTITY] = identities[facts.pair_by[0]] = torch.from_numpy(identity[rows])
        return GroupedSplit(images(rows), labels, values, pairs, identities, names(rows) if names else ())

    splits = split(train), split(validation), split(test)
    columns = [f"{key}: {column.described(factors.get(key))}" for key, column in facts.columns.items()]
    notes = [*facts.notes, *(note for column in facts.columns.values() for note in column.notes)]
    rows_of = (train, validation, test)

    def label_of(part: int, place: int) -> str:
        row = rows_of[part][place : place + 1]
        return names(row)[0] if names else f"image {row[0]}"

    notes += unused_range([part.images for part in splits], name, label_of)
    return DataSet(
        name,
        *splits,
        tuple(factors.values()),
        source,
        options,
        details=tuple(filter(None, [facts.about, *columns])),
        notes=tuple(notes),
        pairs=pairs or Pairs(rest_differs=True),
    )


def split_by_identity(
    identity: NDArray[np.int64], seed: int, identities: str, test_share: float | None = None
) -> list[NDArray[np.int64]]:
    """Which images are for training, for validation and for testing, see `data_set`; sorted by identity.

    Raises:
        InputError: for fewer than 3 identities, which messages call ``identities``, and a share that leaves none.
    """
    count = len(np.unique(identity))
    check_enough(count, identities)
    order = np.random.default_rng(seed).permutation(count)
    held_out = max(1, round(count / 10))
    test_size = held_out if test_share is None else max(1, round(count * _share(test_share)))
    if test_size + held_out >= count:
        raise InputError(
            f"`test_share={test_share}`: {test_size} of {count} {identities} for testing and {held_out} for validation "
            "leave none to train on"
        )
    by_identity = np.argsort(identity, kind="stable")
    parts = np.split(order, [test_size, test_size + held_out])
    test, validation, train = (by_identity[np.isin(identity[by_identity], part)] for part in parts)
    return [train, validation, test]


def named_splits(facts: Facts, seed: int, identities: str, test_share: float | None = None) -> list[NDArray[np.int64]]:
    """Which images are for training, for validation and for testing, as the user says; sorted by identity.

    A split that the user does not name gets a tenth of the training identities (or ``test_share``), at least one,
    chosen as in `data_set`.

    Raises:
        InputError: where no identity is for training, or none is left, and for a share of a split that is named.
    """
    assert facts.split is not None
    identity = np.arange(facts.count) if facts.identity is None else facts.identity
    by_identity = np.argsort(identity, kind="stable")
    parts = [by_identity[facts.split[by_identity] == place] for place in range(3)]
    missing = [place for place in (2, 1) if len(parts[place]) == 0]
    if test_share is not None and 2 not in missing:
        raise InputError(f"`test_share={test_share}`: which images are for testing is named already: leave it out")
    order = np.random.default_rng(seed).permutation(np.unique(identity[parts[0]]))
    count = len(order)
    shares = {2: 0.1 if test_share is None else _share(test_share), 1: 0.1}
    sizes = [max(1, round(count * shares[place])) for place in missing]
    if count <= sum(sizes):
        raise InputError(
            f"too few {identities}: {count} for training, of which {sum(sizes)} would be held out for splits that "
            "nothing is named for"
        )
    for place, part in zip(missing, np.split(order, np.cumsum(sizes)), strict=False):
        mask = np.isin(identity[parts[0]], part)
        parts[0], parts[place] = parts[0][~mask], parts[0][mask]
    return parts


def _share(test_share: float) -> float:
    if isinstance(test_share, bool) or not isinstance(test_share, int | float) or not 0 < test_share < 1:
        raise InputError(f"`test_share={test_share}` is no share of the identities: it is above 0 and below 1")
    return test_share


def check_enough(count: int, identities: str) -> None:
    """Raises InputError for fewer identities than there are splits; messages call them ``identities``."""
    if count < 3:
        raise InputError(
            f"too few {identities}: {count}, where training, validation and test need one each and have none in common"
        )


def _first(rows: NDArray[np.int64], identity: NDArray[np.int64], limit: int, paired: bool) -> NDArray[np.int64]:
    first = rows[:limit]
    if not paired:
        return first
    if limit < 2:
        raise InputError(f"`limit={limit}` is too few: a pair needs two training images")
    return first[:-1] if (identity[first] == identity[first[-1]]).sum() == 1 else first
