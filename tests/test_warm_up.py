"""Weights that warm up: under SVI, in a torch loop, in `fit` and its files; and warm-ups that cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer import SVI

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.methods import build_objective
from pyro_disent.objectives.terms import Similarity
from pyro_disent.objectives.weights import WarmUp, weight_at
from pyro_disent.training.config import FitConfig
from pyro_disent.training.record import read_fit
from tests.models import linear_vae, pair_batch
from tests.table import tiny
from tests.test_frozen import TINY, data
from tests.test_terms import SETTING

WEIGHTS: dict[str, dict[str, Any]] = {
    "beta": {"beta": WarmUp(4.0, 10)},
    "the beta of one latent": {"beta": {"y": WarmUp(2.0, 4)}},
    "a term's": {"weights": {"similarity": WarmUp(0.6, 5)}},
    "several": {"beta": {"z": WarmUp(2.0, 3), "y": 1.5}, "weights": {"similarity": WarmUp(8.0, 7)}},
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_under_svi_each_weight_rises_by_itself(case: str) -> None:
    vae, batch = linear_vae(), pair_batch()
    elbo = DisentanglingELBO([Similarity()], **WEIGHTS[case])
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.0}), loss=elbo)
    for step in range(12):
        expected = torch.tensor([weight_at(weight, step) for weight in elbo.weights.by_name.values()])
        torch.testing.assert_close(elbo.weights.values, expected)
        torch.manual_seed(2)
        asked = svi.evaluate_loss(batch)  # which is no step
        torch.manual_seed(2)
        assert svi.step(batch) == pytest.approx(asked)
        torch.manual_seed(2)
        record = elbo.record(vae.model, vae.guide, batch)
        weights = dict(zip(elbo.weights.by_name, expected, strict=True))
        kl = sum(weights.get(f"beta:{name}", weights["beta"]) * value for name, value in record.kl.items())
        by_hand = record.reconstruction + kl + weights["similarity"] * record.terms["similarity"]
        assert asked == pytest.approx(by_hand.item(), rel=1e-5)


def test_svi_goes_on_from_the_step_that_was_set() -> None:
    vae, batch = linear_vae(), pair_batch()
    elbo = ForwardCycle(beta=WarmUp(1.0, 100))
    elbo.weights.set_step(50)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=elbo)
    svi.step(batch)
    assert elbo.weights.values.item() == pytest.approx(0.51)


def test_a_loop_with_a_torch_optimizer_decides_by_itself() -> None:
    vae, batch = linear_vae(), pair_batch()
    objective = ForwardCycle(beta=WarmUp(1.0, 4))(vae.model, vae.guide)
    for step in range(6):
        objective.weights.set_step(step)
        objective(batch).backward()
        assert objective.weights.values.item() == pytest.approx(min(1.0, step / 4))


@pytest.mark.parametrize("case", WEIGHTS)
def test_fit_writes_and_loads_and_repeats_a_warm_up(case: str, tmp_path: Path) -> None:
    said = WEIGHTS[case] | {"max_steps": 10}
    run = pyro_disent.fit("similarity", data(), out=tmp_path / "run", network="mlp", **TINY | said)
    config = read_fit(run.path / "config.json")
    for name, value in WEIGHTS[case].items():
        assert getattr(config, name) == value
    again = pyro_disent.load(run.path)
    assert again.objective.weights.by_name == run.objective.weights.by_name
    for name, weight in WEIGHTS[case].get("weights", {}).items():
        assert again.objective.weights.by_name[name] == weight


numbers = st.floats(0, 100) | st.builds(WarmUp, st.floats(0, 100), st.integers(1, 10**6))
names = st.sampled_from(["z", "y", "warm_up", "weight", "steps"])


@given(beta=st.none() | numbers | st.dictionaries(names, numbers), weights=st.dictionaries(names, numbers))
def test_every_weight_comes_back_from_json(beta: Any, weights: dict[str, Any]) -> None:
    config = tiny(beta=beta, weights=weights)
    assert FitConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "values", [{"weight": 1.0, "steps": 0}, {"weight": 1.0, "steps": -3}, {"weight": 1.0, "steps": 2.5},
               {"weight": float("nan"), "steps": 3}, {"weight": "1", "steps": 3}],
)  # fmt: skip
def test_a_warm_up_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a warm-up"):
        WarmUp(**values)
    with pytest.raises(InputError, match="a warm-up"):
        FitConfig.from_json(tiny().to_json() | {"beta": {"z": {"warm_up": values}}})


@pytest.mark.parametrize(
    ("method", "said", "says"),
    [
        ("cycle", {"warmup_steps": 3}, "the method 'cycle' has none"),
        ("beta-vae+cycle", {"warmup_steps": 3}, "has none"),
        ("similarity", {"warmup_steps": 7}, "takes 7 steps, and the run has 6"),
        ("similarity", {"warmup_steps": -1}, "`warmup_steps` must be 0"),
        ("cycle", {"beta": WarmUp(1.0, 7)}, "takes 7 steps, and the run has 6"),
        ("cycle", {"beta": {"y": WarmUp(1.0, 7)}}, "takes 7 steps, and the run has 6"),
        ("similarity", {"weights": {"similarity": WarmUp(1.0, 7)}}, "takes 7 steps, and the run has 6"),
        ("cycle", {"beta": {"w": WarmUp(1.0, 3)}}, "`beta` names w"),
        ("cycle", {"weights": {"similarity": WarmUp(1.0, 3)}}, "no such term"),
    ],
)
def test_a_warm_up_that_would_do_nothing_is_refused_before_training(
    method: str, said: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        pyro_disent.fit(method, data(), out=tmp_path / "run", network="mlp", **TINY | said)
    assert list(tmp_path.iterdir()) == []


def test_a_warm_up_of_a_latent_that_is_not_there_is_refused_under_svi() -> None:
    vae = linear_vae()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=ForwardCycle(beta={"w": WarmUp(1.0, 3)}))
    with pytest.raises(InputError, match="beta names w"):
        svi.step(pair_batch())
    with pytest.raises(ValueError, match="not there"):
        DisentanglingELBO(weights={"similarity": WarmUp(1.0, 3)})


def test_a_run_from_before_that_warmed_up_nothing_still_loads(tmp_path: Path) -> None:
    run = pyro_disent.fit("cycle", data(), out=tmp_path / "run", network="mlp", **TINY)
    config = json.loads((run.path / "config.json").read_text())
    config["fit"]["warmup_steps"] = 100
    (run.path / "config.json").write_text(json.dumps(config))
    assert pyro_disent.load(run.path).objective.weights.by_name == {"beta": 1.0}


def test_a_term_with_a_warm_up_of_its_own_keeps_it_beside_the_option() -> None:
    elbo = build_objective(
        "similarity+dip", SETTING, weights={"similarity": WarmUp(2.0, 3), "dip": 4.0}, warmup_steps=9
    )
    assert elbo.weights.by_name["similarity"] == WarmUp(2.0, 3) and elbo.weights.by_name["dip"] == WarmUp(4.0, 9)
