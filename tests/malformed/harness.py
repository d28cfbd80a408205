"""Runs malformed cases in a process under limits, and in another one where that hung or died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.malformed import Case, Outcome
from tests.malformed.whole import write_all

ROOT = Path(__file__).parent.parent.parent
LONGEST = 60.0
"""Seconds until a case is taken for a hang."""
CASES_A_PROCESS = 150


@contextlib.contextmanager
def workplace() -> Iterator[tuple[Path, Path]]:
    """A folder of its own for cases, and one of whole things to damage copies of."""
    with tempfile.TemporaryDirectory(prefix="malformed-") as name:
        root = Path(name).resolve()
        (root / "cases").mkdir()
        write_all(root / "whole")
        yield root / "cases", root / "whole"


def environment(root: Path) -> dict[str, str]:
    """No device, no data, no network and no cache but one below ``root``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYRO_DISENT_", "CUDA_"))}
    more = {
        "PYTHONPATH": str(ROOT),
        "PYRO_DISENT_CACHE": str(root / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    return {**kept, **more}


class Worker:
    """A process that runs cases; see `tests.malformed.worker`."""

    def __init__(self, root: Path, base: Path) -> None:
        command = [sys.executable, "-m", "tests.malformed.worker", str(root), str(base)]
        self.root, self.taken = root, 0
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, case: Case, longest: float) -> Outcome | None:
        """None where the process hung or died, which then has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.taken += 1
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(case.name + "\n")
            self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], longest)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.end()
            return None
        return Outcome(**json.loads(line))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.root / "case")


def answered(cases: Iterable[Case], root: Path, base: Path) -> Iterator[tuple[Case, Outcome]]:
    """Each case and what became of it."""
    worker = None
    try:
        for case in cases:
            if worker is not None and worker.taken >= CASES_A_PROCESS:
                worker.end()
                worker = None
            is_new = worker is None
            worker = worker or Worker(root, base)
            start = time.monotonic()
            outcome = worker.run(case, LONGEST * (2 if is_new else 1))
            if outcome is None:
                worker, seconds = None, time.monotonic() - start
                how = "a hang" if seconds >= LONGEST else "the death of its process"
                outcome = Outcome(None, how, [], 0, seconds)
            yield case, outcome
    finally:
        if worker is not None:
            worker.end()


def through_the_program(case: Case, root: Path, base: Path) -> Outcome:
    """A case through the installed program, in a process of its own; nothing is measured of its memory."""
    from tests.malformed import check_inside, state

    folder = root / "case"
    folder.mkdir()
    try:
        case.make(folder, base)
        check_inside(folder, case.words)
        before, start = state(folder), time.monotonic()
        program = Path(sys.executable).with_name("pyro-disent")
        try:
            done = subprocess.run(
                [program, *case.words], cwd=folder, env=environment(root), capture_output=True, timeout=2 * LONGEST
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, "a hang", [], 0, 2 * LONGEST)
        after = state(folder)
        changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
        return Outcome(
            done.returncode, done.stderr.decode(errors="replace"), changed, 0, time.monotonic() - start
        )
    finally:
        shutil.rmtree(folder)
