"""Eq. 2 in closed form, and what the exchange exchanges and leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from torch import Tensor

from pyro_disent.batch import Batch
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import NormalPixels
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.exchange import Exchange, Replace
from pyro_disent.objectives.step import Step
from tests import by_hand
from tests.models import PIXELS, SHAPE, conditional_latents, linear_vae, pair_batch


def test_eq_2_in_closed_form_is_what_the_samples_average_to() -> None:
    """A linear decoder under a normal likelihood without the tanh: E[log p(x | z', y)] is analytic."""

    class LinearNormal(NormalPixels):
        def mean(self, outputs: Tensor) -> Tensor:
            return outputs

    vae = linear_vae(likelihood=LinearNormal(0.5)).double()
    batch = pair_batch(images=2, dtype=torch.float64)
    q = by_hand.posteriors(vae, batch.images)
    mean = torch.cat([q["z"].mean.flip(0), q["y"].mean], -1)
    variance = torch.cat([q["z"].log_variance.flip(0), q["y"].log_variance], -1).exp()
    weight = vae.model.decoder[0].weight
    sigma = vae.model.likelihood.log_scale.exp()
    spread = variance @ weight.square().T  # each pixel's variance under the posterior
    error = (batch.images.flatten(-3) - by_hand.decode(vae, mean)).square() + spread
    reconstruction = (error / (2 * sigma**2) + 0.5 * math.log(2 * math.pi) + sigma.log()).sum(-1).mean()
    standard = by_hand.Parameters(torch.zeros(()), torch.zeros(()))
    kl = sum(by_hand.kl(each, standard).sum(-1).mean() for each in q.values())

    objective = ForwardCycle()(vae.model, vae.guide)
    with torch.no_grad():
        samples = torch.stack([objective(batch) for _ in range(2000)])
    standard_error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - (reconstruction + kl)).item() < 4 * standard_error.item()


def traces(vae: FactoredVAE, batch: Batch, exchange: bool) -> Step:
    q = poutine.trace(vae.guide).get_trace(batch)
    model = poutine.replay(vae.model, trace=q)
    with Exchange(batch.shared if exchange else {}):
        p = poutine.trace(model).get_trace(batch)
    return Step(vae.model, vae.guide, batch, q, p)


@settings(max_examples=25, deadline=None)
@given(shared_z=st.booleans(), shared_y=st.booleans(), per_unit=st.lists(st.booleans(), min_size=18, max_size=18))
def test_the_exchange_swaps_exactly_what_is_shared(shared_z: bool, shared_y: bool, per_unit: list[bool]) -> None:
    vae = linear_vae(conditional_latents())
    masks = {
        "z": torch.tensor(per_unit).reshape(6, 3) if shared_z else torch.zeros(6, 3, dtype=torch.bool),
        "y": torch.full((6, 1), shared_y),
    }
    step = traces(vae, pair_batch(**masks), exchange=True)
    for latent, mask in masks.items():
        own, seen = step.draw(latent), step.p.nodes[f"{latent}_seen"]["value"]
        mask = mask.expand(own.shape[1:])
        for view in (0, 1):
            assert torch.equal(seen[view][mask], own[1 - view][mask])
            assert torch.equal(seen[view][~mask], own[view][~mask])
        assert torch.equal(step.p.nodes[latent]["value"], own)


def test_the_exchange_leaves_priors_and_kls_alone_with_a_conditional_prior() -> None:
    vae = linear_vae(conditional_latents())
    batch = pair_batch(z=True, y=True)
    plain, cycle = DisentanglingELBO(), ForwardCycle()
    state = torch.get_rng_state()
    own = plain.record(vae.model, vae.guide, batch)
    torch.set_rng_state(state)
    swapped = cycle.record(vae.model, vae.guide, batch)
    assert {name: kl.item() for name, kl in own.kl.items()} == {name: kl.item() for name, kl in swapped.kl.items()}
    assert own.reconstruction.item() != swapped.reconstruction.item()
    torch.set_rng_state(state)
    step = traces(vae, batch, exchange=True)
    expected = vae.model.priors["z"].network(step.draw("y"))[..., :3]
    assert torch.equal(step.prior("z").base_dist.loc, expected)


def test_nothing_shared_is_the_elbo_of_each_view() -> None:
    vae = linear_vae().double()
    batch = pair_batch(dtype=torch.float64, z=False, y=False)
    state = torch.get_rng_state()
    cycle = ForwardCycle()(vae.model, vae.guide)(batch)
    torch.set_rng_state(state)
    elbo = DisentanglingELBO()(vae.model, vae.guide)(batch)
    assert cycle.item() == elbo.item()


def test_a_mask_that_fits_no_code_is_refused_by_name() -> None:
    vae = linear_vae()
    with pytest.raises(ValueError, match="'z' names 2 units"):
        ForwardCycle()(vae.model, vae.guide)(pair_batch(z=torch.ones(6, 2, dtype=torch.bool)))


def test_one_view_has_nothing_to_exchange() -> None:
    vae = linear_vae()
    images = torch.rand(5, *SHAPE)
    state = torch.get_rng_state()
    one = ForwardCycle()(vae.model, vae.guide)(images)
    torch.set_rng_state(state)
    assert one.item() == DisentanglingELBO()(vae.model, vae.guide)(images).item()


def test_replace_shows_the_decoder_other_values_and_nothing_else() -> None:
    vae = linear_vae([Latent("z", 3), Latent("y", 2)])
    y = torch.tensor([5.0, -5.0])
    with Replace({"y": y}):
        trace = poutine.trace(vae.model).get_trace(images=4)
    assert torch.equal(trace.nodes["y_seen"]["value"], y.expand(1, 4, 2))
    assert not torch.equal(trace.nodes["y"]["value"], trace.nodes["y_seen"]["value"])
    code = torch.cat([trace.nodes["z"]["value"], y.expand(1, 4, 2)], -1)
    shown = trace.nodes["x"]["fn"].base_dist.logits.reshape(1, 4, PIXELS)
    torch.testing.assert_close(shown, by_hand.decode(vae, code))
