"""Eq. 2 against computations that share no code with it, and what the exchange exchanges."""

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
from pyro_disent.models.likelihoods import LIKELIHOODS, Normal
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle, Step
from pyro_disent.objectives.exchange import Exchange, Replace
from tests.models import PIXELS, SHAPE, conditional_latents, linear_vae, pair_batch

SCALE = 0.5 / math.sqrt(2)


def posteriors_by_hand(vae: FactoredVAE, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and log variance of every latent, from the weights alone; images ``(views, images, ...)``."""
    flat = images.flatten(-3)
    first = vae.guide.encoder[1]
    features = torch.tanh(flat @ first.weight.T + first.bias)
    heads = {name: features @ head.weight.T + head.bias for name, head in vae.guide.heads.items()}
    return {name: (both[..., : both.shape[-1] // 2], both[..., both.shape[-1] // 2 :]) for name, both in heads.items()}


def kl_by_hand(
    mean: Tensor, log_variance: Tensor, to_mean: Tensor | float = 0.0, to_log_variance: Tensor | float = 0.0
):
    """KL between diagonal normals, summed over units."""
    to_log_variance = torch.as_tensor(to_log_variance, dtype=mean.dtype)
    ratio = (log_variance - to_log_variance).exp()
    distance = (mean - to_mean).square() / to_log_variance.exp()
    return 0.5 * (ratio + distance - 1 - log_variance + to_log_variance).sum(-1)


def decode_by_hand(vae: FactoredVAE, code: Tensor) -> Tensor:
    layer = vae.model.decoder[0]
    return code @ layer.weight.T + layer.bias


def draws_of(vae: FactoredVAE, batch: Batch) -> dict[str, Tensor]:
    """The noise that the guide draws from the present random state, as standard normal numbers."""
    state = torch.get_rng_state()
    trace = poutine.trace(vae.guide).get_trace(batch)
    torch.set_rng_state(state)
    return {
        name: (site["value"] - site["fn"].mean).div(site["fn"].stddev).detach()
        for name, site in trace.nodes.items()
        if name in vae.guide.heads
    }


def minus_log_likelihood(likelihood: str, outputs: Tensor, x: Tensor) -> Tensor:
    """Summed over pixels."""
    if likelihood == "normal":
        squared = ((2 * x - 1) - torch.tanh(outputs)).square()  # the paper's, on [-1, 1]
        return (squared + 0.5 * math.log(2 * math.pi) + math.log(SCALE)).sum(-1)
    if likelihood == "continuous-bernoulli":  # whose logits are bounded
        outputs = 30 * torch.tanh(outputs / 30)
    cross_entropy = x * torch.log1p((-outputs).exp()) + (1 - x) * torch.log1p(outputs.exp())
    if likelihood == "continuous-bernoulli":  # Loaiza-Ganem & Cunningham 2019, eq. 6: with l the mean, 1 - 2 l = -tanh
        cross_entropy = cross_entropy - torch.log(outputs / torch.tanh(outputs / 2))
    return cross_entropy.sum(-1)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    ("latents", "masks"),
    [
        ({"z": 3, "y": 2}, {"z": [[True]], "y": [[False]]}),
        (
            {"z": 3, "rotation": 1, "scale": 2},
            {"z": [[True]], "rotation": [[True], [False]], "scale": [[False], [True]]},
        ),
        ({"z": 3}, {"z": [[True, False, True], [False, False, True]]}),
    ],
    ids=["z and y", "three latents", "unit by unit"],
)
def test_eq_2_equals_a_computation_by_hand_and_so_does_its_gradient(
    latents: dict[str, int], masks: dict[str, list[list[bool]]], likelihood: str
) -> None:
    given = [Latent(name, units) for name, units in latents.items()]
    vae = linear_vae(given, likelihood=LIKELIHOODS[likelihood]()).double()
    if likelihood == "normal":  # the stored logarithm was rounded to float32
        vae.model.likelihood.log_scale.fill_(math.log(SCALE))
    shared = {name: torch.tensor(rows * (6 // len(rows))) for name, rows in masks.items()}
    batch = pair_batch(dtype=torch.float64, **shared)
    noise = draws_of(vae, batch)

    q = posteriors_by_hand(vae, batch.images)
    drawn = {name: mean + (0.5 * log_variance).exp() * noise[name] for name, (mean, log_variance) in q.items()}
    seen = [torch.where(shared[name], draw[[1, 0]], draw) for name, draw in drawn.items()]
    outputs = decode_by_hand(vae, torch.cat(seen, -1))
    expected = minus_log_likelihood(likelihood, outputs, batch.images.flatten(-3))
    for mean, log_variance in q.values():
        expected = expected + kl_by_hand(mean, log_variance)
    expected = expected.mean()

    loss = ForwardCycle()(vae.model, vae.guide)(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    parameters = list(vae.parameters())
    for ours, by_hand in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, by_hand, rtol=1e-9, atol=1e-12)


def test_eq_2_in_closed_form_is_what_the_samples_average_to() -> None:
    """A linear decoder under a normal likelihood without the tanh: E[log p(x | z', y)] is analytic."""

    class LinearNormal(Normal):
        def mean(self, outputs: Tensor) -> Tensor:
            return outputs

    vae = linear_vae(likelihood=LinearNormal(0.5)).double()
    batch = pair_batch(images=2, dtype=torch.float64)
    q = posteriors_by_hand(vae, batch.images)
    mean = torch.cat([q["z"][0].flip(0), q["y"][0]], -1)
    variance = torch.cat([q["z"][1].flip(0), q["y"][1]], -1).exp()
    weight = vae.model.decoder[0].weight
    sigma = vae.model.likelihood.log_scale.exp()
    spread = variance @ weight.square().T  # each pixel's variance under the posterior
    error = (batch.images.flatten(-3) - decode_by_hand(vae, mean)).square() + spread
    reconstruction = (error / (2 * sigma**2) + 0.5 * math.log(2 * math.pi) + sigma.log()).sum(-1).mean()
    kl = sum(kl_by_hand(*each).mean() for each in q.values())

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
    torch.testing.assert_close(shown, decode_by_hand(vae, code))
