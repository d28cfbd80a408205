"""A training that diverges and goes back to its last checkpoint, and when it validates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_disent.errors import Diverged
from pyro_disent.objectives.step import LossRecord
from pyro_disent.training import log as log_module
from pyro_disent.training.config import FitConfig
from pyro_disent.training.loop import Loop
from pyro_disent.training.record import read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from pyro_disent.training.validation import Calendar
from tests.table import tiny
from tests.test_empty_latents import Listening

EPOCH = 4  # steps of `tiny`


def config(**settings: Any) -> FitConfig:
    return tiny(**{"max_steps": 8, "validate_every": 0, "schedule": "constant", **settings})


def diverging(monkeypatch: pytest.MonkeyPatch, step: int, until: int) -> None:
    """The loss of this step is not a number as long as the training went back fewer times than ``until``."""
    take = Loop._gradients

    def taken(self: Loop, number: int) -> LossRecord:
        record = take(self, number)
        bad = number == step and self.progress.rollbacks < until
        return record._replace(reconstruction=record.reconstruction * torch.nan) if bad else record

    monkeypatch.setattr(Loop, "_gradients", taken)


def steps_of(folder: RunFolder, split: str) -> list[int]:
    return [int(row["step"]) for row in folder.metrics() if row["split"] == split]


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    first, second = one.weights("last"), other.weights("last")
    return first.keys() == second.keys() and all(tensor.equal(second[name]) for name, tensor in first.items())


def test_it_goes_on_from_the_last_checkpoint_at_half_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run that ended at that checkpoint, and goes on at a quarter of the learning rate: bit for bit."""
    back, heard = RunFolder(tmp_path / "back"), Listening()
    with monkeypatch.context() as patch:
        diverging(patch, step=6, until=2)
        train(config(on_divergence="rollback"), back, reporter=heard)
    said = [line for line in heard.said if line.startswith("back ")]
    assert [line.partition(" (")[0] for line in said] == [
        f"back     to step {EPOCH} at {rate} of the learning rate" for rate in (0.5, 0.25)
    ]
    assert all("diverged at step 7: site x (reconstruction) is not finite" in line for line in said)
    assert steps_of(back, "train") == steps_of(back, "validation") == [EPOCH, 2 * EPOCH]
    assert back.state("last")["rollbacks"] == 2

    by_hand = RunFolder(tmp_path / "by-hand")
    train(config(max_steps=EPOCH), by_hand)
    with by_hand:
        by_hand.open()
        by_hand.save("last", EPOCH, by_hand.weights("last"), by_hand.state("last") | {"rollbacks": 2})
    train(config(), by_hand, resume=True)
    assert same_weights(by_hand, back)
    whole = RunFolder(tmp_path / "whole")
    train(config(), whole)
    assert not same_weights(whole, back)


def test_after_three_times_it_stops_and_the_checkpoint_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    diverging(monkeypatch, step=6, until=9)
    with pytest.raises(Diverged, match="step 7") as caught:
        train(config(on_divergence="rollback"), folder)
    assert caught.value.__notes__ == ["training went back 3 times before: its learning rate is too high"]
    assert folder.state("last")["rollbacks"] == 3 and steps_of(folder, "train") == [EPOCH]
    with pytest.raises(Diverged):  # resuming counts on
        train(config(on_divergence="rollback"), folder, resume=True)
    assert folder.state("last")["rollbacks"] == 3


@pytest.mark.parametrize(
    ("step", "settings", "notes"),
    [
        (6, {}, []),
        (
            1,
            {"on_divergence": "rollback"},
            ["there is no checkpoint to go back to: ask for more by `checkpoint_minutes`"],
        ),
    ],
    ids=["by default", "without a checkpoint"],
)
def test_it_stops(
    step: int, settings: dict[str, Any], notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, step=step, until=9)
    with pytest.raises(Diverged, match=f"step {step + 1}") as caught:
        train(config(**settings), RunFolder(tmp_path / "run"))
    assert getattr(caught.value, "__notes__", []) == notes


def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, update = RunFolder(tmp_path / "run"), Loop._update

    def spoilt(self: Loop, record: LossRecord, step: int) -> Any:
        result = update(self, record, step)
        if step == 5:
            next(self.vae.parameters()).data.view(-1)[0] = torch.inf
        return result

    monkeypatch.setattr(Loop, "_update", spoilt)
    with pytest.raises(Diverged, match=r"training diverged at step 6: its update made .* not finite"):
        train(config(max_steps=6, validate_every=100, checkpoint_minutes=1e-9), folder)
    assert folder.state("last")["step"] == 5
    assert all(bool(tensor.isfinite().all()) for tensor in folder.weights("last").values())


def test_nor_the_best_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An opponent's weights are not part of the held-out objective, which stays finite."""
    folder, update = RunFolder(tmp_path / "run"), Loop._update

    def spoilt(self: Loop, record: LossRecord, step: int) -> Any:
        result = update(self, record, step)
        if step == 2 * EPOCH - 1:
            next(self.objective.opponents()[0].parameters()).data.view(-1)[0] = torch.inf
        return result

    monkeypatch.setattr(Loop, "_update", spoilt)
    with pytest.raises(Diverged, match=f"training diverged at step {2 * EPOCH}: its update made .*terms.* not finite"):
        train(config(method="cycle+predictor"), folder)
    for which in ("best", "last"):
        assert folder.state(which)["step"] == EPOCH  # type: ignore[arg-type]
        assert all(bool(tensor.isfinite().all()) for tensor in folder.weights(which).values())  # type: ignore[arg-type]


def test_rows_of_a_long_run_are_means_of_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LOG_EVERY", 2)
    monkeypatch.setattr(log_module, "ROWS_GROW", 8)
    folder = RunFolder(tmp_path / "run")
    train(config(max_steps=32, validate_every=100), folder)
    assert steps_of(folder, "train") == [2, 4, 6, 10, 14, 22, 30, 32]


# When it validates


@given(st.integers(1, 400), st.integers(1, 64), st.integers(1, 5000), st.integers(1, 3000))
def test_validations_take_a_twentieth_of_the_images(batches: int, size: int, held_out: int, steps: int) -> None:
    calendar = Calendar.of(None, steps, batches, size, held_out)
    validations = [done for done in range(1, steps + 1) if calendar.has(done)]
    assert validations[-1] == steps
    between = [b - a for a, b in zip([0, *validations], validations[:-1], strict=False)]
    for gap in between:
        assert gap % batches == 0 and gap * size >= 20 * held_out
        assert (gap - batches) * size < 20 * held_out  # no epoch longer than needed
    assert all(Calendar.of(0, steps, batches, size, held_out).has(done) == (done % batches == 0 or done == steps)
               for done in range(1, steps + 1))  # fmt: skip
    assert Calendar.of(7, 20, batches, size, held_out)[1] == 7


@pytest.mark.parametrize(("every", "at"), [(3, [3, 6, 8]), (0, [4, 8]), (None, [8])])
def test_a_run_validates_then_also_when_it_was_resumed(every: int | None, at: list[int], tmp_path: Path) -> None:
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(config(validate_every=every), whole)
    assert steps_of(whole, "validation") == at

    class Stopping(Listening):
        steps = 0

        def training(self, *_: Any) -> None:
            raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(log_module, "LOG_EVERY", 5)
        train(config(validate_every=every, checkpoint_minutes=1e-9), parts, reporter=Stopping())
    train(config(validate_every=every), parts, resume=True)
    assert steps_of(parts, "validation") == at and same_weights(whole, parts)


def test_a_run_of_before_validates_after_each_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(config(max_steps=EPOCH, validate_every=None), folder)
    record = json.loads(folder.config_file.read_text())
    assert read_fit(folder.config_file).validate_every is None
    del record["fit"]["validate_every"], record["fit"]["on_divergence"]
    folder.config_file.write_text(json.dumps(record))
    assert read_fit(folder.config_file).validate_every == 0
    train(config(max_steps=3 * EPOCH), folder, resume=True)
    assert steps_of(folder, "validation") == [EPOCH, 2 * EPOCH, 3 * EPOCH]
