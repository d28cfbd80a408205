"""One image file of any kind, safely made into pixels of one size."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pyro_disent.data.pixel_range import WAY_OUT, as_bytes
from pyro_disent.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 28

_SAMPLES = ("L", "LA", "RGB", "RGBA")
"""Modes whose pixels are amounts of light, of 8 bits each."""
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2
"""TIFF's tags of these names, and what the second says of numbers with a sign."""

_WARNINGS = threading.Lock()  # what ignores them does so for all threads

Box = tuple[int, int, int, int]


def read_image(
    source: Path | bytes,
    label: str,
    *,
    size: tuple[int, int],
    channels: int,
    crop: Box | None = None,
    formats: tuple[str, ...] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    white: float | None = None,
) -> NDArray[np.uint8]:
    """Pixels of an image file, resized by Pillow's bilinear filter, which averages over what it shrinks.

    The longer side is cropped about the center where the shape differs from ``size``. Transparent pixels become white,
    16 bits become 8, and the orientation that a camera noted is followed.

    Args:
        source: a file, or what it holds.
        label: what messages call it.
        size: height and width of the result.
        channels: 1 for grey (Pillow's ``L``), 3 for RGB.
        crop: left, top, right, bottom of what is kept of it, in pixels; it must lie within the image.
        formats: Pillow's names of the formats that are read.
        max_pixels: an image of more is refused by what its header says, before it is decoded.
        white: the value of a white pixel, black being 0, in grey images of any depth and in RGB of 8 bits; palettes and
            single bits have colors anyway. None: the largest value that the format can hold.

    Returns:
        ``(channels, height, width)``, uint8.

    Raises:
        InputError: for a file that cannot be read, is damaged, no such image, animated, too large, or whose pixels are
            numbers of no known range.
    """
    try:
        content = _content(source, label)
        with _opened(content, formats) as image:
            _check(image, label, crop, max_pixels, white)
            largest = _largest(image)
            if image.format == "PNG":
                # Checksums, which decoding alone does not look at; the file must be opened anew after it.
                image.verify()
        with _opened(content, formats) as image:
            if crop is None:
                image.draft("RGB", (4 * size[1], 4 * size[0]))  # JPEG skips the detail that would be averaged away
            pixels = _rgb(_upright(image), label, white or largest or 255, said=white is not None)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{label} has too many pixels: at most {max_pixels:,} are decoded") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{label} is no image of a kind that is read ({', '.join(formats)})") from error
    except Exception as error:  # for damaged files Pillow raises whatever its decoders come upon
        raise InputError(f"{label} is damaged or truncated ({error})") from error
    if crop is not None:
        pixels = pixels.crop(crop)
    pixels = ImageOps.fit(pixels, (size[1], size[0]), Image.Resampling.BILINEAR)
    if channels == 1:
        return np.asarray(pixels.convert("L"))[None]
    return np.ascontiguousarray(np.moveaxis(np.asarray(pixels), -1, 0))


def _content(source: Path | bytes, label: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{label} is a folder or a device, and no image")
        if status.st_size > MAX_BYTES:
            raise InputError(f"{label} has {status.st_size:,} bytes: at most {MAX_BYTES:,} are read")
        content = source.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{label} is missing") from error
    except OSError as error:
        raise InputError(f"{label} cannot be read ({error.strerror or error})") from error
    if not content:
        raise InputError(f"{label} is empty")
    return content


def _opened(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """An image of which the header was read."""
    with _quiet():
        return Image.open(io.BytesIO(content), formats=formats)


def _upright(image: Image.Image) -> Image.Image:
    """An image turned as its camera noted; as it is, where the notes cannot be read."""
    image.load()
    try:
        with _quiet():
            return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises many kinds for notes that are damaged, which the pixels do not need
        return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: of sizes that are refused here anyway, and of notes in a header."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(image: Image.Image, label: str, crop: Box | None, max_pixels: int, white: float | None) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(f"{label} has {width}x{height} pixels: at most {max_pixels:,} in all are decoded")
    if crop is not None and (width < crop[2] or height < crop[3]):
        raise InputError(f"{label} has {width}x{height} pixels, too few to be cropped to {crop}")
    with _quiet():  # TIFF looks for its pages only now
        frames = getattr(image, "n_frames", 1)
    # Photographs by phones are MPO: further images that belong to the first one, as its depth does, are left aside.
    if frames > 1 and image.format != "MPO":
        raise InputError(f"{label} is animated or has several pages ({frames}): only single images are read")
    if white is None and _largest(image) is None:
        what = "floating-point" if image.mode == "F" else "whole"
        raise InputError(f"{label} has pixels that are {what} numbers of no known range: {WAY_OUT}")
    if white is not None and image.mode in _SAMPLES and ";16" in str(getattr(image, "tile", ())):
        raise InputError(f"{label} has 16 bits a color, of which 8 are read: save it with 8 for a white of {white:g}")


def _largest(image: Image.Image) -> int | None:
    """The largest value that a pixel can have as its format says; None where that may be anything."""
    if image.mode.startswith("I;16"):
        bits = image.getexif().get(_BITS_PER_SAMPLE, 16) if image.format == "TIFF" else 16
        return int((1 << bits) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # Pillow gives 16 bits of them
        return 65_535
    if image.mode in ("I", "F") or (image.format == "TIFF" and image.getexif().get(_SAMPLE_FORMAT) == _SIGNED):
        return None
    return 255


def _rgb(image: Image.Image, label: str, white: float, *, said: bool) -> Image.Image:
    if image.mode[0] in "IF":
        values = np.asarray(image)  # Pillow would cut off at 255 what is above it
        if white == 65_535 and not said:
            image = Image.fromarray((values // 257).astype(np.uint8))
        else:
            image = Image.fromarray(as_bytes(values, white, lambda _: label))
    elif said and image.mode in _SAMPLES:
        image = _scaled(image, label, white)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image, label: str, white: float) -> Image.Image:
    """An image of 8 bits whose white is another value than 255; its transparency stays."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    bands = [
        band if name == "A" else Image.fromarray(as_bytes(np.asarray(band), white, lambda _: label))
        for name, band in zip(image.getbands(), image.split(), strict=True)
    ]
    return Image.merge(image.mode, bands)
