"""Many images converted once into one file, then read from it into memory, or from the disk as needed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent import files
from pyro_disent.data.images.array_cache import CorruptCache
from pyro_disent.data.sources import CACHE_VARIABLE, Progress
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError, StorageError

Item = TypeVar("Item")
Shape = tuple[int, int, int]

LARGE_SHARE = 1 / 32
"""Share of the machine's memory: images that need more are read from the disk as needed."""
LARGE_BYTES = 1 << 30
"""Most bytes that images take in memory, however large it is."""
SECONDS_BETWEEN_SAVES = 5.0
"""The most work that is lost when a conversion is killed."""
SECONDS_BETWEEN_LOOKS = 0.5  # at the progress of another process that converts the same images


class ImagesOnDisk:
    """Images in a file, as a uint8 tensor that is read where it is indexed.

    The system's file cache keeps what was read, so reading it again is fast and takes none of this process's memory.
    The file is read, not mapped into memory: that is no slower, and a disk failure raises an error instead of ending
    the process. Indices on a GPU are copied to the host, so reading waits for the device.

    Args:
        path: raw pixels, one image after the other.
        image_shape: channels, height, width.
        rows: which of the file's images these are, ``(images,)`` int64.
        device: where the images go when they are read.
    """

    def __init__(self, path: Path, image_shape: Shape, rows: Tensor, device: torch.device | str = "cpu") -> None:
        self.path, self.image_shape, self.rows, self.device = path, image_shape, rows.cpu(), torch.device(device)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.image_shape))

    def to(self, device: torch.device | str) -> ImagesOnDisk:
        """The same images, which go to another device when they are read."""
        return ImagesOnDisk(self.path, self.image_shape, self.rows, device)

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """The images at an ``index`` of any shape, or of a slice: ``(*index's shape, channels, height, width)``.

        Raises:
            IndexError: for an index out of range.
            StorageError: where the file can no longer be read.
        """
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        images = torch.empty(rows.numel(), math.prod(self.image_shape), dtype=torch.uint8, device="cpu")
        size = images.shape[1]
        try:
            with self.path.open("rb") as file:
                for row, image in zip(rows.flatten().tolist(), images.numpy(), strict=True):
                    file.seek(row * size)
                    if file.readinto(image) < size:
                        raise OSError("it ends too early")
        except OSError as error:
            raise StorageError(f"the cache file {self.path} cannot be read ({error.strerror or error})") from error
        return images.reshape(*rows.shape, *self.image_shape).to(self.device)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The images at ``index`` ``(images,)``, as `torch.Tensor.index_select` gives them along dimension 0."""
        if dim != 0:
            raise IndexError(f"images are selected along dimension 0, not {dim}")
        return self[index]

    def split(self, size: int) -> Iterator[Tensor]:
        """The images in parts of ``size``, as `torch.Tensor.split` gives them."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


Images = Tensor | ImagesOnDisk
"""``(images, channels, height, width)`` uint8, in memory or read from the disk where it is indexed."""


class Stored(NamedTuple):
    """A file of converted images."""

    path: Path
    image_shape: Shape
    total: int
    sha256: str
    """The hash of the file."""
    skipped: dict[int, str]
    """item's place -> why it could not be converted; its row is black."""

    def images(self, rows: NDArray[np.int64]) -> Tensor | ImagesOnDisk:
        """Some of the images, in memory if the whole file is small enough; see `LARGE_SHARE` and `LARGE_BYTES`."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        on_disk = ImagesOnDisk(self.path, self.image_shape, index)
        return on_disk if self.path.stat().st_size > largest_in_memory() else on_disk[:]


def largest_in_memory() -> int:
    """The most bytes that images may have to be kept in memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system reports it
        return LARGE_BYTES
    return min(LARGE_BYTES, int(LARGE_SHARE * memory))


def store(
    path: Path,
    items: Sequence[Item],
    convert: Callable[[Item], NDArray[np.uint8]],
    image_shape: Shape,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Stored:
    """Convert every item, on all cores, into the file at ``path``; returns at once where that file exists.

    Rows are appended in the items' order. Every few seconds a journal notes how many are safely on the disk, and an
    interrupted or killed conversion continues from there. When two processes store the same file, one works and the
    other waits. A file is at ``path`` only when it is complete.

    Args:
        path: in the cache; its name depends on everything that the result depends on: items, conversion, shape.
        items: what is converted.
        convert: an item -> ``image_shape`` uint8; raises InputError for an item that it cannot convert.
        image_shape: channels, height, width.
        skip_bad: write a black row for a bad item and say why in ``skipped``, instead of raising.
        progress: called with (images done, images in all).

    Raises:
        InputError: for an item that cannot be converted, and a cache that cannot be written.
        CorruptCache: for a stored file that has changed since it was written.
    """
    if not path.exists():  # a cache that cannot be written still serves the files that it holds
        partial = _beside(path, "partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path, len(items), image_shape, progress):
                if not path.exists():
                    skipped = _append(path, items, convert, image_shape, skip_bad, progress)
                    shape = [len(items), *image_shape]
                    _write_json(_beside(path, "json"), {"shape": shape, "sha256": _sha256(partial), "skipped": skipped})
                    partial.replace(path)
                    _beside(path, "journal").unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write the cache file {path} ({error.strerror or error}): set {CACHE_VARIABLE} to a folder "
                "with room that can be written"
            ) from error
    stored = open_store(path)
    if stored.skipped and not skip_bad:
        raise InputError(stored.skipped[min(stored.skipped)])
    return stored


def open_store(path: Path) -> Stored:
    """A file that was stored before.

    Raises:
        FileNotFoundError: where the file does not exist.
        CorruptCache: where the file is not what was written.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        description = json.loads(_beside(path, "json").read_text())
        total, channels, height, width = description["shape"]
        skipped = {int(place): why for place, why in description["skipped"].items()}
        recorded, actual = description["sha256"], _sha256(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCache(f"the cache file {path} or its .json cannot be read ({error}): delete both") from error
    if recorded != actual:
        raise CorruptCache(f"the cache file {path} has changed since it was written: delete it")
    return Stored(path, (channels, height, width), total, actual, skipped)


def _append(
    path: Path,
    items: Sequence[Item],
    convert: Callable[[Item], NDArray[np.uint8]],
    image_shape: Shape,
    skip_bad: bool,
    progress: Progress | None,
) -> dict[int, str]:
    """Convert the items that are not yet in the partial file; returns what was skipped in the whole file."""

    def converted(place: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            image = convert(items[place])
        except InputError as error:
            if not skip_bad:
                raise
            return place, str(error)
        if image.shape != image_shape or image.dtype != np.uint8:
            raise ValueError(f"an image became {image.dtype} {image.shape}, which is not uint8 {image_shape}")
        return place, image

    done, skipped = _resumed(path, image_shape, skip_bad)
    remaining = range(done, len(items))
    report = None if progress is None else lambda now, _: progress(remaining.start + now, len(items))
    size = math.prod(image_shape)
    needed, free = len(remaining) * size, shutil.disk_usage(path.parent).free
    if needed > free:  # fail now, not when most of the work is done
        raise OSError(f"it needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")
    partial, journal = _beside(path, "partial"), _beside(path, "journal")
    with partial.open("ab") as file:
        file.truncate(done * size)

        def save() -> None:
            file.flush()
            os.fsync(file.fileno())
            _write_json(journal, {"done": done, "skipped": skipped})

        save()
        saved = time.monotonic()
        try:
            for place, image in in_threads(converted, remaining, len(remaining), report):
                if isinstance(image, str):
                    skipped[place] = image
                    image = np.zeros(image_shape, np.uint8)
                file.write(image.tobytes())
                done = place + 1
                if time.monotonic() - saved >= SECONDS_BETWEEN_SAVES:
                    save()
                    saved = time.monotonic()
        finally:
            save()
    return skipped


def _resumed(path: Path, image_shape: Shape, skip_bad: bool) -> tuple[int, dict[int, str]]:
    """How many rows of the partial file are certainly complete, and which of them were skipped."""
    try:
        journal = json.loads(_beside(path, "journal").read_text())
        rows = _beside(path, "partial").stat().st_size // math.prod(image_shape)
        skipped = {int(place): why for place, why in journal["skipped"].items()}
        done = min(journal["done"], rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # there is no journal that can be trusted
        return 0, {}
    if not skip_bad:
        done = min([done, *skipped])  # an item that an earlier call skipped is an error in this one
    return done, {place: why for place, why in skipped.items() if place < done}


@contextmanager
def _alone(path: Path, total: int, image_shape: Shape, progress: Progress | None) -> Iterator[None]:
    """Hold the lock of a file; while another process holds it, show that one's progress."""
    lock = FileLock(_beside(path, "lock"))
    while True:
        try:
            lock.acquire(timeout=SECONDS_BETWEEN_LOOKS)
            break
        except Timeout:
            with suppress(FileNotFoundError):  # not yet written, or already renamed
                rows = _beside(path, "partial").stat().st_size // math.prod(image_shape)
                if progress is not None:
                    progress(rows, total)
    try:
        yield
    finally:
        lock.release()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    files.write_atomically(path, json.dumps(content).encode())


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
