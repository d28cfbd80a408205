"""What holds of each term, of every coefficient, and of the table of methods; their equations: test_objectives."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyro_disent.batch import Batch
from pyro_disent.data import bins
from pyro_disent.errors import InputError
from pyro_disent.models.families import Normal
from pyro_disent.models.latents import Latent
from pyro_disent.models.opponents import FactorPredictor
from pyro_disent.objectives import terms
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.objectives.methods import METHODS, Setting, build_objective, parse
from pyro_disent.objectives.step import AdversarialTerm, Step
from pyro_disent.objectives.weights import WarmUp, weight_at
from tests import by_hand
from tests.models import conditional_latents, linear_vae, pair_batch

EDGES = {"angle": torch.tensor(by_hand.EDGES["angle"])}
SETTING = Setting((Latent("z", 3), Latent("y", 2, explains="rest")), EDGES)


def step_of(vae: nn.Module, batch: Batch) -> Step:
    q = poutine.trace(vae.guide).get_trace(batch)
    return Step(vae.model, vae.guide, batch, q, poutine.trace(poutine.replay(vae.model, trace=q)).get_trace(batch))


def assert_same_gradient(ours: Tensor, expected: Tensor, parameters: list[nn.Parameter]) -> None:
    pairs = zip(
        torch.autograd.grad(ours, parameters, allow_unused=True, materialize_grads=True, retain_graph=True),
        torch.autograd.grad(expected, parameters, allow_unused=True, materialize_grads=True, retain_graph=True),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_similarity_is_zero_for_equal_views_and_never_negative(seed: int) -> None:
    torch.manual_seed(seed)
    vae, batch = linear_vae(), pair_batch()
    assert (terms.Similarity()(step_of(vae, batch)) >= 0).all()
    same = Batch(batch.images[:1].expand(2, -1, -1, -1, -1), {"z": True})
    assert terms.Similarity()(step_of(vae, same)).abs().max().item() == pytest.approx(0, abs=1e-6)
    assert (terms.Similarity()(step_of(vae, pair_batch(z=False, y=False))) == 0).all()


@pytest.mark.parametrize("side", ["entropy", "cross-entropy"])
@pytest.mark.parametrize("on", ["sample", "mean"])
def test_prediction_is_eq_3_with_the_gradients_of_two_phases(side: str, on: str) -> None:
    vae = linear_vae().double()
    g = FactorPredictor(3, {"angle": 3}, hidden=5)
    term = terms.Prediction(g, EDGES, ("z",), side=side, on=on).double()
    batch = pair_batch(dtype=torch.float64)
    step = step_of(vae, batch)
    q = by_hand.posteriors(vae, batch.images)
    encoders, opponents = by_hand.predictor(by_hand.Hand(vae, "bernoulli", batch, q, {"z": step.draw("z")}), term)

    value = term(step).mean()
    assert value.item() == pytest.approx(encoders.item(), rel=1e-10)
    assert term.opponent_loss(step).item() == pytest.approx(opponents.item(), rel=1e-10)
    everything = [*vae.parameters(), *g.parameters()]
    assert_same_gradient(value, encoders, everything)
    assert_same_gradient(term.opponent_loss(step), opponents, everything)


def test_the_two_halves_do_not_leak_into_each_other() -> None:
    vae, g = linear_vae(), FactorPredictor(3, {"angle": 3})
    term, step = terms.Prediction(g, EDGES, ("z",)), step_of(vae, pair_batch())
    for value, untouched in ((term(step), g), (term.opponent_loss(step), vae)):
        grads = torch.autograd.grad(value.mean(), list(untouched.parameters()), allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in grads)


def test_an_opponent_against_a_sure_code_stays_finite() -> None:
    """p log p at p = 0 is where the published code gives NaN."""
    vae, g = linear_vae(), FactorPredictor(3, {"angle": 3})
    with torch.no_grad():
        g.network[2].weight.mul_(1e6)
    term, step = terms.Prediction(g, EDGES, ("z",)), step_of(vae, pair_batch())
    gradients = torch.autograd.grad(term(step).mean(), list(vae.guide.parameters()), allow_unused=True)
    assert term(step).isfinite().all() and all(g is None or g.isfinite().all() for g in gradients)


@settings(max_examples=15, deadline=None)
@given(
    weight=st.floats(0.1, 50),
    beta=st.floats(0.1, 10),
    seed=st.integers(0, 1000),
    method=st.sampled_from([name for name, method in METHODS.items() if method.term]),
)
def test_every_coefficient_moves_the_loss_and_no_bound(weight: float, beta: float, seed: int, method: str) -> None:
    torch.manual_seed(seed)
    vae, batch = linear_vae(), pair_batch()
    (term,) = build_objective(method, SETTING).terms

    def record(weights: dict[str, float], beta: float | dict[str, float]):
        torch.manual_seed(seed)
        return build_objective(method, SETTING, weights=weights, beta=beta)(vae.model, vae.guide).record(batch)

    zero, weighted, scaled = record({term: 0.0}, 1.0), record({term: weight}, 1.0), record({term: 0.0}, {"z": 1 + beta})
    expected = zero.loss + weight * weighted.terms[term]
    assert weighted.loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-3)
    assert scaled.loss.item() == pytest.approx((zero.loss + beta * zero.kl["z"]).item(), rel=1e-4)
    for other in (weighted, scaled):
        assert other.reconstruction.item() == zero.reconstruction.item()
        assert {n: v.item() for n, v in other.kl.items()} == {n: v.item() for n, v in zero.kl.items()}


@pytest.mark.parametrize("method", ["vae", *(name for name, method in METHODS.items() if method.term)])
def test_autocast_reaches_networks_alone(method: str) -> None:
    """Of the same two traces, half precision changes nothing but what the term's own networks give."""
    vae = linear_vae(conditional_latents())
    objective = build_objective(method, SETTING)(vae.model, vae.guide)
    with torch.autocast("cpu", torch.bfloat16):
        step = objective.step(pair_batch())
        again = step._replace(p=step.p.copy())  # a trace remembers its log densities
        half = objective.record_of(step)
    exact = objective.record_of(again)
    assert {value.dtype for value in tree_leaves(half)} == {torch.float32}
    for latent in ("z", "y"):
        distributions = step.prior(latent), step.posterior(latent)
        assert {part.dtype for q in distributions for part in (q.base_dist.loc, q.base_dist.scale)} == {torch.float32}
        assert step.draw(latent).dtype == torch.float32
    assert step.p.nodes["x"]["fn"].base_dist.logits.dtype == torch.float32
    assert half.reconstruction.equal(exact.reconstruction) and half.kl == exact.kl
    for name, value in half.terms.items():
        runs_networks = isinstance(objective.terms[name], AdversarialTerm | terms.ReverseCycle)
        tolerance = 0.05 * exact.terms[name].abs().item() + 0.01 if runs_networks else 0.0
        assert abs(value - exact.terms[name]).item() <= tolerance


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_every_method_is_finite_at_extreme_posteriors(method: str, scale: float) -> None:
    vae = linear_vae()
    with torch.no_grad():
        for head in vae.guide.heads.values():
            head.weight.mul_(scale)
            head.bias.copy_(scale * torch.randn(len(head.bias)))
    objective = build_objective(method, SETTING)(vae.model, vae.guide)
    objective(pair_batch()).backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_kl_falls_back_on_the_draw_within_its_standard_error() -> None:
    count, mean, scale = 20_000, torch.randn(3), torch.rand(3) + 0.5
    q = dist.Normal(mean.expand(count, 3), scale.expand(count, 3))
    standard = dist.Normal(torch.zeros(count, 3), 1.0)
    # A mixture of one: the same density, for which nobody registered a KL.
    mixture = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(count, 3, 1)), dist.Normal(torch.zeros(count, 3, 1), torch.ones(count, 3, 1))
    )
    draw = q.sample()
    exact = Normal().kl(q.to_event(1), standard.to_event(1), draw)[0]
    sampled = Normal().kl(q.to_event(1), mixture.to_event(1), draw)
    assert sampled.shape == (count, 3)
    assert ((sampled.mean(0) - exact).abs() < 4 * sampled.std(0) / math.sqrt(count)).all()


def test_kls_equal_torchs() -> None:
    vae, batch = linear_vae(conditional_latents()).double(), pair_batch(dtype=torch.float64)
    step = step_of(vae, batch)
    record = DisentanglingELBO()(vae.model, vae.guide).record
    torch.manual_seed(3)
    values = record(batch).kl
    torch.manual_seed(3)
    step = step_of(vae, batch)
    for latent, value in values.items():
        expected = torch.distributions.kl_divergence(step.posterior(latent), step.prior(latent)).mean()
        assert value.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize(
    ("weight", "step", "value"),
    [(3.0, 0, 3.0), (3, 10, 3.0), (WarmUp(2.0, 10), 0, 0.0), (WarmUp(2.0, 10), 5, 1.0), (WarmUp(2.0, 10), 10, 2.0),
     (WarmUp(2.0, 10), 99, 2.0)],
)  # fmt: skip
def test_weight_at(weight: float | WarmUp, step: int, value: float) -> None:
    assert weight_at(weight, step) == value


def test_a_warm_up_reaches_the_loss_by_set_step() -> None:
    vae, batch = linear_vae(), pair_batch()
    elbo = build_objective("similarity", SETTING, warmup_steps=10)
    objective = elbo(vae.model, vae.guide)
    losses = []
    for step in (0, 5, 10, 20):
        objective.weights.set_step(step)
        torch.manual_seed(1)
        losses.append(objective.record(batch).loss.item())
    term = objective.record(batch).terms["similarity"].item()
    assert losses[1] - losses[0] == pytest.approx(0.3 * term, rel=1e-2)
    assert losses[2] - losses[0] == pytest.approx(0.6 * term, rel=1e-2)
    assert losses[3] == losses[2]


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("cicle", {}, "did you mean cycle"),
        ("cycle+cycle", {}, "twice"),
        ("factor-vae+total-correlation", {}, "twice"),
        ("cycle", {"weights": {"similarity": 1.0}}, "no such term"),
        ("cycle", {"beta": {"w": 2.0}}, "the latents are y, z"),
    ],
)
def test_methods_that_cannot_be_built(method: str, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build_objective(method, SETTING, **options)


def test_a_beta_for_one_latent_leaves_the_others_the_methods_own() -> None:
    elbo = build_objective("beta-vae", SETTING, beta={"z": 4.0})
    assert (elbo._beta("z").item(), elbo._beta("y").item()) == (4.0, 2.0)


def test_a_predictor_needs_labels() -> None:
    with pytest.raises(InputError, match="needs labels"):
        build_objective("predictor", Setting(SETTING.latents, {}))


def test_the_table_says_what_each_method_needs() -> None:
    assert [method.name for method in parse("cycle + similarity")] == ["cycle", "similarity"]
    for name, method in METHODS.items():
        assert name == method.name and method.summary and method.source and method.equation
        added = method.added(SETTING)
        assert [type(term) for term in added] == ([method.term] if method.term else [])


def test_edges() -> None:
    assert bins.edges_by_range(-1.0, 1.0, 4).tolist() == [-0.5, 0.0, 0.5]
    values = torch.arange(100.0)
    counts = torch.bucketize(values, bins.edges_by_quantile(values, 4), right=True).bincount()
    assert counts.tolist() == [25, 25, 25, 25]
