"""The program in a process of its own, which takes no seconds to start: a fork of one that has imported everything.

Its arguments, streams, exit code and signals are those of a process. What it does not show is what happens while
Python starts: tests of that start `pyro-disent` itself.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST = 240  # seconds until a hang is one
OUT, ERR = "stdout.txt", "stderr.txt"


@functools.cache
def _server() -> ForkServerContext:
    """The process that is forked: started once, when it is first needed."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


def program() -> None:
    """The program itself."""
    from pyro_disent.cli.main import main

    main()


def _run(words: list[str], variables: dict[str, str], streams: Path, sample: Path, work: Callable[[], object]) -> None:
    """In the fork."""
    assert "tests.preloaded" in sys.modules
    from pyro_disent.data.mnist import files

    for number, name in ((1, OUT), (2, ERR)):
        file = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(variables)
    files.SAMPLE = sample
    sys.argv = ["pyro-disent", *words]
    work()


@contextlib.contextmanager
def started(
    *words: str | Path, cwd: Path, streams: Path, work: Callable[[], object] = program, **environment: str
) -> Iterator[ForkServerProcess]:
    """The program with these arguments, killed at the end if it is still there.

    Args:
        cwd: where it works.
        streams: the folder that gets what it prints.
        work: what is done there, by default all that the program does; a function of a module, or a partial of one.
    """
    from pyro_disent.data.mnist import files

    streams.mkdir(exist_ok=True)
    context, variables = _server(), {**os.environ, **environment}
    arguments = ([*map(str, words)], variables, streams, files.SAMPLE, work)
    process = context.Process(target=_run, args=arguments)
    with contextlib.chdir(cwd):  # a process begins where its parent is
        process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def ended(process: ForkServerProcess) -> int:
    """Its exit code, when it has ended by itself; below 0 where a signal ended it."""
    process.join(LONGEST)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def run(
    *words: str | Path, cwd: Path, work: Callable[[], object] = program, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What the program prints and how it ends."""
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder)
        with started(*words, cwd=cwd, streams=streams, work=work, **environment) as process:
            code = ended(process)
        return _completed(words, code, streams)


def run_together(
    *words: str | Path, cwd: Path, work: Callable[[], object] = program, world: int = 2, by_torchrun: bool = False
) -> list[subprocess.CompletedProcess[str]]:
    """The program in several processes that find each other as those that Lightning Fabric starts, or torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    if by_torchrun:
        common |= {"GROUP_RANK": "0", "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "none"}
    else:
        common |= {"NODE_RANK": "0"}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes, streams = [], [Path(folder) / str(rank) for rank in range(world)]
        for each in streams:
            variables = common | {"LOCAL_RANK": each.name} | ({"RANK": each.name} if by_torchrun else {})
            process = started(*words, cwd=cwd, streams=each, work=work, **variables)
            processes.append(stack.enter_context(process))
        codes = [ended(process) for process in processes]
        return [_completed(words, code, each) for code, each in zip(codes, streams, strict=True)]


def _completed(words: Sequence[str | Path], code: int, streams: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(words, code, (streams / OUT).read_text(), (streams / ERR).read_text())
