"""Several processes: they train as one would on all their data, and end together, whichever of them meets what."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

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


GONE = "another process of this training is gone; go on with: pyro-disent fit --resume run"
MET = {
    "nan": (2, 1, [3, 0], "diverged at step 6: site x (reconstruction), site y", 4),
    "nan of 4": (4, 3, [3, 0, 0, 0], "diverged at step 6: site x (reconstruction), site y", 4),
    "nan, rolled back": (2, 1, [3, 0], "diverged at step 6: site x (reconstruction), site y", 4),
    "SIGTERM": (2, 1, [143, 0], "interrupted; go on with: pyro-disent fit --resume run", 6),
    "SIGKILL": (2, 0, [-9, 5], GONE, 4),
    "SIGKILL of 4": (4, 2, [5, 5, -9, 5], GONE, 4),
    "disk": (2, 0, [4, 0], "run could not be written, its last checkpoint is kept: [Errno 28]", 4),
    "reduce": (2, 1, [5, 5], GONE, 4),
    "unprepared first": (2, 0, [2, 0], "this machine has no such data", None),
    "unprepared": (2, 1, [2, 0], "this machine has no such data", None),
    "unborn": (2, 1, [5, -9], "another process of this training is gone", None),
}
"""case -> processes, the one that meets it, their exit codes, what is said, and the step of the last checkpoint."""
OBSERVED = [*SMALL.split(), "--method", "cycle+predictor", "--observe", "rotation=0.5", "--threads", "1"]
FITS = {
    f"{world} in {parts}": [*OBSERVED, "--max-steps", "6", "--devices", str(world), "--accumulate", str(parts)]
    for world, parts in ((2, 1), (1, 2), (4, 1), (2, 2))
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every run on several processes has left its folder, what each process said, and how it ended."""
    out = tmp_path_factory.mktemp("ended")
    jobs: list[dict[str, Any]] = [
        {"name": name, "world": world, "rank": rank, "fault": name.replace(",", "").split()[0],
         "words": [*SMALL.split(), *f"--max-steps 400 --devices {world} --threads 1 --out run --quiet".split(),
                   *(["--on-divergence", "rollback"] if "rolled" in name else [])]}
        for name, (world, rank, *_) in MET.items()
    ]  # fmt: skip
    jobs += [{"name": name, "world": int(name[0]), "words": [*words, "--out", "run"]} for name, words in FITS.items()]
    (out / "jobs.json").write_text(json.dumps(jobs))
    done = processes("-m", "tests.runs_of_several", "jobs.json", cwd=out)
    assert done.returncode == 0, done.stderr
    return out


def how(ended: Path, case: str) -> tuple[list[int], float, str]:
    end = json.loads((ended / case / "ended.json").read_text())
    said = "".join(path.read_text() for path in sorted((ended / case).glob("*.err")))
    return end["codes"], end["seconds"], said


@pytest.mark.parametrize("case", MET)
def test_all_processes_end_at_once_by_what_one_meets(case: str, ended: Path) -> None:
    _, _, expected, says, step = MET[case]
    codes, seconds, said = how(ended, case)
    assert codes == expected, said
    assert seconds < 60 and "Traceback" not in said
    assert said.count(says) == (expected.count(5) or 1), said
    run = ended / case / "run"
    assert RunFolder(run).state("last")["step"] == step if step else not run.exists()
    if "rolled" in case:  # all processes went back together, three times
        assert RunFolder(run).state("last")["rollbacks"] == 3


def weights(run: Path) -> dict[str, torch.Tensor]:
    assert RunFolder(run).state("last")["step"] == 6
    return RunFolder(run).weights("last")


def test_processes_at_once_train_as_one_that_takes_their_parts_in_turn(ended: Path) -> None:
    """Two bit for bit, four up to the order of sums; with values of a latent that are observed."""
    assert all(how(ended, case)[0] == [0] * int(case[0]) for case in FITS)
    two, in_two, four, two_in_two = (weights(ended / case / "run") for case in FITS)
    assert all(torch.equal(value, in_two[name]) for name, value in two.items())
    for name, value in four.items():
        torch.testing.assert_close(value, two_in_two[name], rtol=1e-3, atol=1e-4)
    assert any((value - two[name]).abs().max() > 1e-3 for name, value in four.items())  # whose noise is another
    rows = [RunFolder(ended / case / "run").metrics() for case in FITS]
    for first, second in zip(rows[0], rows[1], strict=True):
        assert first | {"views_per_second": ""} == second | {"views_per_second": ""}


def test_two_machines_of_torchrun_train_as_two_processes_of_one(ended: Path, tmp_path: Path) -> None:
    """As the README starts them, each machine with an agent of its own; both find the observed values."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [*FITS["2 in 1"], "--devices", "1", "--out", "run"]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank",
             node, "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "pyro_disent", *words],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        )
        for node in ("0", "1")
    ]  # fmt: skip
    said = [machine.communicate(timeout=LONGEST)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    alone = weights(ended / "2 in 1/run")
    assert all(torch.equal(value, alone[name]) for name, value in weights(tmp_path / "run").items())
    assert RunFolder(tmp_path / "run").read_record().observed
