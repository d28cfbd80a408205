"""Objects by name: ours, and those of other packages' entry points, which are imported on request."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from pyro_disent.errors import InputError, did_you_mean

T = TypeVar("T")


def names(group: str, ours: Iterable[str]) -> list[str]:
    """All names of a group: ours in their order, then those of other packages."""
    return list(dict.fromkeys([*ours, *(point.name for point in entry_points(group=group))]))


class BrokenPackage(UserWarning):
    """An entry point of another package is left out: its name is taken, or its import failed but was not requested."""


def by_name(group: str, ours: Mapping[str, T]) -> dict[str, T]:
    """Everything in a group by name, imported; our names take precedence.

    An entry point that cannot be imported, or whose name is taken, is left out with a `BrokenPackage` warning and
    not an error, as nobody requested it.
    """
    result = dict(ours)
    for point in entry_points(group=group):
        if point.name in result:
            _left_out(point)
            continue
        try:
            result[point.name] = _loaded(point)
        except InputError as error:
            warnings.warn(str(error), BrokenPackage, stacklevel=2)
    return result


def find(group: str, ours: Mapping[str, T], name: str, what: str) -> T:
    """The object of this name in a group; only the package that provides it is imported.

    Args:
        what: its kind in messages, such as "method".

    Raises:
        InputError: for a name that does not exist, listing those that do, and for an import that fails.
    """
    points = [point for point in entry_points(group=group) if point.name == name]
    for point in points if name in ours else points[1:]:
        _left_out(point)
    if name in ours:
        return ours[name]
    if points:
        return _loaded(points[0])
    choices = names(group, ours)
    raise InputError(f"there is no {what} {name!r}; choose from {', '.join(choices)}{did_you_mean(name, choices)}")


def _left_out(point: EntryPoint) -> None:
    warnings.warn(
        f"{point.name} of another package ({point.value}, entry-point group {point.group}) is left out: there is "
        "one of this name already, and it needs another",
        BrokenPackage,
        stacklevel=3,
    )


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # another package's code can raise anything
        raise InputError(
            f"{point.name} of another package ({point.value}, entry-point group {point.group}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
