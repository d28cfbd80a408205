"""How a command or a training may end early; the command line turns each into an exit code."""

import re
import signal
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: one sentence that says what was wrong, where, and what is accepted. Exit code 2."""

    def __init__(self, message: str = "") -> None:
        # Pyro raises a program's error again, with the shapes of the trace appended to the message.
        # Messages of torch, tar and the like that are handed on have many lines.
        super().__init__(re.sub(r"\s*\n\s*", " ", re.split(r"\n\s*Trace Shapes:", message)[0].strip()))


class Diverged(ArithmeticError):
    """Training met a value that is not finite; says the site, the step and the last finite values. Exit code 3."""


class StorageError(OSError):
    """The disk failed while a run was being written; its last whole checkpoint is kept. Exit code 4."""


class Interrupted(Exception):
    """A signal during training; the state is saved; says how to resume. Exit code 130 (Ctrl-C), 143 (SIGTERM)."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class StoppedAtOnce(KeyboardInterrupt):
    """A signal before training, or the second one: nothing was saved. Exit codes as for `Interrupted`."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class Lost(RuntimeError):
    """Another process of the training has ended; says how to resume from the last checkpoint. Exit code 5."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that names the existing name most like a wrong one; empty if there is none."""
    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
