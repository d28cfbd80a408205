"""What a running training reports and writes down."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch import Tensor

from pyro_disent.errors import Diverged
from pyro_disent.objectives.step import LossRecord
from pyro_disent.training.feed import Feed
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.state import Pending
from pyro_disent.training.validation import Progress, Validation, best_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_EVERY = 50  # steps between two looks at the losses: the loop's only host syncs


ROWS_GROW = 100_000  # steps after which a row is the mean of twice as many, and again each time they double


def steps_in_a_row(step: int) -> int:
    """Steps of one row of ``metrics.csv``, so that a run has 2,000 rows and 1,000 for each doubling of its steps."""
    return LOG_EVERY << (step // ROWS_GROW).bit_length()


class Reporter(Protocol):
    """Receives progress; the command line's reporter draws a progress bar."""

    def say(self, line: str) -> None: ...

    def preparing(self, done: int, total: int) -> None: ...

    def training(self, step: int, steps: int, loss: float, views_per_second: float) -> None: ...


class Silent:
    """A reporter that reports nothing."""

    def say(self, line: str) -> None: ...

    def preparing(self, done: int, total: int) -> None: ...

    def training(self, step: int, steps: int, loss: float, views_per_second: float) -> None: ...


class Log:
    """Losses gathered on the device, read once in a while, written to metrics.csv and TensorBoard."""

    def __init__(
        self,
        folder: RunFolder,
        reporter: Reporter,
        feed: Feed,
        steps: int,
        start: int,
        before: Pending = Pending(),  # noqa: B008  (it is never written to)
    ) -> None:
        self.folder, self.reporter, self.feed, self.steps = folder, reporter, feed, steps
        self.board = _board(folder, start)
        self.step = start
        self.names, self._read = before
        self._unread: list[Tensor] = []
        self.last: dict[str, float] = {}
        self.clock, self._timed = time.perf_counter(), 0

    def go_back(self, step: int, before: Pending) -> None:
        """Drop what was written of later steps, and the losses that were not."""
        self.folder.forget_metrics_after(step)
        self.board.close()
        self.board = _board(self.folder, step)
        self.step, self.last, self._unread = step, {}, []
        self.names, self._read = before
        self.clock, self._timed = time.perf_counter(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()

    def add(self, step: int, record: LossRecord, gradient_norm: Tensor) -> None:
        named = _named(record) | {"gradient_norm": gradient_norm}
        if self.names != tuple(named):
            self.names, self._read = tuple(named), torch.empty(0, len(named), device="cpu")
        # Stacked at once: a compiled step may reuse the memory of its record.
        self._unread.append(torch.stack(list(named.values())))
        self.step, self._timed = step, self._timed + 1
        if len(self._read) + len(self._unread) >= steps_in_a_row(step):
            self.flush()
        elif len(self._unread) >= LOG_EVERY:
            self.pending()

    def pending(self) -> Pending:
        """The losses that are to be part of the next row; reading them is the one host sync.

        Raises:
            Diverged: where one is not finite.
        """
        if self._unread:
            values = torch.stack(self._unread).cpu()
            self._unread = []
            self._check(values)
            self._read = torch.cat([self._read, values]) if len(self._read) else values
        return Pending(self.names, self._read)

    def flush(self) -> None:
        """Write the mean of the losses since the last row: see `steps_in_a_row`; and before each validation."""
        values = self.pending().values
        if not len(values):
            return
        means = dict(zip(self.names, values.mean(0).tolist(), strict=True))
        elapsed, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        rate = self._timed * self.feed.batch_size * self.feed.views / elapsed
        self._read, self._timed, self.last = values[:0], 0, means
        self._write(self.step, "train", means | {"views_per_second": rate})
        self.reporter.training(self.step, self.steps, means["loss"], rate)

    def validation(self, held_out: Validation) -> None:
        """Raises Diverged where the held-out objective is not finite: the last update spoilt the weights."""
        step, numbers = held_out.step, held_out.numbers
        if not math.isfinite(numbers["objective"]):
            raise Diverged(
                f"training diverged after step {step}: the held-out objective is not finite; {self._finite()}"
            )
        self._write(step, "validation", numbers)
        unused = f"; {held_out.usage}" if held_out.empty or held_out.ignored else ""
        self.reporter.say(
            f"step {step}: held-out objective {numbers['objective']:.2f}, ELBO {numbers['elbo']:.2f} nats per image"
            f"{unused}"
        )
        self.clock, self._timed = time.perf_counter(), 0

    def end(
        self, step: int, progress: Progress, again: str, units: Mapping[str, int], beta: Mapping[str, float]
    ) -> None:
        """Report why training ends before its last step, and which latents its best weights do not use.

        Args:
            again: how training goes on where patience ended it.
            units: latent's name -> how many it has.
            beta: latent's name -> weight on its KL.
        """
        if step < self.steps:
            over = f"no better validation within `patience={progress.patience}`; to go on all the same: {again}"
            why = over if progress.is_over else "on_validation"
            self.reporter.say(f"training ends after step {step} of {self.steps}: {why}")
        best = best_of(self.folder)
        handed_over = self.folder.read_record().handed_over
        for sentence in best.usage.advice(units, beta, step, handed_over) if best else ():
            self.reporter.say(f"best weights, of step {best.step}: {sentence}" if best else sentence)

    def _check(self, values: Tensor) -> None:
        names = self.names
        bad = (~values.isfinite()).nonzero()
        if len(bad) == 0:
            return
        row = int(bad[0, 0])
        wrong = [names[column] for r, column in bad.tolist() if r == row and names[column] != "loss"] or ["loss"]
        before = dict(zip(names, values[row - 1].tolist(), strict=True)) if row else self._last_read() or self.last
        sites = ", ".join(
            "site x (reconstruction)" if name == "reconstruction" else name.replace("kl.", "site ") for name in wrong
        )
        step = self.step - len(values) + row + 1
        self.last = before
        raise Diverged(f"training diverged at step {step}: {sites} is not finite; {self._finite()}")

    def _last_read(self) -> dict[str, float]:
        return dict(zip(self.names, self._read[-1].tolist(), strict=True)) if len(self._read) else {}

    def _finite(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.last.items())
        return f"last finite values: {values or 'none'}"

    def _write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        epoch = self.feed.epoch + self.feed.position / self.feed.batches_per_epoch
        row: dict[str, float | int | str] = {"step": step, "epoch": round(epoch, 4), "split": split}
        row.update(numbers)
        self.folder.write_metrics(row)
        for name, value in numbers.items():
            self.board.add_scalar(f"{split}/{name}", value, step)


def _board(folder: RunFolder, start: int) -> SummaryWriter:
    """A writer of TensorBoard's events, which hides those of later steps that were written before."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder.path), purge_step=start + 1)


def _named(record: LossRecord) -> dict[str, Tensor]:
    return {
        "loss": record.loss,
        "reconstruction": record.reconstruction,
        **{f"kl.{name}": value for name, value in record.kl.items()},
        **{f"observed.{name}": value for name, value in record.observed.items()},
        **{f"told.{name}": value for name, value in record.told.items()},
        **{f"term.{name}": value for name, value in record.terms.items()},
        **{f"opponent.{name}": value for name, value in record.opponents.items()},
    }
