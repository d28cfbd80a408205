"""Discrete and mixture latents against sums over all values, frequencies and quadrature; float64."""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, stats
from torch import Tensor

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import InputError
from pyro_disent.figures.samples import sampled
from pyro_disent.figures.traversal import traversal, traversed
from pyro_disent.models import families
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import Binary, Categorical, ConditionalNormal, Family, Mixture
from pyro_disent.models.families.discrete import OneHots, StraightThroughBernoulli
from pyro_disent.models.families.mixture import NormalMixture
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import DisentanglingELBO
from tests.models import SHAPE, linear_vae

LEVEL = 1e-4
"""Of every frequency test: the chance that a right sampler fails it, were its seed not fixed."""
KINDS: dict[str, tuple[type[Family], dict[str, object]]] = {
    "categorical": (Categorical, {"values": 3, "learnt": True}),
    "binary": (Binary, {"learnt": True}),
    "mixture": (Mixture, {"components": 3}),
}


def vae_of(kind: str) -> FactoredVAE:
    family, settings = KINDS[kind]
    return linear_vae([Latent("z", 2), Latent("y", 2, family(**settings), explains="rest")])


def test_choices_are_drawn_as_often_as_they_are_probable() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, dtype=torch.float64)
    draws = OneHots(logits).sample((50_000,)).unflatten(-1, (2, 5))
    assert ((draws == 0) | (draws == 1)).all() and (draws.sum(-1) == 1).all()
    for unit in range(2):
        expected = 50_000 * logits[unit].softmax(-1)
        assert stats.chisquare(draws[:, unit].sum(0).numpy(), expected.numpy()).pvalue > LEVEL
    joint = torch.einsum("nk,nl->kl", draws[:, 0], draws[:, 1])  # units are independent
    expected = 50_000 * logits[0].softmax(-1)[:, None] * logits[1].softmax(-1)
    assert stats.chisquare(joint.flatten().numpy(), expected.flatten().numpy()).pvalue > LEVEL


def test_bits_are_drawn_as_often_as_they_are_probable() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([-3.0, -0.2, 1.5], dtype=torch.float64)
    draws = StraightThroughBernoulli(logits=logits).sample((50_000,))
    assert ((draws == 0) | (draws == 1)).all()
    for unit, ones in enumerate(draws.sum(0).long().tolist()):
        assert stats.binomtest(ones, 50_000, logits[unit].sigmoid().item()).pvalue > LEVEL


def test_the_gradient_of_a_draw_is_that_of_the_probabilities() -> None:
    """For a weight on each number: the softmax's Jacobian, and the sigmoid's slope, written out."""
    logits = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 2, 4, dtype=torch.float64)
    draw = OneHots(logits).rsample().unflatten(-1, (2, 4))
    (gradient,) = torch.autograd.grad((draw * weight).sum(), logits)
    p = logits.detach().exp() / logits.detach().exp().sum(-1, keepdim=True)
    jacobian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    torch.testing.assert_close(gradient, (jacobian @ weight.unsqueeze(-1)).squeeze(-1))

    bits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(StraightThroughBernoulli(logits=bits).rsample().sum(), bits)
    torch.testing.assert_close(slope, 1 / (2 + bits.detach().exp() + (-bits.detach()).exp()))


@pytest.mark.parametrize("make", [OneHots, lambda logits: StraightThroughBernoulli(logits=logits[..., 0]).to_event(1)])
def test_the_gradient_of_a_sampled_kl_is_unbiased(make: type[OneHots]) -> None:
    """`log_prob` is linear in the draw: its straight-through gradient averages to that of the sum over all values."""
    torch.manual_seed(1)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    p = make(torch.randn(2, 3, dtype=torch.float64))
    probability = logits.softmax(-1)
    exact: Tensor
    if make is OneHots:
        assert isinstance(p, OneHots)
        exact = (probability * (probability.log() - p.logits.softmax(-1).log())).sum()
    else:
        one, other = logits[:, 0].sigmoid(), p.mean
        exact = (one * (one / other).log() + (1 - one) * ((1 - one) / (1 - other)).log()).sum()
    (expected,) = torch.autograd.grad(exact, logits)
    repeated = logits.detach().expand(100_000, 2, 3).clone().requires_grad_()
    q = make(repeated)
    draw = q.rsample()
    (each,) = torch.autograd.grad((q.log_prob(draw) - p.log_prob(draw)).sum(), repeated)
    error = each.std(0) / math.sqrt(len(each))
    assert ((each.mean(0) - expected).abs() <= 4.5 * error + 1e-12).all()


def test_kls_are_sums_over_all_values() -> None:
    torch.manual_seed(2)
    q, p = OneHots(torch.randn(2, 3, dtype=torch.float64)), OneHots(torch.randn(2, 3, dtype=torch.float64))
    total = 0.0
    for choices in itertools.product(range(3), repeat=2):
        value = torch.eye(3, dtype=torch.float64)[list(choices)].flatten()
        total += (q.log_prob(value).exp() * (q.log_prob(value) - p.log_prob(value))).item()
    family = Categorical(3)
    assert family.kl(q, p, value).sum().item() == pytest.approx(total, abs=1e-12)
    assert torch.distributions.kl_divergence(q, p).item() == pytest.approx(total, abs=1e-12)

    bits = [StraightThroughBernoulli(logits=torch.randn(3, dtype=torch.float64)).to_event(1) for _ in range(2)]
    values = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    log_q, log_p = (each.log_prob(values) for each in bits)
    expected = (log_q.exp() * (log_q - log_p)).sum().item()
    assert log_q.exp().sum().item() == pytest.approx(1.0)
    assert Binary().kl(bits[0], bits[1], values[0]).sum().item() == pytest.approx(expected, abs=1e-12)


def test_a_prior_is_uniform_or_as_was_said() -> None:
    like = torch.zeros((), dtype=torch.float64)
    uniform = Categorical(4).prior(2, {}, like, None)
    assert isinstance(uniform, OneHots)
    assert uniform.probabilities.tolist() == [[0.25] * 4] * 2
    assert Binary().prior(2, {}, like, None).mean.tolist() == [0.5, 0.5]
    assert Binary(0.2).prior(2, {}, like, None).mean.tolist() == pytest.approx([0.2, 0.2])


def test_codes_are_whole_choices() -> None:
    logits = torch.tensor([[[0.1, 3.0, 0.2], [2.0, 0.0, 1.0]]])
    family = Categorical(3)
    q = family.posterior(logits.flatten(-2), None)
    assert family.center(q).tolist() == [[0, 1, 0, 1, 0, 0]]
    index, unsure = family.summary(q)
    assert index.tolist() == [[1, 0]]
    e = math.exp
    assert unsure[0].tolist() == pytest.approx(
        [1 - e(3) / (e(0.1) + e(3) + e(0.2)), 1 - e(2) / (e(2) + 1 + e(1))], abs=1e-6
    )
    assert Binary().center(Binary().posterior(torch.tensor([-1.0, 2.0]), None)).tolist() == [0, 1]


def test_a_mixture_is_that_of_scipy() -> None:
    torch.manual_seed(3)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    loc = torch.randn(3, 2, dtype=torch.float64)
    scale = 0.3 + torch.rand(3, 2, dtype=torch.float64)
    p = NormalMixture(weights.log(), loc, scale)
    value = torch.randn(2, dtype=torch.float64)
    density = sum(
        w * stats.norm.pdf(value.numpy(), m, s).prod()
        for w, m, s in zip(weights.tolist(), loc.numpy(), scale.numpy(), strict=True)
    )
    assert p.log_prob(value).exp().item() == pytest.approx(density)

    def cdf(x: Tensor, unit: int) -> Tensor:
        each = stats.norm.cdf(x.numpy()[..., None], loc[:, unit].numpy(), scale[:, unit].numpy())
        return torch.from_numpy(each @ weights.numpy())

    draws = p.sample((20_000,))
    for unit in range(2):
        of_unit = lambda x, unit=unit: cdf(torch.as_tensor(x), unit).numpy()  # noqa: E731
        assert stats.kstest(draws[:, unit].numpy(), of_unit).pvalue > LEVEL
    assert (draws.mean(0) - p.mean).abs().max() < 0.05 and (draws.var(0) - p.variance).abs().max() < 0.05
    levels = torch.tensor([0.05, 0.5, 0.95])
    quantiles = Mixture().quantiles(p, levels)
    for unit in range(2):
        torch.testing.assert_close(cdf(quantiles[:, unit], unit), levels.double(), atol=1e-7, rtol=0)


def test_the_sampled_kl_to_a_mixture_is_unbiased() -> None:
    torch.manual_seed(4)
    loc, scale = torch.tensor([[-2.0], [1.0]], dtype=torch.float64), torch.tensor([[0.5], [1.5]], dtype=torch.float64)
    p = NormalMixture(torch.tensor([0.3, 0.7], dtype=torch.float64).log(), loc, scale)
    q = dist.Normal(torch.tensor([0.4], dtype=torch.float64), 0.8).to_event(1)

    def integrand(x: float) -> float:
        density = stats.norm.pdf(x, 0.4, 0.8)
        other = 0.3 * stats.norm.pdf(x, -2, 0.5) + 0.7 * stats.norm.pdf(x, 1, 1.5)
        return density * math.log(density / other)

    exact = integrate.quad(integrand, -8, 8, limit=200)[0]
    family = Mixture()
    assert not family.kl_is_exact(q, p)
    each = family.kl(q, p, q.sample((200_000,)))
    assert each.shape == (200_000, 1)
    assert abs(each.mean().item() - exact) < 4.5 * each.std().item() / math.sqrt(len(each))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO, DisentanglingELBO])
@pytest.mark.parametrize("kind", KINDS)
def test_pyro_trains_it(kind: str, loss: type) -> None:
    vae = vae_of(kind)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.02}), loss=loss())
    torch.manual_seed(5)
    images = (torch.rand(1, 1, *SHAPE) > 0.5).float().expand(1, 16, *SHAPE)
    before = {name: each.detach().clone() for name, each in vae.named_parameters()}
    losses = [svi.step(Batch(images)) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert [name for name, each in vae.named_parameters() if each.equal(before[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_pyros_handlers_take_it(kind: str) -> None:
    vae = vae_of(kind)
    value = vae.prior_sample(3)["y"]
    known = pyro.condition(vae.model, data={"y": value})
    trace = poutine.trace(known).get_trace(images=3)
    trace.compute_log_prob()
    expected = vae.latent("y").family.prior(2, {}, torch.zeros(()), None).log_prob(value)
    torch.testing.assert_close(trace.nodes["y"]["log_prob"].squeeze(0), expected)
    done = poutine.trace(poutine.do(vae.model, data={"y": value})).get_trace(images=3)
    assert done.nodes["y_seen"]["value"].squeeze(0).equal(value)
    drawn = Predictive(vae.model, guide=vae.guide, num_samples=4)(Batch(torch.rand(1, 3, *SHAPE)))
    assert drawn["y"].shape == (4, 1, 3, vae.latent("y").width)


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_step_is_the_eager_one(kind: str) -> None:
    vae = vae_of(kind).double()
    objective = DisentanglingELBO()(vae.model, vae.guide)
    batch = Batch(torch.rand(1, 5, *SHAPE, dtype=torch.float64))
    gradients = []
    for step in (EagerStep(objective), CompiledStep(objective, backend="eager")):
        torch.manual_seed(6)
        record = step(batch)
        gradients.append(
            [record.loss, *(each.grad.clone() for each in objective.parameters() if each.grad is not None)]
        )
    assert len(gradients[0]) == len(list(objective.parameters())) + 1
    torch.testing.assert_close(*gradients)


def test_a_traversal_visits_every_value() -> None:
    vae = linear_vae([Latent("z", 2), Latent("kind", 2, Categorical(3)), Latent("bit", 1, Binary())])
    image = torch.rand(SHAPE)
    held = vae.codes(image.unsqueeze(0))
    moved = traversed(vae, image, "kind", 9)
    assert moved.shape == (2, 3, *SHAPE)
    for unit, value in itertools.product(range(2), range(3)):
        code = held["kind"].clone().unflatten(-1, (2, 3))
        code[:, unit] = torch.eye(3)[value]
        torch.testing.assert_close(moved[unit, value], vae.decode(held | {"kind": code.flatten(-2)})[0])
    assert traversed(vae, image, "bit", 9).shape == (1, 2, *SHAPE)
    assert [Binary().level_label(level) for level in Binary().levels(9).tolist()] == ["0", "1"]
    assert [Categorical(3).level_label(level) for level in Categorical(3).levels(9).tolist()] == [
        "value 0",
        "value 1",
        "value 2",
    ]
    traversal(vae, image, "kind")  # its labels are as many as its columns


def test_a_draw_of_some_latents_has_the_prior_given_the_others() -> None:
    """p(y | z) = N(30 z, 1), z held at an image's code: y is near 30 times it, wherever the prior of z is."""
    network = torch.nn.Linear(1, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[30.0], [0.0]]))
        network.bias.zero_()
    vae = linear_vae([Latent("z", 1), Latent("y", 1, ConditionalNormal("z", network))])
    drawn = vae.prior_sample(2000, torch.Generator().manual_seed(0), held={"z": torch.tensor([[1.0]])})
    assert (drawn["z"] == 1).all()
    assert abs(drawn["y"].mean().item() - 30) < 4.5 / math.sqrt(2000)
    assert drawn["y"].std().item() == pytest.approx(1, abs=0.1)
    image = torch.rand(SHAPE)
    code = vae.codes(image.unsqueeze(0))["z"]
    images = sampled(vae, image, ["y"], 50, torch.Generator().manual_seed(0))
    again = vae.prior_sample(50, torch.Generator().manual_seed(0), held={"z": code})
    torch.testing.assert_close(images, vae.decode({"z": code.expand(50, -1), "y": again["y"]}))
    # A traversal goes through the prior at the image's own parents.
    quantiles = ConditionalNormal("z").quantiles(vae.prior_of("y", {"z": code}), torch.tensor([0.5]))
    torch.testing.assert_close(quantiles.flatten(), 30 * code.flatten())
    for held, says in (({"w": code}, "no latent 'w'"), ({"z": code.expand(3, -1)}, "must be of 1 or 2 images, got 3")):
        with pytest.raises(InputError, match=says):
            vae.prior_sample(2, held=held)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("categorical", {}, "categorical needs values="),
        ("categorical", {"values": "1"}, "needs values, 2 or more, got 1"),
        ("binary", {"probability": "1"}, "probability above 0 and below 1, got 1"),
        ("mixture", {"components": "0"}, "needs components, 1 or more, got 0"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        families.make(name, settings, of="y")
