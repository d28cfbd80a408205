"""Every term against an independent computation, and the table of methods as a whole."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import LIKELIHOODS
from pyro_disent.models.opponents import FactorPredictor, PermutationDiscriminator
from pyro_disent.objectives import terms
from pyro_disent.objectives.elbo import DisentanglingELBO, Step, Term
from pyro_disent.objectives.kl import kl_per_unit
from pyro_disent.objectives.methods import METHODS, Setting, build, parse
from pyro_disent.objectives.weights import WarmUp, weight_at
from tests.models import conditional_latents, linear_vae, pair_batch
from tests.test_cycle import draws_of, kl_by_hand, posteriors_by_hand

EDGES = {"angle": torch.tensor([-0.5, 0.5], dtype=torch.float64)}
SETTING = Setting((Latent("z", 3), Latent("y", 2)), {"angle": torch.tensor([-0.5, 0.5])})


def step_of(vae: nn.Module, batch: Batch) -> Step:
    q = poutine.trace(vae.guide).get_trace(batch)
    return Step(vae.model, vae.guide, batch, q, poutine.trace(poutine.replay(vae.model, trace=q)).get_trace(batch))


def assert_same_gradient(ours: Tensor, by_hand: Tensor, parameters: list[nn.Parameter]) -> None:
    pairs = zip(
        torch.autograd.grad(ours, parameters, allow_unused=True, materialize_grads=True, retain_graph=True),
        torch.autograd.grad(by_hand, parameters, allow_unused=True, materialize_grads=True, retain_graph=True),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("per_unit", [False, True])
def test_similarity_is_eq_1(per_unit: bool) -> None:
    vae = linear_vae().double()
    mask = torch.rand(6, 3) < 0.5 if per_unit else torch.tensor([True, False, True, True, False, True])[:, None]
    batch = pair_batch(dtype=torch.float64, z=mask, y=False)
    ours = terms.Similarity()(step_of(vae, batch))
    mean, log_variance = posteriors_by_hand(vae, batch.images)["z"]
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        for image in range(6):
            for unit in range(3):
                if mask.expand(6, 3)[image, unit]:
                    one = (slice(None), image, slice(unit, unit + 1))
                    m, v = mean[one], log_variance[one]
                    total = total + kl_by_hand(m[a], v[a], m[b], v[b])
    expected = total / 12
    assert ours.item() == pytest.approx(expected.item(), rel=1e-10)
    assert_same_gradient(ours, expected, list(vae.parameters()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_similarity_is_zero_for_equal_views_and_never_negative(seed: int) -> None:
    torch.manual_seed(seed)
    vae, batch = linear_vae(), pair_batch()
    assert terms.Similarity()(step_of(vae, batch)).item() >= 0
    same = Batch(batch.images[:1].expand(2, -1, -1, -1, -1), {"z": True})
    assert terms.Similarity()(step_of(vae, same)).item() == pytest.approx(0, abs=1e-6)
    assert terms.Similarity()(step_of(vae, pair_batch(z=False, y=False))).item() == 0


@pytest.mark.parametrize("side", ["entropy", "cross-entropy"])
@pytest.mark.parametrize("on", ["sample", "mean"])
def test_prediction_is_eq_3_with_the_gradients_of_two_phases(side: str, on: str) -> None:
    vae = linear_vae().double()
    g = FactorPredictor(3, {"angle": 3}, hidden=5).double()
    term = terms.Prediction(g, EDGES, side=side, on=on)
    batch = pair_batch(dtype=torch.float64)
    step = step_of(vae, batch)
    z = step.draw("z") if on == "sample" else posteriors_by_hand(vae, batch.images)["z"][0]
    first, second = g.network[0], g.network[2]

    def logits(code: Tensor, frozen: bool) -> Tensor:
        w = [p.detach() if frozen else p for p in (first.weight, first.bias, second.weight, second.bias)]
        return torch.relu(code @ w[0].T + w[1]) @ w[2].T + w[3]

    labels = (batch.factors["angle"] >= -0.5).long() + (batch.factors["angle"] >= 0.5).long()
    p = logits(z, frozen=True).softmax(-1)
    guesses = p.gather(-1, labels[..., None])
    encoders = (p * p.log()).sum(-1).mean() if side == "entropy" else guesses.log().mean()
    opponents = -logits(z.detach(), frozen=False).log_softmax(-1).gather(-1, labels[..., None]).mean()

    assert term(step).item() == pytest.approx(encoders.item(), rel=1e-10)
    assert term.opponent_loss(step).item() == pytest.approx(opponents.item(), rel=1e-10)
    everything = [*vae.parameters(), *g.parameters()]
    assert_same_gradient(term(step), encoders, everything)
    assert_same_gradient(term.opponent_loss(step), opponents, everything)


def test_the_two_halves_do_not_leak_into_each_other() -> None:
    vae, g = linear_vae(), FactorPredictor(3, {"angle": 3})
    term, step = terms.Prediction(g, EDGES), step_of(vae, pair_batch())
    for value, untouched in ((term(step), g), (term.opponent_loss(step), vae)):
        grads = torch.autograd.grad(value, list(untouched.parameters()), allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in grads)


def test_an_opponent_against_a_sure_code_stays_finite() -> None:
    """p log p at p = 0 is where the published code gives NaN."""
    vae, g = linear_vae(), FactorPredictor(3, {"angle": 3})
    with torch.no_grad():
        g.network[2].weight.mul_(1e6)
    term, step = terms.Prediction(g, EDGES), step_of(vae, pair_batch())
    gradients = torch.autograd.grad(term(step), list(vae.guide.parameters()), allow_unused=True)
    assert term(step).isfinite() and all(g is None or g.isfinite().all() for g in gradients)


def test_total_correlation_is_factor_vaes() -> None:
    vae, d = linear_vae(), PermutationDiscriminator(5, hidden=8, layers=2)
    term, step = terms.TotalCorrelation(d, ("z", "y")), step_of(vae, pair_batch())
    code = torch.cat([step.draw("z"), step.draw("y")], -1).reshape(12, 5)
    logits = d.network(code)
    assert term(step).item() == pytest.approx((logits[:, 0] - logits[:, 1]).mean().item(), rel=1e-6)
    state = torch.get_rng_state()
    ours = term.opponent_loss(step)
    torch.set_rng_state(state)
    order = torch.rand(12, 5).argsort(0)
    permuted = torch.stack([code[order[:, unit], unit] for unit in range(5)], 1)
    expected = 0.5 * (
        F.cross_entropy(logits, torch.zeros(12, dtype=torch.long))
        + F.cross_entropy(d.network(permuted), torch.ones(12, dtype=torch.long))
    )
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    for unit in range(5):
        assert sorted(permuted[:, unit].tolist()) == sorted(code[:, unit].tolist())


def test_dip_is_dip_vae_ii() -> None:
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    q = posteriors_by_hand(vae, batch.images)
    mean = torch.cat([q["z"][0], q["y"][0]], -1).reshape(12, 5)
    variance = torch.cat([q["z"][1], q["y"][1]], -1).exp().reshape(12, 5)
    centered = mean - mean.mean(0)
    covariance = centered.T @ centered / 12 + torch.diag(variance.mean(0))
    off = covariance - torch.diag(covariance.diag())
    expected = off.square().sum() + (covariance.diag() - 1).square().sum()
    assert terms.DIP()(step_of(vae, batch)).item() == pytest.approx(expected.item(), rel=1e-10)


def test_info_nce_is_the_mean_of_both_directions() -> None:
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    mean = posteriors_by_hand(vae, batch.images)["z"][0]
    unit = mean / mean.norm(dim=-1, keepdim=True)
    expected = 0.0
    for a, b in ((0, 1), (1, 0)):
        for image in range(6):
            scores = unit[a, image] @ unit[b].T / 0.1
            expected = expected - (scores[image] - scores.exp().sum().log()) / 12
    assert terms.InfoNCE()(step_of(vae, batch)).item() == pytest.approx(expected.item(), rel=1e-9)


def test_reverse_cycle_encodes_what_it_decoded() -> None:
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    step = step_of(vae, batch)
    state = torch.get_rng_state()
    ours = terms.ReverseCycle()(step)
    torch.set_rng_state(state)
    world = poutine.trace(vae.model).get_trace(views=2, images=6)
    code = torch.cat([step.draw("z"), world.nodes["y"]["value"]], -1)
    again = posteriors_by_hand(vae, torch.sigmoid(vae.model.outputs(code)))["z"]
    target = tuple(part.detach() for part in posteriors_by_hand(vae, batch.images)["z"])
    expected = kl_by_hand(*again, *target).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-9)
    assert_same_gradient(ours, expected, list(vae.parameters()))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("method", [*METHODS, "cycle+similarity", "cycle+similarity+predictor"])
def test_a_sum_is_one_elbo_plus_the_weighted_terms(method: str, likelihood: str) -> None:
    vae = linear_vae(likelihood=LIKELIHOODS[likelihood]()).double()
    elbo = build(method, SETTING)
    objective = elbo(vae.model, vae.guide).double()
    batch = pair_batch(dtype=torch.float64)
    state = torch.get_rng_state()
    record = objective.record(batch)
    torch.set_rng_state(state)
    plain = DisentanglingELBO(exchange="cycle" in method.split("+"))(vae.model, vae.guide).record(batch)
    beta = 2.0 if method == "beta-vae" else 1.0
    expected = plain.reconstruction + beta * sum(plain.kl.values())
    for name, value in record.terms.items():
        expected = expected + elbo.terms[name].default_weight * value
    assert record.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert record.kl.keys() == {"z", "y"}
    objective(batch).backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


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
    (term,) = build(method, SETTING).terms

    def record(weights: dict[str, float], beta: float | dict[str, float]):
        torch.manual_seed(seed)
        return build(method, SETTING, weights=weights, beta=beta)(vae.model, vae.guide).record(batch)

    zero, weighted, scaled = record({term: 0.0}, 1.0), record({term: weight}, 1.0), record({term: 0.0}, {"z": 1 + beta})
    expected = zero.loss + weight * weighted.terms[term]
    assert weighted.loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-3)
    assert scaled.loss.item() == pytest.approx((zero.loss + beta * zero.kl["z"]).item(), rel=1e-4)
    for other in (weighted, scaled):
        assert other.reconstruction.item() == zero.reconstruction.item()
        assert {n: v.item() for n, v in other.kl.items()} == {n: v.item() for n, v in zero.kl.items()}


def test_kl_falls_back_on_the_draw_within_its_standard_error() -> None:
    count, mean, scale = 20_000, torch.randn(3), torch.rand(3) + 0.5
    q = dist.Normal(mean.expand(count, 3), scale.expand(count, 3))
    standard = dist.Normal(torch.zeros(count, 3), 1.0)
    # A mixture of one: the same density, for which nobody registered a KL.
    mixture = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(count, 3, 1)), dist.Normal(torch.zeros(count, 3, 1), torch.ones(count, 3, 1))
    )
    draw = q.sample()
    exact = kl_per_unit(q.to_event(1), standard.to_event(1), draw)[0]
    sampled = kl_per_unit(q.to_event(1), mixture.to_event(1), draw)
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
     (WarmUp(2.0, 10), 99, 2.0), (WarmUp(2.0, 0), 0, 2.0)],
)  # fmt: skip
def test_weight_at(weight: float | WarmUp, step: int, value: float) -> None:
    assert weight_at(weight, step) == value


def test_a_warm_up_reaches_the_loss_by_set_step() -> None:
    vae, batch = linear_vae(), pair_batch()
    elbo = build("similarity", SETTING, warmup_steps=10)
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
        build(method, SETTING, **options)


def test_a_beta_for_one_latent_leaves_the_others_the_methods_own() -> None:
    elbo = build("beta-vae", SETTING, beta={"z": 4.0})
    assert (elbo._beta("z").item(), elbo._beta("y").item()) == (4.0, 2.0)


def test_a_predictor_needs_labels() -> None:
    with pytest.raises(InputError, match="needs labels"):
        build("predictor", Setting(SETTING.latents, {}))


def test_the_table_says_what_each_method_needs() -> None:
    assert [method.name for method in parse("cycle + similarity")] == ["cycle", "similarity"]
    for name, method in METHODS.items():
        assert name == method.name and method.summary and method.equation
        if method.term:
            assert isinstance(method.term(SETTING), Term)


def test_edges() -> None:
    assert terms.edges_by_range(-1.0, 1.0, 4).tolist() == [-0.5, 0.0, 0.5]
    values = torch.arange(100.0)
    counts = torch.bucketize(values, terms.edges_by_quantile(values, 4), right=True).bincount()
    assert counts.tolist() == [25, 25, 25, 25]


def test_draws_of_gives_the_noise() -> None:
    """The tests' own tool: what it says was drawn is what the objective draws."""
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    noise = draws_of(vae, batch)
    step = step_of(vae, batch)
    for name, (mean, log_variance) in posteriors_by_hand(vae, batch.images).items():
        torch.testing.assert_close(step.draw(name), mean + (0.5 * log_variance).exp() * noise[name])
