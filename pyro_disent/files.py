"""Files that are on the disk when they are said to be, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


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
