"""Runs of the command line on several processes, all from one start.

``python -m tests.runs_of_several JOBS`` reads a JSON list of jobs and does one after the other, each in a folder of its
own: ``name``, ``world``, ``words`` of the command line, and ``fault`` with the ``rank`` that it befalls. Each process
leaves what it printed in ``<name>/<rank>.err``, and how it ended in ``<name>/ended.json``.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from pyro_disent.cli.main import main
from pyro_disent.errors import InputError
from pyro_disent.runs.run import Run
from pyro_disent.training import log, loop, train

STEP = 5  # at which a fault comes
LATER = ("pyro_disent.runs.job", "pyro_disent.cli.progress", "pyro_disent.data.mnist.rotated",
         "pyro_disent.data.own.folder", "torch.utils.tensorboard", "joblib")  # fmt: skip
"""What a training imports when it needs it: imported before the forks, they need not do it each."""


def forked(world: int, work: Callable[[int], Any]) -> list[int]:
    """The exit codes of processes that find each other as those that Lightning Fabric started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ids = []
    for rank in range(world):
        sys.stdout.flush()
        if (process := os.fork()) == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
            os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
            code = 70
            try:
                work(rank)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 71
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        ids.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ids]


def nan(at: loop.Loop) -> None:
    with torch.no_grad():
        next(at.objective.guide.heads["y"].parameters()).fill_(float("nan"))


def disk_full(_: loop.Loop) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.fsync = full


def out_of_luck(*_: Any, **__: Any) -> None:
    raise RuntimeError("out of luck")


def reduce_fails(_: loop.Loop) -> None:
    dist.all_reduce = out_of_luck


FAULTS: dict[str, Callable[[loop.Loop], None]] = {
    "nan": nan,
    "disk": disk_full,
    "error": out_of_luck,
    "reduce": reduce_fails,
    **{name: lambda _, name=name: os.kill(os.getpid(), getattr(signal, name)) for name in ("SIGTERM", "SIGKILL")},
}


def refused(*_: Any, **__: Any) -> None:
    raise InputError("this machine has no such data")


UNPREPARED = {"unprepared": refused, "unborn": lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)}


def befall(fault: str) -> None:
    """The fault comes in this process: before the loop, or at its step `STEP`."""
    if fault in UNPREPARED:
        train.prepare = UNPREPARED[fault]
        return
    gradients = loop.Loop._gradients

    def faulty(self: loop.Loop, step: int) -> Any:
        if step == STEP:
            FAULTS[fault](self)
        return gradients(self, step)

    loop.Loop._gradients = faulty


def process(job: dict[str, Any], rank: int) -> None:
    err = os.open(f"{rank}.err", os.O_WRONLY | os.O_CREAT)
    os.dup2(err, 1)
    os.dup2(err, 2)
    log.LOG_EVERY = 2
    Run.drawn = lambda run, *_: run  # type: ignore[method-assign, assignment]  # figures take longer than the steps
    if job.get("rank") == rank:
        befall(job["fault"])
    sys.argv = ["pyro-disent", *job["words"]]
    main()


def work(jobs: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    for module in LATER:
        import_module(module)
    for job in jobs:
        folder = Path(job["name"])
        folder.mkdir()
        os.chdir(folder)
        start = time.monotonic()
        codes = forked(job["world"], lambda rank, job=job: process(job, rank))
        Path("ended.json").write_text(json.dumps({"codes": codes, "seconds": time.monotonic() - start}))
        os.chdir("..")


if __name__ == "__main__":
    work(json.loads(Path(sys.argv[1]).read_text()))
