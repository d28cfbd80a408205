"""Where output goes: tables to standard output, and nothing anywhere if a command is quiet."""

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
    """Standard output; off a terminal, lines are wide enough not to be folded."""
    console = Console()
    return console if console.is_terminal else Console(width=UNWATCHED_WIDTH)


def quietly(command: Callable[..., str]) -> Callable[..., None]:
    """A command that prints the line it returns, and nothing else under ``quiet``."""

    @functools.wraps(command)
    def quiet_or_not(**arguments: Any) -> None:
        if arguments["quiet"]:
            with _hushed():
                line = command(**arguments)
        else:
            line = command(**arguments)
        if line:
            typer.echo(line)

    return quiet_or_not


@contextmanager
def _hushed() -> Iterator[None]:
    """Hold back standard output and error within this context, also those of warnings, loggers and libraries in C.

    The output is shown if an unexpected error ends the command, and else thrown away.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        try:
            with ExitStack() as stack:
                for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
                    stack.enter_context(_redirected(descriptor, stream, file.fileno()))
                stack.enter_context(redirect_stdout(file))
                stack.enter_context(redirect_stderr(file))
                yield
        except _EXPECTED:
            raise
        except Exception:
            file.seek(0)
            sys.stderr.write(file.read())
            raise


@contextmanager
def _redirected(descriptor: int, stream: Any, to: int) -> Iterator[None]:
    """Point a file descriptor elsewhere within this context: libraries in C write to it, not to the stream."""
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
