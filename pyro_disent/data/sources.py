"""Where a data set may come from, and in which order these places are tried."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Literal, NamedTuple

from pyro_disent.errors import InputError

Kind = Literal["auto", "local", "download", "embedded"]
KINDS: tuple[Kind, ...] = ("auto", "local", "download", "embedded")
DATA_VARIABLE = "PYRO_DISENT_DATA"
CACHE_VARIABLE = "PYRO_DISENT_CACHE"

_log = logging.getLogger(__name__)
LOOKED_AT = 2_000
"""The most entries of a folder and its sub-folders that are searched for names of a set."""

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""


class Request(NamedTuple):
    """The user's choice of a kind of source, and a folder if the user named one."""

    kind: Kind = "auto"
    root: Path | None = None

    @classmethod
    def of(cls, kind: str = "auto", root: Path | str | None = None) -> Request:
        """A request from the user's texts.

        Raises:
            InputError: for a kind that does not exist, or a folder named beside a kind that reads none.
        """
        match = next((match for match in KINDS if match == kind), None)
        if match is None:
            raise InputError(f"`source={kind}` is none of {', '.join(KINDS)}")
        if root is not None and match in ("download", "embedded"):
            raise InputError(f"`source={match}` reads no folder: leave out `data_root={root}`, or use `source=local`")
        return cls(match, None if root is None else Path(root))

    def roots(self) -> list[Path]:
        """Local folders to search, in order: an explicit root alone, else the one the environment names.

        Raises:
            InputError: where an explicit root does not exist, or ``source=local`` has no folder to search.
        """
        if self.root is not None:
            if not _exists(self.root):
                raise InputError(f"`data_root={self.root}` does not exist")
            return [self.root]
        folder = os.environ.get(DATA_VARIABLE)
        if self.kind == "local" and not folder:
            raise InputError(f"`source=local` needs `data_root=DIR` or the environment variable {DATA_VARIABLE}")
        return [Path(folder)] if folder else []

    @property
    def must_be_local(self) -> bool:
        """An explicit folder, or ``source=local``: no other place may be used instead."""
        return self.root is not None or self.kind == "local"


class Origin(NamedTuple):
    """The place that a request leads to; nothing in it has been read yet."""

    kind: Literal["local", "cache", "download", "embedded"]
    path: Path | None
    """Its path; None where it must first be downloaded, or comes with this package."""
    note: str = ""
    """Its description, where it has no path."""
    passed_over: str = ""
    """A sentence that says why the folder that the environment names is not used; empty where it is."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path or self.note}{self.but}"

    @property
    def but(self) -> str:
        """`passed_over` as the end of a sentence; empty where there is nothing to say."""
        return f" ({self.passed_over})" if self.passed_over else ""

    def tell(self) -> None:
        """Warn where the environment's folder is not used, because its user expects training on it."""
        if self.passed_over:
            _log.warning("%s; used instead: %s %s", self.passed_over, self.kind, self.path or self.note)


@dataclass(frozen=True)
class Places:
    """The places one data set may be in, tried in the same order for all data sets.

    The order is an explicit root, which must hold the set; else the folder of ``$PYRO_DISENT_DATA``, if it holds the
    set; else the cache; else what comes with this package. The network is used only with ``source=download``.

    Args:
        name: the data set's name in messages.
        looked_for: what `locate` looks for, as the end of "looked for ...".
        called: a regular expression for names of the set's files and folders that `locate` does not recognize.
        locate: a root -> the set's path in it, None where it is not there.
        cached: the cache's folder -> the set's path in it; None where the set is never cached.
        address: where a download comes from; None where there is none.
        embedded: what comes with this package in place of the set; None where nothing does.
    """

    name: str
    looked_for: str
    locate: Callable[[Path], Path | None]
    cached: Callable[[Path], Path | None] | None = None
    address: str | None = None
    embedded: str | None = None
    called: str | None = None

    def find(self, request: Request) -> Origin:
        """The first place that fits a request, without reading the set or using the network.

        Raises:
            InputError: where an explicit root lacks the set, or no place fits.
        """
        if request.kind == "download":
            if self.address is None:
                raise InputError(f"{self.name} cannot be downloaded by this program: name its folder by `data_root`")
            return Origin("download", None, self.address)
        if request.kind != "embedded":
            roots = request.roots()
            for root in roots:
                if (path := self._located(root)) is not None:
                    return Origin("local", path)
            if request.must_be_local:
                where = f"`data_root={roots[0]}`" if request.root else f"${DATA_VARIABLE} {roots[0]}"
                raise InputError(self._why_not(roots[0], where))
            passed_over = self._why_not(roots[0], f"${DATA_VARIABLE} {roots[0]}") if roots else ""
            if self.cached is not None and (path := self.cached(cache_dir())) is not None:
                return Origin("cache", path, passed_over=passed_over)
            if self.embedded is not None:
                return Origin("embedded", None, self.embedded, passed_over)
        if self.embedded is None:
            raise InputError(
                f"{self.name} does not come with this package: name its folder by `data_root` or ${DATA_VARIABLE}, "
                f"which should hold {self.looked_for}"
            )
        return Origin("embedded", None, self.embedded)

    def _located(self, root: Path) -> Path | None:
        try:
            return self.locate(root)
        except OSError as error:
            if not _exists(root):
                return None
            raise InputError(f"{root}, where {self.name} was looked for, cannot be read ({error})") from error

    def _why_not(self, root: Path, label: str) -> str:
        """Why a folder does not serve, which was named as ``said``, in a sentence."""
        if not _exists(root):
            return f"{label} holds no {self.name}: it does not exist"
        near = next(_matches(root, self.called), None) if self.called else None
        hint = "" if near is None else f"; {near} may be of it: name the folder that holds it all, or lay it out so"
        return f"{label} holds no {self.name}: looked for {self.looked_for}{hint}"


def _exists(path: Path) -> bool:
    """Whether a path exists; False for a name that the system does not accept."""
    try:
        return path.exists()
    except OSError:
        return False


def entries(folder: Path) -> list[Path]:
    """The entries of a folder in alphabetical order; empty where it is not a folder or cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def folders_called(folder: Path, pattern: str) -> list[Path]:
    """Folders in ``folder`` whose whole name matches, in alphabetical order; upper and lower case are equal."""
    return [path for path in entries(folder) if re.fullmatch(pattern, path.name, re.IGNORECASE) and path.is_dir()]


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    """Files and folders in a folder, and two levels down, whose names contain a match; upper levels come first."""
    level, remaining = [root], LOOKED_AT
    for _ in range(3):
        below = [path for folder in level for path in entries(folder)][:remaining]
        yield from (path for path in below if re.search(pattern, path.name, re.IGNORECASE))
        remaining -= len(below)
        level = [path for path in below if path.is_dir() and not path.name.startswith(".")]


def limited(limit: int | None, available: int) -> int:
    """How many of the available training images to use.

    Raises:
        InputError: for a limit below 1.
    """
    if limit is None:
        return available
    if limit < 1:
        raise InputError(f"`limit={limit}` leaves nothing to train on: it must be 1 or more")
    return min(limit, available)


def cache_dir() -> Path:
    """``$PYRO_DISENT_CACHE``, else ``$XDG_CACHE_HOME/pyro-disent``, else ``~/.cache/pyro-disent``."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyro-disent"


def absolute(path: Path) -> Path:
    """A folder's absolute path, whose last part is the folder's name, also for ``.`` and ``..``."""
    whole = path.absolute()
    return whole.resolve() if ".." in whole.parts else whole


def leads_out(name: str) -> bool:
    """Whether any system would read a path as absolute or as leading upwards."""
    path = PureWindowsPath(name)
    return bool(path.drive or path.root or ".." in path.parts)


def sha256_of_files(*paths: Path) -> str:
    """One hash over the bytes of these files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
