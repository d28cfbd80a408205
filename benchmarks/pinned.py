"""What benchmarks of CPU time have in common."""

from __future__ import annotations

import argparse
import os

import pyro
import torch

from pyro_disent.compiled.allocator import keep_freed_memory


def on_one_core(description: str | None) -> None:
    """Read a benchmark's command line, and keep this process on one core and one thread, without Pyro's checks.

    Memory is kept as in the training loop, for every contender.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    keep_freed_memory()
