"""A run's folder among other people's files: what is made, replaced, put back and removed, and what never is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import Diverged, InputError, StorageError
from pyro_disent.runs.run import load
from pyro_disent.training import checkpoints, datasets, loop
from pyro_disent.training import run_folder as run_module
from pyro_disent.training.log import Silent
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import RECORD, tiny


def saved(folder: RunFolder, value: float, step: int = 1) -> None:
    for which in ("best", "last"):
        folder.save(which, step, {"w": torch.full((2,), value)}, {"step": step})  # type: ignore[arg-type]


def a_run(path: Path, value: float = 1.0) -> RunFolder:
    """A run whose only weight has this value."""
    folder = RunFolder(path)
    with folder:
        folder.create(RECORD)
        saved(folder, value)
    return folder


def value_of(path: Path) -> float:
    """The weight of a run, which both checkpoints have."""
    values = [RunFolder(path).weights(which)["w"] for which in ("best", "last")]  # type: ignore[arg-type]
    assert torch.equal(*values)
    return values[0][0].item()


def contents(root: Path) -> dict[str, bytes | str | None]:
    """Every path below a folder: a file's bytes, where a link leads, None for a folder."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(root.rglob("*"))
    }


# Creation


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def an_empty_folder(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_to_a_run(path: Path) -> None:
    a_run(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def another_run(path: Path) -> None:
    a_run(path)


APPEARING = [a_file, a_folder, an_empty_folder, a_dangling_link, a_link_to_a_run]


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
        (folder.figures / "swap.png").write_text("drawn")
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
    (folder.figures / "swap.png").write_text("drawn")
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


# A run that is to be replaced


@pytest.mark.parametrize("how", ["divergence", "a second Ctrl-C", "a full disk"])
def test_a_run_is_there_again_where_its_successor_ends_without_a_checkpoint(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_run(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    error = {"divergence": Diverged, "a second Ctrl-C": KeyboardInterrupt, "a full disk": StorageError}[how]

    def fail(*_: Any) -> None:
        raise error("no")

    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    monkeypatch.setattr(loop, "validate", fail)
    for _ in range(2):
        with pytest.raises(error) as caught:
            train(tiny(seed=1), RunFolder(tmp_path / "run"), overwrite=True, reporter=Listening())
        assert caught.value.__notes__ == [f"the run that was at {folder.path} is there again"]
        assert contents(tmp_path) == before
    assert f"replaces {folder.path}, which is kept as {tmp_path}/.run.replaced until" in said[0]


KillAt = Callable[[int, Callable[[], None]], bool]


class Killed(BaseException):
    """The process is dead: nothing that it does has an effect any more."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[KillAt]:
    """Do something, and die at the n-th change of a folder; whether it was too short for that."""
    locks: list[FileLock] = []

    def remembered(*arguments: Any, **options: Any) -> FileLock:
        locks.append(FileLock(*arguments, **options))
        return locks[-1]

    monkeypatch.setattr(run_module, "FileLock", remembered)
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def run(at: int, do: Callable[[], None]) -> bool:
        calls = 0

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls >= at:
                    raise Killed
                return change(*arguments, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("rename", "replace", "mkdir", "unlink", "rmdir"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            with contextlib.suppress(Killed):
                do()
        for lock in locks:  # which the system takes from the dead
            lock.release(force=True)
        locks.clear()
        return calls < at

    yield run


def replace(path: Path, value: float) -> None:
    folder = RunFolder(path)
    folder.refuse_existing(overwrite=True)
    with folder:
        folder.create(RECORD, overwrite=True)
        saved(folder, value)


def test_a_process_killed_anywhere_loses_neither_the_run_nor_what_lies_in_it(tmp_path: Path, killed_at: KillAt) -> None:
    """One, then another killed at the same place; whatever is there afterwards is a whole run, and its notes."""
    for at in range(1, 100):
        path = tmp_path / f"{at}" / "run"
        a_run(path, 1.0)
        (path / "notes.txt").write_text("mine")
        finished = False
        for value in (2.0, 3.0):
            finished = killed_at(at, lambda value=value, path=path: replace(path, value))  # type: ignore[misc]
            places = [
                place for place in (path, RunFolder(path).aside.path) if (place / "checkpoints/best.json").exists()
            ]
            assert any(RunFolder(place).weights("best")["w"][0] in (1.0, 2.0, 3.0) for place in places), at
            notes = [place / "notes.txt" for place in (path, RunFolder(path).aside.path)]
            assert sum(note.exists() for note in notes) == 1, at
        with pytest.raises(InputError, match="exists already"):
            RunFolder(path).refuse_existing(overwrite=False)
        assert RunFolder(path).weights("best")["w"][0] in (1.0, 2.0, 3.0)
        assert (path / "notes.txt").read_text() == "mine"
        assert [each.name for each in path.parent.iterdir()] == ["run"]
        replace(path, 4.0)
        assert value_of(path) == 4.0 and (path / "notes.txt").exists()
        if finished:
            assert at > 20
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("appears", [*APPEARING, another_run])
def test_what_appears_in_place_of_a_run_that_was_put_aside_is_kept(
    appears: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    folder, rename = a_run(path, 1.0), Path.rename
    theirs: dict[str, Any] = {}

    def slowly(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        monkeypatch.setattr(Path, "rename", rename)
        appears(path)
        theirs.update(contents(tmp_path))
        return moved

    monkeypatch.setattr(Path, "rename", slowly)
    with pytest.raises(InputError, match="exists already") as caught, folder:
        folder.create(RECORD, overwrite=True)
    assert contents(tmp_path) == theirs and value_of(folder.aside.path) == 1.0
    assert f"the run that was at {path} lies in {folder.aside.path}" in caught.value.__notes__[0]
    with contextlib.suppress(InputError):
        RunFolder(path).refuse_existing(overwrite=True)
    if appears is an_empty_folder:  # as one begun by a run that was killed at once
        assert value_of(path) == 1.0
    else:
        assert contents(tmp_path) == theirs | {name: b"" for name in contents(tmp_path) if name.endswith(".lock")}


def test_a_reader_is_told_where_the_run_is(tmp_path: Path, killed_at: KillAt) -> None:
    told = []
    for at in range(1, 20):  # also before the run is aside, and when the other has a checkpoint
        path = tmp_path / f"{at}" / "run"
        a_run(path)
        killed_at(at, lambda path=path: replace(path, 2.0))  # type: ignore[misc]
        is_replaced = checkpoints.exist(path / "checkpoints") and RunFolder(path).weights("best")["w"][0] == 2.0
        if RunFolder(path).aside.path.exists() and not is_replaced:
            with pytest.raises(InputError, match=r"; the run that was there lies in .*/\.run\.replaced") as caught:
                RunFolder(path).read_record()
                RunFolder(path).weights("best")
            told.append(str(caught.value))
        with pytest.raises(InputError, match="exists already"):
            RunFolder(path).refuse_existing(overwrite=False)
        assert RunFolder(path).weights("best")["w"][0] == (2.0 if is_replaced else 1.0)
    for said in ("there is no run at", "has no best checkpoint that can be read"):
        assert any(said in each for each in told)


def test_a_folder_in_use_is_neither_replaced_nor_resumed_nor_put_back(tmp_path: Path) -> None:
    path = tmp_path / "run"
    a_run(path)
    working = RunFolder(path)
    working.create(RECORD, overwrite=True)
    before = contents(tmp_path)
    for attempt in (
        lambda: RunFolder(path).refuse_existing(overwrite=True),
        lambda: RunFolder(path).create(RECORD, overwrite=True),
        lambda: RunFolder(path).open(),
    ):
        with pytest.raises(InputError, match=r"another process is training|lies there from before"):
            attempt()
        assert contents(tmp_path) == before
    saved(working, 2.0)
    with pytest.raises(InputError, match="another process is training"):
        RunFolder(path).create(RECORD, overwrite=True)
    working.close()
    assert value_of(path) == 2.0


def test_a_run_somebody_moved_there_is_not_taken_for_the_successor(tmp_path: Path) -> None:
    """What lies aside is removed only by the run that replaced it."""
    path = tmp_path / "run"
    a_run(path, 1.0).path.rename(tmp_path / ".run.replaced")
    a_run(path, 5.0)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="exists already"):
        RunFolder(path).refuse_existing(overwrite=False)
    with pytest.raises(InputError, match="lies there from before"):
        replace(path, 6.0)
    assert {name: value for name, value in contents(tmp_path).items() if not name.endswith(".lock")} == {
        name: value for name, value in before.items() if not name.endswith(".lock")
    }


def test_numbered_runs_step_over_whatever_is_there(tmp_path: Path) -> None:
    a_file(tmp_path / "chairs-cycle-1")
    a_dangling_link(tmp_path / "chairs-cycle-2")
    folder = RunFolder.named(None, "chairs", "cycle", tmp_path)
    folder.create(RECORD)
    assert folder.path.name == "chairs-cycle-3" and os.path.lexists(tmp_path / "chairs-cycle-2")
    a_dangling_link(tmp_path / "runs")
    with pytest.raises(InputError, match="cannot be made"):
        RunFolder.named(None, "chairs", "cycle", tmp_path / "runs").create(RECORD)
