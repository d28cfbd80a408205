"""Several processes on a CPU from one start: everything is imported once, and each process is a fork of that one.

``python -m tests.several FOLDER JOB...`` does the jobs one after the other. Each is ``WORLD/METHOD/STEP``: that many
processes leave their gradients in the folder, before and after they were averaged, and their losses.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import normal

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.models.program import hashed, seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import build_objective
from pyro_disent.training.fabric import Fabric, launched_quietly
from pyro_disent.training.together import Together
from tests.models import SHAPE, linear_vae
from tests.test_terms import SETTING

CPU, IMAGES = torch.device("cpu"), 6  # of a process


def forked(world: int, work: Callable[[int], Any]) -> list[int]:
    """The exit codes of processes that find each other as those that Lightning Fabric started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ids = []
    for rank in range(world):
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
            os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
            code = 70
            try:
                work(rank)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 71
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        ids.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ids]


def objective_of(method: str, seed: int = 0) -> Objective:
    torch.manual_seed(seed)
    vae = linear_vae().double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.copy_(torch.randn_like(parameter) / 3)
    known = {"y": [0.5, 0.7]}
    return build_objective(method, SETTING, known=known)(vae.model, vae.guide).double()


def batch_of(parts: int) -> Batch:
    """Pairs with some values of a factor and of a latent; each part knows another number of them."""
    generator, double = torch.Generator().manual_seed(100), torch.float64
    images = parts * IMAGES

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(2, images, *shape, dtype=double, generator=generator)

    number = torch.arange(images)
    angle = (2 * rand() - 1).masked_fill(number % IMAGES < number // IMAGES, torch.nan)
    observed = {"y": rand(2).masked_fill(rand(2) < 0.5, torch.nan)}
    return Batch(rand(*SHAPE), {"z": True, "y": False}, {"angle": angle}, observed=observed)


def noise_of(part: int) -> int:
    return hashed("noise", 7, 3, part)


def drawing_for(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, an objective draws for each part of a batch what the part alone would draw."""
    generators = [torch.Generator("cpu").manual_seed(noise_of(part)) for part in range(parts)]
    uniform = torch.rand

    def normal_noise(shape: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
        views, images, *units = shape
        each = (views, images // parts, *units)
        return torch.cat([torch.empty(each, dtype=dtype).normal_(generator=g) for g in generators], 1)

    def rand(rows: int, units: int, **settings: Any) -> torch.Tensor:
        each = (2, rows // parts // 2, units)  # views, images, units
        return torch.cat([uniform(each, generator=g, dtype=settings["dtype"]) for g in generators], 1).flatten(0, 1)

    monkeypatch.setattr(normal, "_standard_normal", normal_noise)
    monkeypatch.setattr(torch, "rand", rand)  # of a permutation over the batch


def step_of(objective: Objective, compiled: str, example: Batch) -> EagerStep:
    if compiled != "compiled":
        return EagerStep(objective)
    step = CompiledStep(objective, backend="eager")
    step.compile(example)
    return step


def gradients(objective: Objective) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def assert_same(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def averaged(method: str, compiled: str, fabric: Fabric) -> dict[str, Any]:
    rank, together = fabric.global_rank, Together(fabric)
    objective = objective_of(method, seed=rank)  # each its own: those of the first are everybody's
    together.share_weights(objective)
    batch = batch_of(fabric.world_size).parts(fabric.world_size)[rank]
    with together.one_batch():
        step = step_of(objective, compiled, batch)
        seed_random_state(noise_of(rank), CPU)
        record = step(batch)
    alone = gradients(objective)
    record = together.average(objective, record)
    return {"alone": alone, "gradients": gradients(objective), "loss": record.loss}


def work(out: Path, jobs: Sequence[str]) -> None:
    torch.set_num_threads(1)
    for world in (2, 4):
        cases = [job for job in jobs if job.startswith(f"{world}/")]

        def each(rank: int, world: int = world, cases: Sequence[str] = cases) -> None:
            fabric = launched_quietly(accelerator="cpu", devices=world, precision="32-true")
            assert (fabric.global_rank, fabric.world_size) == (rank, world)
            for case in cases:
                torch.save(averaged(*case.split("/")[1:], fabric), place(out, case, rank))

        if cases and any(codes := forked(world, each)):
            sys.exit(f"{world} processes ended with {codes}")


def place(out: Path, case: str, rank: int) -> Path:
    return out / f"{case.replace('/', '-')}-{rank}.pt"


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2:])
