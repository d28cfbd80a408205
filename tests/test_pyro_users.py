"""The model under Pyro's other tools: objectives, guides and samplers, against closed forms of a linear Gaussian model.

Random quantities are compared within 5 standard errors, which are derived beside each test; seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.inspect import generate_graph_specification, get_dependencies, get_model_relations
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional

from pyro_disent.evaluation import bounds
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import LabelledNormal
from pyro_disent.models.labels import Label
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import Likelihood
from tests.models import PIXELS, SHAPE, conditional_latents, linear_vae

SCALE = 0.5
SIZE = Label("size", (0.5, 1.0, 3.0), (0.2, 0.5, 0.3))
MEANS = torch.tensor([-4.0, 0.0, 3.0], dtype=torch.float64)


class Levels(Likelihood):
    """x ~ N(outputs, SCALE): with a linear decoder, everything about the model has a closed form."""

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Normal(outputs, SCALE, validate_args=False).to_event(3)


def gaussian_vae(latents: list[Latent] | None = None) -> FactoredVAE:
    return linear_vae(latents, Levels()).double()


def labelled_vae() -> FactoredVAE:
    """z ~ N(0, 1), and y ~ N(-4, 1), N(0, 1) or N(3, 1) by size."""
    family = LabelledNormal("size", {"size": SIZE})
    vae = gaussian_vae([Latent("z", 2), Latent("y", 1, family)])
    with torch.no_grad():
        next(family.parameters()).zero_()[:, 0] = MEANS
    return vae


class Exact(NamedTuple):
    """p(code | x) of one image and log p(x), where every prior is N(0, 1)."""

    posterior: MultivariateNormal
    log_p: float

    @classmethod
    def of(cls, vae: FactoredVAE, image: Tensor) -> Exact:
        weight, bias = (parameter.detach() for parameter in vae.model.decoder.parameters())
        precision = torch.eye(weight.shape[1], dtype=torch.float64) + weight.T @ weight / SCALE**2
        mean = torch.linalg.solve(precision, weight.T @ (image.flatten() - bias) / SCALE**2)
        noise = SCALE**2 * torch.eye(PIXELS, dtype=torch.float64)
        log_p = MultivariateNormal(bias, weight @ weight.T + noise).log_prob(image.flatten())
        return cls(MultivariateNormal(mean, precision_matrix=precision), log_p.item())


def one_image(*, orthogonal: bool = False) -> tuple[FactoredVAE, Tensor, Exact]:
    """A frozen model. With orthogonal columns of the decoder, the posterior has no correlations."""
    vae = gaussian_vae().requires_grad_(False)
    if orthogonal:
        vae.model.decoder[0].weight.copy_(torch.linalg.qr(vae.model.decoder[0].weight).Q)
    image = torch.rand(1, *SHAPE, dtype=torch.float64)
    return vae, image, Exact.of(vae, image)


def guided(vae: FactoredVAE, loc: Tensor, scale: Tensor) -> None:
    """Make the guide N(loc, scale) for every image."""
    parts = zip(loc.split([3, 2]), scale.split([3, 2]), strict=True)
    with torch.no_grad():
        for name, (mean, spread) in zip(("z", "y"), parts, strict=True):
            vae.guide.heads[name].weight.zero_()
            vae.guide.heads[name].bias.copy_(torch.cat([mean, 2 * spread.log()]))


def log_weights(vae: FactoredVAE, images: Tensor, particles: int) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x | code), log p(code) - log q(code | x) and -KL, ``(particles, images)``, from the weights themselves.

    Draws are taken in the guide's order, so that a seed gives the same ones.
    """
    hidden = functional.linear(images.flatten(1), *vae.guide.encoder[1].parameters()).tanh()
    posteriors = []
    for name in ("z", "y"):
        loc, log_variance = functional.linear(hidden, *vae.guide.heads[name].parameters()).chunk(2, -1)
        posteriors.append(Normal(loc, (log_variance / 2).exp()))
    likelihood, ratio, kl = [], [], []
    for _ in range(particles):
        draws = [q.rsample() for q in posteriors]
        pixels = functional.linear(torch.cat(draws, -1), *vae.model.decoder[0].parameters())
        likelihood.append(Normal(pixels, SCALE).log_prob(images.flatten(1)).sum(-1))
        pairs = zip(draws, posteriors, strict=True)
        ratio.append(sum((Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1) for z, q in pairs))
        parts = (0.5 * (q.variance + q.mean**2 - 1 - q.variance.log()) for q in posteriors)
        kl.append(-sum(part.sum(-1) for part in parts))
    return torch.stack(likelihood), torch.stack(ratio), torch.stack(kl)


def renyi(alpha: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def loss(likelihood: Tensor, ratio: Tensor, kl: Tensor) -> Tensor:
        powers = (1 - alpha) * (likelihood + ratio)
        return -((powers.logsumexp(0) - math.log(len(powers))) / (1 - alpha)).sum()

    return loss


OBJECTIVES = {
    "Trace_ELBO": (Trace_ELBO, lambda x, ratio, kl: -(x + ratio).mean(0).sum()),
    "TraceMeanField_ELBO": (TraceMeanField_ELBO, lambda x, ratio, kl: -(x + kl).mean(0).sum()),
    "IWAE": (RenyiELBO, renyi(0.0)),
    "Renyi": (lambda **settings: RenyiELBO(alpha=0.5, **settings), renyi(0.5)),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("particles", [1, 3])
def test_a_step_of_svi_moves_every_parameter_along_the_gradient(objective: str, particles: int) -> None:
    make, formula = OBJECTIVES[objective]
    vae, images = gaussian_vae(), torch.rand(6, *SHAPE, dtype=torch.float64)
    torch.manual_seed(4)
    loss = formula(*log_weights(vae, images, particles))
    names, parameters = zip(*vae.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    before = {name: parameter.detach().clone() for name, parameter in zip(names, parameters, strict=True)}
    torch.manual_seed(4)
    svi = SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 1e-3}), loss=make(num_particles=particles))
    assert svi.step(images) == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in vae.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        torch.testing.assert_close(parameter, before[name] - 1e-3 * gradients[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parallel", [True, False])
def test_predictive_with_the_guide_draws_new_images(parallel: bool) -> None:
    """x' = W c + b + noise with c ~ q: a mean of n draws errs by sqrt(var / n), a covariance as Wishart's."""
    vae, image = gaussian_vae(), torch.rand(SHAPE, dtype=torch.float64)
    loc, scale = torch.linspace(-2, 2, 5, dtype=torch.float64), torch.linspace(0.3, 2, 5, dtype=torch.float64)
    guided(vae, loc, scale)
    samples, copies, n = (2000, 1, 2000) if parallel else (40, 50, 2000)
    predictive = Predictive(vae.model, guide=vae.guide, num_samples=samples, parallel=parallel)
    drawn = predictive(image.expand(copies, *SHAPE), observe=False)
    x = drawn["x"].reshape(-1, PIXELS)
    weight, bias = (parameter.detach() for parameter in vae.model.decoder.parameters())
    mean = weight @ loc + bias
    covariance = weight * scale**2 @ weight.T + SCALE**2 * torch.eye(PIXELS, dtype=torch.float64)
    variance = covariance.diag()
    assert len(x) == n
    assert bool(((x.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all())
    error = ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert bool(((x.T.cov() - covariance).abs() < 5 * error).all())


class TestTheGraph:
    """As `pyro.render_model` draws it, whether graphviz is there or not."""

    @pytest.mark.parametrize("draws", [True, False], ids=["prior", "images"])
    def test_every_latent_points_at_x(self, draws: bool) -> None:
        vae = linear_vae()
        args, kwargs = ((), {"images": 3}) if draws else ((torch.rand(3, *SHAPE),), {})
        edges = generate_graph_specification(get_model_relations(vae.model, args, kwargs))["edge_list"]
        # What the decoder sees of a latent is a leaf beside it.
        assert set(edges) == {("z", "x"), ("y", "x"), ("z", "z_seen"), ("y", "y_seen")}
        upstream = get_dependencies(vae.model, args, kwargs)["prior_dependencies"]
        assert {name: "".join(sorted(each)) for name, each in upstream.items()} == {"z": "z", "y": "y", "x": "xyz"}

    def test_with_deterministic_sites_a_latent_points_at_x_through_what_is_seen(self) -> None:
        relations = get_model_relations(linear_vae().model, (), {"images": 3}, include_deterministic=True)
        edges = generate_graph_specification(relations)["edge_list"]
        assert edges == [("z", "z_seen"), ("y", "y_seen"), ("z_seen", "x"), ("y_seen", "x")]

    def test_priors_that_depend_on_a_latent_or_a_label(self) -> None:
        relations = get_model_relations(linear_vae(conditional_latents()).model, (), {"images": 3})
        assert {name: relations["sample_sample"][name] for name in "yzx"} == {"y": [], "z": ["y"], "x": ["y", "z"]}
        relations = get_model_relations(labelled_vae().model, (), {"images": 3})
        assert relations["sample_sample"]["y"] == ["size"]
        assert relations["sample_sample"]["x"] == ["z", "y"]


@pytest.mark.parametrize("given", [("z",), ("y",), ("size",), ("x",), ("z", "size", "x"), ("z", "y", "size", "x")])
def test_condition_on_a_latent_a_label_or_the_images(given: tuple[str, ...]) -> None:
    """The joint density of what is given and what is drawn is the product of the conditionals, written out."""
    vae = labelled_vae()
    values = {
        "z": torch.randn(1, 4, 2, dtype=torch.float64),
        "y": torch.randn(1, 4, 1, dtype=torch.float64),
        "size": torch.tensor([[0, 2, 1, 2]]),
        "x": torch.rand(1, 4, *SHAPE, dtype=torch.float64),
    }
    data = {name: values[name] for name in given}
    trace = poutine.trace(pyro.condition(vae.model, data=data)).get_trace(images=4)
    sites = {name: trace.nodes[name]["value"] for name in values}
    for name in sites:
        assert trace.nodes[name]["is_observed"] == torch.equal(sites[name], values[name]) == (name in given)
    weight, bias = vae.model.decoder.parameters()
    pixels = (torch.cat([sites["z"], sites["y"]], -1) @ weight.T + bias).unflatten(-1, SHAPE)
    expected = (
        Normal(0.0, 1.0).log_prob(sites["z"]).sum()
        + Normal(MEANS[sites["size"]].unsqueeze(-1), 1.0).log_prob(sites["y"]).sum()
        + torch.tensor(SIZE.frequencies).log()[sites["size"]].sum()
        + Normal(pixels, SCALE).log_prob(sites["x"]).sum()
    )
    assert trace.log_prob_sum().item() == pytest.approx(expected.item(), rel=1e-6)  # frequencies are float32


class TestOneImage:
    """Its code's posterior is normal: inference that knows nothing of our guide must find it."""

    def test_an_automatic_guide(self) -> None:
        """Its best location is the posterior's mean, and its best scales are 1 / sqrt(diagonal of the precision L).

        The gradient of the locations is L (code - mean): SGD at rate r with n particles ends in a covariance C with
        LC + CL - r LCL = r LSL / n, S the guide's: at most r l max(S) / (n (2 - r l)) for the largest eigenvalue l.
        A scale s has curvature 2 / s^2 and a gradient of variance (2 + sum of partial correlations^2) / (n s^2), at
        most 6 / (n s^2): its log ends with a variance of 1.5 r / n at most.
        """
        vae, image, exact = one_image()
        rate, particles = 0.01, 50
        precision = exact.posterior.precision_matrix
        largest = torch.linalg.eigvalsh(precision).max().item()
        guide = AutoNormal(vae.model)
        elbo = Trace_ELBO(num_particles=particles, vectorize_particles=True, max_plate_nesting=2)
        svi = SVI(vae.model, guide, pyro.optim.SGD({"lr": rate}), loss=elbo)
        for _ in range(500):
            svi.step(image)
        loc = torch.cat([guide.locs.z, guide.locs.y], -1).detach().flatten()
        scale = torch.cat([guide.scales.z, guide.scales.y], -1).detach().flatten()
        best = precision.diag().rsqrt()
        error = math.sqrt(rate * largest * best.max().item() ** 2 / (particles * (2 - rate * largest)))
        assert (loc - exact.posterior.mean).abs().max().item() < 5 * error < 0.2
        assert (scale / best).log().abs().max().item() < 5 * math.sqrt(1.5 * rate / particles) < 0.1
        assert all(name.startswith("AutoNormal.") for name in pyro.get_param_store())  # the decoder is frozen

    def test_nuts(self) -> None:
        """Means of n draws err by sqrt(var / n) were they independent; they are counted as a third of them."""
        vae, image, exact = one_image()
        chain = MCMC(NUTS(vae.model), num_samples=150, warmup_steps=60, disable_progbar=True)
        chain.run(image)
        draws = chain.get_samples()
        code = torch.cat([draws["z"], draws["y"]], -1).flatten(1)
        variance = exact.posterior.covariance_matrix.diag()
        assert code.shape == (150, 5)
        assert bool(((code.mean(0) - exact.posterior.mean).abs() < 5 * (variance / 50).sqrt()).all())
        assert bool(((code.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / 50)).all())


def moment(p: MultivariateNormal, q: MultivariateNormal, order: int) -> float:
    """E_q[(p / q)^order], which is exp((order - 1) D_order(p || q)) with Renyi's divergence of two normals."""
    mixed = order * q.covariance_matrix + (1 - order) * p.covariance_matrix
    away = p.mean - q.mean
    assert torch.linalg.eigvalsh(mixed).min() > 0
    log = order * (order - 1) / 2 * away @ torch.linalg.solve(mixed, away) - mixed.logdet() / 2
    log += order / 2 * q.covariance_matrix.logdet() + (1 - order) / 2 * p.covariance_matrix.logdet()
    return log.exp().item()


@pytest.mark.parametrize("vectorized", [True, False])
def test_importance_weighted_bound_and_ours(vectorized: bool) -> None:
    """With weights w = p(x) (1 + e), E log mean w = log p(x) - E e^2 / 2k + (E e^3 / 3 - 3 (E e^2)^2 / 4) / k^2.

    One image is given n times: the mean over its copies errs by sqrt(E e^2 / k / n). The evidence lower bound is
    log p(x) - KL(q || p(code | x)).
    """
    vae, image, exact = one_image(orthogonal=True)
    loc, scale = exact.posterior.mean + 0.4 * exact.posterior.stddev, 1.1 * exact.posterior.stddev
    guided(vae, loc, scale)
    q = MultivariateNormal(loc, (scale**2).diag())
    particles, copies = 64, 8000
    images = image.expand(copies, *SHAPE)
    iwae = RenyiELBO(num_particles=particles, vectorize_particles=vectorized, max_plate_nesting=2)
    value = -iwae.loss(vae.model, vae.guide, images) / copies
    second, third = (moment(exact.posterior, q, order) for order in (2, 3))
    variance, skew = second - 1, third - 3 * second + 2
    expected = exact.log_p - variance / (2 * particles) + (skew / 3 - 0.75 * variance**2) / particles**2
    assert abs(value - expected) < 5 * math.sqrt(variance / particles / copies) < 0.02
    assert abs(bounds.iwae(vae, images, draws=particles) - expected) < 5 * math.sqrt(variance / particles / copies)
    # Ours: a closed KL to the prior, and a quadratic form in normal draws for log p(x | code).
    ours = bounds.elbo(vae, images)
    elbo = exact.log_p - kl_divergence(q, exact.posterior).item()
    weight, bias = (parameter.detach() for parameter in vae.model.decoder.parameters())
    slope = weight.T @ (weight @ loc + bias - image.flatten()) / SCALE**2
    curved = weight.T @ weight / SCALE**2 * scale**2
    spread = ((slope**2 * scale**2).sum() + (curved @ curved).trace() / 2).sqrt().item()
    assert abs(ours.elbo - elbo) < 5 * spread / math.sqrt(copies)
    assert ours.elbo + 5 * spread / math.sqrt(copies) < value


@pytest.mark.parametrize("objective", [Trace_ELBO, RenyiELBO])
def test_with_the_exact_posterior_every_draw_gives_log_p(objective: type[Trace_ELBO | RenyiELBO]) -> None:
    vae, image, exact = one_image(orthogonal=True)
    guided(vae, exact.posterior.mean, exact.posterior.stddev)
    loss = objective(num_particles=2).loss(vae.model, vae.guide, image.expand(3, *SHAPE))
    assert loss == pytest.approx(-3 * exact.log_p, rel=1e-12)
