"""Which files of a folder are its images: told by content, counted where not, never what this program wrote."""

from __future__ import annotations

import io
import json
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
from pyro_disent.data import registry
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.headers import header
from pyro_disent.data.own import folder, listing
from pyro_disent.errors import InputError
from pyro_disent.figures import save
from pyro_disent.figures.inputs import images_named
from tests.folders import PEOPLE, SIZE, load, of_people, said, tree, where


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


COLOR = (200, 120, 40)
FLAT = Image.new("RGB", (24, 24), COLOR)
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


def run_folder(path: Path) -> None:
    """What `fit` leaves, without training."""
    (path / "figures").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "config.json").write_text(json.dumps({"fit": {"method": "cycle", "data": "x"}, "source": {}}))
    FLAT.save(path / "figures/swap.png")
    (path / "metadata.csv").write_text("file_name\nfigures/swap.png")


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


def test_the_same_folder_is_converted_once_whatever_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "faces"
    names = tree(root, [f"{i:02}.png" for i in range(24)])
    rows = [f"{name},{i % 8},{i % 3},{i // 4}" for i, name in enumerate(names)]

    def table(*rows: str) -> None:
        (root / "metadata.csv").write_text("\n".join(["file_name,who,place,day", *rows]))

    load(root)
    monkeypatch.setattr(folder, "read_image", lambda *_, **__: pytest.fail("an image was converted again"))
    for pair_by in (None, "who", "place", "day"):
        table(*rows)
        one = load(root, pair_by=pair_by)
        table(*reversed(rows))
        assert load(root, pair_by=pair_by).source.sha256 == one.source.sha256
    table(*rows[:-1])  # one is named by no row, and another alone
    assert sum(map(len, where(load(root, pair_by="who", skip_bad=True), names).values())) == 23
    table(*rows[:-1], f"{names[-1]},new,1,1")
    assert sum(map(len, where(load(root, pair_by="who", skip_bad=True), names).values())) == 23
    run_folder(root / "runs/x")
    (root / "notes.txt").touch()
    assert registry.prepare(str(root), image_size=SIZE, channels=3, skip_bad=True).is_file()


def test_channels_follow_from_all_files_so_that_they_are_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    for i in range(8):
        Image.new("L", (SIZE, SIZE)).save(root / f"{i}.png")
    FLAT.save(root / "color.png")
    assert load(root, channels=None).image_shape == (3, SIZE, SIZE)
    (root / "metadata.csv").write_text("\n".join(["file_name,who", *(f"{i}.png,{i // 2}" for i in range(8))]))
    monkeypatch.setattr(folder, "read_image", lambda *_, **__: pytest.fail("an image was converted again"))
    data = load(root, channels=None, pair_by="who", skip_bad=True)
    assert data.image_shape == (3, SIZE, SIZE) and "3 channels, RGB, where 8 of 8 images are grey" in said(data)


def test_bad_images_that_nobody_names_are_not_counted(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", [f"{i}.png" for i in range(6)])
    (tmp_path / "faces/bad.png").touch()
    (tmp_path / "faces/metadata.csv").write_text(
        "\n".join(["file_name,who", *(f"{n},{i // 2}" for i, n in enumerate(names))])
    )
    data = load(tmp_path / "faces", pair_by="who", skip_bad=True)
    assert ", 1 bad image skipped (bad.png is not named in metadata.csv)" in data.source.location


def test_what_is_no_square_is_cropped_or_padded_as_it_is_said(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    pixels = np.full((16, 32, 3), 200, np.uint8)
    pixels[:, 12:20] = (10, 20, 30)
    for who in PEOPLE:
        (root / who).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(root / who / f"{i}.png")
    cropped, padded = load(root), load(root, shape="pad")
    assert (cropped.train.images[0][:, :, 4] == pixels[0, 12:13].reshape(3, 1)).all()
    image = padded.train.images[0].numpy()
    assert not image[:, :2].any() and not image[:, 6:].any() and (image[:, 2:6, 0] == 200).all()
    cut = "10 of 10 images are not square: cropping them about their center keeps 50 % of the longer side"
    assert any(note.startswith(cut) for note in said(cropped))
    assert any("10 of 10 images are not square and get black margins" in note for note in said(padded))
    assert padded.options["shape"] == "pad" and load(root, **{**padded.options}).source.sha256 == padded.source.sha256
    assert padded.source.sha256 != cropped.source.sha256
    with pytest.raises(InputError, match="`shape=square` is none of crop, pad"):
        load(root, shape="square")


def test_a_file_is_shown_to_a_model_as_its_own_images_were(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16), (200, 200, 200)).save(tmp_path / "wide.png")

    def shown(pad: bool) -> torch.Tensor:
        return images_named(
            [str(tmp_path / "wide.png")], (3, SIZE, SIZE), lambda: pytest.fail("no data"), pad=pad
        ).images[0]

    assert (shown(pad=False) == 200).all() and not shown(pad=True)[:, :2].any()
    assert (shown(pad=True)[:, 2:6] == 200).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_the_number_of_channels_follows_from_the_images_and_is_said(mode: str, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for who in PEOPLE:
        (root / who).mkdir(parents=True)
        for i in range(2):
            Image.new(mode, (SIZE, SIZE)).save(root / who / f"{i}.png")
    data = load(root, channels=None)
    assert data.image_shape == (1, SIZE, SIZE) and data.options["channels"] == 1
    assert "1 channel, grey, as all images are" in said(data)
    data = load(root, channels=3)
    assert data.image_shape == (3, SIZE, SIZE) and "3 channels, RGB, where 10 of 10 images are grey" in said(data)
    FLAT.save(root / "anna/0.png")
    data = load(root, channels=None)
    assert data.image_shape == (3, SIZE, SIZE) and "3 channels, RGB, where 9 of 10 images are grey" in said(data)
    data = load(root, channels=1)
    assert data.image_shape == (1, SIZE, SIZE)
    assert "1 channel, grey, where 1 of 10 images have color" in said(data)


@pytest.mark.parametrize(
    ("size", "is_named"),
    [((40, 30), False), ((30, 40), False), ((400, 300), True), ((4, 3), True), ((160, 8), True), ((8, 160), True)],
)
def test_an_image_much_unlike_the_others_is_named(size: tuple[int, int], is_named: bool, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for who in PEOPLE:
        (root / who).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (36, 27)).save(root / who / f"{i}.png")
    Image.new("RGB", size).save(root / "carl/2.png")
    named = f"in size or shape: carl/2.png ({size[0]}x{size[1]}), where 36x27 or upright is usual"
    assert any(note.endswith(named) for note in said(load(root))) == is_named


def test_headers_of_many_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MANY", 5)
    root = tmp_path / "faces"
    names = tree(root, of_people())
    save(Figure(figsize=(1, 1)), root / "sheet.png")
    first = listing.listed(root)
    with monkeypatch.context() as patched:
        patched.setattr(listing, "header", lambda path: pytest.fail("a header was read again"))
        assert listing.listed(root) == first
    assert first.ours == ["sheet.png"] and list(first.images) == sorted(names)
    for damage in (b"", b"[1]", b"{}", b"[[1, 2]]", b"null"):
        next((tmp_path / "cache").glob("headers-*")).write_bytes(damage)
        assert listing.listed(root) == first
    os.utime(root / names[0], ns=(0, 0))
    assert listing.listed(root).images == first.images
