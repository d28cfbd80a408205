"""The 3D chairs of Aubry et al. (2014) as their authors ship them, folder or tar, made into arrays.

``rendered_chairs/<id>/renders/image_NNN_pPPP_tTTT_rRRR.png``, 600x600: 1393 chairs, 31 azimuths (``t``) at elevations
of 20 and 30 degrees (``p``). The number ``NNN`` skips 031 and the azimuths are written in whole degrees, so the view is
read from ``p`` and ``t`` alone, and an azimuth is its code's place among the 31 times 360 / 31 degrees.
"""

from __future__ import annotations

import hashlib
import lzma
import math
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_disent.data.images.array_cache import Arrays
from pyro_disent.data.images.decoding import MAX_BYTES, read_image
from pyro_disent.data.sources import Progress, entries, folders_called, leads_out
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError

FOLDER = "rendered_chairs"
CALLED = r"(rendered|3d)[-_ ]?chairs|chairs"
"""What the folder and the tar are called."""
TAR_NAME = rf"({CALLED})\.(tar|tar\.gz|tgz|tar\.xz|tar\.bz2)"
EXPECTED = f"{FOLDER}/<id>/renders/image_NNN_pPPP_tTTT_rRRR.png, as a folder or as {FOLDER}.tar"
CONVERTER_VERSION = 1
"""Raised whenever the same files become other arrays."""

CROP = (60, 60, 540, 540)
SIZE = 64
MAX_PIXELS = 4096 * 4096
AZIMUTH_CODES = (
    *("000", "011", "023", "034", "046", "058", "069", "081", "092", "104", "116", "127", "139", "150", "162", "174"),
    *("185", "197", "209", "220", "232", "243", "255", "267", "278", "290", "301", "313", "325", "336", "348"),
)
VIEW_NAME = re.compile(r"image_\d{3}_p(\d{3})_t(\d{3})_r\d{3}\.png")


class View(NamedTuple):
    """The chair and the view of an image; sorts by chair, elevation, azimuth."""

    chair: str
    elevation: int
    """Degrees."""
    azimuth: int
    """Place among the 31 azimuths."""

    def __str__(self) -> str:
        return f"{self.chair}/renders/image_*_p{self.elevation:03d}_t{AZIMUTH_CODES[self.azimuth]}_*.png"


def locate(root: Path) -> Path | None:
    """The folder of chairs or the tar in ``root``, or ``root`` if it is one itself; None where there is none.

    Raises:
        InputError: where ``root`` is a file but not a tar.
    """
    if root.is_file():
        if not tarfile.is_tarfile(root):
            raise InputError(f"{root} is not a tar file; the 3D chairs are {EXPECTED}")
        return root
    named = folders_called(root, CALLED)
    for folder in (root / FOLDER, root, *named, *(each for outer in named for each in folders_called(outer, CALLED))):
        if folder.is_dir() and any(folder.glob("*/renders/image_*.png")):
            return folder
    tars = (path for path in entries(root) if re.fullmatch(TAR_NAME, path.name, re.IGNORECASE) and path.is_file())
    return min(tars, key=lambda path: (not path.name.startswith(FOLDER), len(path.name)), default=None)


def fingerprint(source: Path) -> str:
    """A short name for the present files, from their names, sizes and times; their contents are not read."""
    files = [source] if source.is_file() else sorted(source.glob("*/renders/image_*.png"))
    digest = hashlib.sha256(f"{CONVERTER_VERSION} {source.resolve()}\n".encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.relative_to(source)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def convert(source: Path, color: bool = False, progress: Progress | None = None, workers: int | None = None) -> Arrays:
    """Every image cropped, resized (Pillow, bilinear) and made grey (Pillow's ``L``).

    Args:
        source: the result of `locate`.
        color: keep RGB.
        progress: called with (images done, images in all).
        workers: number of threads; None: one per core.

    Returns:
        ``images`` ``(images, channels, 64, 64)`` uint8, sorted by chair, elevation, azimuth; ``factors/azimuth`` and
        ``factors/elevation`` (radians), ``(images,)`` float32; ``labels/identity``, the chair's place among the sorted
        ids, ``(images,)`` int64; ``asymmetry`` ``(images,)`` float32, see `asymmetry`.

    Raises:
        InputError: for a file that is damaged, truncated, missing or huge, and a tar with paths outside its folder.
    """
    files = _files_in_tar(source) if source.is_file() else _files_in_folder(source)
    _check_complete(files, source)
    views = sorted(files)
    channels = 3 if color else 1
    images = np.empty((len(views), channels, SIZE, SIZE), np.uint8)
    # The files come in the order they lie in, which is not the sorted one: a tar is read once, from front to back.
    read = _read_tar(source, files) if source.is_file() else _read_folder(source, files)
    converted = in_threads(lambda raw: _small(raw, channels), read, len(views), progress, workers)
    position = {view: place for place, view in enumerate(views)}
    for view, image in zip(files, converted, strict=True):
        images[position[view]] = image

    chairs = sorted({view.chair for view in views})
    identity = np.searchsorted(chairs, [view.chair for view in views])
    azimuth = np.array([view.azimuth for view in views])
    elevation = np.array([view.elevation for view in views])
    return {
        "images": images,
        "factors/azimuth": (azimuth * (2 * math.pi / len(AZIMUTH_CODES))).astype(np.float32),
        "factors/elevation": np.radians(elevation).astype(np.float32),
        "labels/identity": identity.astype(np.int64),
        "asymmetry": asymmetry(images, identity, azimuth, elevation),
    }


def asymmetry(
    images: NDArray[np.uint8], identity: NDArray[np.intp], azimuth: NDArray[np.int64], elevation: NDArray[np.int64]
) -> NDArray[np.float32]:
    """How much each chair changes with half a turn: mean absolute pixel difference in [0, 1], for each of its images.

    31 azimuths have no exact opposites: an image is compared with both neighbors of its opposite, at 174 and 186
    degrees from it. A chair without two such images has 1: no chair is called symmetric without evidence.
    """
    result = np.ones(len(images), np.float32)
    half = len(AZIMUTH_CODES) // 2
    for chair in np.unique(identity):
        members = np.flatnonzero(identity == chair)
        at = {(elevation[i], azimuth[i]): images[i].astype(np.float32) / 255 for i in members}
        differences = [
            np.abs(image - opposite).mean()
            for (height, turn), image in at.items()
            if (opposite := at.get((height, (turn + half) % len(AZIMUTH_CODES)))) is not None
        ]
        if differences:
            result[members] = np.mean(differences)
    return result


Files = dict[View, str]
"""Where each view is: a path inside the folder or the name of a tar's member, in the order they lie there."""


def _files_in_folder(source: Path) -> Files:
    for renders in sorted(source.glob("*/renders")):
        if not any(renders.glob("image_*.png")):
            raise InputError(f"{renders} holds no image_*.png; the 3D chairs are {EXPECTED}")
    return _by_view((path.relative_to(source).as_posix() for path in sorted(source.glob("*/renders/image_*"))), source)


def _files_in_tar(source: Path) -> Files:
    with _open_tar(source) as tar:
        for member in tar:
            _check_member(member, source)
        files = _by_view((member.name for member in tar if member.isfile()), source)
    if not files:
        raise InputError(f"{source} holds no chairs; they are {EXPECTED}")
    return files


def _by_view(names: Iterable[str], source: Path) -> Files:
    files: Files = {}
    for name in names:
        path = PurePosixPath(name)
        if len(path.parts) < 3 or path.parts[-2] != "renders" or not path.name.startswith("image_"):
            continue
        match = VIEW_NAME.fullmatch(path.name)
        if match is None or match[2] not in AZIMUTH_CODES:
            raise InputError(f"{source}: {name} is not named as the 3D chairs are, image_NNN_pPPP_tTTT_rRRR.png")
        view = View(path.parts[-3], int(match[1]), AZIMUTH_CODES.index(match[2]))
        if view in files:
            raise InputError(f"{source} holds one view twice: {files[view]} and {name}")
        files[view] = name
    return files


def _check_member(member: tarfile.TarInfo, source: Path) -> None:
    """Raises InputError for a path outside the tar's folder: nothing is unpacked, but the authors' tar has none."""
    if leads_out(member.name):
        raise InputError(f"{source} is refused: its member {member.name!r} leaves the folder it would be unpacked in")
    if not (member.isfile() or member.isdir()):
        raise InputError(f"{source} is refused: its member {member.name!r} is a link or a device, not a file")


def _check_complete(files: Files, source: Path) -> None:
    """Every chair must have every view that any chair has."""
    chairs = sorted({view.chair for view in files})
    angles = sorted({(view.elevation, view.azimuth) for view in files})
    missing = [view for chair in chairs for angle in angles if (view := View(chair, *angle)) not in files]
    if missing:
        raise InputError(f"{source} lacks {len(missing)} views that other chairs have, the first is {missing[0]}")


@contextmanager
def _open_tar(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source) as tar:
            yield tar
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{source} is damaged or not a tar file ({error})") from error


Raw = tuple[str, Path | bytes]
"""A file's name for messages, and where it is or what it holds."""


def _read_folder(source: Path, files: Files) -> Iterator[Raw]:
    for name in files.values():
        yield str(source / name), source / name


def _read_tar(source: Path, files: Files) -> Iterator[Raw]:
    wanted = set(files.values())
    with _open_tar(source) as tar:
        for member in tar:
            if member.name in wanted and (content := tar.extractfile(member)) is not None:
                label = f"{member.name} in {source}"
                if member.size > MAX_BYTES:  # before it is read: of a packed tar it may be any size
                    raise InputError(f"{label} has {member.size:,} bytes: at most {MAX_BYTES:,} are read")
                yield label, content.read()


def _small(raw: Raw, channels: int) -> NDArray[np.uint8]:
    """One file as ``(channels, 64, 64)``."""
    label, content = raw
    return read_image(
        content, label, size=(SIZE, SIZE), channels=channels, crop=CROP, formats=("PNG",), max_pixels=MAX_PIXELS
    )
