"""Whole epochs of the same VAE here and in NumPyro, its whole epoch under ``jit`` and ``scan``: images per second.

    pip install -e '.[bench]' && python benchmarks/numpyro_svi.py

The paper's MLP (784-512-512, tanh, z 10 and y 1, Bernoulli) on random images that lie in memory, one view, Adam. Ours
is the compiled graph of `fit`, batches taken by a shuffled index, and the optimizer, without the clipping and the log
of `fit`, which NumPyro's has not either; bf16-mixed beside float32 where the processor has bf16 arithmetic. One pinned
core, CPU time, 9 interleaved rounds of an epoch each, medians, NumPyro = 1.
Writes ``experiments/results/numpyro_svi.json``.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.infer import SVI, TraceMeanField_ELBO

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.pinned import on_one_core
from experiments.measure import keep, machine
from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import networks
from pyro_disent.objectives.methods import Setting, build_objective
from pyro_disent.training.record import versions
from pyro_disent.training.schedule import make_optimizer

ROUNDS, IMAGES = 9, 4_096
PIXELS, HIDDEN, LATENTS = 784, 512, {"z": 10, "y": 1}


def dense(name: str, inner: int, outer: int) -> Callable[[jax.Array], jax.Array]:
    """A linear layer of NumPyro parameters."""
    start = functools.partial(jax.random.normal, shape=(inner, outer))
    weight = numpyro.param(f"{name}.weight", lambda key: start(key) / np.sqrt(inner))
    bias = numpyro.param(f"{name}.bias", jnp.zeros(outer))
    return lambda x: x @ weight + bias


def model(images: jax.Array) -> None:
    """p(x | z, y) p(z) p(y)."""
    layers = [dense("p1", sum(LATENTS.values()), HIDDEN), dense("p2", HIDDEN, HIDDEN), dense("p3", HIDDEN, PIXELS)]
    with numpyro.plate("images", len(images)):
        code = jnp.concatenate(
            [numpyro.sample(n, dist.Normal(jnp.zeros(u), 1.0).to_event(1)) for n, u in LATENTS.items()], -1
        )
        logits = layers[2](jnp.tanh(layers[1](jnp.tanh(layers[0](code)))))
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=images)


def guide(images: jax.Array) -> None:
    """q(z | x) q(y | x)."""
    features = jnp.tanh(dense("q2", HIDDEN, HIDDEN)(jnp.tanh(dense("q1", PIXELS, HIDDEN)(images))))
    with numpyro.plate("images", len(images)):
        for name, units in LATENTS.items():
            loc, log_variance = jnp.split(dense(f"q_{name}", HIDDEN, 2 * units)(features), 2, -1)
            numpyro.sample(name, dist.Normal(loc, jnp.exp(0.5 * log_variance)).to_event(1))


def numpyro_epoch(images: np.ndarray, size: int) -> Callable[[], float]:
    svi = SVI(model, guide, numpyro.optim.Adam(1e-3), TraceMeanField_ELBO())
    everything = jnp.asarray(images)
    state = svi.init(jax.random.PRNGKey(0), everything[:size])
    key = jax.random.PRNGKey(1)

    @jax.jit
    def epoch(state: object, key: jax.Array) -> tuple[object, jax.Array]:
        order = jax.random.permutation(key, len(everything))[: len(everything) // size * size].reshape(-1, size)

        def step(state: object, index: jax.Array) -> tuple[object, jax.Array]:
            return svi.update(state, everything[index])

        state, losses = jax.lax.scan(step, state, order)
        return state, losses[-1]

    def run() -> float:
        nonlocal state, key
        key, now = jax.random.split(key)
        state, loss = epoch(state, now)
        return float(loss) / size

    return run


def our_epoch(images: np.ndarray, size: int, *, bf16: bool) -> Callable[[], float]:
    latents = tuple(Latent(name, units) for name, units in LATENTS.items())
    vae = FactoredVAE(latents, *networks("mlp")((1, 28, 28), sum(LATENTS.values())))
    objective = build_objective("vae", Setting(latents, {}))(vae.model, vae.guide)
    everything = torch.from_numpy(images).view(-1, 1, 28, 28)
    autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=bf16)
    optimizer, step = make_optimizer(objective, 1e-3), CompiledStep(objective, autocast)

    def run() -> float:
        for index in torch.randperm(len(everything))[: len(everything) // size * size].view(-1, size):
            record = step(Batch(everything[index].unsqueeze(0)))
            optimizer.step()
        return record.loss.item()

    return run


def has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def measure(size: int) -> dict[str, object]:
    # Black and white: NumPyro's Bernoulli gives grey no density.
    images = np.random.default_rng(0).integers(0, 2, (IMAGES, PIXELS)).astype(np.float32)
    epochs = {"NumPyro": numpyro_epoch(images, size), "ours float32": our_epoch(images, size, bf16=False)}
    if has_bf16():
        epochs["ours bf16"] = our_epoch(images, size, bf16=True)
    first, losses = {}, {}
    for name, epoch in epochs.items():
        start = time.perf_counter()
        epoch()
        first[name] = round(time.perf_counter() - start, 1)
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(ROUNDS):
        for name, epoch in epochs.items():
            start = time.process_time()
            losses[name] = round(epoch(), 2)
            times[name].append(time.process_time() - start)
    seen = IMAGES // size * size
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "images a step": size,
        "images per second": {name: round(seen / value) for name, value in median.items()},
        "rate over NumPyro's": {name: round(median["NumPyro"] / value, 3) for name, value in median.items()},
        "first epoch s": first,
        "last loss, nats per image": losses,
    }


def main() -> None:
    on_one_core(__doc__)
    rows = []
    for size in (96, 256):
        rows.append(measure(size))
        print(json.dumps(rows[-1]), flush=True)
    others = {name: version(name) for name in ("jax", "numpyro")}
    content = {
        "command": "python benchmarks/numpyro_svi.py",
        "machine": machine() | {"bf16 arithmetic": has_bf16()},
        "versions": versions() | others,
        "rows": rows,
    }
    keep("numpyro_svi", content)


if __name__ == "__main__":
    main()
