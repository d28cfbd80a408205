"""A data set that is converted or drawn once into the cache, and then read from there."""

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
from pyro_disent.data.sources import CACHE_VARIABLE, Origin, Progress
from pyro_disent.errors import InputError

Kept = TypeVar("Kept")
"""What is read from the cache."""

_CONVERT_AGAIN = "to convert it again, run: pyro-disent data prepare NAME --data-root DIR"
_log = logging.getLogger(__name__)


def key(wanted: str) -> str:
    """A short name for everything that the contents of a cache file depend on."""
    return hashlib.sha256(wanted.encode()).hexdigest()[:16]


def newest(files: Iterable[Path]) -> Path | None:
    """The file that was written last; None where there is none."""
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


@dataclass(frozen=True)
class Cached(ABC, Generic[Kept]):
    """One data set from one place.

    `converted_file` or `drawn_file` names the cache file, and `convert` or `draw` writes it when the set is first read.
    A damaged file is never used. A drawn set is removed, and the same images are drawn again. A conversion may take
    long, so a damaged one is an error until `prepare` converts again.
    """

    name: ClassVar[str]
    """As commands take it."""
    by_drawing: ClassVar[str] = "drawn"
    """The verb for making a set that does not come from files."""
    origin: Origin

    @property
    @abstractmethod
    def drawing(self) -> str:
        """The drawn set in words."""

    @abstractmethod
    def drawn_file(self) -> Path:
        """Where the drawn set is kept."""

    @abstractmethod
    def converted_file(self, path: Path) -> Path:
        """The cache file for the set at ``path``."""

    @abstractmethod
    def draw(self, progress: Progress | None) -> None:
        """Draw the set into the cache."""

    @abstractmethod
    def convert(self, path: Path, progress: Progress | None) -> None:
        """Convert the set at ``path`` into the cache.

        Raises:
            InputError: where a file of the set is damaged or missing.
        """

    @abstractmethod
    def kept(self) -> Kept:
        """The set from the cache.

        Raises:
            FileNotFoundError: where the cache does not hold it.
            CorruptCache: where the file is not what was written.
        """

    @cached_property
    def cache_file(self) -> Path:
        if self.origin.path is None:
            return self.drawn_file()
        return self.origin.path if self.origin.kind == "cache" else self.converted_file(self.origin.path)

    @property
    def location(self) -> str:
        """The path of the set, or a description of a set without one."""
        if self.origin.path is not None:
            return str(self.origin.path)
        return self.origin.note if self.origin.kind == "download" else self.drawing

    def describe(self) -> str:
        """What `read` would use, in words, without reading, converting or drawing it."""
        to_do = ""
        if self.origin.kind != "download" and not self.cache_file.exists():
            to_do = f", to be {self.by_drawing if self.origin.kind == 'embedded' else 'converted'} once"
        return f"{self.origin.kind}: {self.location}{to_do}{self.origin.but}"

    def read(self, progress: Progress | None = None) -> Kept:
        """The set from the cache, made first where it is missing; a warning says if another set is used instead.

        Raises:
            InputError: for damaged files of the set, or a damaged conversion.
        """
        return self._read_or_make(progress, again=self.origin.kind == "embedded")

    def prepare(self, progress: Progress | None = None) -> Path:
        """Write the set into the cache, again where it is damaged; returns its file.

        Raises:
            InputError: for damaged files of the set, and for a damaged conversion whose files are not available.
        """
        self._read_or_make(progress, again=self.origin.kind != "cache")
        return self.cache_file

    def _read_or_make(self, progress: Progress | None, again: bool) -> Kept:
        """The set from the cache, made where it is missing and, if ``again``, where it is damaged."""
        self.origin.tell()
        try:
            return self.kept()
        except FileNotFoundError:
            pass
        except CorruptCache as error:
            if not again:
                raise InputError(f"{error}; {_CONVERT_AGAIN.replace('NAME', self.name)}") from error
            self._remove(error)  # it is made again below
        if self.origin.path is None:
            self.draw(progress)
        else:
            self.convert(self.origin.path, progress)
        return self.kept()

    def _remove(self, error: CorruptCache) -> None:
        """Remove the damaged file, so that an interruption leaves nothing that looks finished."""
        how = self.by_drawing if self.origin.kind == "embedded" else "converted"
        try:
            self.cache_file.unlink(missing_ok=True)
        except OSError as failed:
            raise InputError(
                f"{error}, and {self.cache_file} cannot be removed ({failed.strerror or failed}); "
                f"remove it, or set {CACHE_VARIABLE} to another folder"
            ) from failed
        _log.warning("%s: it is removed, and %s is %s anew", error, self.name, how)
