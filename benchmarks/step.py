"""One training step, optimizer included, against the same work written by hand in eager PyTorch (= 1).

    python benchmarks/step.py

CPU time on one pinned core, 9 interleaved rounds, medians. Prints a table and writes
``experiments/results/step.json``. ``hand eager`` and ``hand compiled`` are `by_hand.ByHand`; ``ours eager`` and
``ours compiled`` are the steps of `pyro_disent.objectives.compiled`; ``SVI`` is plain ``pyro.infer.SVI``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.by_hand import ByHand, Z
from benchmarks.pinned import on_one_core
from experiments.measure import keep, machine
from pyro_disent.batch import Batch
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import networks
from pyro_disent.objectives.compiled import CompiledStep, EagerStep
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import Setting, build
from pyro_disent.training.setup import make_optimizer, versions

ROUNDS = 9
SECONDS_PER_ROUND = 0.5
LATENTS = (Latent("z", Z), Latent("y", 1))
SETTING = Setting(LATENTS, {"angle": torch.zeros(1)})
CASES = [("mlp", (1, 28, 28), 8), ("mlp", (1, 28, 28), 96), ("mlp", (1, 28, 28), 256), ("conv4x4", (1, 64, 64), 32)]
METHODS = ("vae", "cycle", "similarity", "predictor")


def objective_of(network: str, shape: tuple[int, int, int], method: str) -> Objective:
    vae = FactoredVAE(LATENTS, *networks(network)(shape, Z + 1))
    return build(method, SETTING)(vae.model, vae.guide)


def steps(network: str, shape: tuple[int, int, int], method: str, batch: Batch) -> dict[str, Callable[[], object]]:
    """Name -> one whole step of one contender, each with weights and an optimizer of its own."""
    factor = batch.factors["angle"]

    def by_hand(compiled: bool) -> Callable[[], object]:
        module = ByHand(network, shape, method)
        loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(module) if compiled else module
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss(batch.images, factor).backward()
            optimizer.step()

        return step

    def ours(kind: type[EagerStep]) -> Callable[[], object]:
        objective = objective_of(network, shape, method)
        optimizer, gradients = make_optimizer(objective, 1e-3), kind(objective)

        def step() -> None:
            gradients(batch)
            optimizer.step()

        return step

    def svi() -> Callable[[], object]:
        objective = objective_of(network, shape, method)
        optim = pyro.optim.Adam({"lr": 1e-3})
        inference = pyro.infer.SVI(objective.model, objective.guide, optim, objective.elbo)
        return lambda: inference.step(batch)

    return {
        "hand eager": by_hand(compiled=False),
        "hand compiled": by_hand(compiled=True),
        "ours eager": ours(EagerStep),
        "ours compiled": ours(CompiledStep),
        "SVI": svi(),
    }


def measure(network: str, shape: tuple[int, int, int], size: int, method: str) -> dict[str, object]:
    torch.manual_seed(0)
    views = 1 if method in ("vae", "predictor") else 2
    batch = Batch(torch.rand(views, size, *shape), factors={"angle": torch.randn(views, size)})
    batch = batch.sharing({"z": (), "y": ()})
    contenders, first = steps(network, shape, method, batch), {}
    for name, step in contenders.items():
        start = time.perf_counter()
        step()
        first[name] = time.perf_counter() - start
        for _ in range(3):
            step()
    start = time.process_time()
    contenders["hand eager"]()
    repeats = max(2, round(SECONDS_PER_ROUND / (time.process_time() - start)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, step in contenders.items():
            start = time.process_time()
            for _ in range(repeats):
                step()
            times[name].append((time.process_time() - start) / repeats)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "network": network,
        "images": size,
        "views": views,
        "method": method,
        "hand eager ms": round(1e3 * median["hand eager"], 3),
        "ratio": {name: round(value / median["hand eager"], 3) for name, value in median.items()},
        "first call s": {name: round(value, 1) for name, value in first.items() if "compiled" in name},
    }


def main() -> None:
    on_one_core(__doc__)
    rows = []
    for network, shape, size in CASES:
        for method in METHODS:
            pyro.clear_param_store()
            torch._dynamo.reset()
            rows.append(measure(network, shape, size, method))
            ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in rows[-1]["ratio"].items())
            print(f"{network} {size} {method}: {ratios}  ({rows[-1]['hand eager ms']} ms)", flush=True)
    content = {"command": "python benchmarks/step.py", "machine": machine(), "versions": versions(), "rows": rows}
    keep("step", content)


if __name__ == "__main__":
    main()
