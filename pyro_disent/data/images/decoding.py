"""One image file of any kind, decoded safely into pixels of one size."""

from __future__ import annotations

import re
import stat
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pyro_disent.data.images.headers import formats_of, frames, open_image, quiet, readable, why_not
from pyro_disent.data.images.pixel_range import WAY_OUT, as_bytes
from pyro_disent.errors import InputError

MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 28

_LARGE = threading.Lock()  # only one thread at a time decodes a large image
_UNSUPPORTED = re.compile(r"un(supported|implemented|known)|not (supported|implemented|available)|too large", re.I)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_SAMPLES = ("L", "LA", "RGB", "RGBA")
"""Modes whose samples are amounts of light with 8 bits each."""
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 258, 339, 1, 2
"""TIFF's tags of these names, and the second tag's values for unsigned numbers, its default, and signed ones."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_FEW_BITS = re.compile(r"L;([24])")

Box = tuple[int, int, int, int]


def read_image(
    source: Path | bytes,
    label: str,
    *,
    size: tuple[int, int],
    channels: int,
    crop: Box | None = None,
    pad: bool = False,
    formats: tuple[str, ...] | None = None,
    max_pixels: int = MAX_PIXELS,
    white: float | None = None,
) -> NDArray[np.uint8]:
    """Pixels of an image file, resized by Pillow's bilinear filter, which averages over what it shrinks.

    Where the shape differs from ``size``, the longer side is cropped about the center, or the whole image is kept
    between black margins. Transparent pixels become white, 16 bits become 8, and the image is turned as its camera
    noted.

    Args:
        source: a file, or its content.
        label: what messages call it.
        size: height and width of the result.
        channels: 1 for grey (Pillow's ``L``), 3 for RGB.
        crop: left, top, right, bottom of the part to keep, in pixels; it must lie within the image.
        pad: add black margins up to the shape of ``size``, instead of cropping to it.
        formats: Pillow's names of the formats that are read; None: all that `formats_of` names.
        max_pixels: an image whose header says more is refused before it is decoded. A JPEG is reduced while it is
            decoded, so the limit is on its reduced size.
        white: the value of a white pixel, where black is 0, in grey images of any depth and in RGB of 8 bits; palettes
            and single bits do not need it. None: the largest value that the format can hold.

    Returns:
        ``(channels, height, width)``, uint8.

    Raises:
        InputError: for a file that cannot be read, is damaged, is not such an image, is animated, too large, of a kind
            that Pillow does not decode, or whose pixels have no known range.
    """
    formats = formats or (readable() if isinstance(source, bytes) else formats_of(source.name))
    content = _content(source, label)
    try:
        with open_image(content, formats) as image:
            _check(image, label, crop, white)
            scale = _scale(image, white)
            is_large = _reduced(image, label, size, crop, max_pixels)
            if image.format == "PNG":
                # This checks checksums, which decoding ignores; the file must be opened again afterwards.
                image.verify()
        with open_image(content, formats) as image, _LARGE if is_large else nullcontext():
            _reduced(image, label, size, crop, max_pixels)
            pixels = _rgb(_upright(image), label, scale, has_white=white is not None)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{label} has too many pixels: at most {max_pixels:,} are decoded") from error
    except Image.UnidentifiedImageError as error:
        if (reason := why_not(content, formats)) is not None:
            raise _failed(label, reason) from error
        if content[4:8] == b"ftyp" and content[8:12] in _HEIC:
            raise InputError(f"{label} is HEIC, as phones write it, which this Pillow does not read") from error
        raise InputError(f"{label} is no image of a kind that is read ({', '.join(formats)})") from error
    except Exception as error:  # Pillow raises any kind for damaged files
        raise _failed(label, error) from error
    if crop is not None:
        pixels = pixels.crop(crop)
    fitted = ImageOps.pad if pad else ImageOps.fit
    pixels = fitted(pixels, (size[1], size[0]), Image.Resampling.BILINEAR)
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


def _upright(image: Image.Image) -> Image.Image:
    """An image turned as its camera noted; unchanged where the notes cannot be read."""
    image.load()
    try:
        with quiet():
            return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises many kinds for damaged notes, and the pixels do not need them
        return image


def _check(image: Image.Image, label: str, crop: Box | None, white: float | None) -> None:
    width, height = image.size
    if crop is not None and (width < crop[2] or height < crop[3]):
        raise InputError(f"{label} has {width}x{height} pixels, too few to be cropped to {crop}")
    if (count := frames(image)) > 1:
        raise InputError(f"{label} is animated or has several pages ({count}): only single images are read")
    if white is None and _largest(image) is None:
        what = "floating-point" if image.mode == "F" else "whole"
        raise InputError(f"{label} has pixels that are {what} numbers of no known range: {WAY_OUT}")
    if white is not None and image.mode in _SAMPLES and ";16" in str(getattr(image, "tile", ())):
        raise InputError(f"{label} has 16 bits a color, of which 8 are read: save it with 8 for a white of {white:g}")
    if white is not None and image.mode == "RGB" and (_spread(image) or (0,))[0] > 255:
        raise InputError(f"{label} has more than 8 bits a color, of which 8 are read: leave `white` out")


def _reduced(image: Image.Image, label: str, size: tuple[int, int], crop: Box | None, max_pixels: int) -> bool:
    """Let JPEG skip detail that resizing would average away, and check that the result is small enough to decode.

    Returns:
        Whether the image is so large that only one such image is decoded at a time.
    """
    width, height = image.size
    is_large = width * height > max_pixels
    if crop is None:
        image.draft("RGB", (size[1], size[0]) if is_large else (4 * size[1], 4 * size[0]))
    if image.size[0] * image.size[1] > max_pixels:
        raise InputError(f"{label} has {width}x{height} pixels: at most {max_pixels:,} in all are decoded")
    # A progressive JPEG stays in memory at full size until its last scan.
    if image.info.get("progressive") and width * height > 4 * max_pixels:
        raise InputError(
            f"{label} has {width}x{height} pixels in progressive scans: at most {4 * max_pixels:,} in all are decoded"
        )
    return is_large


class _Scale(NamedTuple):
    """What Pillow's numbers mean in a grey image, or in any image where the user gives ``white``."""

    white: float
    """In the file's numbers."""
    is_unsigned: bool
    """Pillow reads unsigned 32 bits as signed ones."""
    is_inverted: bool
    """White is zero in the file. Pillow has already inverted images of 8 bits and fewer."""
    spread: tuple[int, int] | None
    """The file's largest possible number and what Pillow turns it into; None where Pillow keeps the numbers."""


def _scale(image: Image.Image, white: float | None) -> _Scale:
    tags = image.getexif() if image.format == "TIFF" else {}
    is_deep = image.mode[0] in "IF"
    unsigned = image.mode == "I" and image.format == "TIFF" and tags.get(_SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and (is_deep or (white is not None and image.mode == "L"))
    return _Scale(white or _largest(image) or 255, unsigned, inverted, _spread(image))


def _spread(image: Image.Image) -> tuple[int, int] | None:
    """As `_Scale.spread`, from the arguments of Pillow's decoder."""
    for tile in getattr(image, "tile", ()):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if tile[0] in ("ppm", "ppm_plain"):
            return args[-1], 65_535 if image.mode == "I" else 255
        if match := _FEW_BITS.match(str(args[0] if args else "")):
            return (1 << int(match[1])) - 1, 255
    return None


def _failed(label: str, error: Exception) -> InputError:
    """The error for an image that Pillow could not decode; not every such image is damaged."""
    if isinstance(error, MemoryError):
        return InputError(f"{label} needs more memory than there is")
    if isinstance(error, NotImplementedError) or _UNSUPPORTED.search(str(error)):
        return InputError(f"{label} is of a kind that Pillow does not decode ({error})")
    if isinstance(error, KeyError) or isinstance(error.__cause__, KeyError):  # of its tables of compressions and modes
        return InputError(f"{label} is of a kind that Pillow does not decode (it does not know {error})")
    if str(error).startswith("decoder error"):
        return InputError(f"{label} is damaged, truncated or packed in a way that Pillow does not decode ({error})")
    return InputError(f"{label} is damaged or truncated ({error})")


def _largest(image: Image.Image) -> int | None:
    """The largest value that a pixel can have in its format; None where the format has no limit."""
    if image.mode.startswith("I;16"):
        bits = image.getexif().get(_BITS_PER_SAMPLE, 16) if image.format == "TIFF" else 16
        return int((1 << bits) - 1)
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # Pillow gives their 16 bits as 32
        return 65_535
    if image.mode in ("I", "F") or (image.format == "TIFF" and image.getexif().get(_SAMPLE_FORMAT) == _SIGNED):
        return None
    return 255


def _rgb(image: Image.Image, label: str, scale: _Scale, *, has_white: bool) -> Image.Image:
    if image.mode[0] in "IF":
        values = np.asarray(image)  # converting by Pillow would clip values at 255
        if scale.is_unsigned:
            values = values.view(np.uint32)
        if scale.white == 65_535 and not has_white:
            pixels = (values // 257).astype(np.uint8)
        else:
            pixels = as_bytes(_in_file(values, scale) if has_white else values, scale.white, lambda _: label)
        image = Image.fromarray(255 - pixels if scale.is_inverted else pixels)
    elif has_white and image.mode in _SAMPLES:
        image = _scaled(image, label, scale)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image, label: str, scale: _Scale) -> Image.Image:
    """An image of 8 bits whose white is not 255, scaled to 255; its transparency stays."""
    if "transparency" in image.info:
        image = image.convert("RGBA")

    def scaled(band: Image.Image) -> Image.Image:
        values = np.asarray(band)
        numbers = _in_file(255 - values if scale.is_inverted else values, scale)
        pixels = as_bytes(numbers, scale.white, lambda _: label)
        return Image.fromarray(255 - pixels if scale.is_inverted else pixels)

    bands = zip(image.getbands(), image.split(), strict=True)
    return Image.merge(image.mode, [band if name == "A" else scaled(band) for name, band in bands])


def _in_file(values: NDArray[Any], scale: _Scale) -> NDArray[Any]:
    """The file's numbers, recovered from those that Pillow has spread over its range."""
    if scale.spread is None:
        return values
    largest, highest = scale.spread
    return np.round(values.astype(np.float64) * largest / highest).astype(np.int64)
