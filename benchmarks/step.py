"""One training step, optimizer included, against the same work written by hand in eager PyTorch (= 1).

    python benchmarks/step.py

CPU time on one pinned core, 9 interleaved rounds; a ratio is the median of the rounds' ratios, so that a machine that
slows down for a while slows down both sides of it. Prints a table and writes ``experiments/results/step.json``.
``hand eager`` and ``hand compiled`` are `by_hand.ByHand`; ``ours eager`` and ``ours compiled`` are the steps of
`pyro_disent.compiled.step`; ``SVI`` is plain ``pyro.infer.SVI``; the matrix products of the MLP alone are the
limit. All contenders of a row have one memory format; ``fit`` trains channels-last. ``cold`` is a first step whose
kernels are compiled (the hand-written one's comes first and loads the compiler), ``warm`` that of another step of the
kind, whose kernels are found on the disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightning_fabric  # noqa: F401  (which `fit` trains under, and with which small steps of any code take a tenth longer)
import pyro
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.by_hand import ByHand, Z
from benchmarks.pinned import on_one_core
from experiments.measure import keep, machine
from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent, sharing
from pyro_disent.models.networks import networks
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import Setting, build_objective
from pyro_disent.training.record import versions
from pyro_disent.training.schedule import make_optimizer

ROUNDS = 9
SECONDS_PER_ROUND = 0.5
LATENTS = (Latent("z", Z), Latent("y", 1, explains="rest"))
SETTING = Setting(LATENTS, {"angle": torch.zeros(1)})
CASES = [
    *(("mlp", (1, 28, 28), size, torch.contiguous_format) for size in (8, 96, 256)),
    *(("conv4x4", (1, 64, 64), 32, memory_format) for memory_format in (torch.contiguous_format, torch.channels_last)),
]
METHODS = ("vae", "cycle", "similarity", "predictor")


class Steps:
    """One whole step of each contender, each with weights and an optimizer of its own."""

    def __init__(self, network: str, shape: tuple[int, int, int], memory_format: torch.memory_format, method: str):
        self.network, self.shape, self.memory_format, self.method = network, shape, memory_format, method

    def by_hand(self, batch: Batch, *, compiled: bool) -> Callable[[], object]:
        module = ByHand(self.network, self.shape, self.method).to(memory_format=self.memory_format)
        loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(module) if compiled else module
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            loss(batch.images, batch.factors["angle"]).backward()
            optimizer.step()

        return step

    def ours(self, batch: Batch, kind: type[EagerStep]) -> Callable[[], object]:
        objective = self.objective()
        optimizer, gradients = make_optimizer(objective, 1e-3), kind(objective)

        def step() -> None:
            gradients(batch)
            optimizer.step()

        return step

    def svi(self, batch: Batch) -> Callable[[], object]:
        objective = self.objective()
        optim = pyro.optim.Adam({"lr": 1e-3})
        inference = pyro.infer.SVI(objective.model, objective.guide, optim, objective.elbo)
        return lambda: inference.step(batch)

    def products(self, batch: Batch) -> Callable[[], object]:
        """The matrix products of a step and nothing else: no other step of an MLP can be shorter."""
        module, rows = ByHand(self.network, self.shape, self.method), batch.views * batch.size
        made = []
        for layer in (each for each in module.modules() if isinstance(each, torch.nn.Linear)):
            weight = layer.weight.detach()
            made.append((weight, torch.randn(rows, weight.shape[1]), torch.randn(rows, weight.shape[0])))
        into = [tuple(torch.empty_like(each) for each in (x, gradient, weight)) for weight, x, gradient in made]

        def step() -> None:
            for (weight, x, gradient), (to_x, to_gradient, to_weight) in zip(made, into, strict=True):
                torch.mm(x, weight.T, out=to_gradient)
                torch.mm(gradient.T, x, out=to_weight)
                if weight is not made[0][0]:  # nobody asks for the images' gradient
                    torch.mm(gradient, weight, out=to_x)

        return step

    def objective(self) -> Objective:
        vae = FactoredVAE(LATENTS, *networks(self.network)(self.shape, Z + 1)).to(memory_format=self.memory_format)
        return build_objective(self.method, SETTING)(vae.model, vae.guide)


def measure(
    network: str, shape: tuple[int, int, int], size: int, memory_format: torch.memory_format, method: str
) -> dict[str, object]:
    torch.manual_seed(0)
    views = 1 if method in ("vae", "predictor") else 2
    batch = Batch(torch.rand(views, size, *shape), factors={"angle": torch.randn(views, size)})
    batch = sharing(LATENTS, batch)
    steps, first = Steps(network, shape, memory_format, method), {}
    contenders = {
        "hand eager": steps.by_hand(batch, compiled=False),
        "hand compiled": steps.by_hand(batch, compiled=True),
        "ours eager": steps.ours(batch, EagerStep),
        "ours compiled": steps.ours(batch, CompiledStep),
    }
    if memory_format == torch.contiguous_format:  # Pyro's parameter store holds no other
        contenders["SVI"] = steps.svi(batch)
    if network == "mlp":
        contenders["matrix products alone"] = steps.products(batch)
    for name, step in contenders.items():
        first[f"{name}, cold"] = seconds(step)
        for _ in range(3):
            step()
    first["ours compiled, warm"] = seconds(steps.ours(batch, CompiledStep))
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
    ratios = {name: [t / hand for t, hand in zip(ts, times["hand eager"], strict=True)] for name, ts in times.items()}
    return {
        "network": network,
        "memory format": str(memory_format).removeprefix("torch."),
        "images": size,
        "views": views,
        "method": method,
        "hand eager ms": round(1e3 * statistics.median(times["hand eager"]), 3),
        "ratio": {name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "ratio of ours compiled, lowest and highest round": [
            round(extreme(ratios["ours compiled"]), 3) for extreme in (min, max)
        ],
        "first step s": {name: round(value, 1) for name, value in first.items() if "compiled" in name},
    }


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    on_one_core(__doc__)
    rows = []
    for network, shape, size, memory_format in CASES:
        for method in METHODS:
            pyro.clear_param_store()
            torch._dynamo.reset()
            with tempfile.TemporaryDirectory() as cache:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
                rows.append(measure(network, shape, size, memory_format, method))
            ratios = "  ".join(f"{name} {ratio:.2f}" for name, ratio in rows[-1]["ratio"].items())
            print(f"{network} {size} {method}: {ratios}  ({rows[-1]['hand eager ms']} ms)", flush=True)
    content = {"command": "python benchmarks/step.py", "machine": machine(), "versions": versions(), "rows": rows}
    keep("step", content)


if __name__ == "__main__":
    main()
