"""One task over many items on all cores, in order, interruptible, with progress.

These are threads, not processes: NumPy and Pillow release the interpreter's lock while they compute, and nothing has to
be imported again, guarded by ``__main__`` or pickled. So this works in a script, in a notebook and beside a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pyro_disent.data.sources import Progress
from pyro_disent.threads import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    task: Callable[[Item], Result],
    items: Iterable[Item],
    total: int,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Iterator[Result]:
    """``task`` of each item, in the items' order.

    Items are taken in the caller's thread and only a few ahead, so that they may come from one stream. An error of a
    task is raised here, and tasks that have not started by then never start.

    Args:
        task: applied to each item; several calls may run at once.
        items: the task's arguments.
        total: how many items there are, for ``progress``.
        progress: called after each item with (done, total).
        workers: threads; None for one a core, or as many as `pyro_disent.threads.using` says.
    """
    count = workers or available_cores()
    pool = ThreadPoolExecutor(count)
    pending: deque[Future[Result]] = deque()
    done = 0

    def oldest() -> Result:
        nonlocal done
        result = pending.popleft().result()
        done += 1
        if progress is not None:
            progress(done, total)
        return result

    try:
        for item in items:
            pending.append(pool.submit(task, item))
            if len(pending) >= 4 * count:
                yield oldest()
        while pending:
            yield oldest()
    finally:
        pool.shutdown(cancel_futures=True)
