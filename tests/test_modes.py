"""Every part of a model keeps its own training or evaluation mode, and no running statistic moves but in a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyro_disent
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.data.dataset import Examples
from pyro_disent.evaluation import bounds, opponents
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.program import evaluating
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import build_objective
from pyro_disent.training.validation import validate
from tests.models import SHAPE, pair_batch
from tests.test_frozen import TINY, data, images
from tests.test_terms import SETTING


class AlwaysEvaluating(nn.BatchNorm1d):
    """The usual way to freeze one: it hears `train` and does not listen, and counts how often it was asked."""

    asked = 0

    def train(self, mode: bool = True) -> AlwaysEvaluating:
        self.asked += 1
        return super().train(False)


def networks(pixels: int = 20, shape: tuple[int, ...] = SHAPE) -> tuple[nn.Module, nn.Module]:
    """A frozen norm in a training encoder beside one that trains; a dropout that draws in an evaluating decoder."""
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 8), nn.BatchNorm1d(8), nn.Sequential(AlwaysEvaluating(8), nn.BatchNorm1d(8))
    )
    decoder = nn.Sequential(
        nn.Linear(5, 8), nn.Sequential(nn.BatchNorm1d(8), nn.Dropout()), nn.Linear(8, pixels), nn.Unflatten(1, shape)
    )
    encoder[2].eval()
    encoder[3].eval()
    encoder[3].train()
    decoder.eval()
    decoder[1][1].train()
    return encoder, decoder


def modes(*modules: nn.Module) -> list[bool]:
    return [part.training for module in modules for part in module.modules()]


def buffers(*modules: nn.Module) -> dict[str, Tensor]:
    return {f"{k}.{name}": each.clone() for k, module in enumerate(modules) for name, each in module.named_buffers()}


QUERIES: dict[str, Callable[[FactoredVAE, Objective], Any]] = {
    "encode": lambda vae, _: vae.encode(torch.rand(5, *SHAPE)),
    "codes": lambda vae, _: vae.codes(torch.rand(5, *SHAPE)),
    "decode": lambda vae, _: vae.decode({"z": torch.randn(5, 3), "y": torch.randn(5, 2)}),
    "prior_sample": lambda vae, _: vae.prior_sample(5),
    "a bound": lambda vae, _: bounds.elbo(vae, torch.rand(5, *SHAPE)),
    "the opponent's skill": lambda vae, objective: opponents.skill(
        objective,
        objective.terms["predictor"],
        Examples(torch.zeros(5, *SHAPE, dtype=torch.uint8), {"angle": torch.randn(5)}, {}),
    ),
}


@pytest.mark.parametrize("query", QUERIES)
def test_building_and_asking_move_no_mode_and_no_statistic(query: str) -> None:
    encoder, decoder = networks()
    before, statistics, asked = modes(encoder, decoder), buffers(encoder, decoder), encoder[3][0].asked
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, decoder)
    assert modes(encoder, decoder) == before
    objective = build_objective("cycle+predictor", SETTING)(vae.model, vae.guide)
    vae.guide.heads["y"].eval()
    all_modes = modes(objective)
    QUERIES[query](vae, objective)
    assert modes(objective) == all_modes and modes(encoder, decoder) == before
    assert encoder[3][0].asked == asked
    after = buffers(encoder, decoder)
    assert [name for name, each in statistics.items() if not torch.equal(each, after[name])] == []


def test_queries_answer_in_evaluation_mode_whatever_the_modes() -> None:
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *networks())
    code = {"z": torch.randn(5, 3), "y": torch.randn(5, 2)}
    mixed, mean = vae.decode(code), vae.encode(torch.ones(5, *SHAPE))["z"][0]
    vae.eval()
    assert torch.equal(mixed, vae.decode(code)) and torch.equal(mean, vae.encode(torch.ones(5, *SHAPE))["z"][0])


def test_modes_come_back_after_an_error() -> None:
    encoder, decoder = networks()
    before = modes(encoder, decoder)
    with pytest.raises(ZeroDivisionError), evaluating(encoder, decoder):
        assert not any(modes(encoder, decoder))
        raise ZeroDivisionError
    assert modes(encoder, decoder) == before


STEPS = {"eager": EagerStep, "compiled": lambda objective: CompiledStep(objective, backend="eager")}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    names = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    return {name for name in names if not torch.equal(before[f"{name}.running_mean"], after[f"{name}.running_mean"])}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_runs_in_the_modes_that_were_handed_over(step: str) -> None:
    encoder, decoder = networks()
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, decoder)
    before, statistics = modes(encoder, decoder), buffers(encoder, decoder)
    take = STEPS[step](build_objective("cycle", SETTING)(vae.model, vae.guide))
    take(pair_batch())
    assert moved(statistics, buffers(encoder, decoder)) == {"0.3.1"}  # the one norm that trains
    assert modes(encoder, decoder) == before


def test_fit_trains_in_the_modes_that_were_handed_over_and_leaves_them(tmp_path: Path) -> None:
    encoder, decoder = networks(64, (1, 8, 8))
    before, statistics, asked = modes(encoder, decoder), buffers(encoder, decoder), encoder[3][0].asked
    run = pyro_disent.fit("cycle", data(), out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    assert modes(encoder, decoder) == before
    assert moved(statistics, buffers(encoder, decoder)) == {"0.3.1"}
    assert run.vae.guide.encoder is encoder and asked <= encoder[3][0].asked
    again = pyro_disent.load(run.path, encoder=networks(64, (1, 8, 8))[0], decoder=networks(64, (1, 8, 8))[1])
    assert not any(modes(again.vae))  # as is said of it
    pixels = images()[:3, None]
    assert torch.equal(again.vae.encode(pixels)["z"][0], run.vae.encode(pixels)["z"][0])


def test_validation_moves_no_mode_and_no_statistic() -> None:
    encoder, decoder = networks(64, (1, 8, 8))
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, decoder)
    objective = build_objective("cycle", SETTING)(vae.model, vae.guide)
    before, statistics = modes(objective), buffers(objective)
    validate(objective, data().validation, 0, 2)
    after = buffers(objective)
    assert modes(objective) == before and all(torch.equal(each, after[name]) for name, each in statistics.items())
