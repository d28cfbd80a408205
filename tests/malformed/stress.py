"""Runs cases one after the other, each in a folder of its own."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from collections.abc import Callable
from pathlib import Path

import pyro_disent
from tests.malformed.cases import KINDS
from tests.malformed.children import complaint, run

THROUGH_THE_PROGRAM = 30


def stress(root: Path, every: int = 1, say: Callable[[str], None] = lambda _: None) -> tuple[dict[str, int], list[str]]:
    """Run every N-th case of each kind below an empty folder.

    Returns:
        kind -> how many were run; and what was wrong with any.
    """
    for module in pkgutil.walk_packages(pyro_disent.__path__, "pyro_disent."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # before the forks, which would each do so
    first = root / "template"
    first.mkdir()
    command = ["fit", "--method", "vae", "--data", "rotated-mnist", "--source", "embedded", "--limit", "64"]
    command += ["--batch-size", "16", "--max-steps", "2", "--threads", "1", "--out", "run", "--latent", "z=2"]
    made = run(command, first, root)
    if made.code != 0:
        raise RuntimeError(f"the run to be damaged could not be made: {made.err}")
    counts: dict[str, int] = {}
    wrong = []
    total = sum(len(range(0, count, every)) for _, count in KINDS.values())
    spacing, number = max(1, total // THROUGH_THE_PROGRAM), 0
    for kind, (make, count) in KINDS.items():
        for seed in range(0, count, every):
            folder = root / f"{kind.replace(' ', '-')}-{seed}"
            folder.mkdir()
            case = make(seed, folder, first / "run")
            outcome = run(case.arguments, folder, root, entry_point=every == 1 and number % spacing == 0)
            number += 1
            if reason := complaint(outcome, case.may_succeed):
                shown = " ".join(each if len(each) < 80 else f"{each[:20]}..." for each in case.arguments)
                wrong.append(f"{kind} {seed}: {shown!a}: {reason}".replace(str(root), "ROOT"))
                say(wrong[-1])
            shutil.rmtree(folder)
        counts[kind] = len(range(0, count, every))
        say(f"{kind}: {counts[kind]}")
    return counts, wrong
