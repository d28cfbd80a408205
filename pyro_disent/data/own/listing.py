"""The files of a user's folder by their names and headers: images, tables, others, and what this program wrote."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import PIL

from pyro_disent import files
from pyro_disent.data.images.headers import UNREADABLE, Header, header, is_image_name, readable, suffix
from pyro_disent.data.sources import cache_dir
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xls", ".parquet", ".jsonl")
TABLES = tuple(f"metadata{suffix}" for suffix in TABLE_SUFFIXES)
"""Names of files that describe images, in lower case; see `metadata` for which are read."""
CONFIG = "config.json"
MANY = 1_000
"""Above this number of files their headers go into the cache, so that later listings need not open each file."""
SHOWN = 5
"""Names in a list of examples."""


class Listing(NamedTuple):
    """The files below a folder, without hidden ones. Names are paths from it, with ``/``, in alphabetical order."""

    root: Path
    states: dict[str, str]
    """file's name -> a text that changes when the file does; without files that this program wrote."""
    images: dict[str, Header | None]
    """image's name -> its header; None where the suffix says image and the content does not."""
    tables: list[str]
    others: list[str]
    """Files that are left aside."""
    ours: list[str]
    """Runs' folders (their names end in ``/``) and figures that this program wrote."""

    def left_aside(self) -> str:
        """How many files are left aside and of which kinds, as one sentence; empty where there are none."""
        kinds = Counter(suffix(name) for name in self.others)
        count = len(self.others)
        return f"{count} file{'s' * (count > 1)} left aside: {_counts(kinds)}" if count else ""

    def written_here(self) -> str:
        """What this program wrote into the folder, as one sentence; empty where it wrote nothing."""
        return f"written by this program and no images of the set: {some(self.ours)}" if self.ours else ""

    def without_images(self) -> str:
        """Which folders hold files and no image, as one sentence; empty where all hold some."""
        with_images = {folder for name in self.images for folder in _folders(name)}
        without: dict[str, Counter[str]] = {}
        for name in self.others:
            if empty := next((folder for folder in _folders(name) if folder not in with_images), None):
                without.setdefault(empty, Counter())[suffix(name)] += 1
        examples = some((f"{folder} ({_counts(kinds)})" for folder, kinds in without.items()), 4 * SHOWN)
        return f"no image that is read lies in {examples}" if without else ""


def listed(root: Path) -> Listing:
    """List every file below a folder: names and states of all, headers of those that may be images.

    Raises:
        InputError: for a folder that cannot be listed, or that contains a link to itself.
    """
    ours: list[str] = []
    states = dict(sorted(_files(root, ours)))
    tables = [name for name in states if name.rpartition("/")[2].lower() in TABLES]
    maybe = {name: state for name, state in states.items() if is_image_name(name) is not False}
    headers = _headers(root, maybe)
    figures = {name for name, head in headers.items() if head is not None and head.ours}
    images = {
        name: head
        for name, head in headers.items()
        if name not in figures and (head is not None or is_image_name(name) is True)
    }
    others = [name for name in states if name not in images and name not in figures and name not in tables]
    remaining = {name: state for name, state in states.items() if name not in figures}
    return Listing(root, remaining, images, tables, others, sorted([*ours, *figures]))


def digest(states: Mapping[str, str]) -> str:
    """SHA-256 over files' names and states, whatever their order."""
    total = hashlib.sha256()
    for name, state in sorted(states.items()):
        total.update(os.fsencode(name) + b"\0" + state.encode() + b"\0")
    return total.hexdigest()


def shown(name: str) -> str:
    """A file's name as printable text, also where its bytes are not valid text."""
    return name.encode(errors="backslashreplace").decode()


def some(names: Iterable[str], most: int = SHOWN) -> str:
    """The first of these names, and the number of the others."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + rest


def _folders(name: str) -> Iterator[str]:
    """The folders above a file, from the first one down."""
    end = name.find("/")
    while end >= 0:
        yield name[:end]
        end = name.find("/", end + 1)


def _counts(kinds: Counter[str]) -> str:
    return some(f"{count} {_kind(kind)}" for kind, count in kinds.most_common())


def _kind(kind: str) -> str:
    if not kind:
        return "without a suffix"
    return f".{shown(kind)}" + (" (images of a kind that is not read)" if kind in UNREADABLE else "")


def _files(root: Path, ours: list[str]) -> Iterator[tuple[str, str]]:
    """Every file below a folder that is not hidden: its path from there, and a text that changes when the file does.

    A folder with the name of an image is a mistake: it counts as a file, which cannot be read. Runs' folders are added
    to ``ours`` and not searched.
    """

    def below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise InputError(f"{folder} cannot be listed ({error.strerror or error})") from error
        if any(entry.name == CONFIG for entry in entries) and _is_run(folder / CONFIG):
            ours.append(prefix or "./")
            return
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere
                yield name, "missing"
                continue
            if stat.S_ISDIR(status.st_mode) and is_image_name(name) is not True:
                here = (status.st_dev, status.st_ino)
                if here in above:
                    raise InputError(f"{folder / entry.name} is a link to a folder that it lies in")
                yield from below(folder / entry.name, f"{name}/", (*above, here))
            else:
                # The mode is part of it, because a file that was not readable may have become so.
                yield name, f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"

    status = root.stat()
    return below(root, "", ((status.st_dev, status.st_ino),))


def _is_run(config: Path) -> bool:
    """Whether a ``config.json`` belongs to a run; a copy of one has no checkpoints beside it."""
    if not (config.parent / "checkpoints").is_dir():
        return False
    try:
        content = json.loads(config.read_bytes()) if config.is_file() and config.stat().st_size < 1 << 24 else None
    except (OSError, ValueError, RecursionError):
        return False
    fit = content.get("fit") if isinstance(content, dict) else None
    return isinstance(fit, dict) and {"method", "data"} <= fit.keys()


def _headers(root: Path, states: Mapping[str, str]) -> dict[str, Header | None]:
    """The headers of these files, from the cache where it holds exactly these files."""
    reader = {"Pillow": f"{PIL.__version__} {readable()}"}
    path = cache_dir() / f"headers-{digest({**states, **reader})[:16]}.json"
    with suppress(OSError, ValueError, TypeError):  # the cache file is missing or damaged
        from_cache = [None if head is None else Header(*head) for head in json.loads(path.read_bytes())]
        return dict(zip(states, from_cache, strict=True))
    headers = dict(zip(states, in_threads(lambda name: header(root / name), states, len(states)), strict=True))
    if len(states) > MANY:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, json.dumps(list(headers.values())).encode())
    return headers
