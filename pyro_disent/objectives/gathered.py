"""Statistics of a batch whose images are spread over several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch import distributed as dist

_processes = 1


@contextlib.contextmanager
def over_processes(number: int) -> Iterator[None]:
    """Within this context, all processes evaluate an objective at once, each on its part of one batch.

    Average the gradients over processes afterwards: a term that gathers codes sends each process the gradient of all
    processes' terms with respect to its codes.
    """
    global _processes
    before, _processes = _processes, number
    try:
        yield
    finally:
        _processes = before


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes in order, with gradients to each; every process has equally many, ``(rows, ...)``."""
    if _processes == 1:
        return rows
    from torch.distributed._functional_collectives import all_gather_tensor_autograd  # can be traced

    world = dist.group.WORLD
    assert world is not None
    return torch.as_tensor(all_gather_tensor_autograd(rows.contiguous(), 0, world))


def first_row(rows: Tensor) -> int:
    """The index of this process's first row among all processes' rows."""
    return 0 if _processes == 1 else dist.get_rank() * len(rows)
