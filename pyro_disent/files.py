"""Files that are on the disk when they are said to be, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

WRITTEN_BY = "pyro-disent"
"""What pictures that we write say of themselves, so that they are never taken for images of a user's set."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a whole new one, on the disk before it is named."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial, content)
        partial.replace(path)
        sync(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> None:
    """A file's content, on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """The folder's own entries, on the disk (a system that cannot open folders has nothing to sync)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
