"""Two writers on one run's folder, in processes of their own: the second is refused, whatever became of the first."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from pyro_disent.training import run_files
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests import forked
from tests.forked import LONGEST
from tests.table import RECORD, tiny
from tests.test_cli import assert_refused
from tests.test_run_folder import contents
from tests.test_together import SMALL

SETTINGS = [*SMALL.split(), "--threads", "1", "--max-steps", "1000000", "--checkpoint-minutes", "1e-9"]


@contextlib.contextmanager
def training(run: Path) -> Iterator[ForkServerProcess]:
    """A training in another process that has both its checkpoints, and does not end by itself."""
    with forked.started(*SETTINGS, "--out", run, cwd=run.parent, streams=run.parent / "streams") as process:
        until = time.monotonic() + LONGEST
        while not all((run / "checkpoints" / f"{which}.json").exists() for which in ("last", "best")):
            assert process.exitcode is None and time.monotonic() < until
            time.sleep(0.05)
        yield process


def rows(run: Path) -> list[str]:
    """The steps in ``metrics.csv`` that have a training loss."""
    return [row["step"] for row in RunFolder(run).metrics() if row["split"] == "train"]


def test_a_run_in_training_is_neither_resumed_nor_replaced_and_a_killed_one_is(call: Any, tmp_path: Path) -> None:
    run, busy = tmp_path / "run", "another process is training in run at this moment"
    with training(run) as first:
        for words in (["--resume", "run"], ["--resume", "run", "--max-steps", "2000000"]):
            assert_refused(call("fit", *words), busy)
        assert_refused(call(*SMALL.split(), "--max-steps", "1", "--out", "run", "--overwrite"), busy)
        assert_refused(call(*SMALL.split(), "--max-steps", "1", "--out", "run"), "exists already: choose another --out")
        assert first.exitcode is None
        assert call("figures", "run").returncode == 0  # who only reads the checkpoint needs no lock
        assert call("sample", "run", "--n", "2", "--out", "sample.png").returncode == 0
        os.kill(first.pid or 0, signal.SIGKILL)
        assert forked.ended(first) == -signal.SIGKILL
    assert (run / run_files.LOCK).is_file()  # left behind, and held by nobody
    taken = RunFolder(run).state("last")["step"]
    assert call("fit", "--resume", "run", "--max-steps", str(taken + 3)).returncode == 0
    assert RunFolder(run).state("last")["step"] == taken + 3
    assert len(rows(run)) == len(set(rows(run)))


def test_the_processes_of_one_training_do_not_refuse_each_other(tmp_path: Path) -> None:
    """Both are started at once, as by torchrun, and find the same folder: the first one takes the lock."""
    run = tmp_path / "run"
    train(tiny("vae", max_steps=2, devices=1), RunFolder(run))
    words = [*SMALL.split(), "--max-steps", "4", "--devices", "2", "--out", "run", "--overwrite"]
    for done in forked.run_together(*words, cwd=tmp_path, by_torchrun=True):
        assert done.returncode == 0, done.stderr
    assert RunFolder(run).state("last")["step"] == 4
    assert rows(run) == list(dict.fromkeys(rows(run)))


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_who_is_not_the_first_process_leaves_the_folder_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun starts them, all at once: the second may come when the first has made the folder already."""
    from pyro_disent.process import is_first_process

    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()


def test_a_lock_that_is_no_file_is_a_sentence(call: Any, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder:
        folder.create(RECORD)
    (folder.path / run_files.LOCK).unlink()
    (folder.path / run_files.LOCK).symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    assert_refused(call("fit", "--resume", "run"), "run cannot be written")
    assert contents(tmp_path) == before
