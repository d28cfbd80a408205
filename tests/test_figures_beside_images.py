"""Where ``data show`` writes: over its own figures and new names, and never over an image of the set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor
from pyro_disent.errors import InputError
from pyro_disent.figures.pairs import contact_sheet
from pyro_disent.training.run_folder import RunFolder
from tests.tables import call


def photos(root: Path) -> Path:
    for number in range(8):
        (path := root / f"{'abcd'[number // 2]}/{number}.png").parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    photos(tmp_path / "photos")
    return tmp_path


SHOW = ("data", "show", "photos", "--image-size", "8", "--pairs", "1")


@pytest.mark.parametrize("how", ["image", "other file", "linked"])
def test_no_image_of_the_set_is_replaced(
    how: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Path("photos/a/0.png")
    if how == "other file":
        (here / (place := Path("photos/notes.svg"))).write_text("<svg/>")
    if how == "linked":
        (here / "photos/a/0.png").rename(here / "far.png")
        (here / "photos/a/0.png").symlink_to(here / "far.png")
        place = Path("far.png")
    before = (here / place).read_bytes()
    result = call(monkeypatch, capfd, here, *SHOW, "--out", str(place))
    assert result.returncode == 2 and f"--out {place} is a file of the data set photos" in result.stderr
    assert (here / place).read_bytes() == before


def test_a_name_that_is_not_given_is_free(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (4, 4)).save(here / "photos-pairs.png")
    (here / "photos-pairs-2.png").symlink_to("nowhere")
    foreign = (here / "photos-pairs.png").read_bytes()
    for _ in range(2):  # the second time its own figure is replaced
        result = call(monkeypatch, capfd, here, *SHOW)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split()[-1] == "photos-pairs-3.png"
    assert (here / "photos-pairs.png").read_bytes() == foreign and not (here / "photos-pairs-4.png").exists()
    result = call(monkeypatch, capfd, here, *SHOW, "--out", "photos-pairs.png")  # said, so it is meant
    assert result.returncode == 0 and (here / "photos-pairs.png").read_bytes() != foreign


@pytest.mark.parametrize("name", ["last", "best"])
def test_links_in_place_of_pointers_are_refused_before_training(name: str, tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere.json").write_text("{}")
    (tmp_path / f"run/checkpoints/{name}.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InputError, match=rf"{name}.json is a link, and nothing is written through links"):
        RunFolder(tmp_path / "run").open()


@pytest.mark.parametrize(("title", "is_written"), [("short", True), ("a title as long as the sheet " * 4, False)])
def test_a_legend_without_room_is_left_out(title: str, is_written: bool) -> None:
    factors = (Factor("azimuth"), Factor("elevation"))
    values = {factor.name: torch.zeros(2, 2) for factor in factors}
    sheet = contact_sheet(Batch(torch.rand(2, 2, 1, 8, 8), factors=values), factors, title)
    texts = [text.get_text() for text in sheet.texts]
    assert ("azimuth, elevation" in texts) == is_written
    assert not any(text.startswith(("...", "\N{HORIZONTAL ELLIPSIS}")) for text in texts)
