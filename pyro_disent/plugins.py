"""What there is by name: ours, and what other packages bring by entry points, imported when it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from pyro_disent.errors import InputError, did_you_mean

T = TypeVar("T")


def names(group: str, own: Iterable[str]) -> list[str]:
    """All names of a group: ours in their order, then those of other packages."""
    return list(dict.fromkeys([*own, *(point.name for point in entry_points(group=group))]))


class BrokenPackage(UserWarning):
    """Something of another package is left out: it cannot be imported and nobody named it, or its name is taken."""


def by_name(group: str, own: Mapping[str, T]) -> dict[str, T]:
    """All of a group by name, imported; a name of ours stays ours.

    What cannot be imported is left out, and warned of by a `BrokenPackage`, as nobody asked for it; and so is what has
    a name that is taken.
    """
    found = dict(own)
    for point in entry_points(group=group):
        if point.name in found:
            _left_out(point)
            continue
        try:
            found[point.name] = _loaded(point)
        except InputError as error:
            warnings.warn(str(error), BrokenPackage, stacklevel=2)
    return found


def find(group: str, own: Mapping[str, T], name: str, what: str) -> T:
    """What has this name in a group; no other package than the one that brings it is imported.

    Args:
        what: it is, as messages call it, "a method".

    Raises:
        InputError: for a name that does not exist, with those that do, and for what cannot be imported.
    """
    found = [point for point in entry_points(group=group) if point.name == name]
    for point in found if name in own else found[1:]:
        _left_out(point)
    if name in own:
        return own[name]
    if found:
        return _loaded(found[0])
    there_are = names(group, own)
    raise InputError(f"there is no {what} {name!r}; choose from {', '.join(there_are)}{did_you_mean(name, there_are)}")


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
    except Exception as error:  # whatever somebody else's code raises where it is imported
        raise InputError(
            f"{point.name} of another package ({point.value}, entry-point group {point.group}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
