"""The ``pyro-disent`` program: its commands, and the exit code of each error."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pyro_disent.cli import (
    data,
    do,
    encode,
    evaluate,
    figures,
    fit,
    interpolate,
    methods,
    posterior,
    sample,
    swap,
    traverse,
)
from pyro_disent.cli.sentences import as_flags
from pyro_disent.errors import Diverged, InputError, Interrupted, Lost, StoppedAtOnce, StorageError
from pyro_disent.plugins import BrokenPackage

EXIT_INPUT, EXIT_DIVERGED, EXIT_STORAGE, EXIT_LOST, EXIT_SIGNAL = 2, 3, 4, 5, 128


_OF_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES)
"""Errors of a path that a user named, wherever it is first looked at."""


class _Commands(TyperGroup):
    """Reports Ctrl-C as an error with a sentence; Typer would exit silently."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, StoppedAtOnce) else signal.SIGINT
            error = Interrupted(str(stop) or "interrupted", number)
            for note in getattr(stop, "__notes__", ()):
                error.add_note(note)
            raise error from stop


app = typer.Typer(
    cls=_Commands,
    help="Explicitly disentangled VAEs: train, evaluate, and look at latents that have names.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("pyro-disent"))
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


COMMANDS = (
    fit.fit,
    evaluate.evaluate,
    swap.swap,
    traverse.traverse,
    interpolate.interpolate,
    do.do,
    encode.encode,
    posterior.posterior,
    sample.sample,
    figures.figures,
    methods.methods,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is not UTF-8 is printed with escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _warnings_in_a_sentence(), _sigterm_as_an_error():
            code = app(standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:
        code = _fail(_plain(error.format_message()), EXIT_INPUT)
    except (InputError, Diverged, StorageError, Lost, Interrupted) as error:
        # All processes of a training raise the same error; one of them prints it and gives the command's exit code.
        code = 0 if getattr(error, "is_reported_elsewhere", False) else _fail(_with_notes(error), _exit_code(error))
    except OSError as error:
        if error.errno not in _OF_A_NAME or error.filename is None:
            raise
        code = _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", EXIT_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", EXIT_SIGNAL + signal.SIGINT)
    sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _sigterm_as_an_error() -> Iterator[None]:
    """Raise an exception at SIGTERM, as at Ctrl-C: unfinished work is tidied up, and the exit code says it."""

    def stop(number: int, _: object) -> None:
        raise StoppedAtOnce("terminated", number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _warnings_in_a_sentence() -> Iterator[None]:
    """Print the warning of a broken package of somebody else's as errors are printed, without the line in our code."""
    formatted = warnings.formatwarning

    def ours(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if issubclass(category, BrokenPackage):
            return f"pyro-disent: {as_flags(str(message))}\n"
        return formatted(message, category, filename, lineno, line)

    warnings.formatwarning = ours
    try:
        yield
    finally:
        warnings.formatwarning = formatted


def _plain(message: str) -> str:
    """An error of an option's value in the words of our own errors."""
    for kind, wanted in (("integer", "a whole number"), ("number", "a number")):
        message = message.replace(
            f"Input should be a valid {kind}, unable to parse string as a{'n' * (kind == 'integer')} {kind}",
            f"{wanted} is needed",
        )
    return message


def _with_notes(error: BaseException) -> str:
    """An error and its notes, such as where a replaced run is kept; settings are written as options."""
    return as_flags("; ".join([*filter(None, [str(error)]), *getattr(error, "__notes__", ())]))


def _exit_code(error: Exception) -> int:
    if isinstance(error, Interrupted):
        return EXIT_SIGNAL + error.number
    codes = {InputError: EXIT_INPUT, Diverged: EXIT_DIVERGED, StorageError: EXIT_STORAGE, Lost: EXIT_LOST}
    return next(code for kind, code in codes.items() if isinstance(error, kind))


def _fail(message: str, code: int) -> int:
    if message:  # empty where no command was named and the help was shown
        message = re.sub(r"\S{1000,}", lambda word: f"{word[0][:100]}...{word[0][-60:]}", " ".join(message.split("\n")))
        print(f"pyro-disent: {message}", file=sys.stderr)
    return code
