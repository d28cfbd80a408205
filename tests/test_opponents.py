"""The opponent's accuracy, a fresh classifier beside it, and the bins both speak of."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_disent.data.bins import edges_by_quantile, edges_by_range
from pyro_disent.data.dataset import Examples, Factor
from pyro_disent.data.own import folder
from pyro_disent.errors import InputError
from pyro_disent.evaluation.evaluate import evaluate
from pyro_disent.evaluation.opponents import classifier_accuracy, prediction, skill
from pyro_disent.models.latents import Latent, each
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import Setting, build_objective
from pyro_disent.objectives.terms import UNKNOWN, quantized
from pyro_disent.runs.presets import configure
from pyro_disent.runs.run import load
from pyro_disent.training import building
from pyro_disent.training import train as training
from pyro_disent.training.config import FitConfig
from pyro_disent.training.run_folder import RunFolder
from tests.dials import dials, reading_vae

HEIGHT = 0.5  # inner edge of the bins of height


def objective_that_reads_height(sees: list[int]) -> Objective:
    """A VAE whose z is these pixels, and an opponent whose answer is whether z's first unit is above 0."""
    vae = reading_vae(z=sees, y=[4, 5])
    setting = Setting(tuple(vae.latents), {"height": torch.tensor([HEIGHT])})
    objective = build_objective("predictor", setting, options={"predictor": {"on": "mean"}})(vae.model, vae.guide)
    term = prediction(objective)
    assert term is not None
    with torch.no_grad():
        for parameter in term.parameters():
            parameter.zero_()
        first, _, last = term.predictor.network
        first.weight[0, 0], first.weight[1, 0] = 1.0, -1.0
        last.weight[1, 0], last.weight[0, 1] = 1.0, 1.0
    return objective


class TestSkill:
    def test_of_an_opponent_that_reads_the_factor(self) -> None:
        objective, examples = objective_that_reads_height([6]), dials().test.examples(0)
        term = prediction(objective)
        assert term is not None
        found = skill(objective, term, examples)
        # z's mean is 4 x pixel - 2: above 0 where the pixel, height rounded to 8 bits, is above a half.
        height = examples.factors["height"]
        right = ((height * 255).round() / 255 > 0.5) == (height >= HEIGHT)
        assert found["accuracy.height"] == pytest.approx(right.float().mean().item(), abs=1e-6)
        share = (height >= HEIGHT).float().mean().item()
        assert found["chance.height"] == pytest.approx(max(share, 1 - share), abs=1e-6)

    def test_of_an_opponent_that_reads_something_else(self) -> None:
        objective, examples = objective_that_reads_height([1]), dials().test.examples(0)
        term = prediction(objective)
        assert term is not None
        guess = examples.images.flatten(1)[:, 1] / 255 > 0.5
        right = guess == (examples.factors["height"] >= HEIGHT)
        assert skill(objective, term, examples)["accuracy.height"] == pytest.approx(
            right.float().mean().item(), abs=1e-6
        )

    def test_unknown_values_count_neither_way(self) -> None:
        objective, examples = objective_that_reads_height([6]), dials().test.examples(0)
        height = examples.factors["height"].clone()
        height[::2] = math.nan
        term = prediction(objective)
        assert term is not None
        some = skill(objective, term, Examples(examples.images, {"height": height}, {}))
        known = Examples(examples.images[1::2], {"height": height[1::2]}, {})
        rest = skill(objective, term, known)
        assert some == pytest.approx(rest, abs=1e-6)


class TestClassifier:
    code = torch.randn(3_000, 3, generator=torch.Generator().manual_seed(0))
    bins = torch.bucketize(code[:, 1].contiguous(), torch.tensor([-0.5, 0.5]))

    def test_of_a_code_that_knows(self) -> None:
        accuracy = classifier_accuracy(self.code[:2_000], self.bins[:2_000], self.code[2_000:], self.bins[2_000:])
        assert accuracy > 0.98

    def test_of_a_code_that_knows_nothing_is_the_most_frequent_bin(self) -> None:
        nothing = torch.zeros(2_000, 1)
        asked = self.bins[2_000:]
        accuracy = classifier_accuracy(nothing, self.bins[:2_000], nothing[:1_000], asked)
        most_frequent = self.bins[:2_000].bincount().argmax()
        assert accuracy == pytest.approx((asked == most_frequent).float().mean().item())

    def test_unknown_bins_are_left_out(self) -> None:
        bins = self.bins.clone()
        bins[::3] = UNKNOWN
        known = bins != UNKNOWN
        train = torch.arange(3_000) < 2_000
        given = classifier_accuracy(self.code[train], bins[train], self.code[~train], bins[~train])
        kept = [train & known, ~train & known]
        assert given == classifier_accuracy(*(x for part in kept for x in (self.code[part], bins[part])))


class TestBins:
    @given(st.integers(2, 12), st.floats(-5, 0), st.floats(0.5, 5))
    def test_by_range_divide_it_evenly(self, bins: int, low: float, width: float) -> None:
        edges = edges_by_range(low, low + width, bins)
        assert len(edges) == bins - 1
        assert torch.allclose(edges, low + width / bins * torch.arange(1, bins), atol=1e-5)

    @given(st.integers(2, 9), st.integers(0, 2**31))
    def test_by_quantile_are_filled_evenly(self, bins: int, seed: int) -> None:
        values = torch.randn(1_000, generator=torch.Generator().manual_seed(seed))
        values[::10] = math.nan
        filled = quantized(values, edges_by_quantile(values, bins))
        counts = filled[filled != UNKNOWN].bincount(minlength=bins)
        assert counts.sum() == 900 and (counts - 900 / bins).abs().max() <= 1

    def test_a_value_on_an_edge_is_in_the_bin_above(self) -> None:
        values = torch.tensor([-1.0, 0.0, 0.5, math.nan])
        assert quantized(values, torch.tensor([0.0, 0.5])).tolist() == [0, 1, 2, UNKNOWN]

    @pytest.mark.parametrize("by", ["range", "quantile"])
    def test_are_made_of_training_values(self, by: str) -> None:
        data = dials()
        height = data.train.examples(0).factors["height"]
        edges = building.factor_edges(data, configured(bins={"height": 5}, bins_by=by))["height"]
        expected = (
            torch.linspace(height.min(), height.max(), 6)[1:-1]
            if by == "range"
            else torch.tensor([height.sort().values[round(k * (len(height) - 1) / 5)] for k in range(1, 5)])
        )
        assert edges == pytest.approx(expected.tolist(), abs=0.01)

    def test_use_a_known_range(self) -> None:
        data = dataclasses.replace(dials(), factors=(Factor("height", range=(0.0, 4.0)),))
        assert building.factor_edges(data, configured(bins=4)) == {"height": [1.0, 2.0, 3.0]}

    def test_leave_categories_alone(self) -> None:
        factors = (Factor("height", range=(0.0, 1.0)), Factor("azimuth", categories=("a", "b"), edges=(0.5,)))
        edges = building.factor_edges(dataclasses.replace(dials(), factors=factors), configured(bins=2))
        assert edges == {"height": [0.5], "azimuth": [0.5]}

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ({"bins": {"width": 3}}, r"`bins` names width; .*: azimuth, height"),
            ({"bins": 1}, "`bins=1` .* 2 or more"),
            ({"bins": 3, "bins_by": "size"}, "`bins_by=size` is not one of range, quantile"),
            ({"bins": {"azimuth": 40}, "bins_by": "quantile"}, "values of azimuth cannot fill 40 bins"),
            ({"predictor_side": "both"}, "the term predictor: side=both is not one of entropy, cross-entropy"),
            ({"predictor_on": "mode"}, "the term predictor: on=mode is not one of sample, mean"),
            ({"opponent_lr": -1.0}, "`opponent_lr` must be greater than 0"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, said: dict[str, Any], why: str) -> None:
        with pytest.raises(InputError, match=why):
            building.factor_edges(dials(), configured(**said))


def configured(**said: Any) -> FitConfig:
    settings: Mapping[str, Any] = {"data": "dials", "latents": {"z": 4, "y": 2}, "network": "mlp"} | said
    return configure("predictor", settings["data"], "quick", settings)


@pytest.mark.parametrize(
    ("said", "side", "on", "bins"),
    [
        ({}, "entropy", "sample", 2),
        ({"predictor_side": "cross-entropy", "predictor_on": "mean", "bins": 3}, "cross-entropy", "mean", 3),
    ],
)
def test_what_was_said_of_the_predictor_holds_in_a_run(
    said: dict[str, Any], side: str, on: str, bins: int, tmp_path: Path
) -> None:
    settings = {"max_steps": 3, "batch_size": 16, "limit": 64, "source": "embedded", "opponent_lr": 0.5}
    folder = RunFolder(tmp_path / "run")
    training.train(configure("predictor", "rotated-mnist", "quick", settings | said), folder)
    run = load(folder.path)
    term = prediction(run.objective)
    assert term is not None and (term.side, term.on) == (side, on)
    assert term.predictor.bins == {"rotation": bins}
    state = folder.state("last")["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in state] == [1e-3, 0.5]
    assert json.loads(folder.config_file.read_text())["edges"]["rotation"] == pytest.approx(
        [0.0] if bins == 2 else [-math.pi / 9, math.pi / 9], abs=1e-6
    )


def test_evaluation_has_opponent_classifier_and_chance_side_by_side() -> None:
    objective = objective_that_reads_height([6])
    found = evaluate(reading_vae(z=[6], y=[4, 5]), dials(), objective=objective, method="predictor")
    assert found.method == "predictor"
    numbers = {key: number.to_json() for key, number in found.numbers.items()}
    assert numbers["accuracy/height"]["value"] > 0.99 and numbers["classifier/height/z"]["value"] > 0.99
    assert numbers["classifier/height/y"]["value"] < 0.7
    assert 0.5 <= numbers["chance/height"]["value"] < 0.6


def test_a_preset_adds_what_a_method_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = folder.PRESETS["quick"] | {"with": {"similarity": {"weights": {"similarity": 5.0}, "beta": 1.1}}}
    monkeypatch.setitem(folder.PRESETS, "quick", quick)
    assert configure("vae", "dials", "quick", {}).weights == {}
    both = configure("cycle+similarity", "dials", "quick", {})
    assert (both.weights, both.beta) == ({"similarity": 5.0}, 1.1)
    assert configure("similarity", "dials", "quick", {"weights": {"similarity": 2.0}}).weights == {"similarity": 2.0}


LABELLED = {"azimuth": torch.tensor([1.0]), "light": torch.tensor([0.5])}


@pytest.mark.parametrize(
    ("latents", "always", "said", "guarded", "hidden"),
    [
        ({"z": "common", "y": "rest"}, (), {}, ["z"], ["azimuth", "light"]),
        ({"z": "common", "y": "rest"}, ("azimuth",), {}, ["z"], ["light"]),
        ({"person": ("identity",), "light": ("light",)}, (), {}, ["person"], ["azimuth", "light"]),
        ({"person": ("identity",), "light": ("light",), "y": "rest"}, (), {}, ["person"], ["azimuth", "light"]),
        ({"both": each("azimuth", "light"), "y": "rest"}, (), {}, ["y"], ["azimuth", "light"]),
        ({"z": "common", "light": ("light",)}, (), {"guard": ["light"]}, ["light"], ["azimuth"]),
        ({"z": "common", "light": ("light",)}, (), {"guard": ["z", "light"]}, ["z", "light"], ["azimuth"]),
        ({"z": "common"}, ("azimuth",), {"hide": ["azimuth"]}, ["z"], ["azimuth"]),
    ],
)
def test_what_is_hidden_from_whom(latents: Any, always: Any, said: Any, guarded: list[str], hidden: list[str]) -> None:
    made = tuple(Latent(name, 2, explains=explains) for name, explains in latents.items())
    (term,) = build_objective("predictor", Setting(made, LABELLED, always), options={"predictor": said}).terms.values()
    assert (list(term.latents), list(term.factors)) == (guarded, hidden)


def test_a_guard_without_a_predictor_is_refused() -> None:
    setting = Setting((Latent("z", 2),), {})
    with pytest.raises(InputError, match=r"`terms` names predictor, but 'similarity' has no such term: .* similarity"):
        build_objective("similarity", setting, options={"predictor": {"guard": ["z"]}})


def test_hiding_what_has_no_labels_is_refused() -> None:
    setting = Setting((Latent("z", 2),), LABELLED)
    with pytest.raises(InputError, match="no factor lihgt with labels to hide; there are azimuth, light"):
        build_objective("predictor", setting, options={"predictor": {"hide": ["lihgt"]}})
