"""How the images of a folder are converted: once, to one shape, which follows from all of them and is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from pyro_disent.data import registry
from pyro_disent.data.own import folder, listing
from pyro_disent.errors import InputError
from pyro_disent.figures import save
from pyro_disent.figures.inputs import images_named
from tests.folders import PEOPLE, SIZE, load, of_people, said, tree, where
from tests.left_by_a_run import FLAT, run_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


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
