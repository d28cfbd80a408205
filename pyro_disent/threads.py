"""How many threads compute: as many as the user sets, or as many as pay off while other work is running."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from pyro_disent.errors import InputError

ROUNDS, SECONDS = 5, 0.02  # the probe tries each number of threads in turn, five times for 20 ms
WORTH_A_THREAD = 1.1  # more threads must be this many times as fast
WIDTH = 512  # the probe's layer is as wide as those of the paper's networks

_limit: ContextVar[int | None] = ContextVar("limit", default=None)


class Threads(NamedTuple):
    """A number of threads, and the reason for it."""

    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.number} ({self.why})"


def available_cores() -> int:
    """Cores that this process may use, by its affinity, its container's quota and `using`."""
    import joblib

    cores = joblib.cpu_count()
    limit = _limit.get()
    return cores if limit is None else min(cores, limit)


@contextlib.contextmanager
def using(count: int | None) -> Iterator[None]:
    """Use this many threads in torch, in scikit-learn and in `data.threads.in_threads`; None changes nothing.

    Raises:
        InputError: for anything but a whole number, 1 or more.
    """
    if count is None:
        yield
        return
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"`threads` is a whole number, 1 or more, not {count!r}")
    if count < 1:
        raise InputError(f"`threads` must be greater than 0, got {count}")
    import torch
    from threadpoolctl import threadpool_limits

    before, token = torch.get_num_threads(), _limit.set(count)
    try:
        with threadpool_limits(count):
            torch.set_num_threads(count)
            yield
    finally:
        torch.set_num_threads(before)
        _limit.reset(token)


def choose(rows: int, *, recorded: int | None = None, processes: int = 1) -> Threads:
    """The number of threads that is fastest now, by trying 1, 2, 4 ... of those that torch would use.

    The probe is a layer of a network and its gradient. If other processes use the cores, threads wait for each other at
    every product, and two can be ten times slower than one. The load average describes the machine and a quota the
    container, but neither describes this moment; a fifth of a second of real work does. More threads are used only if
    they are at least a tenth faster.

    Args:
        rows: images of one step, the rows of the products.
        recorded: the number that a resumed run was trained with. It is kept, because other numbers add in another order
            and change the last bits; `Threads.why` says if it is slow now. It is replaced if there are too few cores.
        processes: how many share the cores equally; with several, no probe runs.
    """
    import torch

    before = torch.get_num_threads()
    limit = max(1, min(before, available_cores() // processes))
    if processes > 1:
        return Threads(limit, f"each of {processes} processes")
    if recorded is not None and recorded > limit:
        recorded = None
    counts = sorted({*(1 << k for k in range(limit.bit_length())), limit, recorded or 1})
    cores = available_cores()
    default_reason = (
        "all there are" if limit >= cores else f"of {cores} cores, as OMP_NUM_THREADS or torch.set_num_threads has it"
    )
    if len(counts) == 1:
        return Threads(1, default_reason)
    try:
        rates = _rates(rows, counts)
    finally:
        torch.set_num_threads(before)
    enough = max(rates.values()) / WORTH_A_THREAD
    count = min(count for count, rate in rates.items() if rate >= enough)
    if recorded is not None:
        ratio = rates[count] / rates[recorded]
        slow = f"; {count} would be {ratio:.0f} times as fast just now: `threads={count}`" if ratio >= 2 else ""
        return Threads(recorded, f"as recorded{slow}")
    if count == limit:
        return Threads(count, default_reason)
    return Threads(count, f"of {limit}, which were {rates[limit] / rates[count]:.2g} times as fast just now")


def _rates(rows: int, counts: list[int]) -> dict[int, float]:
    """Number of threads -> layers per second, over rounds in which each number is tried once."""
    import torch

    x, weight = torch.ones(rows, WIDTH), torch.full((WIDTH, WIDTH), 1 / WIDTH)
    layers = dict.fromkeys(counts, 0)
    seconds = dict.fromkeys(counts, 0.0)
    with torch.no_grad():
        for turn in range(ROUNDS + 1):
            for count in counts:
                torch.set_num_threads(count)
                start = time.perf_counter()
                while True:
                    y = (x @ weight).tanh()
                    y.T @ x, y @ weight.T
                    elapsed = time.perf_counter() - start
                    if turn == 0:  # the first turn starts the threads
                        break
                    layers[count] += 1
                    if elapsed >= SECONDS:
                        seconds[count] += elapsed
                        break
    return {count: layers[count] / seconds[count] for count in counts}
