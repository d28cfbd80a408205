"""What is frozen stays bit by bit, and all else trains: eager, compiled, under SVI, and in `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import Tensor, nn

import pyro_disent
from pyro_disent.compiled.adam import Adam
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError, Interrupted
from pyro_disent.objectives.elbo import ForwardCycle, Objective
from pyro_disent.objectives.methods import build_objective
from pyro_disent.runs.presets import configure
from pyro_disent.training import compiling, log
from pyro_disent.training import train as training
from pyro_disent.training.handed_over import HANDED_OVER, HandedOver
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.schedule import make_optimizer
from tests.models import conditional_latents, linear_vae, pair_batch
from tests.test_fit import Interrupting
from tests.test_terms import SETTING

METHOD = "cycle+similarity+predictor"
PARTS: dict[str, Callable[[nn.Module], Iterable[nn.Parameter]]] = {
    "one bias": lambda every: [every.vae.model.decoder[0].bias],
    "one head": lambda every: every.vae.guide.heads["y"].parameters(),
    "the encoder": lambda every: every.vae.guide.encoder.parameters(),
    "the decoder": lambda every: every.vae.model.decoder.parameters(),
    "a prior": lambda every: every.vae.model.priors.parameters(),
    "the guide": lambda every: every.vae.guide.parameters(),
    "the model": lambda every: every.vae.model.parameters(),
    "the opponent": lambda every: every.terms.parameters(),
    "all but the opponent": lambda every: every.vae.parameters(),
}
STEPS: dict[str, Callable[[Objective], EagerStep]] = {
    "eager": EagerStep,
    "compiled": lambda objective: CompiledStep(objective, backend="eager"),
}


def everything(part: str | None = None) -> nn.Module:
    """A model with a conditional prior and an opponent; one part of it frozen."""
    every = nn.Module()
    every.vae, every.elbo = linear_vae(conditional_latents()), build_objective(METHOD, SETTING)
    every.terms = every.elbo.terms
    for parameter in PARTS[part](every) if part else ():
        parameter.requires_grad_(False)
    return every


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_only_what_is_frozen_stayed(module: nn.Module, before: dict[str, Tensor], frozen: set[str]) -> None:
    assert {name for name, parameter in module.named_parameters() if not parameter.requires_grad} == frozen
    assert {name for name, parameter in module.named_parameters() if torch.equal(parameter, before[name])} == frozen


def frozen_names(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


COMPILED = ["the encoder", "the opponent"]  # capturing takes its time


@pytest.mark.parametrize(
    ("step", "part"), [("eager", part) for part in PARTS] + [("compiled", part) for part in COMPILED]
)
def test_a_step_trains_all_but_what_is_frozen(step: str, part: str) -> None:
    every = everything(part)
    objective = every.elbo(every.vae.model, every.vae.guide)
    before, frozen = snapshot(every), frozen_names(every)
    take, optimizer = STEPS[step](objective), make_optimizer(objective, 1e-2)
    for seed in range(2):
        batch, gradients = pair_batch(), []
        for each in (EagerStep(objective), take):
            torch.manual_seed(seed)
            each(batch)
            gradients.append({name: each.grad for name, each in every.named_parameters() if each.grad is not None})
        assert gradients[1].keys() == before.keys() - frozen
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)
        optimizer.step()
    assert_only_what_is_frozen_stayed(every, before, frozen)
    assert len(optimizer.state) == len(before) - len(frozen)


@pytest.mark.parametrize("step", STEPS)
def test_what_is_frozen_later_stays_from_then_on_and_what_is_released_trains(step: str) -> None:
    """Momentum and the last gradient of what is frozen are still there: neither may move it."""
    every = everything("the decoder")
    objective = every.elbo(every.vae.model, every.vae.guide)
    take = STEPS[step](objective)
    optimizer = Adam(every.parameters(), lr=1e-2)

    def train() -> None:
        for _ in range(2):
            take(pair_batch())
            nn.utils.clip_grad_norm_(every.parameters(), 10.0)
            optimizer.step()

    train()
    for part, requires_grad in (("the encoder", False), ("the decoder", True)):
        for parameter in PARTS[part](every):
            parameter.requires_grad_(requires_grad)
    before, frozen = snapshot(every), frozen_names(every)
    train()
    assert_only_what_is_frozen_stayed(every, before, frozen)


def test_clipping_leaves_an_older_gradient_of_what_is_frozen_out() -> None:
    every = everything()
    objective = every.elbo(every.vae.model, every.vae.guide)
    norms = []
    for stale in (False, True):
        for parameter in PARTS["the encoder"](every):
            parameter.requires_grad_(False)
            parameter.grad = torch.full_like(parameter, 1e6) if stale else None
        torch.manual_seed(3)
        EagerStep(objective)(pair_batch())
        norms.append(nn.utils.clip_grad_norm_(list(every.parameters()), 1.0).item())
    assert norms[0] == norms[1]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("loss", [METHOD, "Trace_ELBO"])
@pytest.mark.parametrize("asked_before", [False, True], ids=["at once", "after Predictive"])
def test_svi_trains_all_but_what_is_frozen(part: str, loss: str, asked_before: bool) -> None:
    every = everything(part)
    trained, elbo = (every, every.elbo) if loss == METHOD else (every.vae, Trace_ELBO())
    before, frozen = snapshot(trained), frozen_names(trained)
    if asked_before:
        Predictive(every.vae.model, num_samples=2)(images=3)
        Predictive(every.vae.guide, num_samples=2)(pair_batch())
        assert frozen_names(trained) == frozen
    svi = SVI(every.vae.model, every.vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=elbo)
    for _ in range(2):
        svi.step(pair_batch())
    assert_only_what_is_frozen_stayed(trained, before, frozen)


def test_svi_leaves_alone_what_is_frozen_between_two_steps() -> None:
    every = everything()
    svi = SVI(every.vae.model, every.vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=every.elbo)
    svi.step(pair_batch())
    for parameter in PARTS["the encoder"](every):
        parameter.requires_grad_(False)
    before, frozen = snapshot(every), frozen_names(every)
    svi.step(pair_batch())
    assert_only_what_is_frozen_stayed(every, before, frozen)


def test_where_everything_is_frozen_it_is_said() -> None:
    every = everything()
    every.requires_grad_(False)
    objective = every.elbo(every.vae.model, every.vae.guide)
    svi = SVI(every.vae.model, every.vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle())
    for attempt in (
        lambda: EagerStep(objective)(pair_batch()),
        lambda: CompiledStep(objective, backend="eager")(pair_batch()),
        lambda: svi.step(pair_batch()),
        lambda: make_optimizer(objective, 1e-3),
    ):
        with pytest.raises(InputError, match="nothing is left to train"):
            attempt()


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 8, 8), dtype=np.uint8)


def data() -> DataSet:
    return from_arrays(images(), identity=np.repeat(np.arange(12), 4))


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(5)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 5))
    return encoder, nn.Sequential(nn.Linear(5, 64), nn.Unflatten(1, (1, 8, 8)))


TINY = {"preset": "quick", "latents": {"z": 3, "y": 2}, "batch_size": 8, "max_steps": 6, "compile": False}
IN_FIT: dict[str, Callable[[nn.Module, nn.Module], Iterable[nn.Parameter]]] = {
    "one layer": lambda encoder, _: encoder[1].parameters(),
    "one weight": lambda _, decoder: [decoder[0].weight],
    "the encoder": lambda encoder, _: encoder.parameters(),
    "the decoder": lambda _, decoder: decoder.parameters(),
    "both": lambda encoder, decoder: [*encoder.parameters(), *decoder.parameters()],
}


@pytest.mark.parametrize(("compiled", "part"), [(False, part) for part in IN_FIT] + [(True, "the encoder")])
def test_fit_trains_all_but_what_is_frozen(
    part: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "CompiledStep", lambda *a, mode: CompiledStep(*a, backend="eager"))
    monkeypatch.setattr(compiling, "why_not_compiled", lambda: None)
    encoder, decoder = networks()
    for parameter in IN_FIT[part](encoder, decoder):
        parameter.requires_grad_(False)
    given = nn.ModuleList([encoder, decoder])
    before, frozen = snapshot(given), frozen_names(given)
    run = pyro_disent.fit(
        "cycle", data(), out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY | {"compile": compiled}
    )
    assert run.record.compiled == compiled
    assert_only_what_is_frozen_stayed(given, before, frozen)
    assert all(head.bias.abs().sum() > 0 for head in run.vae.guide.heads.values())  # they start at 0
    optimizer = RunFolder(run.path).state("last")["optimizer"]
    assert len(optimizer["state"]) == len([p for p in run.objective.parameters() if p.requires_grad])


def test_a_resumed_run_with_a_frozen_encoder_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LOG_EVERY", 1)
    config = configure("cycle+similarity", HANDED_OVER, None, TINY | {"network": HANDED_OVER})
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")

    def frozen() -> tuple[nn.Module, nn.Module]:
        encoder, decoder = networks()
        return encoder.requires_grad_(False), decoder

    training.train(config, whole, data=data(), objects=HandedOver(frozen()))
    with pytest.raises(Interrupted):
        training.train(config, parts, data=data(), objects=HandedOver(frozen()), reporter=Interrupting(after=3))
    training.train(config, parts, data=data(), objects=HandedOver(frozen()), resume=True)
    start = frozen()[0].state_dict()
    for name, tensor in whole.weights("last").items():
        assert torch.equal(tensor, parts.weights("last")[name]), name
        if ".encoder." in name:
            assert torch.equal(tensor, start[name.rpartition("encoder.")[2]])
