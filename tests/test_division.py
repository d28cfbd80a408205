"""A batch that is taken in parts one after the other has the gradient of the whole, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import pyro_disent
from pyro_disent.batch import Batch
from pyro_disent.compiled.step import EagerStep
from pyro_disent.errors import InputError
from pyro_disent.models.program import seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import METHODS
from pyro_disent.objectives.step import LossRecord
from pyro_disent.training.division import check_divisible, in_parts
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests import several
from tests.models import linear_vae
from tests.table import tiny

PARTS = 3


def taken_in_parts(objective: Objective, step: EagerStep, batch: Batch) -> LossRecord:
    parts = batch.parts(PARTS)

    def evaluate(part: int) -> LossRecord:
        seed_random_state(several.noise_of(part), several.CPU)
        return step(parts[part])

    return in_parts(evaluate, PARTS, objective.parameters())


@pytest.mark.parametrize("case", [*(f"{name}/eager" for name in METHODS), "cycle+similarity+predictor/compiled"])
def test_parts_have_the_gradient_of_the_whole_unless_a_term_is_of_the_whole(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the parts know different numbers of a factor's values."""
    method, compiled = case.split("/")
    objective, batch = several.objective_of(method), several.batch_of(PARTS)
    step = several.step_of(objective, compiled, batch.parts(PARTS)[0])
    in_turn = taken_in_parts(objective, step, batch)
    got = several.gradients(objective)
    several.drawing_for(PARTS, monkeypatch)
    record = EagerStep(objective)(batch)
    refused = any(term.of_whole_batch for term in objective.terms.values())
    assert refused == (method in ("factor-vae", "total-correlation", "dip", "info-nce"))
    if refused:
        with pytest.raises(AssertionError):
            several.assert_same(got, several.gradients(objective))
        with pytest.raises(InputError, match=rf"`accumulate=2` .* the term {next(iter(objective.terms))} compares"):
            check_divisible(objective, 2, 1)
        check_divisible(objective, 1, 2)
        return
    several.assert_same(got, several.gradients(objective))
    for value, expected in zip(in_turn, record, strict=True):
        for name in value if isinstance(value, dict) else [None]:
            one, other = (value, expected) if name is None else (value[name], expected[name])
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    check_divisible(objective, 2, 2)


def test_a_step_draws_by_seed_step_and_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The parts of a step and the steps of a run each draw noise of their own, and a resumed run draws the same."""
    drawn: list[float] = []
    step = EagerStep.__call__

    def listened(self: EagerStep, batch: Batch) -> LossRecord:
        with torch.random.fork_rng([]):
            drawn.append(torch.rand(()).item())
        assert batch.size == 4
        return step(self, batch)

    monkeypatch.setattr(EagerStep, "__call__", listened)
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(tiny("cycle+predictor", max_steps=3, accumulate=4), whole)
    assert len(drawn) == len(set(drawn)) == 12
    train(tiny("cycle+predictor", max_steps=1, accumulate=4), parts)
    pyro_disent.fit(resume=parts.path, max_steps=3)
    assert drawn[12:] == drawn[:12]
    assert parts.read_record().fit.accumulate == 4
    for name, value in whole.weights("last").items():
        assert torch.equal(value, parts.weights("last")[name])


def test_batches_that_have_no_equal_parts_are_refused() -> None:
    with pytest.raises(InputError, match=r"`batch_size=16` cannot be divided by `accumulate=3`$"):
        tiny(accumulate=3)
    with pytest.raises(InputError, match="`batch_size=16` cannot be divided by `accumulate=8` on each of 4 devices"):
        tiny(accumulate=8, devices=4)


@pytest.mark.parametrize("said", [{"accumulate": 2}, {"accumulate": 1, "devices": 2}])
def test_statistics_of_a_part_are_refused(said: dict[str, int]) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(20, 7), nn.BatchNorm1d(7), nn.Tanh())
    vae = linear_vae()
    vae.guide.encoder = encoder
    objective = pyro_disent.DisentanglingELBO()(vae.model, vae.guide)
    accumulate, devices = said["accumulate"], said.get("devices", 1)
    setting = next(f"`{name}=2`" for name, value in said.items() if value == 2)
    says = f"{setting} takes a batch in parts, and guide.encoder.2 is a BatchNorm1d, whose statistics"
    with pytest.raises(InputError, match=says):
        check_divisible(objective, accumulate, devices)
    check_divisible(objective, 1, 1)
    encoder[2].eval()  # it has its statistics already
    check_divisible(objective, accumulate, devices)
    encoder[2] = nn.BatchNorm1d(7, track_running_stats=False).eval()
    with pytest.raises(InputError, match=says):
        check_divisible(objective, accumulate, devices)


def test_a_refused_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the term info-nce compares all images of a batch"):
        train(tiny("info-nce", accumulate=2), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
