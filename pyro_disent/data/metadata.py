"""``metadata.csv``: what a user says of each image, by Hugging Face's imagefolder convention."""

from __future__ import annotations

import csv
from pathlib import Path

from pyro_disent.errors import InputError

METADATA = "metadata.csv"
NAME = "file_name"
"""Its column that says which image a row speaks of."""


def read_metadata(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and each row with the number of its line; cells without blanks around them.

    Raises:
        InputError: for a file that is no UTF-8, no CSV, empty, or has no ``file_name``.
    """
    rows = []
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in reader:
                line = reader.line_num
                if cells := [cell.strip() for cell in row] if any(map(str.strip, row)) else []:
                    rows.append((line, cells))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} after line {line}") from error
    except csv.Error as error:
        raise InputError(f"{path} is not CSV after line {line}: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    if not rows:
        raise InputError(f"{path} is empty: it needs a column {NAME} and a row for each image")
    columns = rows.pop(0)[1]
    if NAME not in columns:
        raise InputError(f"{path} has no column {NAME}: its columns are {', '.join(columns)}")
    for number, column in enumerate(columns, 1):
        if not column or columns.count(column) > 1:
            what = f"two columns {column}" if column else f"a column without a name, the {number}th"
            raise InputError(f"{path} has {what}: each needs a name of its own")
    if not rows:
        raise InputError(f"{path} names no image: it has no row below its columns")
    return columns, rows
