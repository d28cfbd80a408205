"""The KL of an aggregated posterior, against quadrature and against what is known of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.evaluation import report
from pyro_disent.evaluation.aggregate import aggregate_kl
from pyro_disent.evaluation.bounds import elbo
from pyro_disent.evaluation.codes import Codes
from pyro_disent.evaluation.evaluate import AGGREGATE, aggregates
from pyro_disent.evaluation.result import Evaluation
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import Circle
from pyro_disent.models.latents import Latent
from tests.models import SHAPE, conditional_latents, linear_vae


def two_heaps(scale: float, distance: float) -> tuple[FactoredVAE, torch.Tensor]:
    """Half of the images have q(z | x) = N(0, scale^2), half N(distance, scale^2)."""
    vae = linear_vae([Latent("z", 1)]).double()
    images = torch.cat([torch.zeros(1_000, *SHAPE), torch.ones(1_000, *SHAPE)]).double()
    head, features = vae.guide.heads["z"], vae.guide.features
    with torch.no_grad():
        low, high = features(images[:1])[0], features(images[-1:])[0]
        way = high - low
        head.weight.zero_()
        head.weight[0] = distance * way / (way @ way)
        head.bias[0] = -head.weight[0] @ low
        head.bias[1] = 2 * math.log(scale)
    return vae, images


@pytest.mark.parametrize(("scale", "distance"), [(0.5, 0.0), (0.3, 2.0), (1.0, 1.0), (0.2, 6.0)])
def test_is_that_of_quadrature(scale: float, distance: float) -> None:
    vae, images = two_heaps(scale, distance)

    def integrand(z: float) -> float:
        q = 0.5 * (stats.norm.pdf(z, 0, scale) + stats.norm.pdf(z, distance, scale))
        return q * (math.log(q) - stats.norm.logpdf(z)) if q > 0 else 0.0

    expected, _ = integrate.quad(integrand, -6 * scale, distance + 6 * scale, points=[0, distance], limit=200)
    found = aggregate_kl(vae, images)["z"]
    draws = np.concatenate([np.random.default_rng(0).normal(mean, scale, 20_000) for mean in (0, distance)])
    density = 0.5 * (stats.norm.pdf(draws, 0, scale) + stats.norm.pdf(draws, distance, scale))
    error = float((np.log(density) - stats.norm.logpdf(draws)).std()) / math.sqrt(len(images))
    assert found == pytest.approx(expected, abs=5 * error + 1e-9)


def test_is_the_mean_kl_less_what_the_latent_tells() -> None:
    """Nothing where all images have one posterior; log N where no two overlap, which is all that there is to tell."""
    vae, images = two_heaps(0.5, 0.0)
    exact = elbo(vae, images).kl["z"]
    assert exact == pytest.approx((0.25 - 1 - math.log(0.25)) / 2)
    assert aggregate_kl(vae, images)["z"] == pytest.approx(exact, abs=0.1)
    vae, images = two_heaps(0.05, 4.0)
    difference = elbo(vae, images).kl["z"] - aggregate_kl(vae, images)["z"]
    assert difference == pytest.approx(math.log(2), abs=0.5)


def test_of_a_circle_and_without_what_has_no_density() -> None:
    latents = [*conditional_latents(), Latent("turn", 2, Circle())]
    vae = linear_vae(latents)
    images = torch.rand(50, *SHAPE)
    found = aggregate_kl(vae, images)
    assert set(found) == {"y", "turn"}
    assert all(-0.2 < found[name] < elbo(vae, images).kl[name] + 0.2 for name in found)
    state = torch.get_rng_state()
    assert aggregate_kl(vae, images, seed=1) == aggregate_kl(vae, images, seed=1) != found
    assert torch.equal(state, torch.get_rng_state())


def test_is_a_row_of_an_evaluation_with_a_sentence() -> None:
    vae = linear_vae()
    data = from_arrays(np.random.default_rng(0).integers(0, 255, (40, *SHAPE), np.uint8))
    codes = Codes(vae, data, 0)
    (measured,) = aggregates(codes)
    numbers = measured.compute()
    assert set(numbers) == {"aggregate_kl/z", "aggregate_kl/y"} and measured.title == AGGREGATE
    expected = aggregate_kl(vae, data.test.examples(0).images)
    assert numbers["aggregate_kl/z"].value == pytest.approx(expected["z"], abs=0.5)
    evaluation = Evaluation(1, "run", "vae", "mine", data.source, {}, 0, {}, numbers)
    assert report.AGGREGATE_MEANS in str(report.table([evaluation]).caption)
