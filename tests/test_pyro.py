"""The model as Pyro users know it: SVI, Trace_ELBO, Predictive, condition, do."""

from __future__ import annotations

import copy
import pickle

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import nn

from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.methods import build_objective
from tests.models import SHAPE, conditional_latents, linear_vae, pair_batch
from tests.table import ROWS
from tests.test_terms import SETTING

ELBOS = {"cycle": ForwardCycle, "vae": DisentanglingELBO, "Trace_ELBO": Trace_ELBO}


def untrained(vae: nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, parameter in vae.named_parameters() if torch.equal(parameter, before[name])]


def snapshot(vae: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in vae.named_parameters()}


@pytest.mark.parametrize("elbo", ELBOS)
@pytest.mark.parametrize("latents", [None, "conditional"])
def test_plain_svi_trains_every_parameter(elbo: str, latents: str | None) -> None:
    vae = linear_vae(conditional_latents() if latents else None)
    before = snapshot(vae)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ELBOS[elbo]())
    first = svi.step(pair_batch())
    assert untrained(vae, before) == []
    batch = pair_batch()
    losses = [svi.step(batch) for _ in range(150)]
    assert sum(losses[-10:]) / 10 < first - 1


@pytest.mark.parametrize("method", ROWS)
def test_plain_svi_trains_every_parameter_of_every_method_opponents_too(method: str) -> None:
    vae = linear_vae()
    elbo = build_objective(method, SETTING)
    everything = nn.ModuleDict({"vae": vae, "terms": elbo.terms})
    before = snapshot(everything)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=elbo)
    svi.step(pair_batch())
    assert untrained(everything, before) == []


def test_hundreds_of_models_in_one_process_are_all_trained() -> None:
    """Ids of dead models are reused; a name by id would give a new model the dead one's parameters."""
    batch = pair_batch(images=2)
    for count in range(200):
        vae = linear_vae(hidden=3 + count % 3)
        before = snapshot(vae)
        SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle()).step(batch)
        assert untrained(vae, before) == [], count


def test_two_models_under_svi_do_not_touch_each_other() -> None:
    first, second, batch = linear_vae(hidden=4), linear_vae(hidden=9), pair_batch()
    steps = [SVI(v.model, v.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle()) for v in (first, second)]
    steps[0].step(batch)
    before = snapshot(first)
    steps[1].step(batch)
    assert all(torch.equal(parameter, before[name]) for name, parameter in first.named_parameters())
    assert len(pyro.get_param_store()) == len([*first.parameters(), *second.parameters()])


@pytest.mark.parametrize("pickled", [False, True], ids=["copied after training", "pickled before"])
def test_a_copy_trains_on_its_own(pickled: bool) -> None:
    """(Pyro hangs a weak reference on what it has trained, which cannot be pickled.)"""
    vae, batch = linear_vae(), pair_batch()
    stored = pickle.dumps(vae)
    SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle()).step(batch)
    other = pickle.loads(stored) if pickled else copy.deepcopy(vae)
    before, before_other = snapshot(vae), snapshot(other)
    SVI(other.model, other.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle()).step(batch)
    assert untrained(other, before_other) == []
    assert untrained(vae, before) == list(before)


def test_a_replaced_parameter_is_refused() -> None:
    vae, batch = linear_vae(), pair_batch()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle())
    svi.step(batch)
    vae.model.decoder[0].weight = nn.Parameter(torch.zeros_like(vae.model.decoder[0].weight))
    with pytest.raises(RuntimeError, match=r"decoder\.0\.weight"):
        svi.step(batch)


def test_svi_under_module_local_params_is_refused() -> None:
    vae = linear_vae()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=ForwardCycle())
    with pyro.settings.context(module_local_params=True), pytest.raises(RuntimeError, match="module_local_params"):
        svi.step(pair_batch())


def test_bound_objectives_know_every_parameter_and_leave_the_store_empty() -> None:
    vae, batch = linear_vae(conditional_latents()), pair_batch()
    for objective in (ForwardCycle()(vae.model, vae.guide), Trace_ELBO()(vae.model, vae.guide)):
        assert {id(p) for p in objective.parameters()} == {id(p) for p in vae.parameters()}
    objective = ForwardCycle()(vae.model, vae.guide)
    objective(batch).backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())
    vae.encode(batch.images[0])
    vae.decode(vae.prior_sample(3))
    assert len(pyro.get_param_store()) == 0


def test_the_model_without_data_is_a_draw_from_the_prior() -> None:
    vae = linear_vae()
    assert vae.model(views=2, images=3).shape == (2, 3, *SHAPE)
    draws = Predictive(vae.model, num_samples=500, parallel=True)(views=1, images=2)
    assert draws["z"].shape == (500, 1, 2, 3)
    assert draws["x"].shape == (500, 1, 2, *SHAPE)
    assert torch.allclose(draws["y"].mean((0, 1, 2)), torch.zeros(2), atol=0.15)
    assert torch.allclose(draws["y"].std((0, 1, 2)), torch.ones(2), atol=0.1)


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_draws_from_the_posterior_and_decodes(parallel: bool) -> None:
    vae, batch = linear_vae(), pair_batch()
    posterior = Predictive(vae.guide, num_samples=4, parallel=parallel)(batch)
    assert posterior["z"].shape == (4, 2, 6, 3)
    decoded = Predictive(vae.model, posterior_samples=posterior, parallel=parallel)(views=2, images=6)
    assert torch.equal(decoded["z_seen"], posterior["z"])
    assert decoded["x"].shape == (4, 2, 6, *SHAPE)


def test_condition_and_do() -> None:
    vae = linear_vae(conditional_latents())
    y = torch.full((1, 4, 2), 3.0)
    for world in (poutine.condition(vae.model, data={"y": y}), poutine.do(vae.model, data={"y": y})):
        trace = poutine.trace(world).get_trace(images=4)
        assert torch.equal(trace.nodes["y_seen"]["value"], y)
        expected = vae.model.priors["z"].network(y)[..., :3]
        assert torch.equal(trace.nodes["z"]["fn"].base_dist.loc, expected)
    conditioned = poutine.trace(poutine.condition(vae.model, data={"y": y})).get_trace(images=4)
    assert conditioned.nodes["y"]["is_observed"]
    intervened = poutine.trace(poutine.do(vae.model, data={"y": y})).get_trace(images=4)
    assert not intervened.nodes["y"]["is_observed"] and not torch.equal(intervened.nodes["y"]["value"], y)


def test_a_guide_without_images_says_so() -> None:
    with pytest.raises(ValueError, match="needs images"):
        linear_vae().guide()


def test_a_tensor_of_images_is_enough_for_a_pyro_user() -> None:
    vae = linear_vae()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=Trace_ELBO())
    before = snapshot(vae)
    svi.step(torch.rand(5, *SHAPE))
    assert untrained(vae, before) == []


def test_a_conditional_is_changed_by_overriding_its_method() -> None:
    class Wide(FactoredVAE.Model):
        def prior_dist(self, latent, earlier, batch):
            return pyro.distributions.Normal(torch.zeros(latent.units), 10.0).to_event(1)

    class WideVAE(FactoredVAE):
        Model = Wide

    narrow = linear_vae()
    wide = WideVAE(narrow.latents, narrow.guide.encoder, narrow.model.decoder)
    assert wide.prior_sample(2000)["z"].std().item() == pytest.approx(10, rel=0.1)
