"""MNIST's digits: from its own files, from a download, or the sample that comes with this package.

MNIST is the work of Yann LeCun, Corinna Cortes and Christopher J. C. Burges, under the Creative Commons
Attribution-Share Alike 3.0 license. The packaged sample (``mnist_sample.npz``) is a subset of it, unchanged digit by
digit, under the same license.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_disent.data.dataset import Source
from pyro_disent.data.sources import (
    CACHE_VARIABLE,
    Origin,
    Places,
    Request,
    cache_dir,
    entries,
    folders_called,
    limited,
    sha256_of_files,
)
from pyro_disent.errors import InputError
from pyro_disent.files import check_regular

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
SIDE = 28
MOST_DIGITS = 1_000_000
"""That are read of a file; EMNIST has 814,255."""
SHA256 = "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a"
"""Hash of MNIST's four unpacked files in the order of `FILES`: a cached copy with this hash needs no download."""
FOLDER = r"mnist([-_ ]?(data|dataset|database|digits|original))?"
"""What its folder is called; Fashion-MNIST and others have files of the very same names."""
SAMPLE = Path(__file__).with_name("mnist_sample.npz")


_log = logging.getLogger(__name__)


class Digits(NamedTuple):
    """Digits of one split."""

    images: Tensor
    """``(images, 1, 28, 28)``, uint8."""
    labels: Tensor
    """``(images,)``, int64."""


class MNIST(NamedTuple):
    """Three splits: the validation digits are the last of the training digits."""

    train: Digits
    validation: Digits
    test: Digits
    source: Source


def locate(root: Path) -> Path | None:
    """The folder of MNIST's files, from torchvision's root, its ``MNIST`` or ``raw``, or a folder around these.

    One of the files is enough: an incomplete data set should be an error, not a reason to look elsewhere.
    """
    named = [folder for outer in folders_called(root, FOLDER) for folder in (outer / "raw", outer)]
    for folder in (root / "MNIST" / "raw", root / "raw", root, *named):
        if any(_file(folder, name) is not None for name in FILES):
            return folder
    return None


PLACES = Places(
    name="MNIST",
    looked_for=f"{TRAIN_IMAGES} (or .gz) and its three companions, there, in raw or in MNIST/raw",
    locate=locate,
    cached=locate,
    address="torchvision's mirrors of MNIST",
    embedded="sample of 10,000 digits",
    called=r"(?<![a-z])mnist|^(train|t10k|test)[-_. ]?(images|labels)",
)


def read(request: Request, *, limit: int | None = None) -> MNIST:
    """MNIST from the source of a request; ``limit`` keeps the first training digits only.

    The validation split is MNIST's last 5,000 training digits, or the last tenth of a smaller set.

    Raises:
        InputError: where the source lacks MNIST, or a file is damaged or not MNIST's.
    """
    limited(limit, 1)
    place = PLACES.find(request)
    place.tell()
    if place.kind == "embedded":
        with np.load(SAMPLE) as sample:
            arrays = [sample[name] for name in ("train_images", "train_labels", "test_images", "test_labels")]
        source = Source("embedded", str(SAMPLE), sha256_of_files(SAMPLE))
    else:
        folder = place.path or download()
        paths = [_required(folder, name) for name in FILES]
        arrays = [read_idx(path) for path in paths]
        for images, labels, path in zip(arrays[::2], arrays[1::2], paths[1::2], strict=True):
            if len(images) != len(labels):
                raise InputError(f"{path} has {len(labels)} labels for {len(images)} images")
        source = Source(place.kind, str(folder), sha256_of_files(*paths))
        full = (len(arrays[0]), len(arrays[2])) == (60_000, 10_000)
        if full and source.sha256 != SHA256 and _sha256_unpacked(arrays) != SHA256:
            _log.warning("%s has the names and sizes of MNIST's files, but other images: Fashion-MNIST has too", folder)
    available, test_count = len(arrays[0]), len(arrays[2])
    if available < 2 or test_count < 1:
        raise InputError(f"{source.location} has {available} training and {test_count} test digits: needed are 2 and 1")
    held_out = 5_000 if available == 60_000 else max(1, available // 10)
    train_count = available - held_out
    images, labels = torch.from_numpy(arrays[0]).unsqueeze(1), torch.from_numpy(arrays[1]).long()
    count = limited(limit, train_count)
    return MNIST(
        Digits(images[:count], labels[:count]),
        Digits(images[train_count:], labels[train_count:]),
        Digits(torch.from_numpy(arrays[2]).unsqueeze(1), torch.from_numpy(arrays[3]).long()),
        source,
    )


def describe(request: Request) -> Origin:
    """The source of a request's digits; reads no digit and uses no network."""
    return PLACES.find(request)


def prepare(request: Request) -> Path:
    """Check the digits that a request leads to and put them, unpacked, into the cache; the folder they lie in then."""
    place = PLACES.find(request)
    place.tell()
    if place.kind == "embedded":
        return SAMPLE
    if place.kind == "download":
        return download()
    read(request)
    folder = Path(str(place.path))
    target = cache_dir() / "MNIST" / "raw"
    if folder == target and all((folder / name).exists() for name in FILES):
        return target
    with _cache_entry() as entry:
        raw = entry / "raw"
        raw.mkdir()
        for name in FILES:
            path = _required(folder, name)
            if path.suffix == ".gz":
                with gzip.open(path) as packed, (raw / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            else:
                shutil.copyfile(path, raw / name)
    return target


def download() -> Path:
    """MNIST in the cache, by torchvision, which checks the hash of what it receives; at once where it is there.

    Raises:
        InputError: where no mirror answers with the right files.
    """
    target = cache_dir() / "MNIST" / "raw"
    if all((target / name).exists() for name in FILES) and _sha256(target) == SHA256:
        return target
    from torchvision.datasets import MNIST as TorchvisionMNIST

    with _cache_entry() as entry:
        try:
            # torchvision takes any file of the right name for the right file, so it starts in an empty folder.
            TorchvisionMNIST(entry / "download", download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"MNIST could not be downloaded ({reason}): name its folder by `data_root`") from error
        (entry / "download" / "MNIST" / "raw").rename(entry / "raw")
        (entry / "download" / "MNIST").rmdir()
        (entry / "download").rmdir()
        for packed in (entry / "raw").glob("*.gz"):
            packed.unlink()
    return target


def read_idx(path: Path) -> np.ndarray:
    """The digits or labels of one IDX file, ``(images, 28, 28)`` or ``(images,)``, uint8.

    Raises:
        InputError: for a file that is damaged, truncated, or not an MNIST file of the kind that its name says.
    """
    dimensions = 3 if "idx3" in path.name.lower() else 1
    header = 4 * (dimensions + 1)
    try:
        check_regular(path)
        # No further than its header says: packed zeros have a thousandth of their size.
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = np.frombuffer(bytearray(_first_bytes(file, header, SIDE * SIDE if dimensions == 3 else 1)), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if len(raw) < header or raw[:4].tolist() != [0, 0, 8, dimensions]:
        raise InputError(
            f"{path} is no IDX file of {'images' if dimensions == 3 else 'labels'}: its first bytes differ"
        )
    shape = [int.from_bytes(raw[start : start + 4].tobytes(), "big") for start in range(4, header, 4)]
    if dimensions == 3 and shape[1:] != [SIDE, SIDE]:
        raise InputError(f"{path} has images of {shape[1]} x {shape[2]} pixels: MNIST's are {SIDE} x {SIDE}")
    size = header + shape[0] * (SIDE * SIDE if dimensions == 3 else 1)
    if len(raw) != size:
        raise InputError(f"{path} has {len(raw)} bytes instead of {size}: it was cut short or damaged")
    values = raw[header:].reshape(shape)
    if dimensions == 1 and len(values) and values.max() > 9:
        raise InputError(f"{path} has the label {values.max()}: MNIST's are 0 to 9")
    return values


def _first_bytes(file: gzip.GzipFile | BufferedReader, header: int, of_each: int) -> bytes:
    """As much as the header says that there is, and a few bytes more if there are any."""
    start = file.read(header)
    count = min(int.from_bytes(start[4:8], "big"), MOST_DIGITS)
    parts, left = [start], count * of_each + 4096
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _file(folder: Path, name: str) -> Path | None:
    """The file of this name, unpacked or packed; unpacked first, as torchvision reads it.

    Some programs and mirrors write ``train-images.idx3-ubyte``, or put the file into a folder of the same name.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    spelled = re.compile(re.sub("-", "[-_. ]?", name), re.IGNORECASE)
    alike = [path for path in entries(folder) if spelled.fullmatch(path.name.removesuffix(".gz"))]
    inside = [file for path in alike if path.is_dir() for file in entries(path) if spelled.match(file.name)]
    files = [path for path in (*alike, *inside) if path.is_file()]
    return min(files, key=lambda path: path.suffix == ".gz", default=None)


def _required(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    if path is None:
        raise InputError(
            f"{folder / name} is missing (nor is there {name}.gz): MNIST is the four files {', '.join(FILES)}"
        )
    return path


def _sha256(folder: Path) -> str:
    return sha256_of_files(*(folder / name for name in FILES))


def _sha256_unpacked(arrays: list[np.ndarray]) -> str:
    """`_sha256` of these images and labels as unpacked files."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(bytes([0, 0, 8, array.ndim]))
        digest.update(b"".join(size.to_bytes(4, "big") for size in array.shape))
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def _cache_entry() -> Iterator[Path]:
    """A folder to fill, which becomes the cache's MNIST at the end; after an error, the cache is as before.

    Raises:
        InputError: where the cache cannot be written.
    """
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="incomplete-") as scratch:
            entry = Path(scratch) / "new"
            entry.mkdir()
            yield entry
            if (cache / "MNIST").exists():
                (cache / "MNIST").rename(Path(scratch) / "old")
            entry.rename(cache / "MNIST")
    except OSError as error:
        raise InputError(f"cannot write to the cache {cache} ({error}): ${CACHE_VARIABLE} names another") from error
