"""Which files of a folder are its images: told by content, counted where not, never what this program wrote."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pyro_disent.cli.main import main
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.headers import header
from pyro_disent.errors import InputError
from pyro_disent.figures import save
from tests.folders import PEOPLE, SIZE, load, of_people, said, tree, where
from tests.left_by_a_run import COLOR, FLAT, run_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


KINDS = {
    "jfif": "JPEG",
    "jpe": "JPEG",
    "JPG": "JPEG",
    "jp2": "JPEG2000",
    "j2k": "JPEG2000",
    "avif": "AVIF",
    "ico": "ICO",
    "tga": "TGA",
    "pcx": "PCX",
    "dib": "DIB",
    "sgi": "SGI",
    "qoi": "QOI",
    "dds": "DDS",
    "apng": "PNG",
    "pnm": "PPM",
    "webp": "WEBP",
    "icns": "ICNS",
    "PNG": "PNG",
    "": "JPEG",
    "dat": "PNG",
    "image": "TIFF",
    "jpg": "PNG",
    "png": "JPEG",
    "bmp": "GIF",
}
"""suffix -> what the file is, by Pillow's name; also such suffixes as say nothing, or something else."""


@pytest.mark.parametrize(("suffix", "kind"), KINDS.items(), ids=KINDS)
def test_whatever_pillow_reads_is_an_image_by_its_content(suffix: str, kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and header_of_avif() is None:
        pytest.skip("this Pillow reads no AVIF")
    names = [f"{who}/{i}{suffix and '.'}{suffix}" for who in PEOPLE for i in range(2)]
    for name in names:
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).write_bytes(saved(FLAT, kind))
    data = load(tmp_path / "faces")
    assert len(data.train) + len(data.validation) + len(data.test) == 10
    assert np.abs(data.train.images[:].numpy().astype(int) - np.array(COLOR)[:, None, None]).max() <= 4
    assert not any("left aside" in note for note in said(data))


def header_of_avif() -> object:
    try:
        return saved(FLAT, "AVIF")
    except (KeyError, OSError):
        return None


def test_a_layered_image_is_read_as_it_looks() -> None:
    """Pillow writes no PSD; this is a flat one, and its layers would not be frames."""
    content = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(12) + struct.pack(">H", 0)
    content += b"".join(bytes([value]) * 64 for value in COLOR)
    image = read_image(content, "it", size=(8, 8), channels=3)
    assert (image == np.array(COLOR)[:, None, None]).all()


def test_what_a_plugin_registered_with_pillow_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, mark = tmp_path / "faces", b"not quite HEIC"
    for name in of_people():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).with_suffix(".heic").write_bytes(mark + saved(FLAT, "PNG"))
    with pytest.raises(InputError, match=r"holds no images .*10 \.heic"):
        load(root)

    def opened(file: Any, name: Any = None) -> Image.Image:
        return Image.open(io.BytesIO(file.read()[len(mark) :]))

    Image.init()
    monkeypatch.setitem(Image.OPEN, "HEIF", (opened, lambda start: start.startswith(mark)))
    monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
    assert (load(root).train.images[:] == torch.tensor(COLOR)[:, None, None]).all()


def test_what_is_left_aside_is_counted_by_kind_and_who_has_nothing_else_is_named(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    names = tree(root, of_people())
    for name in ("zoe/1.heic", "zoe/2.HEIC", "anna/3.heic", "notes/a.txt", "b.txt", "film.mp4", "raw.NEF", "x.eps"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"\0\0\0\x18ftypheic, or nothing")
    (root / "no suffix").write_text("BM and no image after all")
    (root / "empty.dat").touch()
    (root / ".hidden.png").touch()
    data = load(root)
    assert sum(map(len, where(data, names).values())) == 10
    aside = next(note for note in said(data) if "left aside" in note)
    assert aside.startswith("10 files left aside: 3 .heic (images of a kind that is not read), 2 .txt, ")
    missing = next(note for note in said(data) if "no image that is read" in note)
    assert "zoe (2 .heic (images of a kind that is not read))" in missing and "notes (1 .txt)" in missing
    assert "anna" not in missing and "bob" not in missing


def test_who_has_nothing_that_is_read_is_named_below_splits_too(tmp_path: Path) -> None:
    tree(tmp_path / "faces", of_people("train/", "test/"))
    (tmp_path / "faces/train/zoe").mkdir()
    (tmp_path / "faces/train/zoe/1.heic").touch()
    notes = said(load(tmp_path / "faces"))
    assert "no image that is read lies in train/zoe (1 .heic (images of a kind that is not read))" in notes


def test_a_folder_of_which_nothing_is_read_says_what_it_holds(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.heic").touch()
    with pytest.raises(
        InputError, match=r"holds no images .*; 3 files left aside: 3 .heic \(images of a kind that is not read\)"
    ):
        load(tmp_path)


def test_tables_that_are_not_looked_at_are_named(tmp_path: Path) -> None:
    tree(tmp_path / "faces", of_people())
    (tmp_path / "faces/labels.csv").write_text("file_name,age")
    notes = said(load(tmp_path / "faces"))
    assert "labels.csv: not looked at, as what is known of images stands in metadata.csv" in notes


def test_nothing_but_headers_is_read_of_what_may_be_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "faces"
    tree(root, of_people())
    for name in ("huge.dat", "huge.bin", "huge.xyz", "huge"):
        with (root / name).open("wb") as file:
            file.truncate(1 << 40)
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.xyz")
    data = load(root)
    assert any(note.startswith(("4 files left aside", "5 files left aside")) for note in said(data))


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ghostscript would be: also of a file that only says that it is a PNG."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was run"))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("a.png", "a.eps", "a"):
        (tmp_path / name).write_bytes(script)
        assert header(tmp_path / name) is None
        with pytest.raises(InputError, match="no image of a kind that is read"):
            read_image(tmp_path / name, name, size=(8, 8), channels=3)


@pytest.mark.parametrize(
    ("size", "progressive"),
    [((7_500, 7_000), False), ((14_000, 14_000), False), ((30_000, 2_000), False), ((7_500, 7_000), True)],
)
def test_a_very_large_jpeg_is_reduced_while_it_is_decoded(size: tuple[int, int], progressive: bool) -> None:
    content = saved(Image.new("L", size, 120), "JPEG", progressive=progressive)
    for pad in (False, True):
        image = read_image(content, "it", size=(64, 64), channels=1, pad=pad)
        assert abs(int(image[0, 32, 32]) - 120) <= 1


def test_a_jpeg_is_refused_where_even_what_is_left_of_it_is_too_large() -> None:
    content = bytearray(saved(Image.new("L", (64, 64), 120), "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(InputError, match=r"^it has 65000x65000 pixels: at most 50,000,000 in all are decoded$"):
        read_image(bytes(content), "it", size=(64, 64), channels=1)
    content[start : start + 4] = struct.pack(">HH", 16_000, 16_000)
    content[content.index(b"\xff\xc0") + 1] = 0xC2
    with pytest.raises(InputError, match=r"16000x16000 pixels in progressive scans: at most 200,000,000"):
        read_image(bytes(content), "it", size=(64, 64), channels=1)


def tiff(tag: int, value: int) -> bytes:
    content = bytearray(saved(FLAT, "TIFF", compression="tiff_lzw"))
    place = content.index(struct.pack("<HHI", tag, 3, 1)) + 8
    content[place : place + 2] = struct.pack("<H", value)
    return bytes(content)


def bmp(place: int, value: int) -> bytes:
    content = bytearray(saved(FLAT, "BMP"))
    content[place] = value
    return bytes(content)


def long_text() -> bytes:
    info = PngInfo()
    info.add_text("notes", "x" * 2_000_000, zip=True)
    return saved(FLAT, "PNG", pnginfo=info)


NOT_DAMAGED = {
    "unknown compression": (tiff(259, 9), "of a kind that Pillow does not decode"),
    "unknown colors": (tiff(262, 9), r"of a kind that Pillow does not decode \(unknown pixel mode\)"),
    "compressed otherwise": (tiff(259, 50_000), "damaged, truncated or packed in a way that Pillow does not decode"),
    "BMP's compression": (bmp(30, 4), r"of a kind that Pillow does not decode \(Unsupported BMP compression"),
    "BMP's header": (bmp(14, 99), "of a kind that Pillow does not decode"),
    "long text": (long_text(), r"of a kind that Pillow does not decode \(Decompressed data too large"),
    "HEIC as JPEG": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "is HEIC, as phones write it, which this Pillow",
    ),
    "large": (saved(Image.new("1", (8_000, 8_000)), "PNG"), "8000x8000 pixels: at most 50,000,000"),
    "larger": (saved(Image.new("1", (14_000, 14_000)), "PNG"), "too many pixels: at most 50,000,000"),
}


@pytest.mark.parametrize(("content", "says"), NOT_DAMAGED.values(), ids=NOT_DAMAGED)
def test_what_is_refused_for_another_reason_is_not_called_damaged(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_image(path, "it", size=(8, 8), channels=3)
    assert "damaged or truncated" not in str(caught.value)


@pytest.mark.parametrize("place", ["runs/faces-cycle-1", "anna/runs/r", "anna", "bob/x", "run"])
def test_a_runs_folder_and_all_below_it_is_no_part_of_the_set(place: str, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    names = tree(root, of_people(people=[*PEOPLE, "zoe"]))
    before = load(root)
    run_folder(root / place / "deeper" if place in PEOPLE else root / place)
    data = load(root)
    assert data.source.sha256 == before.source.sha256 and where(data, names) == where(before, names)
    assert any(note.startswith("written by this program and no images of the set: ") for note in said(data))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"fit": 1}', '{"model": "x"}', '{"fit": {"epochs": 3}}', "[" * 10**5]
)
def test_a_config_of_others_hides_no_image(content: str, tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", of_people())
    (tmp_path / "faces/config.json").write_text(content)
    (tmp_path / "faces/anna/config.json").write_text(content)
    assert sum(map(len, where(load(tmp_path / "faces"), names).values())) == 10


def test_a_run_in_place_of_a_folder_of_images_is_no_set(tmp_path: Path) -> None:
    run_folder(tmp_path / "run")
    with pytest.raises(InputError, match=r"run holds no images .* this program and no images of the set: \./"):
        load(tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["faces-pairs.png", "anna/any.png", "bob/x.jpg", "new/a.jpeg", "carl/y.webp", "z.tiff"]
)
def test_figures_that_we_wrote_are_no_images(name: str, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    names = tree(root, of_people())
    before = load(root)
    save(Figure(figsize=(1, 1)), root / name)
    data = load(root)
    assert data.source.sha256 == before.source.sha256 and where(data, names) == where(before, names)
    assert f"written by this program and no images of the set: {name}" in said(data)
    (root / "metadata.csv").write_text("\n".join(["file_name,age", *(f"{n},1" for n in [*names, name])]))
    with pytest.raises(InputError, match=f"names {name}, which is hidden, or written by this program"):
        load(root)


def test_training_within_the_folder_leaves_the_set_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my faces"
    tree(root, of_people(views=3))
    monkeypatch.chdir(root)
    sha256 = load(root).source.sha256

    def called(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pyro-disent", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out + err

    small = ["--image-size", str(SIZE), "--network", "mlp", "--batch-size", "4", "--max-steps", "2", "--no-compile"]
    code, said = called("data", "show", ".", "--image-size", str(SIZE), "--pairs", "2")
    assert code == 0 and said.splitlines()[-1] == "my faces-pairs.png", said
    assert "5 identities, by folder: anna, bob, carl, dora, emil" in said
    code, said = called("fit", "--method", "cycle", "--data", ".", *small)
    assert code == 0 and said.splitlines()[-1] == "runs/my faces-cycle-1", said
    assert "5 identities, by folder" in said
    code, said = called("swap", "runs/my faces-cycle-1", "0", "1", "--out", "anna/swap.png")
    assert code == 0 and load(root).source.sha256 == sha256, said
    Image.new("RGB", (30, 10), COLOR).save(tmp_path / "wide.png")
    code, said = called("swap", "runs/my faces-cycle-1", str(tmp_path / "wide.png"), "1", "--out", "a.png")
    assert code == 0 and load(root).source.sha256 == sha256, said
    code, said = called("evaluate", "runs/my faces-cycle-1")
    assert code == 0, said
    (root / "anna").joinpath("sub").mkdir()
    monkeypatch.chdir(root / "anna" / "sub")
    code, said = called("data", "show", "../..", "--image-size", str(SIZE), "--pairs", "2")
    assert code == 0 and said.splitlines()[-1] == "my faces-pairs.png", said
    assert load(root).source.sha256 == sha256
