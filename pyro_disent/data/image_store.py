"""Many images converted once into one file, and read from it afterwards: in memory, or from the disk as needed."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.data.sources import CACHE_VARIABLE, Progress
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError

Item = TypeVar("Item")
Shape = tuple[int, int, int]

MAPPED_SHARE = 1 / 32
"""Of the machine's memory: images that need more are read from the disk as needed."""
MAPPED_ABOVE = 1 << 30
"""Bytes that no images may take in memory, however much of it there is."""


class MappedImages:
    """Images in a file, as a uint8 tensor that is read where it is indexed.

    The file is mapped for each read and let go of after it: what was read stays in the system's file cache, from which
    it comes again in no time, and not in this process's memory.

    Args:
        path: raw pixels, one image after the other.
        image_shape: channels, height, width.
        rows: which of the file's images these are, ``(images,)`` int64.
        device: where images are put that are read.
    """

    def __init__(self, path: Path, image_shape: Shape, rows: Tensor, device: torch.device | str = "cpu") -> None:
        self.path, self.image_shape, self.rows, self.device = path, image_shape, rows.cpu(), torch.device(device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.image_shape))

    def to(self, device: torch.device | str) -> MappedImages:
        """The same images, put on another device when they are read."""
        return MappedImages(self.path, self.image_shape, self.rows, device)

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """The images at ``index``, of any shape, or of a slice: ``(*index's shape, channels, height, width)``."""
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            stored = np.frombuffer(mapped, np.uint8).reshape(-1, *self.image_shape)
            chosen = torch.from_numpy(stored[rows.flatten().numpy()])
            del stored  # a map with views on it cannot be closed
        return chosen.reshape(*rows.shape, *self.image_shape).to(self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """The images in parts of ``size``, as `torch.Tensor.split` gives them."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


class Stored(NamedTuple):
    """A file of converted images."""

    path: Path
    image_shape: Shape
    total: int
    sha256: str
    skipped: dict[int, str]
    """item's place -> why it could not be converted; its row is black."""

    def images(self, rows: NDArray[np.int64]) -> Tensor | MappedImages:
        """Some of the images, in memory if the whole file takes little of it; see `MAPPED_SHARE` and `MAPPED_ABOVE`."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        mapped = MappedImages(self.path, self.image_shape, index)
        return mapped if self.path.stat().st_size > largest_in_memory() else mapped[:]


def largest_in_memory() -> int:
    """Bytes of images up to which they are kept in memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return MAPPED_ABOVE
    return min(MAPPED_ABOVE, int(MAPPED_SHARE * memory))


def store(
    path: Path,
    items: Sequence[Item],
    convert: Callable[[Item], NDArray[np.uint8]],
    image_shape: Shape,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Stored:
    """Convert every item, on all cores, into the file at ``path``; at once where that was done before.

    Rows are appended in the items' order, so that a conversion that was interrupted goes on where it stopped. Of two
    processes that store the same, one works and the other waits for it.

    Args:
        path: in the cache, named after all that the result depends on: items, conversion, shape.
        items: what is converted.
        convert: an item -> ``image_shape`` uint8; raises InputError for what it cannot convert.
        image_shape: channels, height, width.
        skip_bad: leave a black row for what cannot be converted and say why in ``skipped``, instead of raising.
        progress: called with (images done, images in all).

    Raises:
        InputError: for an item that cannot be converted, a cache that cannot be written, or a stored file that has
            changed since it was written.
    """
    partial, skipped_file = path.with_suffix(".partial"), path.with_suffix(".skipped")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _described(path).exists():
                _append(partial, skipped_file, items, convert, image_shape, skip_bad, progress)
                skipped = _skipped(skipped_file)
                description = {"shape": [len(items), *image_shape], "sha256": _sha256(partial), "skipped": skipped}
                partial.replace(path)
                temporary = path.with_suffix(".json.partial")
                temporary.write_text(json.dumps(description))
                temporary.replace(_described(path))
                skipped_file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write the cache file {path} ({error.strerror or error}): set {CACHE_VARIABLE} to a folder with "
            "room that can be written"
        ) from error
    return opened(path)


def opened(path: Path) -> Stored:
    """A file that was stored before.

    Raises:
        FileNotFoundError: where nothing was stored.
        InputError: where it is not what was written.
    """
    description = json.loads(_described(path).read_text())
    total, *image_shape = description["shape"]
    if not path.exists() or _sha256(path) != description["sha256"]:
        raise InputError(f"the cache file {path} has changed since it was written: delete {_described(path)} as well")
    skipped = {int(place): why for place, why in description["skipped"].items()}
    return Stored(path, tuple(image_shape), total, description["sha256"], skipped)


def _append(
    partial: Path,
    skipped_file: Path,
    items: Sequence[Item],
    convert: Callable[[Item], NDArray[np.uint8]],
    image_shape: Shape,
    skip_bad: bool,
    progress: Progress | None,
) -> None:
    def converted(place: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            return place, convert(items[place])
        except InputError as error:
            if not skip_bad:
                raise
            return place, str(error)

    row = int(np.prod(image_shape))
    done = partial.stat().st_size // row if partial.exists() else 0
    with partial.open("ab") as file, skipped_file.open("a") as skipped:
        file.truncate(done * row)  # a row that was cut off
        shown = None if progress is None else lambda now, _: progress(done + now, len(items))
        for place, pixels in in_threads(converted, range(done, len(items)), len(items) - done, shown):
            if isinstance(pixels, str):
                print(json.dumps([place, pixels]), file=skipped, flush=True)
                pixels = np.zeros(image_shape, np.uint8)
            file.write(pixels.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _skipped(file: Path) -> dict[int, str]:
    return dict(json.loads(line) for line in file.read_text().splitlines())


def _described(path: Path) -> Path:
    return path.with_suffix(".json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
