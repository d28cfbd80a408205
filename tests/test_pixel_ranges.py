"""Images whose white is another value than their container's largest: read by what is said, refused or spoken of."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyro_disent import from_arrays, from_dataset
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.pixel_range import as_bytes
from pyro_disent.errors import InputError
from tests.tables import call

SIZE = 8


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def tiff(values: np.ndarray, bits: int, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A grey TIFF as scientific cameras write it; ``sample_format`` 1 is unsigned, 2 signed, 3 floating-point."""
    if bits == 12:
        first, second = values.flatten()[::2].tolist(), values.flatten()[1::2].tolist()
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in zip(first, second, strict=True))
    else:
        data = values.astype({1: "<u", 2: "<i", 3: "<f"}[sample_format] + str(bits // 8)).tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (tags | {339: sample_format}).items()]
    table = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values, mode).save(file, "PNG")
    return file.getvalue()


def deep_color(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a color."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pgm(values: np.ndarray, largest: int) -> bytes:
    return f"P5 {values.shape[1]} {values.shape[0]} {largest}\n".encode() + values.astype(">u2").tobytes()


def levels(largest: int) -> np.ndarray:
    """From black to white in 64 steps, ``(8, 8)``."""
    return np.round(np.arange(64).reshape(8, 8) / 63 * largest).astype(np.int64)


WHITE = np.round(np.arange(64).reshape(8, 8) / 63 * 255)
"""What it becomes."""


def read(content: bytes, white: float | None = None, channels: int = 1) -> np.ndarray:
    return read_image(content, "the-file", size=(SIZE, SIZE), channels=channels, white=white).astype(int)


KNOWN = {
    "8 bits": png(levels(255).astype(np.uint8)),
    "16 bits": png(levels(65_535).astype(np.uint16)),
    "TIFF of 8": tiff(levels(255), 8),
    "TIFF of 12": tiff(levels(4095), 12),
    "TIFF of 16": tiff(levels(65_535), 16),
    "PGM of 10": pgm(levels(1023), 1023),
    "PGM of 16": pgm(levels(65_535), 65_535),
}


@pytest.mark.parametrize("content", KNOWN.values(), ids=KNOWN)
def test_the_container_says_what_is_white(content: bytes) -> None:
    assert np.abs(read(content)[0] - WHITE).max() <= 1


UNKNOWN = {
    "32 bits, to 255": (tiff(levels(255), 32, 2), 255),
    "32 bits, to 1": (tiff((levels(255) > 99).astype(int), 32), 1),
    "32 bits, to 4095": (tiff(levels(4095), 32), 4095),
    "32 bits, large": (tiff(levels(2_000_000_000), 32, 2), 2_000_000_000),
    "16 bits with a sign": (tiff(levels(32_767), 16, 2), 32_767),
    "8 bits with a sign": (tiff(levels(127), 8, 2), 127),
    "floats to 1": (tiff(levels(63) / 63, 32, 3), 1),
    "floats to 1000": (tiff(levels(1000), 32, 3), 1000),
}


@pytest.mark.parametrize(("content", "white"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_range_that_cannot_be_known_is_refused_and_can_be_said(content: bytes, white: int) -> None:
    with pytest.raises(InputError, match=r"the-file has pixels that are (whole|floating-point) numbers.*`white=N`"):
        read(content)
    found = read(content, white)[0]
    assert found.max() == 255 and found.min() == 0
    if len(np.unique(found)) > 2:
        assert np.abs(found - WHITE).max() <= 2
    with pytest.raises(InputError, match=rf"the-file has a pixel of .* is said to be {re.escape(f'{white / 2:g}')}"):
        read(content, white / 2)


@pytest.mark.parametrize(
    ("bits", "sample_format", "white"),
    [(8, 1, None), (8, 1, 63), (16, 1, None), (16, 1, 4095), (16, 1, 65_535), (32, 3, 1000)],
)
def test_white_may_be_zero(bits: int, sample_format: int, white: int | None) -> None:
    largest = white or (1 << bits) - 1
    found = read(tiff(largest - levels(largest), bits, sample_format, photometric=0), white)[0]
    assert np.abs(found - WHITE).max() <= 1 + 255 / largest and found[0, 0] == 0 and found[-1, -1] == 255
    if white and white < 65_535:
        with pytest.raises(InputError, match=rf"has a pixel of {white}.* is said to be"):
            read(tiff(levels(white), bits, sample_format, photometric=0), white - 1)


@pytest.mark.parametrize("largest", [4_000_000_000, (1 << 32) - 1])
def test_32_bits_without_a_sign_have_none(largest: int) -> None:
    assert np.abs(read(tiff(levels(largest), 32), largest)[0] - WHITE).max() <= 1
    with pytest.raises(InputError, match=r"has a pixel of 2\d{9}, but"):
        read(tiff(levels(largest), 32), 2_000_000_000)


def few_bits(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    each = 8 // bits
    weights = 1 << bits * np.arange(each)[::-1]
    packed = (values.reshape(len(values), -1, each) * weights).sum(-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


STATED = {
    "PGM of 10": (lambda values: pgm(values, 1023), 1023),
    "PGM of 12": (lambda values: pgm(values, 4095), 4095),
    "PGM of 16": (lambda values: pgm(values, 65_535), 65_535),
    "PGM of 100": (lambda values: b"P5 8 8 100\n" + values.astype(np.uint8).tobytes(), 100),
    "plain PGM": (lambda values: b"P2 8 8 4095\n" + b" ".join(b"%d" % value for value in values.flat), 4095),
    "PNG of 4": (lambda values: few_bits(values, 4), 15),
    "PNG of 2": (lambda values: few_bits(values, 2), 3),
}
"""Formats whose pixels Pillow spreads, as the file states its largest."""


@pytest.mark.parametrize(("write", "largest"), STATED.values(), ids=STATED)
def test_white_is_in_the_files_own_numbers(write: Any, largest: int) -> None:
    for white in {largest, (largest + 1) // 2}:
        expected = np.round(levels(white) * 255 / white)
        assert np.abs(read(write(levels(white)), white)[0] - expected).max() <= 1
    with pytest.raises(InputError, match=rf"has a pixel of {largest}, but .* said to be {largest - 1}"):
        read(write(np.full((8, 8), largest)), largest - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 255), st.sampled_from(["L", "LA", "RGB", "RGBA"]), st.booleans())
def test_white_that_is_said_is_white(white: int, mode: str, deep: bool) -> None:
    grey = levels(white)
    if deep and mode == "L":
        assert np.abs(read(png(grey.astype(np.uint16)), white)[0] - as_bytes(grey, white, str)).max() == 0
    bands = [grey.astype(np.uint8)] * (len(mode.removesuffix("A")))
    if mode.endswith("A"):
        bands.append(np.full_like(bands[0], 255))
    pixels = bands[0] if mode == "L" else np.stack(bands, -1)
    expected = np.round(grey / white * 255)
    assert np.abs(read(png(pixels, mode), white, 3) - expected).max() <= 1


def test_transparency_is_no_light() -> None:
    pixels = np.stack([levels(1), levels(1) * 0], -1).astype(np.uint8)
    assert (read(png(pixels, "LA"), 1) == 255).all()


@pytest.mark.parametrize("mode", ["1", "P"])
def test_images_that_have_colors_anyway_keep_them(mode: str) -> None:
    image = Image.fromarray((levels(1) * 255).astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert set(np.unique(read(file.getvalue(), white=1))) == {0, 255} == set(np.unique(read(file.getvalue())))


def test_deep_color_is_not_read_deeply() -> None:
    color = np.repeat(levels(4095)[..., None], 3, -1)
    assert read(deep_color(color)).max() <= 16
    with pytest.raises(InputError, match="the-file has 16 bits a color, of which 8 are read"):
        read(deep_color(color), white=4095)
    with pytest.raises(InputError, match="the-file has more than 8 bits a color, of which 8 are read"):
        read(b"P6 8 8 4095\n" + color.astype(">u2").tobytes(), white=4095)


def folder(root: Path, images: list[bytes]) -> Path:
    root.mkdir()
    for number, content in enumerate(images):
        (root / f"{number:02}.{'tif' if content[:2] == b'II' else 'png'}").write_bytes(content)
    return root


def shapes(largest: int, dtype: Any = np.uint8) -> list[np.ndarray]:
    """Squares that move over black, of one value."""
    found = [np.zeros((SIZE, SIZE), dtype) for _ in range(12)]
    for place, image in enumerate(found):
        image[place % 6 : place % 6 + 2, 2:5] = largest
    return found


def stored(data: DataSet) -> np.ndarray:
    return torch.cat([split.images[:] for split in (data.train, data.validation, data.test)]).numpy()


def load(root: Path, **options: Any) -> DataSet:
    from pyro_disent.data import registry

    return registry.load(str(root), **{"image_size": SIZE, "channels": 1, **options})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_of_0_and_1_are_refused_and_are_white_where_that_is_said(
    dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "shapes", [png(image) for image in shapes(1 if dtype == np.uint8 else 257, dtype)])
    result = call(monkeypatch, capfd, tmp_path, "data", "show", "shapes", "--image-size", "8")
    assert result.returncode == 2 and "every pixel of shapes is 0 or 1 where white is 255" in result.stderr
    assert "--white N" in result.stderr and not (tmp_path / "shapes-pairs.png").exists()
    said = ["--white", "1" if dtype == np.uint8 else "257"]
    result = call(monkeypatch, capfd, tmp_path, "data", "show", "shapes", "--image-size", "8", *said)
    assert result.returncode == 0, result.stderr
    data = load(root, white=float(said[1]))
    assert sorted(image.tobytes() for image in stored(data)) == sorted(image.tobytes() for image in shapes(255))
    assert not data.notes and data.options["white"] == float(said[1])
    again = load(
        root, **{name: value for name, value in data.options.items() if name not in ("image_size", "channels")}
    )
    assert again.source.sha256 == data.source.sha256


@pytest.mark.parametrize(
    ("largest", "dtype", "highest"),
    [(4095, np.uint16, 15), (1023, np.uint16, 3), (16_383, np.uint16, 63), (2, np.uint8, 2), (16, np.uint8, 16)],
)
def test_a_set_that_uses_almost_none_of_its_range_is_said(
    largest: int, dtype: Any, highest: int, tmp_path: Path
) -> None:
    root = folder(tmp_path / "scans", [png(image) for image in shapes(largest, dtype)])
    (note,) = load(root).notes
    assert (
        f"all pixels of scans lie from 0 to {highest} where black is 0 and white is 255" in note and "`white=N`" in note
    )
    data = load(root, white=largest)
    assert not data.notes and stored(data).max() == 255
    given_ = from_arrays(np.stack(shapes(highest)))
    assert given_.notes == (note.replace("scans", "given"),)


@pytest.mark.parametrize("white", [4095, 1023, 16_383])
def test_hot_pixels_hide_no_dark_images(white: int, tmp_path: Path) -> None:
    images = shapes(white, np.uint16)
    for place, image in enumerate(images):
        image[7, place % 8] = 65_535
    (note,) = load(folder(tmp_path / "scans", [png(image) for image in images])).notes
    assert "12 of 12 images of scans use less than a quarter of their range, the first is " in note and ".png" in note
    assert "`white=N`" in note


@pytest.mark.parametrize(("usual", "is_said"), [(0, True), (1, True), (6, True), (11, False), (12, False)])
def test_dark_images_among_usual_ones_are_said_unless_they_are_a_few(usual: int, is_said: bool) -> None:
    images = np.stack([*shapes(255)[:usual], *shapes(15)[usual:]])
    images = images if usual < 11 else np.concatenate([np.stack(shapes(255)), images])
    notes = from_arrays(images).notes
    assert len(notes) == is_said
    if usual and is_said:
        assert f"{12 - usual} of 12 images of given use less than a quarter" in notes[0]


def test_images_of_0_and_1_among_others_are_refused_or_said() -> None:
    for masks in (11, 6):
        with pytest.raises(InputError, match=rf"{masks} of 12 images of given have only pixels of 0 and 1 .*image \d"):
            from_arrays(np.stack([*shapes(1)[:masks], *shapes(255)[masks:]]))
    (note,) = from_arrays(np.stack([shapes(1)[0], *shapes(255)[1:]])).notes
    assert "1 of 12 images of given have only pixels of 0 and 1 where white is 255" in note and "image 0" in note


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.full((64, 64), 3), np.eye(64)[:4].repeat(16, 0) * 255])
def test_black_images_and_small_bright_things_are_usual(image: np.ndarray) -> None:
    dots = np.zeros((40, 64, 64), np.uint8)
    dots[:, 30:33, 20:24] = 255
    assert not from_arrays(np.concatenate([np.repeat(image[None].astype(np.uint8), 10, 0), dots])).notes


def test_many_images_are_looked_at_here_and_there() -> None:
    images = np.zeros((9_000, 4, 4), np.uint8)
    images[:, :2] = 15
    images[::90, :2] = 255
    (note,) = from_arrays(images).notes
    assert "that were looked at of 9,000 images of given use less than a quarter" in note


def test_a_range_that_is_even_is_said() -> None:
    grey = np.full((300, 8, 8), 120, np.uint8)
    grey[299, 0, 0] = 150
    (note,) = from_arrays(grey).notes
    assert "from 120 to 150" in note
    assert "from 0 to 0" in from_arrays(np.zeros((9, 8, 8), np.float32)).notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("white", [1, 100])
def test_arrays_of_any_type_are_read_by_the_white_that_is_said(dtype: Any, white: int) -> None:
    given_ = np.stack(shapes(white)).astype(dtype)
    given_[:, 0, 0] = white
    expected = from_arrays(np.where(given_ == white, 255, 0).astype(np.uint8))
    for data in (
        from_arrays(given_, white=white),
        from_arrays(torch.from_numpy(given_.astype(np.int64)), white=white),
        from_dataset(list(given_), white=white),
    ):
        assert (stored(data) == stored(expected)).all()
    given_[5, 2, 1] = white + 1
    with pytest.raises(
        InputError, match=rf"image 5 has a pixel of {white + 1}.*, but black is 0 .* white is said to be {white}"
    ):
        from_arrays(given_, white=white)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, np.uint64, np.int8])
def test_whole_numbers_of_no_known_range_are_refused_with_the_way_out(dtype: Any) -> None:
    with pytest.raises(InputError, match=rf"images of type {np.dtype(dtype)}: .* whole numbers from 0 to `white=N`"):
        from_arrays(np.stack(shapes(100)).astype(dtype))


@pytest.mark.parametrize("given_", [np.stack(shapes(1)), np.stack(shapes(1)) / 255], ids=["bytes", "divided"])
def test_arrays_of_0_and_1_are_refused_and_bools_are_not(given_: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"every pixel of given is 0 or 1 where white is 255.*white=N.*bool"):
        from_arrays(given_)
    assert stored(from_arrays(given_ > 0)).max() == 255
    assert (stored(from_arrays(np.stack(shapes(1)), white=1)) == stored(from_arrays(given_ > 0))).all()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_items_of_more_than_8_bits_are_never_cut_off(mode: str) -> None:
    items = [
        Image.fromarray(image.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
        for image in shapes(1000, np.int64)
    ]
    with pytest.raises(
        InputError, match=f"item 0 is an image of mode {mode}, of no known range: say which value is white"
    ):
        from_dataset(items)
    assert (stored(from_dataset(items, white=1000)) == stored(from_dataset([image > 0 for image in shapes(1)]))).all()


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf")])
def test_what_cannot_be_white(white: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`white=.*` is no number above 0"):
        from_arrays(np.stack(shapes(1)), white=white)
    with pytest.raises(InputError, match=r"`white=.*` is no number above 0"):
        load(folder(tmp_path / "shapes", [png(image) for image in shapes(1)]), white=white)
