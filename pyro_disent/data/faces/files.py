"""CelebA (Liu et al. 2015) as its authors ship it and torchvision keeps it: two lists, and a folder or zip of images.

``img_align_celeba/NNNNNN.jpg``, 178x218: 202,599 faces. ``list_attr_celeba.txt``: their number, the names of 40
attributes, and for each image 1 or -1 for each of them. ``list_eval_partition.txt``: for each image 0, 1 or 2, which is
training, validation or test.

Two more layouts are read: Kaggle's, with the lists as ``.csv`` and the images one folder further down, and that of the
authors' own archive, with the lists in ``Anno`` and ``Eval`` and the images in ``Img``.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.store import Stored, store
from pyro_disent.data.sources import Progress, cache_dir, folders_called, leads_out
from pyro_disent.errors import InputError
from pyro_disent.files import read_regular

FOLDER = "celeba"
IMAGES = "img_align_celeba"
ZIP = f"{IMAGES}.zip"
ATTRIBUTE_LIST, PARTITION_LIST = "list_attr_celeba.txt", "list_eval_partition.txt"
EXPECTED = f"{IMAGES}/NNNNNN.jpg (as a folder or as {ZIP}), {ATTRIBUTE_LIST} and {PARTITION_LIST} (or .csv)"
CALLED = r"celeba([-_ ]?(dataset|data|aligned|align))?"
"""What its folder is called, in upper or lower case; CelebA-HQ and CelebAMask are other sets."""
LISTS = (ATTRIBUTE_LIST, PARTITION_LIST)
IN_ZIP = ((IMAGES,), (IMAGES, IMAGES), ())
"""Folders of a zip that its images may lie in."""
PARTITIONS = ("training", "validation", "test")
CONVERTER_VERSION = 1
"""Raised whenever the same files become other pixels."""

ORIGINAL_SIZE = (178, 218)
"""Width and height."""
CROP = (15, 35, 163, 183)
"""The central 148x148 pixels, as torchvision's ``CenterCrop`` takes them: left, top, right, bottom."""
SIZE = 64
SHAPE = (3, SIZE, SIZE)
MAX_BYTES = 1 << 24

IMAGE_NAME = re.compile(r"\d{6}\.jpg")


class Lists(NamedTuple):
    """The content of the two lists for each image, in the order of the list of attributes."""

    names: list[str]
    """The files' names."""
    attributes: NDArray[np.bool_]
    """``(images, 40)``."""
    partition: NDArray[np.uint8]
    """``(images,)``: place in `PARTITIONS`."""


def locate(root: Path) -> Path | None:
    """The folder of CelebA's files, from torchvision's root or that folder itself.

    One of the files is enough: an incomplete data set should be an error, not a reason to look elsewhere.
    """
    for folder in (root / FOLDER, root, *folders_called(root, CALLED)):
        if any(place is not None for place in (_images(folder), *(_list(folder, name) for name in LISTS))):
            return folder
    return None


def _list(folder: Path, name: str) -> Path | None:
    """The path of one of the lists in any layout, by its authors' name."""
    for place in (folder, folder / "Anno", folder / "Eval"):
        for path in (place / name, (place / name).with_suffix(".csv")):
            if path.exists():
                return path
    return None


def _images(folder: Path) -> Path | None:
    """The folder of images in any layout, or the zip if there is no folder."""
    for place in (folder, folder / "Img"):
        if (place / IMAGES).is_dir():
            inner = place / IMAGES / IMAGES
            return inner if inner.is_dir() else place / IMAGES
        if (place / ZIP).exists():
            return place / ZIP
    return None


def fingerprint(folder: Path) -> str:
    """A short name for the present files, from their names, sizes and times; their contents are not read.

    Raises:
        InputError: where a list or the images are missing.
    """
    images = _required_images(folder)
    states = [f"{CONVERTER_VERSION} {folder.resolve()}"]
    for path in (_required(folder, ATTRIBUTE_LIST), _required(folder, PARTITION_LIST), images):
        states.append(_state(path.name, path.stat()) if path.is_file() else path.name)
    if images.is_dir():
        with os.scandir(images) as entries:
            states += sorted(_state(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".jpg"))
    return hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]


def _state(name: str, status: os.stat_result) -> str:
    return f"{name} {status.st_size} {status.st_mtime_ns}"


def convert(folder: Path, path: Path, lists: Lists, progress: Progress | None = None) -> Stored:
    """Every listed image cropped and resized (Pillow, bilinear) into a store at ``path``, in the lists' order.

    Images that are not in the lists are left out, as they have no attributes.

    Args:
        folder: the result of `locate`.
        path: see `images.store.store`.
        lists: the result of `read_lists` for this folder.
        progress: called with (images done, images in all).

    Raises:
        InputError: for an image that is missing, damaged, truncated or of another size, a zip that is damaged or leaves
            its folder, and a cache that cannot be written.
    """
    with _opened(folder) as files:
        if missing := [name for name in lists.names if name not in files.names]:
            raise InputError(
                f"{files.where} lacks {len(missing)} of the {len(lists.names)} images that "
                f"{_required(folder, ATTRIBUTE_LIST).name} names, the first is {missing[0]}"
            )
        return store(path, lists.names, lambda name: _convert_one(*files.read(name)), SHAPE, progress=progress)


def read_lists(folder: Path) -> Lists:
    """Both lists, checked against each other.

    Raises:
        InputError: naming file and line, for a list that is missing or not in the form of CelebA's.
    """
    path = _required(folder, ATTRIBUTE_LIST)
    names, attributes = _read_attributes(path)
    return Lists(names, attributes, _read_partition(_required(folder, PARTITION_LIST), names, path.name))


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.bool_]]:
    lines = _lines(path)
    count_line, count_cells = (0, []) if path.suffix == ".csv" else next(lines, (1, []))
    if path.suffix != ".csv" and (len(count_cells) != 1 or not count_cells[0].isdecimal()):
        raise InputError(f"{path}, line {count_line}: expected is the number of images, not {' '.join(count_cells)!r}")
    names_line, attributes = next(lines, (count_line + 1, []))
    if path.suffix == ".csv":
        attributes = attributes[1:]  # after what the names of the files are called
    if attributes != list(ATTRIBUTES):
        differing = (pair for pair in zip(attributes, ATTRIBUTES, strict=False) if pair[0] != pair[1])
        theirs, ours = next(differing, (f"{len(attributes)} names", f"{len(ATTRIBUTES)}"))
        raise InputError(f"{path}, line {names_line}: these are not CelebA's attributes: {theirs} where {ours} belongs")
    lines_of: dict[str, int] = {}
    values = bytearray()
    for number, (name, *signs) in lines:
        _take_note(lines_of, name, number, path)
        if len(signs) != len(ATTRIBUTES):
            raise InputError(f"{path}, line {number}: {name} has {len(signs)} values for {len(ATTRIBUTES)} attributes")
        if not {"-1", "1"}.issuperset(signs):
            wrong = next(place for place, sign in enumerate(signs) if sign not in ("-1", "1"))
            raise InputError(
                f"{path}, line {number}: {ATTRIBUTES[wrong]} of {name} is {signs[wrong]!r}; accepted are 1 and -1"
            )
        values += bytes(map("1".__eq__, signs))
    if count_cells and len(lines_of) != int(count_cells[0]):
        raise InputError(f"{path}, line {count_line}: it says {count_cells[0]} images, but lists {len(lines_of)}")
    return list(lines_of), np.frombuffer(values, np.bool_).reshape(-1, len(ATTRIBUTES))


def _read_partition(path: Path, names: list[str], listed_in: str) -> NDArray[np.uint8]:
    """The split of each of these images, ``(images,)``, from the list of partitions."""
    lines_of: dict[str, int] = {}
    partition: dict[str, int] = {}
    lines = _lines(path)
    if path.suffix == ".csv":
        next(lines, None)  # what the columns are called
    for number, (name, *rest) in lines:
        _take_note(lines_of, name, number, path)
        if len(rest) != 1 or rest[0] not in ("0", "1", "2"):
            raise InputError(
                f"{path}, line {number}: {name} is in {' '.join(rest)!r}; accepted are 0 (training), 1 (validation) "
                "and 2 (test)"
            )
        partition[name] = int(rest[0])
    for name in names:
        if name not in partition:
            raise InputError(f"{path} does not say which split {name} of {listed_in} is in")
    if len(partition) > len(names):
        name = next(iter(partition.keys() - set(names)))
        raise InputError(f"{path}, line {lines_of[name]}: {name} is not in {listed_in}")
    result = np.array([partition[name] for name in names], np.uint8)
    for place, count in enumerate(np.bincount(result, minlength=len(PARTITIONS))):
        if count < 2:
            raise InputError(
                f"{path} puts {count} images into {place} ({PARTITIONS[place]}): each split needs two or more to pair"
            )
    return result


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number, from 1, and the words or cells of each line that is not empty."""
    between = "," if path.suffix == ".csv" else None
    try:
        text = read_regular(path, 1 << 30).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of CelebA's ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, [word.strip() for word in line.split(between)]


def _take_note(lines_of: dict[str, int], name: str, number: int, path: Path) -> None:
    """Remember on which line an image is listed."""
    if not IMAGE_NAME.fullmatch(name):
        raise InputError(f"{path}, line {number}: {name!r} is not named as CelebA's images are, NNNNNN.jpg")
    if name in lines_of:
        raise InputError(f"{path}, line {number}: {name} is listed again, after line {lines_of[name]}")
    lines_of[name] = number


def _required(folder: Path, name: str) -> Path:
    path = _list(folder, name)
    if path is None or not path.is_file():
        raise InputError(f"{path or folder / name} is missing: CelebA is {EXPECTED}")
    return path


def _required_images(folder: Path) -> Path:
    images = _images(folder)
    if images is None or not (images.is_dir() or images.is_file()):
        raise InputError(f"{folder / IMAGES} and {ZIP} are missing: CelebA is {EXPECTED}")
    return images


class _Files(NamedTuple):
    """Image files that can be read by name, by several threads at once."""

    where: Path
    names: set[str]
    read: Callable[[str], tuple[str, Path | bytes]]
    """A file's name -> what messages call it, and where it is or what it holds."""


@contextmanager
def _opened(folder: Path) -> Iterator[_Files]:
    images = _required_images(folder)
    if images.is_dir():
        yield _Files(images, {path.name for path in images.iterdir()}, lambda name: (str(images / name), images / name))
        return
    try:
        archive = zipfile.ZipFile(images)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{images} is damaged or not a zip file ({error})") from error
    with archive:
        members = _members(archive.infolist(), images)
        alone = threading.Lock()  # a zip file counts its readers, and two threads may count as one

        def read(name: str) -> tuple[str, bytes]:
            member = members[name]
            label = f"{member.filename} in {images}"
            if member.file_size > MAX_BYTES:
                raise InputError(f"{label} has {member.file_size:,} bytes: at most {MAX_BYTES:,} are read")
            try:
                with alone:
                    return label, archive.read(member)
            except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
                raise InputError(f"{label} is damaged or cannot be unpacked ({error})") from error

        yield _Files(images, set(members), read)


def _members(infos: Iterable[zipfile.ZipInfo], source: Path) -> dict[str, zipfile.ZipInfo]:
    """File's name -> member. A path outside the zip's folder is refused: the authors' zip has none."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if leads_out(info.filename) or ":" in info.filename:
            raise InputError(
                f"{source} is refused: its member {info.filename!r} leaves the folder it would be unpacked in"
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{source} is refused: its member {info.filename!r} is a link")
        if path.parts[:-1] not in IN_ZIP or info.is_dir():
            continue
        if path.name in members:
            raise InputError(f"{source} holds {info.filename} twice")
        members[path.name] = info
    return members


def _convert_one(label: str, source: Path | bytes) -> NDArray[np.uint8]:
    """One image, ``(3, 64, 64)``."""
    _check_size(label, source)
    return read_image(source, label, size=(SIZE, SIZE), channels=3, crop=CROP, formats=("JPEG",))


def _check_size(label: str, source: Path | bytes) -> None:
    """Refuse an image of another size by its header; `read_image` refuses files that are not images."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("JPEG",)) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return
    if (width, height) != ORIGINAL_SIZE:
        raise InputError(f"{label} has {width}x{height} pixels: CelebA's aligned images have 178x218")


def download() -> Path:
    """The lists and the zip in the cache, downloaded by torchvision, which checks their hashes, if they are not there.

    Raises:
        InputError: where they cannot be downloaded.
    """
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive

    folder = cache_dir() / FOLDER
    try:
        # Not `CelebA(download=True)`, which fetches lists that are not needed and unpacks 202,599 files.
        for identity, md5, name in CelebA.file_list:
            if name in (ATTRIBUTE_LIST, PARTITION_LIST, ZIP):
                download_file_from_google_drive(identity, folder, name, md5)
    except Exception as error:  # gdown and the network fail in ways of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"CelebA could not be downloaded ({reason}): get it by hand and name its folder by `data_root`"
        ) from error
    return folder
