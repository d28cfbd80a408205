"""Pyro's parameter store that is saved and loaded, and models that are pickled and copied after SVI."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import Tensor, nn

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.methods import build_objective
from tests import forked
from tests.models import SHAPE, linear_vae, pair_batch
from tests.test_terms import SETTING


def named(name: str | None = "faces", hidden: int = 7, latents: list[Latent] | None = None) -> FactoredVAE:
    made = linear_vae(latents, hidden=hidden)
    return FactoredVAE(made.latents, made.guide.encoder, made.model.decoder, name=name)


def train(vae: FactoredVAE, elbo: Any = None, steps: int = 2) -> None:
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=elbo or ForwardCycle())
    for _ in range(steps):
        svi.step(pair_batch())


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_equal(module: nn.Module, expected: dict[str, Tensor]) -> None:
    assert [name for name, each in module.named_parameters() if not torch.equal(each, expected[name])] == []


def saved(path: Path) -> Path:
    pyro.get_param_store().save(str(path))
    pyro.clear_param_store()
    return path


USES: dict[str, Callable[[FactoredVAE], Any]] = {
    "encode": lambda vae: vae.encode(torch.rand(2, *SHAPE)),
    "decode": lambda vae: vae.decode({"z": torch.randn(2, 3), "y": torch.randn(2, 2)}),
    "prior_sample": lambda vae: vae.prior_sample(2),
    "state_dict": lambda vae: vae.state_dict(),
    "model and guide": lambda vae: (vae.model(images=2), vae.guide(torch.rand(2, *SHAPE))),
    "Predictive": lambda vae: [Predictive(p, num_samples=2)(torch.rand(2, *SHAPE)) for p in (vae.model, vae.guide)],
    "SVI": lambda vae: SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 0.0}), loss=Trace_ELBO()).step(pair_batch()),
    "evaluate_loss": lambda vae: SVI(
        vae.model, vae.guide, pyro.optim.Adam({"lr": 0.1}), loss=ForwardCycle()
    ).evaluate_loss(pair_batch()),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("built", ["before", "after"])
def test_a_named_model_finds_its_weights_in_a_loaded_store(use: str, built: str, tmp_path: Path) -> None:
    vae = named()
    train(vae)
    assert "faces.model.decoder.0.weight" in pyro.get_param_store()
    expected = weights(vae)
    store = saved(tmp_path / "store")
    del vae
    new = named() if built == "before" else None
    pyro.get_param_store().load(str(store))
    new = new or named()
    USES[use](new)
    assert_equal(new, expected)
    train(new)
    assert all(not torch.equal(each, expected[name]) for name, each in new.named_parameters())
    assert {id(value) for value in dict(pyro.get_param_store().named_parameters()).values()} == {
        id(parameter) for parameter in new.parameters()
    }


def train_elsewhere(store: str) -> None:
    """What another process does: its store is saved, and one of its codes printed."""
    vae = named()
    train(vae)
    pyro.get_param_store().save(store)
    print(vae.encode(torch.full((2, 1, 4, 5), 0.3))["z"][0].tolist())


def test_a_store_saved_in_another_process_is_restored_here(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    there = forked.run(cwd=tmp_path, work=partial(train_elsewhere, store))
    others = [named(None) for _ in range(3)]
    vae = named()
    pyro.get_param_store().load(store)
    assert str(vae.encode(torch.full((2, 1, 4, 5), 0.3))["z"][0].tolist()) == there.stdout.strip(), there.stderr
    assert len(others) == 3


def test_opponents_and_the_optimizer_are_found_again_too(tmp_path: Path) -> None:
    elbo, vae = build_objective("cycle+predictor+total-correlation", SETTING), named()
    optimizer = pyro.optim.Adam({"lr": 1e-2})
    svi = SVI(vae.model, vae.guide, optimizer, loss=elbo)
    svi.step(pair_batch())
    assert "faces.predictor.predictor.network.0.weight" in pyro.get_param_store()
    state, batch = copy.deepcopy(optimizer.get_state()), pair_batch()
    store = tmp_path / "store"
    pyro.get_param_store().save(str(store))
    torch.manual_seed(4)
    svi.step(batch)
    expected = weights(vae) | weights(elbo.terms)
    del vae, svi
    pyro.clear_param_store()
    pyro.get_param_store().load(str(store))
    again, terms = named(), build_objective("cycle+predictor+total-correlation", SETTING)
    optimizer = pyro.optim.Adam({"lr": 1e-2})
    optimizer.set_state(state)
    torch.manual_seed(4)
    SVI(again.model, again.guide, optimizer, loss=terms).step(batch)
    assert_equal(again, expected)
    assert_equal(terms.terms, expected)


def test_a_frozen_part_takes_up_what_was_trained_and_stays_frozen(tmp_path: Path) -> None:
    vae = named()
    train(vae)
    expected = weights(vae)
    pyro.get_param_store().load(str(saved(tmp_path / "store")))
    del vae
    new = named()
    new.guide.encoder.requires_grad_(False)
    train(new, steps=1)
    assert_equal(
        new.guide.encoder, {name: expected[f"guide.encoder.{name}"] for name, _ in new.guide.encoder.named_parameters()}
    )
    assert not any(parameter.requires_grad for parameter in new.guide.encoder.parameters())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: named(hidden=9), r"faces\.guide\.encoder.* is \(7, 20\) in the store and \(9, 20\)"),
        (lambda: named(latents=[Latent("z", 3)]), "is|has not"),
        (lambda: named(latents=[Latent("z", 3), Latent("y", 2), Latent("w", 1)]), "is|lacks"),
        (lambda: named(None), r'faces\.(model|guide), .*FactoredVAE\(\.\.\., name="mine"\)'),
    ],
    ids=["other sizes", "fewer latents", "more latents", "no name"],
)
def test_a_store_that_is_another_models_is_refused(make: Callable[[], FactoredVAE], says: str, tmp_path: Path) -> None:
    train(named())
    pyro.get_param_store().load(str(saved(tmp_path / "store")))
    with pytest.raises(InputError, match=says):
        USES["SVI"](make())


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("more", [0, 1, 3], ids="{} models built meanwhile".format)
def test_without_a_name_a_loaded_store_is_refused_with_the_way_that_works(use: str, more: int, tmp_path: Path) -> None:
    train(named(None))
    store = saved(tmp_path / "store")
    others = [named(None) for _ in range(more)]
    vae = named(None)
    pyro.get_param_store().load(str(store))
    with pytest.raises(InputError, match=r"name=.*state_dict.*clear_param_store"):
        USES[use](vae)
    assert len(others) == more


def test_the_ways_that_the_refusal_names_work(tmp_path: Path) -> None:
    vae = named(None)
    train(vae)
    expected, state = weights(vae), vae.state_dict()
    pyro.get_param_store().load(str(saved(tmp_path / "store")))
    by_state = named(None)
    by_state.load_state_dict(state)
    USES["encode"](by_state)
    assert_equal(by_state, expected)
    train(by_state)
    pyro.clear_param_store()
    train(named(None))


def test_two_models_and_others_parameters_are_no_error() -> None:
    """Two models, a model that died, values of the user's own, a store put aside and back."""
    pyro.param("mine.weight", torch.ones(3))
    pyro.module("net", nn.Linear(2, 2))
    models = [named("faces"), named("chairs"), named(None), named(None)]
    train(named(None))
    for vae in models:
        train(vae)
    with pyro.get_param_store().scope() as aside:
        train(named(None))
    with pyro.get_param_store().scope(aside):
        train(models[2])
    for vae in models:
        before = weights(vae)
        train(vae)
        assert all(not torch.equal(each, before[name]) for name, each in vae.named_parameters())


def test_the_store_of_two_named_models_is_restored_one_by_one(tmp_path: Path) -> None:
    models = {name: named(name, hidden) for name, hidden in (("faces", 7), ("chairs", 4))}
    for vae in models.values():
        train(vae)
    expected = {name: weights(vae) for name, vae in models.items()}
    pyro.get_param_store().load(str(saved(tmp_path / "store")))
    models.clear()
    for name, hidden in (("chairs", 4), ("faces", 7)):
        vae = named(name, hidden)
        USES["encode"](vae)
        assert_equal(vae, expected[name])


def test_two_living_models_of_one_name_are_refused_where_both_are_trained() -> None:
    first, second = named(), named()
    train(first)
    with pytest.raises(RuntimeError, match="another model has its name faces"):
        train(second)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a#1", "a/b"])
def test_names_that_cannot_be_one(name: str) -> None:
    with pytest.raises(InputError, match="letters, digits"):
        named(name)


def by_torch(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "deepcopy": copy.deepcopy,
    "torch.save": by_torch,
}
LOSSES: dict[str, Callable[[], Any]] = {"cycle": ForwardCycle, "Trace_ELBO": Trace_ELBO, "vae": DisentanglingELBO}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["faces", None])
def test_a_copy_after_svi_predicts_and_trains_as_the_original(way: str, loss: str, name: str | None) -> None:
    vae, batch = named(name), pair_batch()
    train(vae, LOSSES[loss]())
    list(pyro.get_param_store().items())  # Pyro hangs its weak references on what is looked at
    other = COPIES[way](vae)
    pixels = torch.rand(3, *SHAPE)
    assert torch.equal(other.encode(pixels)["z"][0], vae.encode(pixels)["z"][0])
    losses = []
    for each in (vae, other):
        torch.manual_seed(3)
        svi = SVI(each.model, each.guide, pyro.optim.Adam({"lr": 1e-2}), loss=LOSSES[loss]())
        losses.append([svi.step(batch), svi.step(batch)])
    assert losses[0] == losses[1] and losses[0][0] != losses[0][1]
    assert_equal(other, weights(vae))
    assert len(pyro.get_param_store()) == 2 * len([*vae.parameters()])  # each with names of its own


@pytest.mark.parametrize("way", COPIES)
def test_parts_and_objectives_are_copied_too(way: str) -> None:
    vae, elbo = named(), build_objective("cycle+predictor", SETTING)
    train(vae, elbo)
    for module in (vae.guide.encoder, vae.model.decoder[0], elbo.terms, elbo(vae.model, vae.guide), vae.guide):
        assert_equal(COPIES[way](module), weights(module))
    train(vae, elbo)  # Pyro still finds from each parameter to itself


def test_what_is_unpickled_alone_keeps_its_name(tmp_path: Path) -> None:
    vae = named()
    train(vae)
    stored, expected = pickle.dumps(vae), weights(vae)
    store = saved(tmp_path / "store")
    del vae
    again = pickle.loads(stored)
    assert again.model.store_name == "faces.model" and named(None).model.store_name != "faces.model"
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    pyro.get_param_store().load(str(store))
    USES["encode"](again)
    assert_equal(again, expected)


def train_one_by_one(path: Path, names: Sequence[str | None]) -> None:
    """What another process does: a store of all, and the weights of the last."""
    for name in names:
        torch.manual_seed(5)
        vae = rebuilt(name)
        SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.1}), ForwardCycle()).step(pair_batch())
    pyro.get_param_store().save(str(path))
    torch.save(vae.state_dict(), f"{path}.weights")


def saved_elsewhere(path: Path, *names: str | None) -> Path:
    """A store of models that were trained in another process, where serial numbers began anew."""
    done = forked.run(cwd=path.parent, work=partial(train_one_by_one, path, names))
    assert done.returncode == 0, done.stderr
    return path


def rebuilt(name: str | None = None) -> FactoredVAE:
    plain = linear_vae()
    return FactoredVAE(plain.latents, plain.guide.encoder, plain.model.decoder, name=name)


def test_a_store_of_another_process_is_taken_up_or_refused(tmp_path: Path) -> None:
    unnamed, named = saved_elsewhere(tmp_path / "unnamed", None), saved_elsewhere(tmp_path / "named", "faces")
    for models in (1, 2, 3):  # serial numbers of here and there meet
        pyro.clear_param_store()
        made = [rebuilt() for _ in range(models)]
        pyro.get_param_store().load(str(unnamed))
        for vae in made:
            with pytest.raises(InputError, match="belongs to no model here"):
                vae.encode(torch.rand(2, *SHAPE))
            with pytest.raises(InputError, match="belongs to no model here"):
                ForwardCycle()(vae.model, vae.guide)
    weights = torch.load(f"{named}.weights")
    pyro.clear_param_store()
    vae, typo = rebuilt("faces"), rebuilt("fcaes")
    objective = ForwardCycle()(vae.model, vae.guide)
    pyro.get_param_store().load(str(named))
    objective(pair_batch())  # a torch optimizer would train from here
    assert all(value.equal(weights[name]) for name, value in vae.state_dict().items())
    pyro.clear_param_store()
    pyro.get_param_store().load(str(named))
    del vae, objective
    gc.collect()
    with pytest.raises(InputError, match="belongs to no model here"):
        typo.encode(torch.rand(2, *SHAPE))
