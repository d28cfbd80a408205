"""How many threads compute: as many as the user says, or as many as are worth it while other work is running."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from pyro_disent.errors import InputError

ROUNDS, SECONDS = 5, 0.02  # of the probe: each number of threads is tried in turn, five times for 20 ms
WORTH_A_THREAD = 1.1  # how many times as fast more threads must be
WIDTH = 512  # numbers a row of the probe has: the layers of the paper's networks

_limit: ContextVar[int | None] = ContextVar("limit", default=None)


class Threads(NamedTuple):
    """A number of threads, and what is said of it."""

    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.number} ({self.why})"


def available_cores() -> int:
    """Cores that this process may use: of its affinity and its container's quota, and no more than `using` says."""
    import joblib

    cores = joblib.cpu_count()
    limit = _limit.get()
    return cores if limit is None else min(cores, limit)


@contextlib.contextmanager
def using(count: int | None) -> Iterator[None]:
    """This many threads in torch, in scikit-learn and in `data.threads.in_threads` meanwhile; None changes nothing.

    Raises:
        InputError: for fewer than one, and what is no whole number.
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
    """The number of threads that is fastest now, found by trying: 1, 2, 4 ... of those that torch would take.

    What is tried is a layer of a network and its gradient. Where others use the cores, threads wait for each other at
    every product, and two are slower than one by a factor of ten. The load average knows of the machine, a quota of the
    container, and neither of this moment: a fifth of a second of the work itself sees what there is. Fewer threads are
    taken where more bring less than a tenth.

    Args:
        rows: images of one step, the rows of the products.
        recorded: what a run that goes on was trained with. It stays, as other threads add in another order and give
            other last bits; that it is slow now is said. It is chosen anew where there are not so many cores.
        processes: that share the cores equally; among several nothing is tried.
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
    all_of_them = (
        "all there are" if limit >= cores else f"of {cores} cores, as OMP_NUM_THREADS or torch.set_num_threads has it"
    )
    if len(counts) == 1:
        return Threads(1, all_of_them)
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
        return Threads(count, all_of_them)
    return Threads(count, f"of {limit}, which were {rates[limit] / rates[count]:.2g} times as fast just now")


def _rates(rows: int, counts: list[int]) -> dict[int, float]:
    """Number of threads -> layers per second, over rounds in which each number has its turn."""
    import torch

    x, weight = torch.ones(rows, WIDTH), torch.full((WIDTH, WIDTH), 1 / WIDTH)
    done = dict.fromkeys(counts, 0)
    spent = dict.fromkeys(counts, 0.0)
    with torch.no_grad():
        for turn in range(ROUNDS + 1):
            for count in counts:
                torch.set_num_threads(count)
                start = time.perf_counter()
                while True:
                    y = (x @ weight).tanh()
                    y.T @ x, y @ weight.T
                    elapsed = time.perf_counter() - start
                    if turn == 0:  # threads start
                        break
                    done[count] += 1
                    if elapsed >= SECONDS:
                        spent[count] += elapsed
                        break
    return {count: done[count] / spent[count] for count in counts}
