"""The files of a user's folder, told apart by their names and headers: images, tables, others, and what we wrote."""

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
"""Names of files that say what is known of images, in small letters; see `metadata` for which are
read."""
CONFIG = "config.json"
MANY = 1_000
"""Files of which the headers are kept in the cache, so that no later look has to open each of them."""
SHOWN = 5
"""Names in a list of examples."""


class Listing(NamedTuple):
    """What lies below a folder, without hidden files. Names are paths from there, with ``/``, in alphabetical order."""

    root: Path
    states: dict[str, str]
    """file's name -> what changes when the file does; without those that we wrote."""
    images: dict[str, Header | None]
    """image's name -> its header; None for what its suffix calls an image and is none."""
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
    """Look at every file below a folder: names and states of all, headers of those that may be images.

    Raises:
        InputError: for a folder that cannot be listed, or that is linked to from below itself.
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
    """A file's name as it can be printed, also where its bytes are no text."""
    return name.encode(errors="backslashreplace").decode()


def some(names: Iterable[str], most: int = SHOWN) -> str:
    """The first of these names, and how many more there are."""
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
    """Every file below a folder that is not hidden: its path from there, and what changes when it does.

    A folder named like an image is no folder that anybody meant: it is given as a file, which cannot be read. Runs'
    folders are put into ``ours`` and not looked into.
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
                # The mode, as a file that could not be read may be readable now.
                yield name, f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"

    status = root.stat()
    return below(root, "", ((status.st_dev, status.st_ino),))


def _is_run(config: Path) -> bool:
    """Whether a ``config.json`` is that of a run of ours, which has its checkpoints beside it, and no copy of one."""
    if not (config.parent / "checkpoints").is_dir():
        return False
    try:
        content = json.loads(config.read_bytes()) if config.is_file() and config.stat().st_size < 1 << 24 else None
    except (OSError, ValueError, RecursionError):
        return False
    fit = content.get("fit") if isinstance(content, dict) else None
    return isinstance(fit, dict) and {"method", "data"} <= fit.keys()


def _headers(root: Path, states: Mapping[str, str]) -> dict[str, Header | None]:
    """The headers of these files, from the cache where it knows these very files."""
    reader = {"Pillow": f"{PIL.__version__} {readable()}"}
    path = cache_dir() / f"headers-{digest({**states, **reader})[:16]}.json"
    with suppress(OSError, ValueError, TypeError):  # a cache that is not there, or not as it was written
        from_cache = [None if head is None else Header(*head) for head in json.loads(path.read_bytes())]
        return dict(zip(states, from_cache, strict=True))
    headers = dict(zip(states, in_threads(lambda name: header(root / name), states, len(states)), strict=True))
    if len(states) > MANY:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, json.dumps(list(headers.values())).encode())
    return headers
