"""A run's ``metrics.csv``: a row for each look at the training."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pyro_disent import files
from pyro_disent.errors import InputError

Row = Mapping[str, float | int | str]


def append(path: Path, row: Row) -> None:
    """Add a row; a new number gets a column."""
    columns = _columns(path)
    if row.keys() <= set(columns):
        line = io.StringIO(newline="")
        csv.DictWriter(line, columns, restval="").writerow(row)
        files.append(path, line.getvalue().encode())
    else:
        _rewrite(path, [*columns, *(name for name in row if name not in columns)], [*read(path), row])


def read(path: Path) -> list[dict[str, str]]:
    """The rows.

    Raises:
        InputError: for a file that is not one of metrics.
    """
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(_text(path), restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as metrics: {error}") from error
    for row in rows:
        row.pop(None, None)  # more values than there are columns
    if rows and not {"step", "split"} <= rows[0].keys():
        raise InputError(f"{path} cannot be read as metrics: it has no columns named step and split")
    return rows


def last_step(path: Path) -> int | None:
    """How many steps were taken; None where no row says it."""
    return max((step for row in read(path) if (step := _step(row)) is not None), default=None)


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of later steps, and one that was cut off."""
    kept = [row for row in read(path) if (of := _step(row)) is not None and of <= step]
    _rewrite(path, _columns(path), kept)


def _columns(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        return next(csv.reader(_text(path)), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as metrics: {error}") from error


def _text(path: Path) -> io.StringIO:
    files.check_regular(path)
    return io.StringIO(path.read_bytes().decode(), newline="")


def _step(row: Mapping[str, str]) -> int | None:
    """A row's step; None where it was cut off or damaged."""
    text = row["step"]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _rewrite(path: Path, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomically(path, content.getvalue().encode())
