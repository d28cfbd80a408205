"""One thread or all of them, while other work is running on the machine; and what `pyro_disent.threads` would choose.

    python benchmarks/threads.py

A whole eager step (the forward cycle, optimizer included) with each number of threads, while 0, 1 ... of the cores are
kept busy by other processes, in rounds in which each number has its turn; before each round the choice is made anew.
Rates are views per second of wall time. Prints each row and writes ``experiments/results/threads.json``. What else ran
on the machine is not under control: the load average before each row stands in the result.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.measure import commit, keep, machine
from pyro_disent import threads
from pyro_disent.batch import Batch
from pyro_disent.compiled.allocator import keep_freed_memory
from pyro_disent.compiled.step import EagerStep
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import networks
from pyro_disent.objectives.elbo import ForwardCycle
from pyro_disent.training.record import versions
from pyro_disent.training.schedule import make_optimizer

ROUNDS = 5
SECONDS = 1.0
CASES = (("mlp", (1, 28, 28), 8), ("mlp", (1, 28, 28), 96), ("mlp", (1, 28, 28), 256), ("conv4x4", (1, 64, 64), 16))
SPIN = "while True: pass"


class Step:
    """A whole step of the forward cycle on pairs of noise."""

    def __init__(self, network: str, shape: tuple[int, int, int], images: int) -> None:
        torch.manual_seed(0)
        vae = FactoredVAE([Latent("z", 16), Latent("y", 1)], *networks(network)(shape, 17))
        objective = ForwardCycle()(vae.model, vae.guide).to(memory_format=torch.channels_last)
        self.batch = Batch(torch.rand(2, images, *shape), {"z": True, "y": False})
        self.gradients, self.optimizer = EagerStep(objective), make_optimizer(objective, 1e-3)

    def rate(self, count: int) -> float:
        """Views per second in this many threads."""
        with threads.using(count):
            self()
            steps, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < SECONDS:
                self()
                steps += 1
        return steps * 2 * self.batch.size / elapsed

    def __call__(self) -> None:
        self.gradients(self.batch)
        self.optimizer.step()


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """This many other processes that each keep a core busy."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(network: str, shape: tuple[int, int, int], images: int, processes: int) -> dict[str, Any]:
    step = Step(network, shape, images)
    limit = threads.available_cores()
    counts = sorted({*(1 << k for k in range(limit.bit_length())), limit})
    rates: dict[int, list[float]] = {count: [] for count in counts}
    chosen = []
    load = os.getloadavg()[0]
    with busy(processes):
        for _ in range(ROUNDS):
            chosen.append(threads.choose(2 * images).number)
            for count in counts:
                rates[count].append(step.rate(count))
    return {
        "network": network,
        "images": images,
        "busy processes": processes,
        "load average before": round(load, 2),
        "views per second, median, lowest, highest round": {
            count: [round(value) for value in (statistics.median(found), min(found), max(found))]
            for count, found in rates.items()
        },
        "chosen": chosen,
        "chosen was as fast as the best within a tenth": sum(
            max(found[k] for found in rates.values()) <= threads.WORTH_A_THREAD * rates[count][k]
            for k, count in enumerate(chosen)
        ),
    }


def main() -> None:
    pyro.enable_validation(False)
    keep_freed_memory()
    torch.set_num_threads(threads.available_cores())
    rows = []
    for case in CASES:
        for processes in range(threads.available_cores() + 1):
            rows.append(measured(*case, processes))
            print(rows[-1], flush=True)
    result = {"command": "python benchmarks/threads.py", "commit": commit(), "rounds": ROUNDS}
    keep("threads", result | {"machine": machine(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    with pyro.settings.context(module_local_params=True):
        main()
