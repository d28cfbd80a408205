"""One image file at a time: every kind comes out as the pixels that are in it, every bad one as one sentence."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pyro_disent.data.images.decoding import MAX_BYTES, read_image
from pyro_disent.errors import InputError

ORIENTATION = 0x0112
COLOR = (200, 120, 40)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(content: bytes | Path, channels: int = 3, size: tuple[int, int] = (8, 8), **options: Any) -> np.ndarray:
    image = read_image(content, "the-file", size=size, channels=channels, **options)
    assert image.shape == (channels, *size) and image.dtype == np.uint8
    return image


def unless_bytes(value: Any) -> str | None:
    """What a test is called after: not what a file holds."""
    return "file" if isinstance(value, bytes) else str(value)


def noise(height: int = 20, width: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def flat(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (30, 20), color)


def palette() -> Image.Image:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, *COLOR])
    return image


@pytest.mark.parametrize(
    ("content", "color"),
    [
        (saved(flat("RGB", COLOR), "PNG"), COLOR),
        (saved(flat("RGB", COLOR), "BMP"), COLOR),
        (saved(flat("RGB", COLOR), "PPM"), COLOR),
        (saved(flat("RGB", COLOR), "TIFF"), COLOR),
        (saved(flat("RGB", COLOR), "WEBP", lossless=True), COLOR),
        (saved(flat("RGB", COLOR), "JPEG", quality=95), COLOR),
        (saved(palette(), "PNG"), COLOR),
        (saved(palette(), "GIF"), COLOR),
        (saved(palette(), "PNG", transparency=1), (255, 255, 255)),
        (saved(palette(), "PNG", transparency=0), COLOR),
        (saved(flat("RGBA", (*COLOR, 255)), "PNG"), COLOR),
        (saved(flat("RGBA", (0, 0, 0, 102)), "PNG"), (153, 153, 153)),
        (saved(flat("LA", (90, 255)), "PNG"), (90, 90, 90)),
        (saved(flat("L", 90), "PNG"), (90, 90, 90)),
        (saved(flat("L", 90), "JPEG"), (90, 90, 90)),
        (saved(flat("1", 1), "PNG"), (255, 255, 255)),
        (saved(flat("I;16", 90 * 257), "PNG"), (90, 90, 90)),
        (saved(flat("I;16", 90 * 257), "TIFF"), (90, 90, 90)),
        (saved(flat("CMYK", (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
        (saved(flat("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (saved(flat("RGB", COLOR), "MPO", save_all=True, append_images=[flat("RGB", 0)]), COLOR),
    ],
    ids=unless_bytes,
)
def test_every_kind_of_image_has_the_color_it_was_given(content: bytes, color: tuple[int, int, int]) -> None:
    image = read(content)
    assert np.abs(image.astype(int) - np.array(color)[:, None, None]).max() <= 2
    luma = np.dot(color, (0.299, 0.587, 0.114))
    assert np.abs(read(content, channels=1) - luma).max() <= 2


def test_a_wide_image_is_cropped_about_its_center_and_a_large_one_averaged() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = COLOR
    assert (read(saved(Image.fromarray(wide), "PNG"), size=(10, 10)) == np.array(COLOR)[:, None, None]).all()
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(read(saved(Image.fromarray(stripes), "PNG"), 1)[:, 1:-1, 1:-1].astype(int) - 100).max() <= 2


def test_it_is_cropped_before_it_is_resized() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:12, 10:18] = COLOR
    content = saved(Image.fromarray(image), "PNG")
    assert (read(content, crop=(10, 4, 18, 12)) == np.array(COLOR)[:, None, None]).all()
    with pytest.raises(InputError, match=r"the-file has 30x20 pixels, too few to be cropped to \(0, 0, 31, 20\)"):
        read(content, crop=(0, 0, 31, 20))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "light", "dark"),
    [(1, "top", "bottom"), (3, "bottom", "top"), (6, "right", "left"), (8, "left", "right")],
)
def test_the_camera_is_believed_how_it_was_held(kind: str, orientation: int, light: str, dark: str) -> None:
    """``light`` is where the bright half of the stored image belongs, as the EXIF standard has it."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = read(saved(Image.fromarray(pixels), kind, exif=exif), 1)[0]
    halves = {"top": image[:3], "bottom": image[5:], "left": image[:, :3], "right": image[:, 5:]}
    assert halves[light].min() > 200 and halves[dark].max() < 50


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "notes", [b"no notes at all", b"II*\0\x08\0\0\0\x05\0abc", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\3\0\0\0\1\0\6\0\0"]
)
def test_damaged_notes_of_a_camera_spoil_no_image(kind: str, notes: bytes) -> None:
    image = read(saved(flat("RGB", COLOR), kind, exif=b"Exif\0\0" + notes))
    assert np.abs(image[:, 4, 4].astype(int) - COLOR).max() <= 6


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def cut(content: bytes, share: float = 0.6) -> bytes:
    return content[: int(len(content) * share)]


def with_a_wrong_checksum() -> bytes:
    """All pixels can be decoded, but they are not those that were written."""
    content = bytearray(saved(noise(), "PNG", compress_level=0))
    content[content.index(b"IDAT") + 200] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the-file is empty"),
        (b"some text, but no image", "the-file is no image of a kind that is read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image of a kind that is read"),
        *[(cut(saved(noise(), kind)), "damaged or truncated") for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM")],
        (cut(saved(noise(), "WEBP")), "the-file is (damaged or truncated|no image)"),
        (with_a_wrong_checksum(), "damaged or truncated"),
        *[
            (
                saved(noise(), kind, save_all=True, append_images=[flat("RGB", 0)]),
                r"animated or has several pages \(2\)",
            )
            for kind in ("GIF", "WEBP", "PNG", "TIFF")
        ],
        (saved(Image.new("F", (30, 20)), "TIFF"), "floating-point numbers of no known range"),
        (png_header(8_000, 8_000), r"8000x8000 pixels: at most 50,000,000"),
        (png_header(12_000, 12_000), r"12000x12000 pixels: at most 50,000,000"),
        (png_header(60_000, 60_000), "too many pixels: at most 50,000,000"),
    ],
    ids=unless_bytes,
)
def test_what_is_no_image_is_refused_in_a_sentence(content: bytes, says: str, tmp_path: Path) -> None:
    """Warnings are errors here, so that none was shown beside it."""
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read(path)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (folder, "the-file is a folder or a device, and no image"),
        pytest.param(pipe, "a folder or a device", marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")),
        (link_to_nowhere, "the-file is missing"),
        (huge, r"the-file has 268,435,457 bytes: at most"),
        (lambda path: None, "the-file is missing"),
    ],
)
def test_what_is_no_file_is_refused_in_a_sentence(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    make(tmp_path / "image.png")
    with pytest.raises(InputError, match=says):
        read(tmp_path / "image.png")


def test_limits_and_formats_can_be_said() -> None:
    content = saved(noise(20, 30), "PNG")
    assert read(content, max_pixels=600).any()
    with pytest.raises(InputError, match="30x20 pixels: at most 599"):
        read(content, max_pixels=599)
    with pytest.raises(InputError, match=r"no image of a kind that is read \(JPEG\)"):
        read(content, formats=("JPEG",))


WHOLE = [saved(noise(), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")] + [
    saved(ImageOps.grayscale(noise()), "PNG"),
    saved(noise(), "MPO", save_all=True, append_images=[noise()]),
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8))
def test_whatever_is_in_a_file_it_is_an_image_or_a_sentence(content: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % min(len(damaged), 400)] = value
    try:
        read(bytes(damaged))
    except InputError as error:
        assert str(error).startswith("the-file ") and "\n" not in str(error)
