"""``metadata.csv``: what a user says of each image, by Hugging Face's imagefolder convention."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from pyro_disent import files
from pyro_disent.data.own.values import is_missing
from pyro_disent.errors import InputError

METADATA = "metadata.csv"
NAME = "file_name"
"""The column with the image that a row describes."""

_MOST_BYTES = 1 << 30
_DELIMITERS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Longer marks come first, because UTF-32's begins with UTF-16's."""
_OTHER_KINDS = {
    b"PK\x03\x04": "a spreadsheet or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"PAR1": "Parquet",
    b"\x1f\x8b": "compressed by gzip",
    b"{": "JSON",
    b"[": "JSON",
}
_INDEX = re.compile(r"(Unnamed: ?\d+(\.\d+)*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+(e[+-]?\d+)?", re.I | re.A)
_DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.I | re.A)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+", re.A)
_WHOLE = re.compile(r"[+-]?\d{1,3}", re.A)


class Table(NamedTuple):
    """A metadata file's cells, without blanks around them."""

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    """Each with the number of its line, from 1."""
    notes: tuple[str, ...]
    """What was read differently from what the file says, in words."""


def read_metadata(path: Path) -> Table:
    """Read a table: UTF-8, or UTF-16 or 32 by its byte order mark, with ``,`` ``;`` tabs or ``|`` between cells.

    The delimiter is the one that makes ``file_name`` a cell of the first line. pandas' nameless index column and
    nameless columns without content are left out. In a table with ``;`` a comma within a number is a decimal point.

    Raises:
        InputError: for a file in another encoding, not CSV, empty, or without ``file_name``.
    """
    text, first_line = _text(path)
    delimiter = _delimiter(text)
    rows: list[tuple[int, list[str]]] = []
    line = 0
    try:
        reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True, strict=True)
        for row in reader:
            line = reader.line_num
            if any(map(str.strip, row)):
                rows.append((line + first_line - 1, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise InputError(f"{path} is not CSV after line {line}: {error}") from error
    if not rows:
        raise InputError(f"{path} is empty: it needs a column {NAME} and a row for each image")
    columns = rows.pop(0)[1]
    if NAME not in columns:
        raise InputError(f"{path} has no column {NAME}: its columns are {', '.join(columns)}")
    notes = [] if delimiter == "," else [f"cells are apart by {'tabs' if delimiter == chr(9) else delimiter}"]
    columns, rows = _without_nameless(columns, rows, notes)
    for number, column in enumerate(columns, 1):
        if not column or columns.count(column) > 1:
            what = f"two columns {column}" if column else f"a column without a name, number {number}"
            raise InputError(f"{path} has {what}: each needs a name of its own")
    if not rows:
        raise InputError(f"{path} names no image: it has no row below its columns")
    if delimiter == ";":
        rows = _with_decimal_points(columns, rows, notes)
    return Table(columns, rows, tuple(f"{path.name}: {note}" for note in notes))


def _text(path: Path) -> tuple[str, int]:
    """A file's text, and the number of its first line: Excel may name the delimiter in a line above the columns."""
    try:
        content = files.read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    for start, kind in _OTHER_KINDS.items():
        if content.lstrip().startswith(start):
            raise InputError(f"{path} is not CSV but {kind}: export it as CSV, with a column {NAME}")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:4]:
        raise InputError(f"{path} is not UTF-8, but as it seems UTF-16 without a byte order mark: save it as UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not {encoding.upper()}: {error.reason} in line {line}; save it as UTF-8"
        ) from error
    if directive := re.match(r"sep=(.)\r?\n", text, re.I):
        return text[directive.end() :], 2
    return text, 1


def _delimiter(text: str) -> str:
    """The delimiter with which one of the columns is ``file_name``.

    csv.Sniffer guesses from the frequencies of characters, and may take a letter for the delimiter.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    read: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            continue
        read[delimiter] = [cell.strip() for cell in cells]
    fitting = [delimiter for delimiter, cells in read.items() if NAME in cells] or list(read)
    return max(fitting, key=lambda delimiter: len(read[delimiter]), default=",")


def _without_nameless(
    columns: list[str], rows: list[tuple[int, list[str]]], notes: list[str]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The table without pandas' index, and without columns that have no name and no content."""

    def cells(place: int) -> list[str]:
        return [row[place] for _, row in rows if len(row) > place]

    left_out = {place for place, name in enumerate(columns) if not name and not any(cells(place))}
    indices = 0  # pandas adds another index each time it saves a table that it read with one
    for place, name in enumerate(columns):
        index = cells(place)
        if not (_INDEX.fullmatch(name) and index and all(map(str.isdecimal, index)) and len({*index}) == len(index)):
            break
        left_out.add(place)
        indices += 1
    if indices:
        which = "first column is" if indices == 1 else f"first {indices} columns are"
        notes.append(f"its {which} pandas' index and left out")
    width = len(columns)
    remaining = [place for place in range(width) if place not in left_out]
    return [columns[place] for place in remaining], [
        (line, [row[place] for place in remaining if place < len(row)] + [cell for cell in row[width:] if cell])
        for line, row in rows
    ]


def _with_decimal_points(
    columns: list[str], rows: list[tuple[int, list[str]]], notes: list[str]
) -> list[tuple[int, list[str]]]:
    """The table with 1.5 for 1,5 in columns with decimal commas, and then 1250 for 1.250 in the others."""
    decimals, thousands = [], []
    for place, column in enumerate(columns):
        cells = [row[place] for _, row in rows if len(row) > place]
        points = [cell for cell in cells if _DECIMAL_POINT.fullmatch(cell)]
        grouped = [cell for cell in cells if _THOUSANDS.fullmatch(cell)]
        if column == NAME or len(grouped) < len(points):
            continue
        if any(map(_DECIMAL_COMMA.fullmatch, cells)):
            decimals.append(place)
        elif grouped and all(
            _WHOLE.fullmatch(cell) or _THOUSANDS.fullmatch(cell) or is_missing(cell) for cell in cells
        ):
            thousands.append(place)
    if not decimals:  # without decimal commas a point is a decimal point
        return rows
    notes.append(f"commas are decimal points in {', '.join(columns[place] for place in decimals)}")
    if thousands:
        notes.append(f"so points group thousands in {', '.join(columns[place] for place in thousands)}")
    changed = {*decimals, *thousands}

    def with_point(place: int, cell: str) -> str:
        is_number = _DECIMAL_COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell)
        return cell.replace(".", "").replace(",", ".") if place in changed and is_number else cell

    return [(line, [with_point(place, cell) for place, cell in enumerate(row)]) for line, row in rows]
