"""The process that runs malformed cases, one after the other, under limits: names on standard input, JSON on output."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.malformed import Case, Outcome, cases, check_inside, state

MORE_MEMORY = 3 << 30
"""Bytes of address space beside those that the process has when everything is imported."""
LARGEST_FILE = 1 << 28


def limit() -> None:
    """No more memory, no large file, no core dump; hangs are for whoever started this process to end."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def peak(*, forget: bool = False) -> int:
    """The most bytes that the process has had in memory, since the last call that forgot it."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


@contextmanager
def captured() -> Iterator[io.StringIO]:
    """What is printed on standard error in here, from C too; standard output goes nowhere."""
    text = io.StringIO()
    path = Path("stderr.txt").absolute()
    with path.open("wb") as file, Path(os.devnull).open("wb") as nowhere:
        before = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(before[0], 1)
            os.dup2(before[1], 2)
            for each in before:
                os.close(each)
    text.write(path.read_text(errors="replace"))
    path.unlink()


def run(case: Case, root: Path, base: Path) -> Outcome:
    """A case in a folder of its own, which is removed afterwards."""
    from pyro_disent.cli.main import main

    folder = root / "case"
    folder.mkdir()
    try:
        case.make(folder, base)
        check_inside(folder, case.words)
        before, had, start = state(folder), peak(forget=True), time.monotonic()
        os.chdir(root)
        with captured() as error:
            os.chdir(folder)
            sys.argv = ["pyro-disent", *case.words]
            code: int | None = None
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException:
                traceback.print_exc()
            os.chdir(root)
        seconds, memory, after = time.monotonic() - start, peak() - had, state(folder)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        return Outcome(code, error.getvalue(), [os.path.relpath(path, folder) for path in changed], memory, seconds)
    finally:
        os.chdir(root)
        shutil.rmtree(folder)


def serve(root: Path, base: Path) -> None:
    import matplotlib.pyplot  # noqa: F401  # as the commands do, so that it does not count as the first one's memory
    import torch

    import pyro_disent.cli.main
    import pyro_disent.runs.job  # noqa: F401

    torch.set_num_threads(1)
    known, answers = cases(), os.fdopen(os.dup(1), "w")
    limit()
    for line in sys.stdin:
        outcome = run(known[line.rstrip("\n")], root, base)
        answers.write(json.dumps(outcome._asdict()) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
