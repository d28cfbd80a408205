"""Kill a training many times at random moments, go on each time, and compare what comes out with one left alone.

    python experiments/kill.py

writes ``experiments/results/kill.json``: every kill with its moment and what it cost, and in what the results differ.
Each training is a process of its own, forked from this one once it has imported everything, and is ended by SIGKILL
after a time drawn uniformly: from its start, one time in five, or else from its first step. Checkpoints come so often
that many kills fall into the middle of one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import mmap
import os
import random
import signal
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import commit, keep, machine

from pyro_disent.errors import InputError
from pyro_disent.runs.presets import configure
from pyro_disent.training import loop
from pyro_disent.training.config import FitConfig
from pyro_disent.training.record import versions
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train

METHOD, DATA = "cycle+predictor", "rotated-mnist"
IMPORTED = ("pyro_disent.training.fabric", "torch.utils.tensorboard")
"""What a training imports when it begins: here before the first fork."""
LONGEST = 600.0  # seconds that a training left alone may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--every", type=float, default=0.2, help="seconds between checkpoints")
    parser.add_argument("--within", type=float, default=3.0, help="seconds in which a kill falls")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        result = kill_and_compare(Path(root), given.kills, given.seed, given.steps, given.every, given.within)
    command = "python experiments/kill.py " + " ".join(f"--{name} {value}" for name, value in vars(given).items())
    keep("kill", {"command": command, "commit": commit(), "machine": machine(), "versions": versions()} | result)


def kill_and_compare(root: Path, kills: int, seed: int, steps: int, every: float, within: float) -> dict[str, Any]:
    settings = {"source": "embedded", "limit": 4800, "batch_size": 16, "max_steps": steps, "network": "mlp"}
    fixed = {"device": "cpu", "threads": 1, "compile": False, "checkpoint_minutes": every / 60}
    config = configure(METHOD, DATA, "quick", settings | fixed)
    torch.set_num_threads(1)
    for module in IMPORTED:
        importlib.import_module(module)
    taken = mmap.mmap(-1, 16)
    whole = RunFolder(root / "whole")
    if (code := ended(lambda: train(config, whole), taken)) != 0:
        raise SystemExit(f"the training left alone ended with {code}")
    rng, log, runs = random.Random(seed), [], []
    while len(log) < kills:
        folder = RunFolder(root / f"killed-{len(runs)}")
        done = False
        while not done:
            after, at_start = (rng.uniform(0, within), rng.random() < 0.2) if len(log) < kills else (LONGEST, True)
            code = ended(lambda folder=folder: go_on(config, folder), taken, after, at_start)  # type: ignore[misc]
            done = code == 0
            if code == -signal.SIGKILL:
                moment = f"{after:.3f} s from its {'start' if at_start else 'first step'}"
                log.append({"run": len(runs), "after": moment, **left(folder, taken)})
                print(log[-1], flush=True)
            elif not done:
                raise SystemExit(f"a training that goes on ended with {code}: {folder.path}")
        runs.append({"differs": differences(whole, folder)})
        print(runs[-1], flush=True)
    lost = [each["lost_steps"] for each in log if "lost_steps" in each]
    return {
        "method": METHOD,
        "data": DATA,
        "settings": settings | {"seed": config.seed},
        "kills": len(log),
        "broken_folders": 0,  # `left` ends this program at the first
        "kills_before_the_first_checkpoint": len(log) - len(lost),
        "lost_steps": {"most": max(lost, default=0), "mean": sum(lost) / max(len(lost), 1)},
        "lost_seconds": {"most": max((each["lost_seconds"] for each in log if "lost_steps" in each), default=0)},
        "seconds_between_checkpoints": every,
        "runs": runs,
        "log": log,
    }


def go_on(config: FitConfig, folder: RunFolder) -> None:
    """As a user would: the same command where there is no configuration, else a resume."""
    train(config, folder, resume=folder.config_file.exists())


def ended(train: Callable[[], None], taken: mmap.mmap, after: float = LONGEST, at_start: bool = True) -> int:
    """The exit code of a training in a process of its own, which is killed so long after its start or first step."""
    taken[:] = bytes(16)
    gc.freeze()
    if (child := os.fork()) == 0:
        code = 1
        try:
            train_noting_steps(train, taken)
            code = 0
        finally:
            os._exit(code)
    start = time.monotonic()
    while time.monotonic() < start + after:
        if not at_start and taken[:8] == bytes(8):
            start = time.monotonic()
        if os.waitpid(child, os.WNOHANG)[0]:
            return 0 if int.from_bytes(taken[:8], "little") == 2**62 else 1
        time.sleep(0.0005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_noting_steps(train: Callable[[], None], taken: mmap.mmap) -> None:
    """Train, and note in memory that outlives this process how many steps were taken, and when the first of them."""
    update = loop.Loop._update

    def noting(self: loop.Loop, record: Any, step: int) -> Any:
        result = update(self, record, step)
        if not any(taken[8:]):
            taken[8:] = struct.pack("<d", time.time())
        taken[:8] = struct.pack("<Q", step + 1)
        return result

    loop.Loop._update = noting  # type: ignore[method-assign]
    train()
    taken[:8] = struct.pack("<Q", 2**62)


def left(folder: RunFolder, taken: mmap.mmap) -> dict[str, Any]:
    """What a kill left, which must be whole, and what it cost."""
    now = time.time()
    if not folder.config_file.exists():
        folder.refuse_existing(overwrite=False)  # raises where it cannot be begun in
        return {"left": "no configuration" if folder.path.exists() else "no folder"}
    folder.read_record()
    if not folder.has_begun:
        return {"left": "no checkpoint"}
    state, _ = folder.state("last"), folder.weights("last")
    with contextlib.suppress(InputError):  # there may be none yet
        folder.weights("best")
    steps, first = struct.unpack("<Qd", taken[:])
    saved = max((folder.checkpoints / "last.json").stat().st_mtime, first)
    return {
        "left": f"step {state['step']}",
        "lost_steps": max(steps - state["step"], 0),
        "lost_seconds": round(now - saved, 3) if steps else 0.0,
    }


def differences(one: RunFolder, other: RunFolder) -> list[str]:
    """In what two runs differ: weights, optimizers, metrics but for how long they took; nothing where all is equal."""
    found = []
    for which in ("best", "last"):
        weights, theirs = one.weights(which), other.weights(which)  # type: ignore[arg-type]
        found += [f"{which} {name}" for name in weights if not torch.equal(weights[name], theirs[name])]
    moments, others = (folder.state("last")["optimizer"]["state"] for folder in (one, other))
    found += [
        f"optimizer {index} {name}"
        for index, state in moments.items()
        for name in state
        if not torch.equal(state[name], others[index][name])
    ]
    rows, their_rows = (
        [{name: value for name, value in row.items() if name != "views_per_second"} for row in folder.metrics()]
        for folder in (one, other)
    )
    return found + (["metrics"] if rows != their_rows else [])


if __name__ == "__main__":
    main()
