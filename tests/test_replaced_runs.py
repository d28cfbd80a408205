"""A run that replaces another: what is put aside, what comes back after a kill, and what is removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import pytest
import torch
from filelock import FileLock

from pyro_disent.errors import Diverged, InputError, StorageError
from pyro_disent.queries.draws import arviz_groups, write_groups
from pyro_disent.training import checkpoints, loop
from pyro_disent.training import run_folder as run_module
from pyro_disent.training.log import Silent
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.left_by_a_run import FLAT, drawn
from tests.made_runs import (
    APPEARING,
    a_dangling_link,
    a_file,
    a_run,
    an_empty_folder,
    another_run,
    contents,
    saved,
    value_of,
)
from tests.models import SHAPE, linear_vae
from tests.table import RECORD, tiny


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


@pytest.mark.parametrize("name", ["swap.png", "do-3-y=1.png", "posterior-z.png", "a figure of a package.png"])
def test_figures_of_a_replaced_run_go_with_it_and_pictures_without_their_mark_stay(name: str, tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", 1.0)
    drawn(folder.figures / name)
    FLAT.save(folder.figures / f"my {name}")
    FLAT.save(folder.path / name)
    replace(folder.path, 2.0)
    assert value_of(folder.path) == 2.0 and not (folder.figures / name).exists()
    assert (folder.figures / f"my {name}").is_file() and (folder.path / name).is_file()


def test_draws_of_a_replaced_run_go_with_it_and_a_table_of_the_users_stays(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", 1.0)
    write_groups(arviz_groups(linear_vae(), torch.zeros(2, *SHAPE), draws=2), folder.path / "posterior.nc")
    with h5netcdf.File(folder.path / "mine.nc", "w") as file:
        file.create_group("posterior").attrs["creation_library"] = "another"
    (folder.path / "text.nc").write_text("not netCDF")
    replace(folder.path, 2.0)
    left = {path.name for path in folder.path.iterdir()}
    assert "posterior.nc" not in left and {"mine.nc", "text.nc"} <= left
