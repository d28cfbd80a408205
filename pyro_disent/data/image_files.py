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

from pyro_disent.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 28

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

    Returns:
        ``(channels, height, width)``, uint8.

    Raises:
        InputError: for a file that cannot be read, is damaged, no such image, animated or too large.
    """
    try:
        content = _content(source, label)
        with _opened(content, formats) as image:
            _check(image, label, crop, max_pixels)
            if image.format == "PNG":
                # Checksums, which decoding alone does not look at; the file must be opened anew after it.
                image.verify()
        with _opened(content, formats) as image:
            if crop is None:
                image.draft("RGB", (4 * size[1], 4 * size[0]))  # JPEG skips the detail that would be averaged away
            pixels = _rgb(_upright(image))
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


def _check(image: Image.Image, label: str, crop: Box | None, max_pixels: int) -> None:
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
    if image.mode == "F":
        raise InputError(f"{label} has pixels that are floating-point numbers of no known range")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: Pillow would cut off at 255 what is above it
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65_535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")
