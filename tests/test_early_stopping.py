"""Training that ends before its last step: by patience, by a callback, by an exception in one; and goes on exactly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.training import datasets, loop
from pyro_disent.training.record import read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from pyro_disent.training.validation import Validation
from tests.table import tiny
from tests.test_cli import TINY, assert_refused
from tests.test_empty_latents import Listening

EPOCH = 4  # steps of `tiny`
EPOCHS = ("--validate-every", "0", "--epochs")


@pytest.fixture(autouse=True)
def few_held_out_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations are many here, and what they find matters to none."""
    load = datasets.load_data

    def loaded(*arguments: Any, **options: Any) -> Any:
        data = load(*arguments, **options)
        split = data.validation
        split.images = split.images[:16]
        split.labels = {name: values[:16] for name, values in split.labels.items()}
        return data

    monkeypatch.setattr(datasets, "load_data", loaded)


def step_of(folder: RunFolder, which: str = "last") -> int:
    return int(json.loads((folder.checkpoints / f"{which}.json").read_text())["step"])


def held_out(monkeypatch: pytest.MonkeyPatch, objectives: Iterable[float]) -> None:
    """Validations find these objectives, one after the other, and 9 after the last."""
    found = itertools.chain(objectives, itertools.repeat(9.0))
    monkeypatch.setattr(loop, "validate", lambda *_: {"objective": next(found), "elbo": -1.0, "kl.z": 1.0, "kl.y": 1.0})


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    first, second = one.weights("last"), other.weights("last")
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    ("objectives", "patience", "validations", "best"),
    [
        ([5, 4, 3, 2, 1, 0], 1, 6, 6),
        ([5, 6], 1, 2, 1),
        ([5, 5], 1, 2, 1),  # as good is not better
        ([5, 6, 4, 7, 7], 2, 5, 3),
        ([5, 6, 6, 4, 6, 6], 3, 6, 4),
        ([5, 6, 6, 6, 6, 6], None, 6, 1),
    ],
)
def test_patience_counts_validations_without_a_better_objective(
    objectives: list[float], patience: int | None, validations: int, best: int, tmp_path: Path, monkeypatch: Any
) -> None:
    held_out(monkeypatch, objectives)
    folder, heard = RunFolder(tmp_path / "run"), Listening()
    train(tiny(max_steps=None, epochs=6, patience=patience), folder, reporter=heard)
    assert (step_of(folder), step_of(folder, "best")) == (EPOCH * validations, EPOCH * best)
    assert folder.read_record().fit.patience == patience
    ended = [line for line in heard.said if "training ends after" in line]
    early = validations < 6
    assert len(ended) == early
    if early:
        assert f"after step {EPOCH * validations} of 24: no better validation within `patience={patience}`" in ended[0]


def test_patience_goes_on_counting_where_a_run_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, objectives = tiny(max_steps=None, epochs=8, patience=3), [5, 4, 6, 6, 6]
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    held_out(monkeypatch, objectives)
    train(config, whole)
    held_out(monkeypatch, objectives)
    for _ in range(4):  # ends after each validation
        if (parts.checkpoints / "last.json").exists():
            train(read_fit(parts.config_file), parts, resume=True, on_validation=lambda _: True)
        else:
            train(config, parts, on_validation=lambda _: True)
    assert step_of(parts) == 4 * EPOCH
    train(read_fit(parts.config_file), parts, resume=True)
    assert step_of(whole) == step_of(parts) == 5 * EPOCH and same_weights(whole, parts)


def test_a_run_that_ended_by_patience_takes_no_further_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out(monkeypatch, [5, 6])
    folder, heard = RunFolder(tmp_path / "run"), Listening()
    train(tiny(max_steps=None, epochs=6, patience=1), folder)
    before, rows = folder.weights("last"), folder.metrics()
    train(read_fit(folder.config_file), folder, resume=True, reporter=heard)
    assert step_of(folder) == 2 * EPOCH and folder.metrics() == rows
    assert all(torch.equal(tensor, before[name]) for name, tensor in folder.weights("last").items())
    assert any("no better validation within `patience=1`" in line for line in heard.said)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_training(answer: Any, tmp_path: Path) -> None:
    folder, whole, heard = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole"), Listening()
    train(tiny(max_steps=10), folder, reporter=heard, on_validation=lambda found: answer if found.step == 8 else None)
    assert step_of(folder) == 8
    assert any("after step 8 of 10: on_validation" in line for line in heard.said)
    train(read_fit(folder.config_file), folder, resume=True)
    train(tiny(max_steps=10), whole)
    assert step_of(folder) == 10 and same_weights(folder, whole)


def test_a_callback_that_returns_anything_else_does_not(tmp_path: Path) -> None:
    answers = iter([None, False, np.False_, 0, 1, "stop", [True], object()])
    folder = RunFolder(tmp_path / "run")
    train(tiny(max_steps=None, epochs=8), folder, on_validation=lambda _: next(answers))
    assert step_of(folder) == 8 * EPOCH and list(answers) == []


def test_a_callback_sees_each_validation_when_its_checkpoints_are_written(tmp_path: Path, monkeypatch: Any) -> None:
    held_out(monkeypatch, [5, 7, 3])
    folder = RunFolder(tmp_path / "run")
    seen: list[Validation] = []

    def look(found: Validation) -> None:
        seen.append(found)
        assert step_of(folder) == found.step
        assert (step_of(folder, "best") == found.step) == found.is_best

    train(tiny(max_steps=None, epochs=3), folder, on_validation=look)
    assert [(found.step, found.numbers["objective"], found.is_best) for found in seen] == [
        (4, 5, True),
        (8, 7, False),
        (12, 3, True),
    ]
    rows = [row for row in folder.metrics() if row["split"] == "validation"]
    for found, row in zip(seen, rows, strict=True):
        assert found.numbers == {name: float(row[name]) for name in found.numbers}
        assert {"kl.z", "use.z", "use.y"} <= found.numbers.keys() and found.empty == ()


def test_what_a_callback_draws_does_not_move_the_training(tmp_path: Path) -> None:
    drawing, plain = RunFolder(tmp_path / "drawing"), RunFolder(tmp_path / "plain")
    train(tiny(max_steps=8), drawing, on_validation=lambda found: torch.rand(found.step) is None)
    train(tiny(max_steps=8), plain)
    assert same_weights(drawing, plain)


@pytest.mark.parametrize("error", [RuntimeError("the disk of my dashboard is full"), KeyboardInterrupt()], ids=repr)
def test_an_exception_in_a_callback_leaves_a_run_that_goes_on(error: BaseException, tmp_path: Path) -> None:
    folder, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")

    def fail(found: Validation) -> None:
        if found.step == 8:
            raise error

    with pytest.raises(type(error)):
        train(tiny(max_steps=11), folder, on_validation=fail)
    assert step_of(folder) == 8
    train(read_fit(folder.config_file), folder, resume=True, on_validation=fail)
    train(tiny(max_steps=11), whole)
    assert step_of(folder) == 11 and same_weights(folder, whole)


def test_both_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Validation] = []
    settings: dict[str, Any] = {"limit": 64, "batch_size": 16, "source": "embedded", "epochs": 5, "validate_every": 0}
    run = pyro_disent.fit(
        "vae",
        "rotated-mnist",
        out=tmp_path / "one",
        **settings,
        on_validation=lambda found: seen.append(found) or found.step == 8,
    )
    assert [found.step for found in seen] == [4, 8] and all(isinstance(each, pyro_disent.Validation) for each in seen)
    assert step_of(RunFolder(run.path)) == 8
    held_out(monkeypatch, [5])
    run = pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "two", **settings, patience=2)
    assert step_of(RunFolder(run.path)) == 12 and run.record.fit.patience == 2


def test_on_the_command_line(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_disent.figures.of_run.draw_figures", lambda *_: None)
    held_out(monkeypatch, [5, 6])
    result = call("fit", "--method", "vae", *TINY, *EPOCHS, "9", "--patience", "2", "--out", "run", "--json")
    assert result.returncode == 0, result.stderr
    assert "no better validation within --patience 2" in result.stderr
    last = json.loads(result.stdout)
    assert last["step"] == 4 and last["empty"] == [] and step_of(RunFolder(tmp_path / "run")) == 12


@pytest.mark.parametrize("patience", [0, -3])
def test_patience_that_makes_no_sense_is_refused(patience: int, call: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`patience` must be greater than 0"):
        tiny(patience=patience)
    refused = call("fit", "--method", "vae", *TINY, "--patience", str(patience), "--out", "run")
    assert_refused(refused, f"--patience must be greater than 0, got {patience}")
    assert list(tmp_path.iterdir()) == []
