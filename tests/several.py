"""Several processes on a CPU: what each does where gradients are compared, and where one of them meets something."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import normal

from pyro_disent.batch import Batch
from pyro_disent.cli.main import main
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.models.program import hashed, seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import build_objective
from pyro_disent.training import log, loop
from pyro_disent.training.fabric import Fabric, launched_quietly
from pyro_disent.training.together import Together
from tests.models import SHAPE, linear_vae
from tests.test_terms import SETTING

CPU, IMAGES = torch.device("cpu"), 6  # of a process


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


def work(out: Path, jobs: Sequence[str], world: int) -> None:
    """One process of several does the jobs of that many, ``WORLD/METHOD/STEP``.

    Each leaves its gradients, before and after they were averaged, and its loss.
    """
    fabric = launched_quietly(accelerator="cpu", devices=world, precision="32-true")
    assert fabric.world_size == world
    for job in jobs:
        if job.startswith(f"{world}/"):
            torch.save(averaged(*job.split("/")[1:], fabric), place(out, job, fabric.global_rank))


def place(out: Path, case: str, rank: int) -> Path:
    return out / f"{case.replace('/', '-')}-{rank}.pt"


def faulty(fault: str) -> None:
    """The program, where the second process meets this in step 5: ``nan``, ``error``, or the name of a signal."""
    log.LOG_EVERY = 2
    gradients = loop.Loop._gradients

    def _gradients(self: loop.Loop, step: int) -> Any:
        if step == 5 and self.fabric.global_rank == 1:  # 4 steps an epoch
            if fault == "nan":
                with torch.no_grad():
                    next(self.objective.guide.heads["y"].parameters()).fill_(float("nan"))
            elif fault == "error":
                raise RuntimeError("out of luck")
            else:
                os.kill(os.getpid(), getattr(signal, fault))
        return gradients(self, step)

    loop.Loop._gradients = _gradients  # type: ignore[method-assign]
    main()
