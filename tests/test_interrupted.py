"""Runs that are told to stop, or killed: what is saved, what is said, and how they go on."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.runs.run import Run
from pyro_disent.training import datasets, log, loop
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.log import Silent
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import RECORD, tiny
from tests.test_resume import assert_same_run, files

SMALL = ("--data", "rotated-mnist", "--source", "embedded", "--limit", "64", "--batch-size", "16", "--no-compile")


class Signalling(Silent):
    """Sends signals when it is told of these steps."""

    def __init__(self, **at: int) -> None:
        self.at = {step: getattr(signal, name) for name, step in at.items()}

    def training(self, step: int, steps: int, loss: float, views_per_second: float) -> None:
        if step in self.at:
            os.kill(os.getpid(), self.at[step])


@pytest.fixture(autouse=True)
def _each_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LOG_EVERY", 1)


def signalled_at(step: int, *signals: int) -> Any:
    """A training's step that brings signals with it."""
    take = loop.Loop._gradients

    def stopping(self: loop.Loop, number: int) -> Any:
        taken = take(self, number)
        if number + 1 == step:
            for each in signals:
                os.kill(os.getpid(), each)
        return taken

    return stopping


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(
    number: int, code: int, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Loop, "_gradients", signalled_at(2, number))
    stopped = call("fit", "--method", "vae", *SMALL, "--max-steps", "4", "--out", "run")
    assert stopped.returncode == code
    assert stopped.stderr.splitlines()[-1] == "pyro-disent: interrupted; go on with: pyro-disent fit --resume run"
    assert RunFolder(tmp_path / "run").state("last")["step"] == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("signals", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM, signal.SIGINT), 143)]
)
def test_a_second_signal_stops_at_once_and_says_so(
    signals: tuple[int, int], code: int, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Loop, "_gradients", signalled_at(6, *signals))  # 4 steps an epoch
    stopped = call("fit", "--method", "vae", *SMALL, "--max-steps", "8", "--out", "run")
    assert stopped.returncode == code
    said = "stopped at once, what was trained after the last checkpoint is lost; go on with: pyro-disent fit --resume"
    assert stopped.stderr.splitlines()[-1] == f"pyro-disent: {said} run"
    assert RunFolder(tmp_path / "run").state("last")["step"] == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_says_that_nothing_was_trained(
    number: int, code: int, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data = datasets.load_data

    def slowly(*arguments: Any) -> DataSet:
        os.kill(os.getpid(), number)
        return load_data(*arguments)

    monkeypatch.setattr(datasets, "load_data", slowly)
    stopped = call("fit", "--method", "vae", *SMALL, "--max-steps", "4", "--out", "run")
    assert stopped.returncode == code and not (tmp_path / "run").exists()
    assert stopped.stderr == "pyro-disent: interrupted before the first step: nothing was trained\n"


def test_the_state_is_saved_every_few_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = RunFolder.save

    def noted(self: RunFolder, which: Which, step: int, *arguments: Any) -> None:
        if which == "last":
            saved.append(step)
        save(self, which, step, *arguments)

    monkeypatch.setattr(RunFolder, "save", noted)
    train(tiny(checkpoint_minutes=1e-9), RunFolder(tmp_path / "often"))
    assert saved == [1, 2, 3, 4, 5, 6]
    saved.clear()
    train(tiny(checkpoint_minutes=0.0), RunFolder(tmp_path / "seldom"))
    assert saved == [4, 6]
    assert_same_run(RunFolder(tmp_path / "often"), RunFolder(tmp_path / "seldom"))


class Killed(BaseException):
    """The process is dead."""


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_a_run_killed_between_two_epochs_goes_on_from_its_last_checkpoint(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of steps that are taken again are written once."""
    monkeypatch.setattr(log, "LOG_EVERY", 2)
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    config = tiny("cycle+predictor", max_steps=9, checkpoint_minutes=1e-9)
    train(config, whole)
    save = RunFolder.save

    def save_until(self: RunFolder, which: Which, step: int, *arguments: Any) -> None:
        if step > kept + 2:
            raise Killed
        if which == "best" or step <= kept:
            save(self, which, step, *arguments)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(RunFolder, "save", save_until)
        train(config, killed)
    assert killed.state("last")["step"] == kept
    train(config, killed, resume=True)
    assert_same_run(whole, killed)


@pytest.mark.parametrize("init", [False, True])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    init: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = None
    if init:
        first = RunFolder(tmp_path / "first")
        train(tiny(seed=5, max_steps=1), first)
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train(tiny(), whole, init=first)

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(RunFolder, "save", die)
        train(tiny(), killed, init=first)
    assert not killed.has_begun and len(killed.metrics()) > 0
    train(tiny(), killed, resume=True)
    assert_same_run(whole, killed)


@pytest.mark.parametrize(
    "left", [(), (".lock",), (".lock", "checkpoints/"), (".lock", ".config.json.0123abcd.partial")], ids=str
)
def test_a_folder_that_was_left_without_a_configuration_is_begun_in(left: tuple[str, ...], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in left:
        (run.path / name).mkdir() if name.endswith("/") else (run.path / name).touch()
    with pytest.raises(InputError, match="stopped before it had a configuration; start it as it was started"):
        train(tiny(), run, resume=True)
    run.refuse_existing(overwrite=False)
    with run:
        run.create(RECORD)
    assert run.read_record() == RECORD


def test_a_folder_with_anything_else_in_it_is_not_begun_in(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "checkpoints").mkdir(parents=True)
    (run.path / ".lock").touch()
    (run.path / "checkpoints/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a run's folder"):
        run.refuse_existing(overwrite=False)
    assert (run.path / "checkpoints/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"a,b\n1,2\n", b"step,split\n" + b"1" * 200_000], ids=["bytes", "columns", "long"]
)
def test_damaged_metrics_are_refused_before_anything_is_written(content: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(tiny("vae", max_steps=1), run)
    run.metrics_file.write_bytes(content)
    before = files(run.path)
    with pytest.raises(InputError, match=r"metrics\.csv cannot be read as metrics"):
        train(tiny("vae", max_steps=2), run, resume=True)
    assert files(run.path) == before


@pytest.mark.parametrize("error", [InputError("no such image"), OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_is_trained_but_not_drawn_says_exactly_that(
    error: BaseException, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Run, "draw", fail)
    done = call("fit", "--method", "vae", *SMALL, "--max-steps", "2", "--out", "run")
    assert "run is trained, but its figures could not be" in done.stderr
    assert done.returncode == {InputError: 2, OSError: 4, KeyboardInterrupt: 130}[type(error)]
    assert RunFolder(tmp_path / "run").state("last")["step"] == 2
