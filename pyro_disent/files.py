"""Files that are on the disk when they are said to be, whole or not at all, and in the place of nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path

WRITTEN_BY = "pyro-disent"
"""What pictures that we write say of themselves, so that they are never taken for images of a user's set."""

LONGEST_NAME, HASH_LENGTH = 60, 8  # characters of a figure's file name

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFLNK: "is a link",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def obstacle(path: Path) -> str | None:
    """Why no file is written at a path, in words; None where one may be.

    Only a regular file is replaced, and only in a folder that exists is a new one made: a link is not followed, and a
    device, a pipe, a socket or a folder stays what it is.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None if path.parent.is_dir() else f"lies in {path.parent}, which is no folder"
    except (OSError, ValueError) as error:  # a name too long, with a zero in it, or below a file
        return f"names no file ({error})"
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "is no regular file")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a whole new one, on the disk before it is named.

    Raises:
        OSError: where there is an `obstacle`, and where the disk fails.
    """
    if found := obstacle(path):
        raise OSError(f"{path} {found}, and only a regular file is replaced")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")  # a name that nobody else has
    try:
        write(partial, content)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> None:
    """A new file's content, on the disk.

    Raises:
        OSError: for a name that is taken, and where the disk fails.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def append(path: Path, content: bytes) -> None:
    """Add to a regular file, or begin it."""
    if found := obstacle(path):
        raise OSError(f"{path} {found}, and only a regular file is added to")
    with path.open("ab") as file:
        file.write(content)


def sync(folder: Path) -> None:
    """The folder's own entries, on the disk (a system that cannot open folders has nothing to sync)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_name(*parts: str) -> str:
    """A figure's file, named after latents and images, which may be called what no file is.

    What is too long is cut, and ends in a hash of the whole.
    """
    whole = "-".join(parts)
    name = re.sub(r"[^\w.+-]+", "_", whole)
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(whole.encode()).hexdigest()[:HASH_LENGTH]
        name = f"{name[: LONGEST_NAME - HASH_LENGTH - 1]}-{digest}"
    return name + ".png"
