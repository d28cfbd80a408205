"""How far a command is: a rich bar on a terminal, plain lines elsewhere."""

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
    """A function of how much is done, how much there is, and what is done next, shown on stderr.

    Off a terminal the first stage is named at once, and from there on there is a line in ten seconds at most.
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
    spoke, named = time.monotonic(), False

    def say(done: int, total: int, doing: str = "") -> None:
        nonlocal spoke, named
        first, named = bool(doing) and not named, named or bool(doing)
        if first or time.monotonic() - spoke >= SECONDS_BETWEEN_LINES:
            spoke = time.monotonic()
            console.print(f"{what}: {doing + ', ' if doing else ''}{done} of {total}", markup=False)

    yield say


class TrainingProgress:
    """The reporter of ``fit``: what it says, and how far preparing and training are."""

    def __init__(self, *, silent: bool, to_stderr: bool) -> None:
        self.console = None if silent else Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self.bar = _bar(self.console, transient=False) if self.console and self.console.is_terminal else None
        self.task: Any = None
        self.doing = ""
        self.started = self.spoke = time.monotonic()
        self.first = 0  # how much was done when it started: a run that is resumed does not start at 0

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
        elif self.console and not self.bar and time.monotonic() - self.spoke >= SECONDS_BETWEEN_LINES:
            self.spoke = time.monotonic()
            left = (self.spoke - self.started) * (total - done) / (done - self.first) if done > self.first else None
            self.say(f"{done}/{total} {text}" + ("" if left is None else f", {left:.0f} s left"))
