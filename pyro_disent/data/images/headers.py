"""What kinds of image files are read, and what their headers say; nothing is decoded here."""

from __future__ import annotations

import functools
import io
import posixpath
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from PIL import ExifTags, Image, JpegImagePlugin, features

from pyro_disent.files import WRITTEN_BY

SIGNED = (
    *("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"),
    *("JPEG2000", "AVIF", "HEIF", "JXL", "QOI", "PSD", "ICNS", "ICO", "DDS", "SGI"),
)
"""Pillow's names of the formats that are read whatever a file's name is: each has its own first bytes. HEIF and JXL
need a plugin of Pillow. Others are excluded: EPS would run Ghostscript, WMF needs Windows to draw it, Pillow recognizes
BUFR, GRIB, HDF5 and MPEG but cannot decode them, and FITS and SPIDER, from science, have no fixed range."""
UNSIGNED = ("TGA", "DIB", "PCX", "DCX", "CUR", "XBM", "XPM", "MSP", "SUN", "IM")
"""Formats that are read only where the suffix says so too, because other files may begin with the same bytes."""
_UNREADABLE = (
    "heic heif hif avif avifs webp jxl jp2 jpx j2k svg eps ps ai pdf wmf emf psb xcf exr hdr fits fit dcm dicom nii "
    "raw dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr iiq erf kdc mrw"
)
UNREADABLE = frozenset(_UNREADABLE.split())
"""Suffixes of images that are not read, or not by every Pillow. Pillow would take cameras' raw files for TIFF, and read
their thumbnail."""
_OTHER = (
    "txt md rst csv tsv json jsonl ndjson yaml yml toml ini cfg conf xml html htm css js py ipynb sh bat log lock "
    "parquet arrow feather xls xlsx ods doc docx odt ppt pptx db sqlite tex bib "
    "npy npz pt pth ckpt safetensors pkl pickle h5 hdf5 mat tfrecord onnx pixels journal partial "
    "zip gz bz2 xz zst tar tgz 7z rar mp4 mov avi mkv webm m4v mpg mpeg mp3 wav flac ogg m4a aac "
    "exe dll so dylib bin iso ttf otf woff lnk url xmp aae thm pts mtl obj ply stl"
)
OTHER = frozenset(_OTHER.split())
"""Suffixes of files that are not images: they are not even opened."""

_WARNINGS = threading.Lock()  # ignoring warnings affects all threads
_CODECS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


class Header(NamedTuple):
    """What an image file's header says."""

    width: int
    height: int
    channels: int
    """1 where its mode has no color, else 3."""
    ours: bool
    """Whether it is a figure that this program wrote."""


def readable() -> tuple[str, ...]:
    """Those of `SIGNED` that this Pillow decodes."""
    Image.init()
    return tuple(name for name in SIGNED if name in Image.OPEN and _has_codec(name))


def formats_of(name: str) -> tuple[str, ...]:
    """The formats to try for a file of this name: the suffix's first, then all that are recognized by content."""
    by_suffix = _format(name)
    return readable() if by_suffix is None else (by_suffix, *(other for other in readable() if other != by_suffix))


def is_image_name(name: str) -> bool | None:
    """Whether a suffix means an image that is read; None where only the content can tell."""
    return _is_image_suffix(suffix(name), len(Image.registered_extensions()))


def suffix(name: str) -> str:
    """A file's suffix in lower case, without its dot; empty where it has none."""
    return posixpath.splitext(name)[1].lower()[1:]


def header(path: Path) -> Header | None:
    """What a file's header says; None for a file that is not an image of a kind that is read, or cannot be opened."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return None
        with open_image(path, formats_of(path.name)) as image:
            channels = 1 if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I") else 3
            return Header(*image.size, channels, _is_ours(image))
    except Exception:  # Pillow raises any kind for damaged files; decoding reports it
        return None


@contextmanager
def open_image(source: Path | bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """An image whose header was read, as the first of these formats that fits."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        with quiet():
            image = _jpeg(file) if "JPEG" in formats else None
            image = image or Image.open(file, formats=formats)
        yield image


def why_not(content: bytes, formats: tuple[str, ...]) -> Exception | None:
    """Pillow's error for a file with the first bytes of one of these formats; None where no format fails so."""
    for name in formats:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(content[:16]) is True:
            try:
                with quiet():
                    factory(io.BytesIO(content), "")
            except Exception as error:
                return error
    return None


def frames(image: Image.Image) -> int:
    """How many images a file holds, without those that belong to the first, such as a photograph's depth."""
    with quiet():  # only now does Pillow look for a TIFF's pages
        return 1 if image.format in ("PSD", "ICO", "ICNS") else getattr(image, "n_frames", 1)


def _jpeg(file: IO[bytes]) -> Image.Image | None:
    """A JPEG of any size: it can be reduced while it is decoded, so Pillow's limit does not apply.

    In a file with several images (MPO, from phones) it is the first one.
    """
    start = file.read(3)
    file.seek(0)
    return JpegImagePlugin.JpegImageFile(file) if start == b"\xff\xd8\xff" else None


def _format(name: str) -> str | None:
    """The format that a suffix stands for, where it is read."""
    format_name = {"MPO": "JPEG"}.get(
        registered := Image.registered_extensions().get(f".{suffix(name)}", ""), registered
    )
    return format_name if format_name in UNSIGNED or format_name in readable() else None


@functools.lru_cache(4096)
def _is_image_suffix(suffix: str, _registered: int) -> bool | None:
    """As `is_image_name`. ``_registered`` renews the cache when a plugin is registered with Pillow."""
    if _format(f"_.{suffix}") is not None:
        return True
    return False if suffix in UNREADABLE or suffix in OTHER else None


@functools.cache
def _has_codec(name: str) -> bool:
    return name not in _CODECS or bool(features.check(_CODECS[name]))


def _is_ours(image: Image.Image) -> bool:
    """Whether an image's notes name this program: in a PNG's text, or in a tag of EXIF or TIFF."""
    tags = getattr(image, "tag_v2", {}).get(ExifTags.Base.Software, "")
    exif = bytes(image.info.get("exif") or b"").decode("latin-1")
    return any(WRITTEN_BY in text for text in (str(image.info.get("Software", "")), str(tags), exif))


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Pillow's warnings about sizes, which are checked here, and about notes in a header."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
