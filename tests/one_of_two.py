"""One of two processes on a CPU, as `tests.test_together` starts them: its gradients, after they were averaged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.models.program import hashed, seed_random_state
from pyro_disent.training.fabric import Fabric, launched_quietly
from pyro_disent.training.together import Together
from tests.models import linear_vae, pair_batch
from tests.test_terms import SETTING

CPU, IMAGES = torch.device("cpu"), 6


def objective_of(method: str, seed: int):  # type: ignore[no-untyped-def]
    from pyro_disent.objectives.methods import build_objective

    torch.manual_seed(seed)
    vae = linear_vae().double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.copy_(torch.randn_like(parameter) / 3)
    return build_objective(method, SETTING)(vae.model, vae.guide).double()


def part_of_batch(rank: int) -> Batch:
    torch.manual_seed(100 + rank)
    return pair_batch(dtype=torch.float64)


def noise_of(rank: int) -> int:
    return hashed("noise", 7, 3, rank)


def main(out: Path, cases: list[str]) -> None:
    """One start for all cases, each a method and how its step runs, as in ``vae/eager``: starting takes the longest."""
    torch.set_num_threads(1)
    fabric = launched_quietly(accelerator="cpu", devices=2, precision="32-true")
    for case in cases:
        torch.save(averaged(*case.split("/"), fabric), place(out, case, fabric.global_rank))


def averaged(method: str, compiled: str, fabric: Fabric) -> dict[str, Any]:
    rank, together = fabric.global_rank, Together(fabric)
    objective = objective_of(method, seed=rank)  # each its own: those of the first are everybody's
    together.share_weights(objective)
    step = CompiledStep(objective, backend="eager") if compiled == "compiled" else EagerStep(objective)
    batch = part_of_batch(rank)
    seed_random_state(noise_of(rank), CPU)
    with together.one_batch():
        record = step(batch)
    record = together.average(objective, record)
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
    return {"gradients": gradients, "loss": record.loss}


def place(out: Path, case: str, rank: int) -> Path:
    return out / f"{case.replace('/', '-')}-{rank}.pt"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
