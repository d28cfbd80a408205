"""The joint graph gives what eager gives, for every method, and freezes nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pyro_disent.batch import Batch
from pyro_disent.compiled import cpu
from pyro_disent.compiled.step import CompiledStep, EagerStep, why_not_compiled
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import conv3x3, mlp
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.methods import build_objective
from pyro_disent.objectives.terms import InfoNCE
from tests.models import SHAPE, conditional_latents, linear_vae, pair_batch
from tests.table import DATA, ROWS, batch_of, objective_of
from tests.test_terms import SETTING

needs_compiler = pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))


def gradients(step: EagerStep, batch: Batch, seed: int = 1) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(seed)
    record = step(batch)
    return {name: p.grad.clone() for name, p in step.objective.named_parameters()}, record.loss


def assert_equal_steps(eager: EagerStep, compiled: EagerStep, batch: Batch) -> None:
    expected, loss = gradients(eager, batch)
    ours, our_loss = gradients(compiled, batch)
    assert our_loss.item() == pytest.approx(loss.item(), rel=1e-9)
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    for name, parameter in compiled.objective.named_parameters():  # fused optimizers read both as they lie in memory
        assert parameter.grad is not None and parameter.grad.stride() == parameter.stride(), name


@pytest.mark.parametrize("method", ROWS)
def test_compiled_gradients_equal_eager_ones_also_after_the_weights_change(method: str) -> None:
    vae = linear_vae().double()
    elbo = build_objective(method, SETTING)
    objective = elbo(vae.model, vae.guide).double()
    eager, compiled = EagerStep(objective), CompiledStep(objective, backend="eager")
    assert_equal_steps(eager, compiled, pair_batch(dtype=torch.float64))
    graph = compiled._graph
    objective.weights.values.add_(1.7)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other = pair_batch(dtype=torch.float64, z=torch.rand(6, 1) < 0.5, y=torch.rand(6, 1) < 0.5)
    assert_equal_steps(eager, compiled, other)
    assert compiled._graph is graph


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", ROWS)
def test_compiled_gradients_of_the_real_networks_equal_eager_ones(method: str, data: str) -> None:
    objective = objective_of(method, data).double()
    eager, compiled = EagerStep(objective), CompiledStep(objective, backend="eager")
    batch = batch_of(data, dtype=torch.float64)
    assert_equal_steps(eager, compiled, batch)


@needs_compiler
@pytest.mark.parametrize("method", ["vae", "cycle", "cycle+similarity+predictor"])
def test_inductor_gradients_equal_eager_ones(method: str) -> None:
    vae = linear_vae().double()
    objective = build_objective(method, SETTING)(vae.model, vae.guide).double()
    compiled = CompiledStep(objective)
    assert_equal_steps(EagerStep(objective), compiled, pair_batch(dtype=torch.float64))
    assert_equal_steps(EagerStep(objective), compiled, pair_batch(dtype=torch.float64, z=False, y=True))
    # What was compiled is kept on the disk: another process, here a compiler that forgot, compiles no kernel again.
    torch._dynamo.reset()
    found = counters["inductor"]["fxgraph_cache_hit"]
    CompiledStep(objective).compile(pair_batch(dtype=torch.float64))
    assert counters["inductor"]["fxgraph_cache_hit"] == found + 1


@needs_compiler
def test_a_mode_of_torch_compile_changes_no_gradient() -> None:
    vae = linear_vae().double()
    objective = ForwardCycle()(vae.model, vae.guide)
    compiled = CompiledStep(objective, mode="reduce-overhead")
    assert_equal_steps(EagerStep(objective), compiled, pair_batch(dtype=torch.float64))


def test_a_conditional_prior_compiles() -> None:
    vae = linear_vae(conditional_latents()).double()
    objective = ForwardCycle()(vae.model, vae.guide)
    batch = pair_batch(dtype=torch.float64)
    assert_equal_steps(EagerStep(objective), CompiledStep(objective, backend="eager"), batch)


@needs_compiler
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("data", ["rotated-mnist", "chairs"])
def test_inductor_in_float32_has_the_eager_gradient_in_either_layout(
    data: str, memory_format: torch.memory_format
) -> None:
    """What ``fit`` runs on a CPU: the tanh of the MLP, the convolutions of conv4x4."""
    objective = objective_of("cycle+similarity", data).to(memory_format=memory_format)
    batch = batch_of(data)
    compiled = CompiledStep(objective)
    expected, loss = gradients(EagerStep(objective), batch)
    ours, our_loss = gradients(compiled, batch)
    assert our_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
        parameter = objective.get_parameter(name)
        assert ours[name].stride() == gradient.stride() == parameter.stride(), name


BACKENDS = ["eager", pytest.param("inductor", marks=needs_compiler)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_changes_after_compiling_runs_eager(backend: str) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.BatchNorm1d(8))
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, linear_vae().model.decoder)
    objective = ForwardCycle()(vae.model, vae.guide)
    compiled = CompiledStep(objective, backend=backend)
    compiled(pair_batch())
    objective.double()
    assert_equal_steps(EagerStep(objective), compiled, pair_batch(dtype=torch.float64))
    objective.float()
    encoder.eval()
    before = encoder[2].running_mean.clone()
    compiled(pair_batch())
    assert torch.equal(encoder[2].running_mean, before)
    encoder.train()
    compiled(pair_batch())
    assert not torch.equal(encoder[2].running_mean, before)


def test_one_mask_for_two_latents_is_no_rule_for_the_next_batch() -> None:
    vae = linear_vae().double()
    objective = ForwardCycle()(vae.model, vae.guide)
    compiled = CompiledStep(objective, backend="eager")
    mask = torch.ones(6, 1, dtype=torch.bool)
    compiled(pair_batch(dtype=torch.float64, z=mask, y=mask))
    assert_equal_steps(EagerStep(objective), compiled, pair_batch(dtype=torch.float64, z=mask, y=~mask))


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_batch_shape_or_layout_runs_eager(backend: str) -> None:
    vae = linear_vae().double()
    objective = ForwardCycle()(vae.model, vae.guide)
    compiled = CompiledStep(objective, backend=backend)
    compiled(pair_batch(dtype=torch.float64))
    same = torch.rand(1, 6, *SHAPE, dtype=torch.float64).expand(2, -1, -1, -1, -1)
    for batch in (
        pair_batch(3, dtype=torch.float64),
        Batch(torch.rand(1, 6, *SHAPE, dtype=torch.float64)),
        Batch(same, {"z": True, "y": False}, {"angle": torch.randn(2, 6, dtype=torch.float64)}),
    ):
        assert_equal_steps(EagerStep(objective), compiled, batch)


def test_steps_that_look_alike_keep_their_own_graphs() -> None:
    """Nothing is checked before a step: what was compiled for one objective must never serve another."""
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    objectives = [
        DisentanglingELBO([InfoNCE(temperature)])(vae.model, vae.guide).double() for temperature in (0.1, 0.7)
    ]
    compiled = [CompiledStep(objective, backend="eager") for objective in objectives]
    for _ in range(2):
        for objective, step in zip(objectives, compiled, strict=True):
            assert_equal_steps(EagerStep(objective), step, batch)


def test_tanh_on_a_cpu_is_exact_to_float32() -> None:
    x = torch.cat([torch.linspace(-12, 12, 1_000_001), torch.logspace(-37, 1, 10_001), torch.tensor([0.0])])
    ours, exact = cpu.tanh(x), x.double().tanh()
    assert ((ours - exact).abs() <= 4e-7 * exact.abs()).all()
    assert ours.abs().max() < 1  # or a gradient, 1 - tanh squared, would be negative
    extreme = cpu.tanh(torch.tensor([-torch.inf, torch.inf, torch.nan]))
    torch.testing.assert_close(extreme, torch.tensor([-1.0, 1.0, torch.nan]), rtol=4e-7, atol=0, equal_nan=True)
    for other in (x.double(), x.to(torch.bfloat16), x.to("meta")):
        assert cpu.tanh(other) is NotImplemented


def test_capturing_moves_no_running_statistic_and_no_random_state() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(5, 20), nn.Unflatten(1, SHAPE))
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, decoder).double()
    objective = ForwardCycle()(vae.model, vae.guide)
    compiled = CompiledStep(objective, backend="eager")
    batch, norm = pair_batch(dtype=torch.float64), encoder[2]
    state = torch.get_rng_state()
    compiled.compile(batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert norm.running_mean.abs().sum() == 0 and norm.num_batches_tracked == 0
    compiled(batch)
    assert norm.running_mean.abs().sum() > 0 and norm.num_batches_tracked == 1


def test_parameters_without_a_part_get_a_zero_gradient() -> None:
    vae = linear_vae()
    vae.model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    for step in (EagerStep, lambda o: CompiledStep(o, backend="eager")):
        objective = ForwardCycle()(vae.model, vae.guide)
        step(objective)(pair_batch())
        assert vae.model.unused.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("network", [mlp, conv3x3])
def test_bf16_networks_leave_densities_and_samples_in_float32(network) -> None:
    from pyro import poutine

    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *network((1, 28, 28), 5))
    batch = Batch(torch.rand(2, 4, 1, 28, 28), {"z": True})
    objective = ForwardCycle()(vae.model, vae.guide)
    with torch.autocast("cpu", torch.bfloat16):
        record = objective.record(batch)
        q = poutine.trace(vae.guide).get_trace(batch)
        p = poutine.trace(poutine.replay(vae.model, trace=q)).get_trace(batch)
    assert vae.guide.encoder(batch.images[0]).dtype == torch.float32
    for latent in ("z", "y"):
        base = q.nodes[latent]["fn"].base_dist
        assert {base.loc.dtype, base.scale.dtype, q.nodes[latent]["value"].dtype} == {torch.float32}
    assert p.nodes["x"]["fn"].base_dist.logits.dtype == torch.float32
    assert {t.dtype for t in (record.loss, record.reconstruction, *record.kl.values())} == {torch.float32}
    context = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    eager, _ = gradients(EagerStep(objective, context), batch)
    compiled, _ = gradients(CompiledStep(objective, context, backend="eager"), batch)
    for name, gradient in eager.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=2e-2, atol=2e-2, msg=name)


def test_why_not_compiled_looks_and_does_not_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert why_not_compiled() == "there is no C++ compiler"
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": "/nonexistent"})
    assert "headers" in str(why_not_compiled())


def test_the_step_needs_no_context_but_its_own() -> None:
    vae = linear_vae()
    step = EagerStep(ForwardCycle()(vae.model, vae.guide), contextlib.nullcontext)
    assert step(pair_batch()).loss.isfinite()
