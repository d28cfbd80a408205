"""What is printed where: tables on standard output, and nothing at all where a command is to be quiet."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import typer
from rich.console import Console

from pyro_disent.errors import Diverged, InputError, Interrupted, Lost, StorageError

UNWATCHED_WIDTH = 200
_EXPECTED = (InputError, Diverged, StorageError, Lost, Interrupted, typer.Exit, typer.Abort, typer.TyperException)


def table_console() -> Console:
    """Standard output; no line is folded at a width that nobody looks at."""
    console = Console()
    return console if console.is_terminal else Console(width=UNWATCHED_WIDTH)


def quietly(command: Callable[..., str]) -> Callable[..., None]:
    """A command that prints the line it returns, and with ``quiet`` nothing else."""

    @functools.wraps(command)
    def quiet_or_not(**given: Any) -> None:
        if given["quiet"]:
            with _hushed():
                line = command(**given)
        else:
            line = command(**given)
        if line:
            typer.echo(line)

    return quiet_or_not


@contextmanager
def _hushed() -> Iterator[None]:
    """Nobody's words reach standard output or error meanwhile: warnings, loggers, progress bars, libraries in C.

    They are kept until the end, and shown after all beside an error that nobody expected.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as kept:
        try:
            with ExitStack() as stack:
                for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
                    stack.enter_context(_redirected(descriptor, stream, kept.fileno()))
                stack.enter_context(redirect_stdout(kept))
                stack.enter_context(redirect_stderr(kept))
                yield
        except _EXPECTED:
            raise
        except Exception:
            kept.seek(0)
            sys.stderr.write(kept.read())
            raise


@contextmanager
def _redirected(descriptor: int, stream: Any, to: int) -> Iterator[None]:
    """A file descriptor, which code that is not Python's writes to, pointing elsewhere meanwhile."""
    if stream is None:  # the process was started without it
        yield
        return
    stream.flush()
    before = os.dup(descriptor)
    os.dup2(to, descriptor)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(before, descriptor)
        os.close(before)
