"""A command in a fork of this process, under limits on memory and time, and what it left behind."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

MEMORY, SECONDS = 3 << 30, 40
EXIT_CODES = range(1, 6)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    before: dict[str, str]
    after: dict[str, str]
    seconds: float


def contents(folder: Path) -> dict[str, str]:
    """Everything in a folder, by its path: what it is, and what it holds; no link is followed, no pipe opened."""
    found = {}
    for outer, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(outer) / name
            if path.is_symlink() or not path.is_file():
                found[str(path)] = str(path.lstat().st_mode)
            elif name != ".lock":
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run(arguments: list[str], folder: Path, root: Path, entry_point: bool = False) -> Outcome:
    """Run the program in a folder below the root; raises ValueError for a folder elsewhere."""
    folder, root = folder.resolve(), root.resolve()
    if folder == root or not folder.is_relative_to(root) or Path("/dev") in (root, *root.parents):
        raise ValueError(f"{folder} is no folder of its own below {root}")
    before, start = contents(folder), time.monotonic()
    texts = [root / f"{folder.name}.{name}" for name in ("out", "err")]
    code = (_program if entry_point else _forked)(arguments, folder, root, texts)
    out, err = (text.read_bytes().decode(errors="replace") for text in texts)
    return Outcome(code, out, err, before, contents(folder), time.monotonic() - start)


def _environment(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYRO_DISENT")}
    return {**kept, "PYRO_DISENT_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def _program(arguments: list[str], folder: Path, root: Path, texts: list[Path]) -> int:
    package = Path(__file__).parents[2]
    environment = {**_environment(root), "PYTHONPATH": str(package)}
    with texts[0].open("wb") as out, texts[1].open("wb") as err:
        command = [os.fsencode(each) for each in (sys.executable, "-m", "pyro_disent", *arguments)]
        return subprocess.run(command, cwd=folder, env=environment, stdout=out, stderr=err, timeout=120).returncode


def _forked(arguments: list[str], folder: Path, root: Path, texts: list[Path]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if (child := os.fork()) == 0:
        code = 70
        try:
            code = _child(arguments, folder, root, texts)
        finally:
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def _child(arguments: list[str], folder: Path, root: Path, texts: list[Path]) -> int:
    import traceback

    from pyro_disent.cli.main import main

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for number, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(_environment(root))
    sys.argv = ["pyro-disent", *arguments]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 70
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def complaint(outcome: Outcome, may_succeed: bool) -> str | None:
    """What is wrong with an outcome, in words; None where it is as it should be."""
    if outcome.code == -signal.SIGKILL:
        return "it hangs"
    if "Traceback" in outcome.err:
        return f"a traceback: {outcome.err.strip().splitlines()[-1][:200]}"
    if outcome.code == 0:
        return None if may_succeed else "it exits with 0"
    if outcome.code not in EXIT_CODES:
        return f"the exit code {outcome.code}"
    said = [line for line in outcome.err.splitlines() if line.startswith("pyro-disent: ")]
    if len(said) != 1 or not outcome.err.endswith(f"{said[0]}\n") or len(said[0]) < 20:
        return f"no single sentence: {outcome.err[-300:]!r}"
    if outcome.before != outcome.after:
        changed = sorted(dict(outcome.before.items() ^ outcome.after.items()))
        return f"it left {changed[:3]}"
    return None
