"""What a command tells while it works, and what it does not."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from pyro_disent.cli import progress
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import Diverged, InputError
from pyro_disent.training import compiling, datasets
from pyro_disent.training import train as training
from pyro_disent.training.run_folder import RunFolder
from tests.table import tiny
from tests.test_cli import TINY, run
from tests.test_empty_latents import Listening

FIT = ("fit", "--method", "vae", *TINY, "--max-steps", "2", "--out", "run", "--quiet")


def make_noise() -> None:
    """Everything that a library may do."""
    print("to standard output")
    print("to standard error", file=sys.stderr)
    os.write(1, b"from C to standard output\n")
    os.write(2, b"from C to standard error\n")
    logging.getLogger("lightning_fabric").error("by a logger")
    handler = logging.StreamHandler()
    logging.getLogger("another").addHandler(handler)
    logging.getLogger("another").warning("by a handler")
    logging.getLogger("another").removeHandler(handler)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)  # and not into pytest's summary
        warnings.warn("as a warning", UserWarning, stacklevel=1)


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_disent.figures.of_run.draw_figures", lambda *_: make_noise())
    monkeypatch.setattr(training, "keep_freed_memory", make_noise)


@pytest.mark.usefixtures("noisy")
def test_quiet_prints_the_path_only_whoever_speaks(call: Any) -> None:
    result = call(*FIT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "run\n", "")
    streams = sys.stdout, sys.stderr
    make_noise()  # everything speaks again
    assert (sys.stdout, sys.stderr) == streams


def test_the_installed_program_is_quiet(tmp_path: Path) -> None:
    result = run(*FIT, "--precision", "bf16-mixed", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "run\n", "")


@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("it cannot be had"), 2), (Diverged("it cannot be had"), 3)],
    ids=["input", "diverged"],
)
def test_an_error_is_one_sentence_in_quiet_too(error: Exception, code: int, call: Any, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        make_noise()
        raise error

    monkeypatch.setattr(datasets, "load_data", fail)
    result = call(*FIT)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "pyro-disent: it cannot be had\n")


@pytest.mark.usefixtures("noisy")
def test_what_was_kept_is_shown_beside_an_error_that_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from pyro_disent.cli.main import main

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_data", fail)
    monkeypatch.setattr(sys, "argv", ["pyro-disent", *FIT])
    with pytest.raises(RuntimeError, match="a bug"):
        main()
    out, err = capfd.readouterr()
    assert out == "" and all(part in err for part in ("from C to standard error", "by a handler", "as a warning"))


@pytest.mark.parametrize(("start", "speed"), [(0, 50), (500, 50), (99_000, 10)])
def test_the_time_left_counts_the_steps_of_this_process_alone(
    start: int, speed: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every 50 steps, so many steps a second."""
    total, now = start + 20 * 50, 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with progress.TrainingProgress(silent=False, to_stderr=False) as reporter:
        for step in range(start + 50, total + 1, 50):
            now += 50 / speed
            monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
            reporter.training(step, total, 1.0, 100.0)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 19
    for line in lines:
        done, left = re.fullmatch(r"(\d+)/\d+ loss .*, (\d+) s left", line).groups()  # type: ignore[union-attr]
        assert int(left) == pytest.approx((total - int(done)) / speed, abs=0.51)


def test_nothing_done_yet_is_no_time_left(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.TrainingProgress(silent=False, to_stderr=False) as reporter:
        reporter.training(70, 100, 1.0, 100.0)
        reporter.training(70, 100, 1.0, 100.0)
    assert "left" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("fails", "says"), [(False, "compiled in 0 s"), (True, "eager (compiling failed: no such thing)")]
)
def test_compiling_is_announced_before_it_starts_and_its_end_is_said(
    fails: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Listening()

    def begun(step: CompiledStep, *_: object) -> None:
        heard.said.append("now")
        if fails:
            raise RuntimeError("no such thing")

    monkeypatch.setattr(compiling, "why_not_compiled", lambda: None)
    monkeypatch.setattr(CompiledStep, "compile", begun)
    monkeypatch.setattr(CompiledStep, "__call__", EagerStep.__call__)
    training.train(tiny(max_steps=1, compile=True), RunFolder(tmp_path / "run"), reporter=heard)
    before, after = heard.said[: heard.said.index("now")], heard.said[heard.said.index("now") + 1 :]
    assert before == ["compiling the step, which takes 10 to 60 seconds the first time"]
    assert says in next(line for line in after if line.startswith("step "))


def test_an_eager_step_announces_no_compiling(tmp_path: Path) -> None:
    heard = Listening()
    training.train(tiny(max_steps=1), RunFolder(tmp_path / "run"), reporter=heard)
    assert not any("compiling" in line for line in heard.said)
