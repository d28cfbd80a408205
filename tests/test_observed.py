"""Latents whose value is known for some images: what is minimized, against the formula written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import Binary, Categorical, Circle, ConditionalNormal, Mixture
from pyro_disent.models.latents import Latent, each
from pyro_disent.objectives import terms
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from tests.by_hand import affine, halves, kl
from tests.models import SHAPE, linear_vae
from tests.test_compiled import assert_equal_steps

IMAGES = 6
BETA = {"azimuth": 3.0, "kind": 0.5, "size": 2.0}
KNOWN = {"azimuth": 0.25, "kind": 0.8, "size": [0.5, 0.2]}
ALPHA = 0.7


def latents() -> list[Latent]:
    """c has a prior that depends on latents that are observed."""
    return [
        Latent("z", 2),
        Latent("azimuth", 1, Circle(), explains=("azimuth",)),
        Latent("kind", 1, Categorical(3), explains=("kind",)),
        Latent("size", 2, explains=each("width", "height")),
        Latent("c", 2, ConditionalNormal("azimuth+kind+size", nn.Linear(7, 4)), explains="rest"),
    ]


def vae_in_float64() -> FactoredVAE:
    vae = linear_vae(latents()).double()
    with torch.no_grad():  # heads start near zero, where a posterior says nothing
        for head in vae.guide.heads.values():
            head.weight.mul_(20)
    return vae


def values(share: float = 0.5) -> dict[str, Tensor]:
    """Of about a share of the images and of the units, NaN elsewhere."""
    found = {
        "azimuth": torch.rand(2, IMAGES, 1, dtype=torch.float64) * 2 * math.pi,
        "kind": torch.randint(3, (2, IMAGES, 1)).double(),
        "size": torch.randn(2, IMAGES, 2, dtype=torch.float64),
    }
    return {name: value.where(torch.rand(value.shape) < share, torch.nan) for name, value in found.items()}


def batch(observed: dict[str, Tensor] | None = None) -> Batch:
    equal = torch.rand(IMAGES, 1) < 0.5
    shared = {"z": torch.ones(IMAGES, 1, dtype=torch.bool), "azimuth": equal, "kind": ~equal, "c": equal & False}
    shared["size"] = torch.cat([equal, ~equal], -1)
    pixels = torch.rand(2, IMAGES, *SHAPE, dtype=torch.float64)
    return Batch(pixels, shared=shared, observed=observed or {})


def elbo(exchange: bool = False, **said: Any) -> DisentanglingELBO:
    return DisentanglingELBO(exchange=exchange, beta=BETA, **{"alpha": ALPHA, "known": KNOWN, **said})


def objective(vae: FactoredVAE, exchange: bool = False, **said: Any) -> Objective:
    return elbo(exchange, **said)(vae.model, vae.guide).double()


def circle_log_density(concentration: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Of the direction of a normal vector N(concentration, I): its density, summed along the ray."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(200))
    radius, weights = 10 * (nodes + 1), 10 * weights  # from 0 to 20
    x = radius * cosine[..., None] - concentration[..., 0, None]
    y = radius * sine[..., None] - concentration[..., 1, None]
    return ((weights * radius * (-(x**2 + y**2) / 2).exp()).sum(-1) / (2 * math.pi)).log()


def circle_kl(concentration: Tensor) -> Tensor:
    """To the uniform distribution, by the sum over 360 degrees."""
    angle = torch.arange(360, dtype=torch.float64).view(-1, 1, 1) * (math.pi / 180)
    log_q = circle_log_density(concentration.squeeze(-2)[None], angle.cos(), angle.sin())
    return (log_q.exp() * (log_q + math.log(2 * math.pi))).sum(0) * (math.pi / 180)


def normal_log_density(mean: Tensor, log_variance: Tensor, value: Tensor) -> Tensor:
    return -0.5 * ((value - mean).square() / log_variance.exp() + log_variance + math.log(2 * math.pi))


def by_hand(vae: FactoredVAE, data: Batch, exchange: bool) -> Tensor:
    """Per view: -log p(x | seen) + beta KL where unknown - beta log p(v | parents) - alpha / share log q(v | x)."""
    features = torch.tanh(affine(vae.guide.encoder[1], data.images.flatten(2)))
    head = {name: affine(layer, features) for name, layer in vae.guide.heads.items()}
    known = {name: value == value for name, value in data.observed.items()}
    v = {name: torch.where(known[name], value, torch.zeros_like(value)) for name, value in data.observed.items()}

    def normal(name: str) -> tuple[Any, Tensor]:
        q = halves(head[name])
        return q, q.draw()

    z, z_draw = normal("z")
    c_length = head["azimuth"].square().sum(-1, keepdim=True)
    concentration = head["azimuth"] / (1 + c_length / 1600).sqrt()
    direction = concentration + torch.randn(2, IMAGES, 1, 2, dtype=torch.float64).squeeze(-2)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    log_kind = head["kind"] - head["kind"].logsumexp(-1, keepdim=True)
    gumbel = -(-torch.rand(2, IMAGES, 1, 3, dtype=torch.float64).log()).log().squeeze(-2)
    hard = nn.functional.one_hot((head["kind"] + gumbel).argmax(-1), 3).double()
    kind_draw = hard + log_kind.exp() - log_kind.exp().detach()
    size, size_draw = normal("size")
    c, c_draw = normal("c")

    azimuth = torch.where(known["azimuth"], torch.cat([v["azimuth"].cos(), v["azimuth"].sin()], -1), direction)
    kind_v = nn.functional.one_hot(v["kind"].squeeze(-1).long(), 3).double()
    code = {
        "z": z_draw,
        "azimuth": azimuth,
        "kind": torch.where(known["kind"], kind_v, kind_draw),
        "size": torch.where(known["size"], v["size"], size_draw),
        "c": c_draw,
    }
    seen = dict(code)
    if exchange:
        seen = {name: torch.where(data.shared[name], value[[1, 0]], value) for name, value in code.items()}
    logits = affine(vae.model.decoder[0], torch.cat([*seen.values()], -1))
    x = data.images.flatten(2)
    loss = (x * torch.log1p((-logits).exp()) + (1 - x) * torch.log1p(logits.exp())).sum(-1)
    parents = torch.cat([code["azimuth"], code["kind"], code["size"]], -1)
    loss = loss + kl(z, type(z)(z.mean * 0, z.mean * 0)).sum(-1)
    loss = loss + kl(c, halves(affine(vae.model.priors["c"].network, parents))).sum(-1)

    log_q = {
        "azimuth": circle_log_density(concentration, v["azimuth"].cos()[..., 0], v["azimuth"].sin()[..., 0])[..., None],
        "kind": log_kind.gather(-1, v["kind"].long()),
        "size": normal_log_density(*size, v["size"]),
    }
    log_p = {
        "azimuth": torch.full_like(v["azimuth"], -math.log(2 * math.pi)),
        "kind": torch.full_like(v["kind"], -math.log(3)),
        "size": -0.5 * (v["size"].square() + math.log(2 * math.pi)),
    }
    kls = {
        "azimuth": circle_kl(concentration[..., None, :])[..., None],
        "kind": (log_kind.exp() * (log_kind + math.log(3))).sum(-1, keepdim=True),
        "size": kl(size, type(size)(size.mean * 0, size.mean * 0)),
    }
    for name, mask in known.items():
        share = torch.tensor(KNOWN[name], dtype=torch.float64)
        of_known = -BETA[name] * log_p[name] - ALPHA / share * log_q[name]
        loss = loss + torch.where(mask, of_known, BETA[name] * kls[name]).sum(-1)
    return loss.mean()


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("exchange", [False, True])
def test_value_and_gradient_are_those_of_the_formula(exchange: bool, share: float) -> None:
    vae, data = vae_in_float64(), batch(values(share))
    parameters = list(vae.parameters())
    torch.manual_seed(1)
    loss = objective(vae, exchange)(data)
    torch.manual_seed(1)
    expected = by_hand(vae, data, exchange)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=0)
    ours = torch.autograd.grad(loss, parameters)
    theirs = torch.autograd.grad(expected, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("exchange", [False, True])
def test_where_nothing_is_known_it_is_the_method_without_bit_for_bit(exchange: bool) -> None:
    vae, data = vae_in_float64(), batch()
    nothing = {name: torch.full_like(value, torch.nan) for name, value in values().items()}
    results = []
    for given in (data, data.observing(nothing)):
        torch.manual_seed(1)
        similar = DisentanglingELBO([terms.Similarity()], exchange=exchange, beta=BETA)
        record = similar(vae.model, vae.guide).record(given)
        results.append([record.loss, *record.kl.values(), *torch.autograd.grad(record.loss, list(vae.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_where_all_is_known_neither_decoder_nor_priors_see_a_draw() -> None:
    """What is left of the posterior of an observed latent is -log q(v | x), with a gradient for its head alone."""
    vae, data = vae_in_float64(), batch(values(1.0))
    step = objective(vae).step(data)
    record = objective(vae).elbo.per_image(step)
    assert all(record.kl[name].eq(0).all() for name in KNOWN)
    rest = record.reconstruction.sum() + sum(value.sum() for value in (*record.kl.values(), *record.observed.values()))
    heads = [parameter for name in KNOWN for parameter in vae.guide.heads[name].parameters()]
    assert all(
        gradient is None or gradient.eq(0).all() for gradient in torch.autograd.grad(rest, heads, allow_unused=True)
    )
    torch.testing.assert_close(step.p.nodes["size"]["value"], data.observed["size"])
    assert list(record.observed) == list(record.told) == list(KNOWN)
    assert [name for name in step.p.nodes if "unobserved" in name] == []


def test_alpha_is_per_image_that_has_a_value_whatever_the_batch_has() -> None:
    """Over batches of all images, told is the mean of -log q over the images that have a value."""
    vae = vae_in_float64()
    value = torch.randn(1, 8, 2, dtype=torch.float64)
    value[:, 2:] = torch.nan  # a quarter of the images
    pixels = torch.rand(1, 8, *SHAPE, dtype=torch.float64)
    bound = objective(vae, known={"size": 0.25})
    told = []
    for part in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)):
        told.append(bound.record(Batch(pixels[:, part], observed={"size": value[:, part]})).told["size"])
    q = bound.step(Batch(pixels)).posterior("size")
    expected = -q.log_prob(value.nan_to_num())[0, :2].mean()
    torch.testing.assert_close(torch.stack(told).mean(), expected)


def test_terms_see_the_posterior_and_not_the_value() -> None:
    vae, data = vae_in_float64(), batch()
    elbo = DisentanglingELBO([terms.Similarity(), terms.DIP(), terms.InfoNCE(), terms.ReverseCycle()])
    results = []
    for given in (data, data.observing(values(0.7))):
        torch.manual_seed(1)
        results.append(elbo(vae.model, vae.guide).record(given).terms)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_an_exchange_shows_the_decoder_the_other_views_value_and_nothing_else() -> None:
    vae, data = vae_in_float64(), batch(values(1.0))
    one, other = (objective(vae, exchange).step(data) for exchange in (False, True))
    v, mask = data.observed["size"], data.shared["size"]
    torch.testing.assert_close(other.p.nodes["size_seen"]["value"], torch.where(mask, v.flip(0), v))
    torch.testing.assert_close(one.p.nodes["size_seen"]["value"], v)
    bounds = objective(vae).elbo
    assert torch.equal(bounds.per_image(one).told["size"], bounds.per_image(other).told["size"])
    assert torch.equal(bounds.per_image(one).observed["size"], bounds.per_image(other).observed["size"])


@pytest.mark.parametrize(
    ("family", "value"), [(Binary(), 1.0), (Mixture(components=2), 0.3), (Circle(), 2.0), (Categorical(4), 3.0)]
)
def test_a_value_is_its_familys_code(family: Any, value: float) -> None:
    vae = linear_vae([Latent("y", 1, family)])
    step = DisentanglingELBO()(vae.model, vae.guide).step(
        Batch(torch.rand(1, 3, *SHAPE), observed={"y": torch.full((1, 3), value)})
    )
    code = step.p.nodes["y"]["value"]
    expected = [math.cos(2.0), math.sin(2.0)] if family.circular else [0, 0, 0, 1] if family.choices == 4 else [value]
    torch.testing.assert_close(code, torch.tensor(expected, dtype=torch.float32).expand(1, 3, -1))
    record = DisentanglingELBO().record_of(step)
    torch.testing.assert_close(record.told["y"], -step.posterior("y").log_prob(code).mean())
    torch.testing.assert_close(record.observed["y"], -step.prior("y").log_prob(code).mean())


def test_compiled_is_eager() -> None:
    bound = objective(vae_in_float64(), exchange=True)
    eager, compiled = EagerStep(bound), CompiledStep(bound, backend="eager")
    for share in (0.5, 0.0, 1.0):  # one graph, whatever is known
        assert_equal_steps(eager, compiled, batch(values(share)))
    graph = compiled._graph
    assert_equal_steps(eager, compiled, batch())  # of which the graph knows nothing: it runs eager
    assert compiled._graph is graph


def test_what_does_not_fit_is_refused() -> None:
    vae, images = linear_vae(latents()), torch.rand(1, 3, *SHAPE)
    for observed, says in (
        ({"no": torch.zeros(1, 3)}, "observes no, and the guide draws no such latent"),
        ({"size": torch.zeros(1, 3)}, "observes 1 units of 'size', which has 2"),
        ({"size": torch.zeros(3, 2)}, "must be real numbers of shape"),
    ):
        with pytest.raises(InputError, match=says):
            DisentanglingELBO()(vae.model, vae.guide)(Batch(images, observed=observed))
    whole = linear_vae([Latent("m", 2, Mixture(components=2))])
    with pytest.raises(InputError, match="whose KL has no parts"):
        DisentanglingELBO()(whole.model, whole.guide)(Batch(images, observed={"m": torch.zeros(1, 3, 2)}))
    for share in (0, 1.1, True):
        with pytest.raises(InputError, match="above 0 and at most 1"):
            DisentanglingELBO(known={"size": share})
