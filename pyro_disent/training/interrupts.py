"""Signals that ask a training to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Stop:
    """Whether the loop is to stop after its step."""

    asked = False


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Ctrl-C asks the loop to stop after its step; a second one stops at once."""
    stop = Stop()

    def ask(*_: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread, which never sees Ctrl-C
        yield stop
        return
    try:
        yield stop
    finally:
        # None where it was not set from Python, and can therefore not be set back.
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
