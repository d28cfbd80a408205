"""The file that a name in a table means, where another system or program wrote the table."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from pyro_disent.data.own.listing import shown, some

_GUESSES, _MANY = 3, 10_000
"""Guesses are slow: only the first names get one, and none get one among very many files."""


class FileNames:
    """Looks files up by the names that people write.

    A name without an exact match is compared again, ignoring composed letters, upper and lower case, kinds of blanks,
    ``\\`` or ``/``, and ``./`` or the folder's own name in front. It means a file where exactly one matches.

    Args:
        root: the folder.
        names: of files, from there.
    """

    def __init__(self, root: Path, names: Collection[str]) -> None:
        self.root, self._names = root, names
        self._guesses = _GUESSES

    def find(self, name: str, below: str = "") -> str | None:
        """The file that a name means, from a folder that ends in ``/``; None where none or several may be meant."""
        if (exact := below + name) in self._names:
            return exact
        path = Path(name)
        if path.is_absolute() and path.is_relative_to(self.root):
            name, below = str(path.relative_to(self.root)), ""
        candidates = self._candidates(name, below) or self._candidates(
            name, ""
        )  # as some write paths from the folder of all
        return candidates[0] if len(candidates) == 1 else None

    def why_not(self, name: str, below: str = "") -> str:
        """Why `find` finds no file for a name: the files that it may mean, and how they differ."""
        if several := self._candidates(name, below) or self._candidates(name, ""):
            return f"which may be any of {some(several)}"
        key = _key(name)
        last, stem = PurePosixPath(key).name, PurePosixPath(key).stem
        for files, how in (
            (self._by_last.get(last, ()), "lies in another folder"),
            (self._by_stem.get(stem, ()) or self._by_stem.get(last, ()), "ends otherwise"),
        ):
            if len(files) == 1:
                return f"which is not there, but {shown(files[0])} is, which {how}"
        if not self._guesses or len(self._by_key) > _MANY:
            return "which is not there"
        self._guesses -= 1
        close = difflib.get_close_matches(key, self._by_key, n=1, cutoff=0.85)
        return (
            f"which is not there (did you mean {shown(self._by_key[close[0]][0])}?)" if close else "which is not there"
        )

    def _candidates(self, name: str, below: str) -> Sequence[str]:
        if (exact := below + str(PurePosixPath(name))) in self._names:
            return (exact,)
        key, prefix = _key(name), f"{_key(PurePosixPath(below).name or self.root.name)}/"
        return self._by_key.get(_key(below + name)) or self._by_key.get(_key(below + key.removeprefix(prefix))) or ()

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        return _grouped(self._names, _key)

    @cached_property
    def _by_last(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(_key(name)).name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(_key(name)).stem)


def _key(name: str) -> str:
    """A key that is equal for all names of the same file."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    path = str(PurePosixPath(*(part.strip() for part in parts)))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _grouped(names: Collection[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups
