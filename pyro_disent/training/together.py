"""What several processes agree on at each step: gradients, losses, and whether one of them ends."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pyro_disent.errors import Diverged, InputError, Lost, StorageError
from pyro_disent.objectives.gathered import over_processes
from pyro_disent.objectives.step import LossRecord

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric

ERRORS = {kind.__name__: kind for kind in (InputError, Diverged, StorageError)}
"""Errors that other processes raise as well, with the same message."""
FAILED = 1000  # above all signals
PATIENCE = 10.0  # seconds that other processes have to end by themselves


class Together:
    """The processes of a training; one alone has nothing to agree on, and none of this costs it anything.

    Args:
        fabric: launched.
        go_on: how the run is resumed, for the message of a process that finds itself alone.
    """

    def __init__(self, fabric: Fabric, go_on: str = "") -> None:
        self.fabric, self.go_on = fabric, go_on
        self.alone = fabric.world_size == 1
        # On the CPU: agreeing there waits for no device.
        self._hosts: Any = None if self.alone or fabric.device.type == "cpu" else dist.new_group(backend="gloo")

    def share_weights(self, module: nn.Module) -> None:
        """Parameters and buffers of the first process for all: others may have been handed other networks."""
        if self.alone:
            return
        tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.flatten() for tensor in alike])
            with self._not_lost():
                dist.broadcast(flat, 0)
            _into(alike, flat)

    def one_batch(self) -> contextlib.AbstractContextManager[None]:
        """In here, each process evaluates the objective on its part of one batch, all at once."""
        return over_processes(self.fabric.world_size)

    def average(self, module: nn.Module, record: LossRecord) -> LossRecord:
        """Mean gradients and losses over all processes, as one message: those of the whole batch.

        A loss that is not finite in one process becomes so in all.
        """
        if self.alone:
            return record
        tensors = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        losses: list[Tensor] = []
        record = record.map(lambda loss: losses.append(loss.clone()) or losses[-1])  # type: ignore[func-returns-value]
        tensors += losses
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._not_lost():
            dist.all_reduce(flat)
        _into(tensors, flat.div_(self.fabric.world_size))
        return record

    def agreed(self, failed: Exception | None = None, signal: int | None = None) -> int | None:
        """The signal by which any of the processes is asked to end.

        Args:
            failed: the error of this process since the last call.

        Raises:
            Exception: in all processes the error of one of them, or its message.
            Lost: where another process is gone.
        """
        if self.alone:
            if failed is not None:
                raise failed
            return signal
        flag = torch.tensor([FAILED if failed is not None else signal or 0], device="cpu")
        with self._not_lost():
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._hosts)
            if (most := int(flag)) < FAILED:
                return most or None
            errors: list[Any] = [None] * self.fabric.world_size
            mine = None if failed is None else (type(failed).__name__, str(failed))
            dist.all_gather_object(errors, mine, group=self._hosts)
        rank, (kind, words) = next((rank, each) for rank, each in enumerate(errors) if each is not None)
        if failed is None:
            failed = ERRORS[kind](words) if kind in ERRORS else RuntimeError(f"process {rank} failed: {kind}: {words}")
        raise self.reported_once(failed)

    def reported_once(self, error: Exception) -> Exception:
        """Mark an error that all processes raise: only the first one prints it, and its exit code is the command's."""
        error.is_reported_elsewhere = not self.fabric.is_global_zero  # type: ignore[attr-defined]
        return error

    @staticmethod
    def is_agreed(error: Exception) -> bool:
        """Whether the other processes know of an error, as far as there are any left."""
        return isinstance(error, Lost) or hasattr(error, "is_reported_elsewhere")

    @contextlib.contextmanager
    def _not_lost(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            again = f"; go on with: {self.go_on}" if self.go_on else ""
            raise Lost(f"another process of this training is gone{again}") from error


@contextlib.contextmanager
def ending_together(fabric: Fabric, together: Together) -> Iterator[None]:
    """Where training ends early, end the processes that this one started, and keep this one's exit code.

    An error that not all of them have agreed on is met by the others at their next agreement: one of those before, in
    and after the loop. Fabric's observer would kill this process within seconds of another's end, in the middle of a
    checkpoint.
    """
    started: list[subprocess.Popen[Any]] = getattr(fabric.strategy.launcher, "procs", [])
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not (together.alone or together.is_agreed(error)):
            with contextlib.suppress(Exception):
                together.agreed(error)
        others, patience = list(started), PATIENCE if isinstance(error, Exception) else 0.0
        started.clear()  # which is the observer's own list
        for process in others:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
        raise


def _into(tensors: list[Tensor], flat: Tensor) -> None:
    """Fill tensors from a flat one that has all of them, one after the other."""
    for tensor, part in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
