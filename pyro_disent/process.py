"""The calling process: restoring its global state, and its place among several processes."""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Iterator

import numpy as np
import pyro
import torch


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Restore a process's global state at the end, also after an exception.

    The state consists of the global generators of torch (of the CPU only; `forked_random_state` restores the device's),
    NumPy and Python; warning filters and format; torch's default dtype, threads and CUDA device; and Pyro's settings
    and parameter store.
    """
    generators = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    formatwarning = warnings.formatwarning
    settings = pyro.settings.get() | {"module_local_params": True}  # all of them, so that all are restored
    try:
        with warnings.catch_warnings(), pyro.settings.context(**settings):
            yield
    finally:
        torch.set_rng_state(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        random.setstate(generators[2])
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.cuda.is_initialized() and torch.cuda.current_device() != device:
            torch.cuda.set_device(device)
        warnings.formatwarning = formatwarning


def is_first_process() -> bool:
    """Whether this process writes the run folder; works also before the processes of a training are connected.

    torchrun sets ``RANK``, over all machines; Lightning Fabric sets ``LOCAL_RANK`` for processes on one machine.
    """
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
