"""Networks at every size, likelihoods against integrals, latents, and what a model answers when it is asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine
from torch import nn

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import ConditionalNormal
from pyro_disent.models.latents import Latent, each
from pyro_disent.models.likelihoods import LIKELIHOODS, Bernoulli, ContinuousBernoulli, NormalPixels
from pyro_disent.models.networks import NETWORKS, networks
from pyro_disent.models.opponents import FactorPredictor, PermutationDiscriminator
from pyro_disent.objectives.elbo import DisentanglingELBO
from tests.models import SHAPE, linear_vae


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 64, 64), (3, 128, 128), (1, 50, 37)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_follow_the_image_and_train_every_parameter(name: str, shape: tuple[int, int, int]) -> None:
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *NETWORKS[name](shape, 5))
    assert vae.image_shape == shape
    DisentanglingELBO()(vae.model, vae.guide)(torch.rand(4, *shape)).backward()
    assert [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_conv4x4_is_factor_vaes_at_64() -> None:
    encoder, decoder = NETWORKS["conv4x4"]((1, 64, 64), 32)
    down = [(layer.in_channels, layer.out_channels) for layer in encoder if isinstance(layer, nn.Conv2d)]
    up = [(layer.in_channels, layer.out_channels) for layer in decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert down == [(1, 32), (32, 32), (32, 64), (64, 64)]
    assert up == [(64, 64), (64, 32), (32, 32), (32, 1)]
    assert [layer.out_features for layer in encoder if isinstance(layer, nn.Linear)] == [256]
    assert [layer.out_features for layer in decoder if isinstance(layer, nn.Linear)] == [256, 1024]


def test_initialization_keeps_the_scale_of_what_passes() -> None:
    encoder, _ = NETWORKS["conv4x4"]((1, 64, 64), 32)
    hidden, scales = torch.randn(64, 1, 64, 64), []
    for layer in encoder:
        hidden = layer(hidden)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            scales.append(hidden.std().item())
    assert min(scales) > 0.5 and max(scales) < 3


def test_networks_that_do_not_exist_or_fit_are_refused() -> None:
    with pytest.raises(InputError, match="choose from mlp, conv3x3, conv4x4"):
        networks("resnet")
    with pytest.raises(InputError, match="too small"):
        NETWORKS["conv3x3"]((1, 0, 4), 3)
    encoder, _ = NETWORKS["mlp"]((1, 8, 8), 5)
    _, decoder = NETWORKS["mlp"]((1, 9, 9), 5)
    with pytest.raises(InputError, match="do not fit"):
        FactoredVAE([Latent("z", 5)], encoder, decoder)
    with pytest.raises(InputError, match="must give images"):
        FactoredVAE([Latent("z", 5)], nn.Linear(3, 3), nn.Linear(5, 3))


LOGITS = torch.tensor([-200.0, -30.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 30.0, 200.0], dtype=torch.float64)


def test_continuous_bernoulli_is_a_density_with_the_right_mean() -> None:
    likelihood = ContinuousBernoulli().double()
    outputs = LOGITS.reshape(-1, 1, 1, 1)
    logits = 30 * np.tanh(LOGITS.numpy() / 30)
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    for index, logit in enumerate(logits):
        density = likelihood(outputs[index]).base_dist.log_prob(x.reshape(-1, 1, 1, 1)).exp().flatten()
        assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-6)
        mean = torch.trapezoid(density * x, x).item()
        assert likelihood.mean(outputs[index]).item() == pytest.approx(mean, abs=1e-6), logit


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_stay_finite_at_extreme_outputs(name: str) -> None:
    likelihood = LIKELIHOODS[name]()
    outputs = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4]).reshape(5, 1, 1, 1).requires_grad_()
    x = torch.tensor([0.0, 1.0, 0.5, 0.3, 0.0]).reshape(5, 1, 1, 1)
    log_prob = likelihood(outputs).log_prob(x)
    (gradient,) = torch.autograd.grad(log_prob.sum(), outputs)
    assert log_prob.isfinite().all() and gradient.isfinite().all()
    mean = likelihood.mean(outputs)
    assert ((mean >= 0) & (mean <= 1)).all()


def test_bernoulli_is_the_summed_cross_entropy() -> None:
    outputs, x = torch.randn(5, *SHAPE), torch.rand(5, *SHAPE)
    expected = -nn.functional.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli()(outputs).log_prob(x), expected)


def test_normal_is_the_papers_squared_error_plus_a_constant() -> None:
    outputs, x = torch.randn(5, *SHAPE, dtype=torch.float64), torch.rand(5, *SHAPE, dtype=torch.float64)
    log_prob = NormalPixels().double()(outputs).log_prob(x)
    squared = (outputs.tanh() - (2 * x - 1)).square().sum((1, 2, 3))
    constant = 20 * (0.5 * math.log(2 * math.pi) - math.log(2 * math.sqrt(2)))
    torch.testing.assert_close(-log_prob, squared + constant, rtol=1e-6, atol=0)


def test_a_learnt_scale_is_a_parameter_that_fits() -> None:
    vae = linear_vae(likelihood=NormalPixels(learnt=True))
    (scale,) = [p for name, p in vae.named_parameters() if name.endswith("log_scale")]
    assert scale.exp().item() == pytest.approx(0.5 / math.sqrt(2))
    DisentanglingELBO()(vae.model, vae.guide)(torch.rand(4, *SHAPE)).backward()
    assert scale.grad is not None and scale.grad.abs() > 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Latent("z", 0), "'z' has 0 units"),
        (lambda: Latent("z-1", 1), "letters, digits"),
        (lambda: Latent("x", 1), "taken"),
        (lambda: Latent("z_seen", 1), "taken"),
        (lambda: Latent("values", 1), "taken"),
        (lambda: Latent("z", 2, explains=each("a")), "2 units but explains 1 factors"),
        (lambda: linear_vae([Latent("z", 1), Latent("z", 2)]), "different names"),
        (lambda: linear_vae().latent("w"), "this model has z, y"),
    ],
    ids=["size 0", "name", "x", "seen", "of a module", "factors of units", "twice", "unknown"],
)
def test_latents_that_make_no_sense(make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_parent_must_be_declared_before() -> None:
    latents = [Latent("z", 3, ConditionalNormal("y", nn.Linear(2, 6))), Latent("y", 2)]
    with pytest.raises(InputError, match="conditioned on y"):
        linear_vae(latents)


@given(st.floats(-1e6, 1e6))
def test_posteriors_stay_finite_whatever_the_head_says(value: float) -> None:
    latent = Latent("z", 1)
    q = latent.family.posterior(torch.tensor([0.0, value]), None)
    assert 0 < q.stddev.item() < 1e5
    kl = torch.distributions.kl_divergence(q, latent.family.prior(1, {}, torch.zeros(1), None))
    assert math.isfinite(kl.item())


def test_quantiles_are_those_of_the_prior() -> None:
    expected = [torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(p)).item() for p in (0.05, 0.5, 0.95)]
    family = Latent("z", 4).family
    quantiles = family.quantiles(family.prior(4, {}, torch.zeros(1), None), family.levels(3))
    assert quantiles.shape == (3, 4)
    assert all(unit.tolist() == pytest.approx(expected, abs=1e-6) for unit in quantiles.T)


def test_encode_decode_and_prior_sample() -> None:
    vae = linear_vae().train()
    images = (torch.rand(1100, *SHAPE) * 255).byte()  # more than one chunk
    codes, encoded = vae.codes(images), vae.encode(images)
    q = poutine.trace(vae.guide).get_trace(images.float() / 255)
    for name, (mean, scale) in encoded.items():
        torch.testing.assert_close(mean, q.nodes[name]["fn"].mean[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(scale, q.nodes[name]["fn"].stddev[0], rtol=1e-5, atol=1e-6)
        assert torch.equal(codes[name], mean) and not mean.requires_grad
    decoded = vae.decode(codes)
    assert decoded.shape == (1100, *SHAPE) and decoded.min() >= 0 and decoded.max() <= 1
    assert vae.training
    draws = [vae.prior_sample(5, torch.Generator().manual_seed(seed))["z"] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    state = torch.get_rng_state()
    vae.prior_sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_opponents_have_the_papers_sizes() -> None:
    predictor = FactorPredictor(10, {"red": 4, "green": 4})
    assert predictor(torch.rand(3, 10)).shape == (3, 8)
    assert [layer.out_features for layer in predictor.network if isinstance(layer, nn.Linear)] == [128, 8]
    discriminator = PermutationDiscriminator(11)
    widths = [layer.out_features for layer in discriminator.network if isinstance(layer, nn.Linear)]
    assert widths == [1000] * 6 + [2]


def test_the_older_name_of_a_likelihood_is_said_to_be_older() -> None:
    with pytest.warns(DeprecationWarning, match="NormalPixels"):
        from pyro_disent.models.likelihoods import Normal
    assert Normal is LIKELIHOODS["normal"]
