"""A data set that is made once, kept in the cache, and read from there: real images converted, or drawn ones."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pyro_disent.data.images.array_cache import CorruptCache
from pyro_disent.data.sources import CACHE_VARIABLE, Found, Progress
from pyro_disent.errors import InputError

Kept = TypeVar("Kept")
"""What is read from the cache."""

_CONVERT_AGAIN = "to convert it again, run: pyro-disent data prepare NAME --data-root DIR"
_log = logging.getLogger(__name__)


def key(wanted: str) -> str:
    """A name for all that the contents of a cache file depend on."""
    return hashlib.sha256(wanted.encode()).hexdigest()[:16]


def newest(files: Iterable[Path]) -> Path | None:
    """The file that was written last, of those that a set was converted into."""
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


@dataclass(frozen=True)
class Cached(ABC, Generic[Kept]):
    """One data set from one place.

    A set lies in the cache, in the file that `converted_file` or `drawn_file` names, or is put there by `convert` or
    `draw` when it is first read. A damaged file is never used. Where the set is drawn, the file is removed and the same
    images are drawn anew; a conversion, which may take long, is refused until `prepare` converts again.
    """

    name: ClassVar[str]
    """As commands take it."""
    by_drawing: ClassVar[str] = "drawn"
    """What happens to a set that does not come from files."""
    found: Found

    @property
    @abstractmethod
    def drawing(self) -> str:
        """The drawn set in words."""

    @abstractmethod
    def drawn_file(self) -> Path:
        """Where the drawn set is kept."""

    @abstractmethod
    def converted_file(self, path: Path) -> Path:
        """Where what lies at ``path`` is kept."""

    @abstractmethod
    def draw(self, progress: Progress | None) -> None:
        """Draw the set into the cache."""

    @abstractmethod
    def convert(self, path: Path, progress: Progress | None) -> None:
        """Convert what lies at ``path`` into the cache.

        Raises:
            InputError: where a file of the set is damaged or missing.
        """

    @abstractmethod
    def kept(self) -> Kept:
        """What the cache holds of the set.

        Raises:
            FileNotFoundError: where it holds nothing.
            CorruptCache: where it is not what was written.
        """

    @cached_property
    def cache_file(self) -> Path:
        if self.found.path is None:
            return self.drawn_file()
        return self.found.path if self.found.kind == "cache" else self.converted_file(self.found.path)

    @property
    def location(self) -> str:
        """Where the set lies, or what it is where it lies nowhere."""
        if self.found.path is not None:
            return str(self.found.path)
        return self.found.note if self.found.kind == "download" else self.drawing

    def describe(self) -> str:
        """What `read` would use, in words, without reading, converting or drawing it."""
        to_do = ""
        if self.found.kind != "download" and not self.cache_file.exists():
            to_do = f", to be {self.by_drawing if self.found.kind == 'embedded' else 'converted'} once"
        return f"{self.found.kind}: {self.location}{to_do}{self.found.but}"

    def read(self, progress: Progress | None = None) -> Kept:
        """The set from the cache, made first where it is not there; what is used in another's place is said.

        Raises:
            InputError: for files of the set, or a conversion, that are damaged.
        """
        return self._read_or_make(progress, again=self.found.kind == "embedded")

    def prepare(self, progress: Progress | None = None) -> Path:
        """Make the set into the cache, again where it is damaged; returns its file.

        Raises:
            InputError: for files of the set that are damaged, and a damaged conversion of files that are not at hand.
        """
        self._read_or_make(progress, again=self.found.kind != "cache")
        return self.cache_file

    def _read_or_make(self, progress: Progress | None, again: bool) -> Kept:
        """What the cache holds, made where it is not there and, if ``again``, where it is damaged."""
        self.found.tell()
        try:
            return self.kept()
        except FileNotFoundError:
            pass
        except CorruptCache as error:
            if not again:
                raise InputError(f"{error}; {_CONVERT_AGAIN.replace('NAME', self.name)}") from error
            self._remove(error)  # the same images come out again
        if self.found.path is None:
            self.draw(progress)
        else:
            self.convert(self.found.path, progress)
        return self.kept()

    def _remove(self, error: CorruptCache) -> None:
        """Remove the damaged file, so that nothing takes it for done when making the set is interrupted."""
        how = self.by_drawing if self.found.kind == "embedded" else "converted"
        try:
            self.cache_file.unlink(missing_ok=True)
        except OSError as failed:
            raise InputError(
                f"{error}, and {self.cache_file} cannot be removed ({failed.strerror or failed}); "
                f"remove it, or set {CACHE_VARIABLE} to another folder"
            ) from failed
        _log.warning("%s: it is removed, and %s is %s anew", error, self.name, how)
