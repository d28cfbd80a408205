"""Several processes: they train as one would on all their data, and end together, whichever of them meets what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import normal

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import EagerStep
from pyro_disent.training.run_folder import RunFolder
from tests import one_of_two

ROOT = Path(__file__).parent.parent
LONGEST = 240  # seconds until a hang is one


def processes(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LONGEST)


def side_by_side(parts: list[Batch]) -> Batch:
    shared = {name: torch.cat([part.shared[name] for part in parts]) for name in parts[0].shared}
    factors = {name: torch.cat([part.factors[name] for part in parts], 1) for name in parts[0].factors}
    return Batch(torch.cat([part.images for part in parts], 1), shared, factors)


METHODS, STEPS = ("cycle+similarity+predictor", "info-nce+dip"), ("eager", "compiled")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left their gradients for every method and step."""
    out = tmp_path_factory.mktemp("of_two")
    cases = [f"{method}/{compiled}" for method in METHODS for compiled in STEPS]
    done = processes("-m", "tests.one_of_two", out, *cases, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("compiled", STEPS)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_have_the_gradient_of_one_that_sees_all(
    method: str, compiled: str, of_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one draws what each of the two has drawn, for the images of each."""
    places = [one_of_two.place(of_two, f"{method}/{compiled}", rank) for rank in (0, 1)]
    first, second = (torch.load(place, weights_only=True) for place in places)

    generators = [torch.Generator("cpu").manual_seed(one_of_two.noise_of(rank)) for rank in (0, 1)]

    def drawn(shape: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
        views, images, *units = shape
        assert images == 2 * one_of_two.IMAGES
        each = (views, one_of_two.IMAGES, *units)
        return torch.cat([torch.empty(each, dtype=dtype).normal_(generator=g) for g in generators], 1)

    monkeypatch.setattr(normal, "_standard_normal", drawn)
    objective = one_of_two.objective_of(method, seed=0)
    record = EagerStep(objective)(side_by_side([one_of_two.part_of_batch(rank) for rank in (0, 1)]))
    expected = {name: parameter.grad for name, parameter in objective.named_parameters()}
    assert len(expected) >= 8 and any(gradient.abs().max() > 0.1 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(first["gradients"][name], gradient, rtol=1e-6, atol=1e-9, msg=name)
        assert torch.equal(first["gradients"][name], second["gradients"][name])
    assert first["loss"].item() == pytest.approx(record.loss.item(), rel=1e-9)


FAULTY = """
import os, signal, sys, torch
from pyro_disent.cli.main import main
from pyro_disent.training import log, loop

log.LOG_EVERY = 2
gradients, fault = loop.Loop._gradients, os.environ["FAULT"]

def faulty(self, step):
    if step == 5 and self.fabric.global_rank == 1:  # 4 steps an epoch
        if fault == "nan":
            with torch.no_grad():
                next(self.objective.guide.heads["y"].parameters()).fill_(float("nan"))
        elif fault == "error":
            raise RuntimeError("out of luck")
        else:
            os.kill(os.getpid(), getattr(signal, fault))
    return gradients(self, step)

loop.Loop._gradients = faulty
main()
"""
SMALL = "fit --method vae --data rotated-mnist --source embedded --limit 64 --batch-size 16 --no-compile --device cpu"


@pytest.mark.parametrize(
    ("fault", "code", "said", "step"),
    [
        ("nan", 3, "diverged at step 6: site x (reconstruction), site y", 4),
        ("SIGTERM", 143, "interrupted; go on with: pyro-disent fit --resume run", 6),
        ("error", 1, "process 1 failed: RuntimeError: out of luck", 4),
        ("SIGKILL", 5, "another process of this training is gone; go on with: pyro-disent fit --resume run", 4),
    ],
)
def test_what_one_process_meets_ends_all(fault: str, code: int, said: str, step: int, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    words = [*SMALL.split(), "--max-steps", "400", "--devices", "2", "--out", "run"]
    done = processes("faulty.py", *words, cwd=tmp_path, FAULT=fault)
    assert done.returncode == code, done.stderr
    assert done.stderr.count(said) == 1, done.stderr
    assert RunFolder(tmp_path / "run").state("last")["step"] == step
