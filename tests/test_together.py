"""Several processes: they train as one would on all their data, and end together, whichever of them meets what."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from pyro_disent.compiled.step import EagerStep
from pyro_disent.objectives.methods import METHODS
from pyro_disent.training.run_folder import RunFolder
from tests import forked, several
from tests.forked import LONGEST, ROOT


def processes(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LONGEST)


SUMS = ("cycle+similarity+predictor", "info-nce+dip")
CASES = [f"{world}/{method}/eager" for world in (2, 4) for method in (*METHODS, *SUMS)]
CASES += [f"{world}/{method}/compiled" for world, method in zip((2, 2, 4), (*SUMS, SUMS[1]), strict=True)]


@pytest.fixture(scope="module")
def of_several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two and four processes have left their gradients of each case."""
    out = tmp_path_factory.mktemp("of_several")
    for world in (2, 4):
        for done in forked.run_together(work=partial(several.work, out, CASES, world), cwd=out, world=world):
            assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("case", CASES)
def test_processes_have_the_gradient_of_one_that_sees_all(
    case: str, of_several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one draws what each of them has drawn, for the images of each."""
    world, method = int(case.split("/")[0]), case.split("/")[1]
    first, *others = (torch.load(several.place(of_several, case, rank), weights_only=True) for rank in range(world))
    objective, batch = several.objective_of(method), several.batch_of(world)
    several.drawing_for(world, monkeypatch)
    record = EagerStep(objective)(batch)
    expected = several.gradients(objective)
    assert len(expected) >= 8 and any(gradient.abs().max() > 0.1 for gradient in expected.values())
    several.assert_same(first["gradients"], expected)
    assert first["loss"].item() == pytest.approx(record.loss.item(), rel=1e-9)
    for other in others:
        assert all(torch.equal(other["gradients"][name], value) for name, value in first["gradients"].items())
    with pytest.raises(AssertionError):  # so this test would see an average that does nothing
        several.assert_same(first["alone"], expected)


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
    words = [*SMALL.split(), "--max-steps", "400", "--devices", "2", "--out", "run"]
    if fault == "SIGKILL":  # the first process starts the second
        (tmp_path / "faulty.py").write_text(f"from tests import several\nseveral.faulty({fault!r})")
        done = processes("faulty.py", *words, cwd=tmp_path)
        err = done.stderr
    else:
        done, other = forked.run_together(*words, work=partial(several.faulty, fault), cwd=tmp_path)
        err = done.stderr + other.stderr
    assert done.returncode == code, err
    assert err.count(said) == 1, err
    assert RunFolder(tmp_path / "run").state("last")["step"] == step
