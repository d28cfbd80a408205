"""A run's folder among other people's files: what is made, replaced, put back and removed, and what never is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError, StorageError
from pyro_disent.runs.run import load
from pyro_disent.training import datasets
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.left_by_a_run import drawn
from tests.made_runs import APPEARING, a_folder, a_run, another_run, contents, saved, value_of
from tests.table import RECORD, tiny

# Creation


MADE_MEANWHILE = [*((each, True) for each in APPEARING), *((each, False) for each in [*APPEARING, another_run])]


@pytest.mark.parametrize(("appears", "overwrite"), MADE_MEANWHILE)
def test_what_appears_while_the_data_loads_is_kept(
    appears: Callable[[Path], None], overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data, before = datasets.load_data, {}

    def slowly(*arguments: Any) -> DataSet:
        appears(tmp_path / "run")
        before.update(contents(tmp_path))
        return load_data(*arguments)

    monkeypatch.setattr(datasets, "load_data", slowly)
    with pytest.raises(InputError, match=r"exists already|not overwritten"):
        train(tiny(), RunFolder(tmp_path / "run"), overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_folder_is_no_run_at_the_moment_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_run(tmp_path / "run")
    rename = Path.rename

    def exchanged(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        shutil.rmtree(self)
        a_folder(self)
        return self.rename(target)

    monkeypatch.setattr(Path, "rename", exchanged)
    with pytest.raises(InputError, match=r"no run|not a run's folder"):
        folder.create(RECORD, overwrite=True)
    assert contents(tmp_path) == {"run": None, "run/thesis.tex": b"mine"}


@pytest.mark.parametrize("where", [".", "..", "run"])
def test_the_folder_one_is_in_is_not_replaced(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path / "run")
    (tmp_path / "run/inner").mkdir()
    monkeypatch.chdir(tmp_path / {".": "run", "..": "run/inner", "run": "."}[where])
    before = contents(tmp_path)
    folder = RunFolder(Path(where))
    if where == "run":
        folder.refuse_existing(overwrite=True)
    else:
        with pytest.raises(InputError, match="folder you are in"):
            folder.refuse_existing(overwrite=True)
    assert contents(tmp_path) == before


# What else lies in the folders

NAMES = [
    "notes.txt",
    ".hidden",
    "best-of-my-photos",
    "last-1",
    "best-00000001",
    "best-000000001x",
    "best-000000001-again-again",
    "last-000000007",
    "best-000000002-again",
    "best-\N{ARABIC-INDIC DIGIT ONE}00000001",
    "best.json.bak",
    "config.json.bak",
    ".config.json.partial",
    "metrics.csv~",
    "evaluation-mine.json",
    "events.out.tfevents.mine",
    "sample-of-mine.png",
    "traverse-w.png",
    "swap.pdf",
    "weights.safetensors.1",
]
PLACES = ["", "checkpoints", "checkpoints/best-000000001", "checkpoints/last-000000001", "figures"]
KINDS = ["file", "folder", "link to a file", "link to a folder", "dangling link"]


def planted(place: Path, kind: str, outside: Path) -> None:
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    else:
        place.symlink_to(
            outside / {"link to a file": "file", "link to a folder": "folder", "dangling link": "no"}[kind]
        )


entries = st.tuples(st.sampled_from(PLACES), st.sampled_from(NAMES), st.sampled_from(KINDS))


@settings(max_examples=25, deadline=None)
@given(st.lists(entries, max_size=6, unique_by=lambda entry: entry[:2]))
@example([("checkpoints", "best-of-my-photos", "folder"), ("checkpoints", "last-000000007", "link to a folder")])
@example([("checkpoints/best-000000001", "notes.txt", "file"), ("figures", "sample-of-mine.png", "file")])
def test_whatever_else_lies_in_a_run_survives_resuming_and_overwriting(extras: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # which most of the time goes into
        root = Path(name)
        outside, path = root / "outside", root / "run"
        (outside / "folder").mkdir(parents=True)
        for file in ("file", "folder/weights.safetensors", "folder/state.pt", "folder/mine.txt"):
            (outside / file).write_text("not yours")
        folder = a_run(path)
        folder.write_metrics({"step": 1, "loss": 1.0})
        folder.figures.mkdir()
        drawn(folder.figures / "swap.png")
        for place, file, kind in extras:
            planted(path / place / file, kind, outside)
        theirs = {f"{place}/{file}".strip("/") for place, file, _ in extras}
        kept = {key: value for key, value in contents(path).items() if key in theirs or key.endswith("/mine.txt")}
        elsewhere = contents(outside)

        def still_there(which: dict[str, Any]) -> bool:
            found = contents(path)
            return all(key in found and found[key] == value for key, value in which.items())

        with folder:
            folder.open()
            saved(folder, 2.0, step=2)
        assert value_of(path) == 2.0 and still_there(kept)
        again = RunFolder(path)
        with again:
            again.create(RECORD, overwrite=True)
            saved(again, 3.0, step=1)
        assert value_of(path) == 3.0 and still_there(kept)
        assert contents(outside) == elsewhere
        assert not (path / "metrics.csv").exists() and not (path / "figures/swap.png").exists()
        assert not again.aside.path.exists()


def test_what_has_a_new_runs_name_stays_aside(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    (folder.path / "notes.txt").write_text("old")
    folder.create(RECORD, overwrite=True)
    (folder.path / "notes.txt").write_text("new")
    saved(folder, 2.0)
    folder.close()
    assert (folder.path / "notes.txt").read_text() == "new"
    assert contents(folder.aside.path) == {"notes.txt": b"old"}
    with pytest.raises(InputError, match=r"\.run\.replaced lies there from before"):
        folder.create(RECORD, overwrite=True)
    assert value_of(folder.path) == 2.0 and contents(folder.aside.path) == {"notes.txt": b"old"}


@pytest.mark.parametrize("part", ["checkpoints", "figures", "metrics.csv", "config.json"])
def test_a_run_with_a_linked_part_is_not_gone_on_with(part: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder = a_run(path)
    folder.write_metrics({"step": 1, "loss": 1.0})
    folder.figures.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (path / part).rename(outside / part)
    (path / part).symlink_to(outside / part)
    (outside / "best-of-my-photos").mkdir()
    if part == "checkpoints":
        a_folder(outside / part / "best-of-my-photos")
        assert value_of(path) == 1.0  # to read through a link loses nothing
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"{part} is a link, and nothing is written through links"), folder:
        folder.open()
    assert contents(tmp_path) == before


def test_resuming_a_run_whose_checkpoints_are_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(tiny(), RunFolder(path))
    (path / "checkpoints").rename(tmp_path / "outside")
    (path / "checkpoints").symlink_to(tmp_path / "outside")
    a_folder(tmp_path / "outside/best-of-my-photos")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="checkpoints is a link, and nothing is written through links"):
        train(tiny(max_steps=9), RunFolder(path), resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("part", ["checkpoints", "figures", "metrics.csv", "config.json"])
def test_overwriting_a_run_with_a_linked_part_leaves_what_it_leads_to(part: str, tmp_path: Path) -> None:
    folder, outside = a_run(tmp_path / "run"), tmp_path / "outside"
    folder.write_metrics({"step": 1, "loss": 1.0})
    folder.figures.mkdir()
    drawn(folder.figures / "swap.png")
    outside.mkdir()
    (folder.path / part).rename(outside / part)
    (folder.path / part).symlink_to(outside / part)
    before = contents(outside)
    with folder:
        folder.create(RECORD, overwrite=True)
        saved(folder, 2.0)
    assert value_of(folder.path) == 2.0 and contents(outside) == before


def test_whatever_else_lies_in_a_run_survives_a_whole_training(tmp_path: Path) -> None:
    path, outside = tmp_path / "run", tmp_path / "outside"
    config = tiny(max_steps=None, epochs=1)
    train(config, RunFolder(path))
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("not yours")
    (path / "figures").mkdir()
    places = ["", "checkpoints", "checkpoints/best-000000004", "checkpoints/last-000000004", "figures"]
    for place in places:
        for number, kind in enumerate(KINDS):
            planted(path / place / NAMES[number], kind, outside)
    theirs = [f"{place}/{name}".strip("/") for place in places for name in NAMES[: len(KINDS)]]
    before, elsewhere = {name: contents(path)[name] for name in theirs}, contents(outside)
    text = RunFolder(path).config_file.read_text().replace('"epochs": 1', '"epochs": 2')
    RunFolder(path).config_file.write_text(text)
    train(tiny(max_steps=None, epochs=2), RunFolder(path), resume=True)
    assert {name: contents(path)[name] for name in theirs} == before
    train(tiny(max_steps=None, epochs=1, seed=1), RunFolder(path), overwrite=True)
    assert {name: contents(path)[name] for name in theirs} == before and contents(outside) == elsewhere
    assert load(path).path == path and not RunFolder(path).aside.path.exists()


def test_a_folder_of_checkpoints_that_becomes_a_link_is_not_written_into(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    folder.checkpoints.rename(tmp_path / "outside")
    folder.checkpoints.symlink_to(tmp_path / "outside")
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="link"):
        saved(folder, 2.0, step=2)
    assert contents(tmp_path) == before
