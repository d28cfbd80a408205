"""Progress of a command: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyro_disent.cli.sentences import as_flags

SECONDS_BETWEEN_LINES = 10.0  # where no terminal redraws a bar


def _bar(console: Console, *, transient: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient)


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[..., None]]:
    """A function that shows on stderr how much is done, how much there is to do, and the name of the stage.

    Off a terminal, the first stage is named at once; after that, a line follows every ten seconds at most.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _bar(console, transient=True) as bar:
            task = bar.add_task(what, total=None, visible=False)

            def advance(done: int, total: int, doing: str = "") -> None:
                text = f"{what}: {doing}" if doing else what
                bar.update(task, completed=done, total=total, description=text, visible=True)

            yield advance
        return
    shown_at, is_named = time.monotonic(), False

    def say(done: int, total: int, doing: str = "") -> None:
        nonlocal shown_at, is_named
        is_first, is_named = bool(doing) and not is_named, is_named or bool(doing)
        if is_first or time.monotonic() - shown_at >= SECONDS_BETWEEN_LINES:
            shown_at = time.monotonic()
            console.print(f"{what}: {doing + ', ' if doing else ''}{done} of {total}", markup=False)

    yield say


class TrainingProgress:
    """The reporter of ``fit``: shows its messages, and the progress of preparing and training."""

    def __init__(self, *, silent: bool, to_stderr: bool) -> None:
        self.console = None if silent else Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self.bar = _bar(self.console, transient=False) if self.console and self.console.is_terminal else None
        self.task: Any = None
        self.doing = ""
        self.started = self.shown_at = time.monotonic()
        self.first = 0  # steps done at the start: a resumed run does not start at 0

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, line: str) -> None:
        if self.console:
            self.console.print(as_flags(line), markup=False)

    def preparing(self, done: int, total: int) -> None:
        self._show("preparing", done, total, "preparing data")

    def training(self, step: int, steps: int, loss: float, views_per_second: float) -> None:
        self._show("training", step, steps, f"loss {loss:.2f} nats, {views_per_second:,.0f} views/s")

    def _show(self, doing: str, done: int, total: int, text: str) -> None:
        if self.bar:
            if doing != self.doing:
                self.task = self.bar.add_task(text, total=total, completed=done)
            self.bar.update(self.task, completed=done, total=total, description=text)
        if doing != self.doing:
            self.doing, self.first, self.started = doing, done, time.monotonic()
        elif self.console and not self.bar and time.monotonic() - self.shown_at >= SECONDS_BETWEEN_LINES:
            self.shown_at = time.monotonic()
            left = (self.shown_at - self.started) * (total - done) / (done - self.first) if done > self.first else None
            self.say(f"{done}/{total} {text}" + ("" if left is None else f", {left:.0f} s left"))
