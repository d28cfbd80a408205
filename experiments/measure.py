"""Run an experiment's commands one after the other and keep what they measured as data.

    python experiments/measure.py chairs

writes ``experiments/results/chairs.json``: every command with its wall time and peak memory, every run's evaluation,
and the seed, versions and machine they come from. Runs go to a temporary folder unless ``--runs`` names one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("pyro-disent")
RESULTS = Path(__file__).parent / "results"

EXPERIMENTS = {
    "chairs": [
        "fit --method cycle --data chairs --source embedded",
        "fit --method vae --data chairs --source embedded --batch-size 32",  # one view an image: as many views as cycle
    ],
    "rotated-mnist": ["fit --method cycle --data rotated-mnist"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--runs", type=Path, help="where runs are kept")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = given.runs or Path(temporary)
        result = measure(EXPERIMENTS[given.experiment], runs, given.seed)
    keep(given.experiment, result)


def measure(commands: list[str], runs: Path, seed: int) -> dict[str, Any]:
    measured, evaluations = [], {}
    for command in commands:
        words = [*command.split(), "--seed", str(seed)]
        name = f"{words[words.index('--data') + 1]}-{words[words.index('--method') + 1]}"
        measured.append(timed([*words, "--out", str(runs / name)], shown=" ".join(words)))
        measured.append(timed(["evaluate", str(runs / name)], shown=f"evaluate {name}"))
        evaluations[name] = json.loads((runs / name / "evaluation.json").read_text())
        config = json.loads((runs / name / "config.json").read_text())
        evaluations[name] |= {key: config[key] for key in ("source", "versions", "precision", "step")}
        del evaluations[name]["source"]["location"]  # a path of this machine; the hash says what the data is
    return {
        "seed": seed,
        "commit": commit(),
        "machine": machine(),
        "commands": measured,
        "evaluations": evaluations,
    }


def keep(name: str, result: dict[str, Any]) -> None:
    """Write a result where the repository keeps them, and print its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


def commit() -> str:
    """The commit that was measured, and whether the tree had changes beside it."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def timed(words: list[str], shown: str) -> dict[str, Any]:
    start = time.perf_counter()
    subprocess.run([PROGRAM, *words], check=True)
    return {
        "command": f"pyro-disent {shown}",
        "seconds": round(time.perf_counter() - start, 1),
        "peak_megabytes_so_far": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }


def machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
    }


if __name__ == "__main__":
    main()
