"""Malformed input in bulk: command lines, folders, tables, archives and run folders, each to be refused in a sentence.

``make stress`` runs all cases, ``tests/test_malformed.py`` a seeded sample. Each case gets an empty folder, in which it
makes what it needs; nothing outside of it is named, and no device is written to (`check_inside`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ENDLESS = Path("/dev/zero")
"""The only place outside of a case's folder that a link in it may lead to: it can be read without end."""
LONGEST_SENTENCE = 700
MOST_MEMORY = 1 << 30
"""Bytes that a refusal may take beside what a whole command takes."""


class Case(NamedTuple):
    """One malformed input."""

    name: str
    words: tuple[str, ...]
    """The command line, in the case's folder."""
    make: Callable[[Path, Path], None]
    """Makes what the command line names: called with the empty folder, and with that of whole things."""
    says: str = ""
    """A pattern that the sentence must have: what is wrong, and where."""
    may_pass: bool = False
    """Whether it may be harmless after all, as a changed byte in an image is."""


class Outcome(NamedTuple):
    """What became of a case."""

    code: int | None
    """The exit code; None where it ended in an exception, or not at all."""
    error: str
    """What was printed on standard error; the traceback of an exception."""
    changed: list[str]
    """Paths in its folder that were written, removed or changed."""
    memory: int
    """Bytes that it needed beside what the process had before."""
    seconds: float


def nothing(folder: Path, base: Path) -> None:
    """For a command line that needs no file."""


def cases() -> dict[str, Case]:
    """All cases by name.

    Raises:
        ValueError: where two have one name.
    """
    from tests.malformed import archives, command_lines, image_folders, run_folders

    found: dict[str, Case] = {}
    for module in (command_lines, run_folders, image_folders, archives):
        for case in module.cases():
            if case.name in found:
                raise ValueError(f"two cases are called {case.name}")
            found[case.name] = case
    return found


def wrong(case: Case, outcome: Outcome) -> str | None:
    """What is wrong with how a case was answered, in a few words; None where nothing is."""
    lines = outcome.error.strip().splitlines()
    if outcome.code is None:
        return f"ended in {lines[-1] if lines else 'silence'}"
    if outcome.memory > MOST_MEMORY:
        return f"took {outcome.memory >> 20} MiB"
    if outcome.code == 0:
        return None if case.may_pass else "was accepted"
    if outcome.code != 2:
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.error:
        return "a traceback"
    if len(lines) != 1 or not lines[0].startswith("pyro-disent: "):
        return f"{len(lines)} lines"
    if len(lines[0]) > LONGEST_SENTENCE:
        return f"a sentence of {len(lines[0])} characters"
    if case.says and not re.search(case.says, lines[0]):
        return f"does not say {case.says!r}"
    return f"wrote {', '.join(outcome.changed)}" if outcome.changed else None


def check_inside(folder: Path, words: tuple[str, ...]) -> None:
    """Raises ValueError for a command line that names a place outside of a case's folder, or links that lead there."""
    folder = folder.resolve()
    for word in words:
        for part in (word, word.partition("=")[2]):
            try:
                place = Path(os.path.normpath(folder / part))
            except ValueError:
                continue
            if not place.is_relative_to(folder):
                raise ValueError(f"{word} names a place outside of {folder}")
    for path in folder.rglob("*"):
        if path.is_symlink() and not (to := Path(os.path.realpath(path))).is_relative_to(folder) and to != ENDLESS:
            raise ValueError(f"{path} leads outside of {folder}, to {to}")


def state(folder: Path) -> dict[str, Any]:
    """Every path below a folder, with what tells whether it was changed; the locks of runs and the cache are left out."""

    def walk(below: Path) -> Iterator[tuple[str, Any]]:
        for entry in os.scandir(below):
            if entry.name == ".lock":
                continue
            status = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
            yield entry.path, is_folder or (status.st_size, status.st_mtime_ns, status.st_ino)
            if is_folder:
                yield from walk(Path(entry.path))

    return dict(walk(folder))
