"""Signals that ask a training to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from pyro_disent.errors import StoppedAtOnce

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill."""


class Stop:
    """Whether a signal asks a training to end."""

    number: int | None = None
    """The signal that asks the loop to stop after its step."""
    go_on: Callable[[], str] | None = None
    """How the run is resumed, in words; None before the loop begins: then there is nothing to save."""

    def ask(self, number: int, _: FrameType | None = None) -> None:
        """Raises StoppedAtOnce at a second signal, and at one before the loop begins."""
        if self.go_on is None:
            raise StoppedAtOnce("interrupted before the first step: nothing was trained", number)
        if self.number is not None:
            again = self.go_on()
            then = f"; go on with: {again}" if again else ""
            raise StoppedAtOnce(
                f"stopped at once, what was trained after the last checkpoint is lost{then}", self.number
            )
        self.number = number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A signal asks the loop to stop after its step; a second one stops at once."""
    stop, before = Stop(), {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, stop.ask)
    except ValueError:  # not the main thread, which never sees signals
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None where it was not set from Python, and can therefore not be set back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
