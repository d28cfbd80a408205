"""Write files whole or not at all, flushed to the disk, and replace nothing but regular files."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path

WRITTEN_BY = "pyro-disent"
"""A mark in the pictures that we write, so that no data set takes them for its images."""

_LONGEST_NAME, _HASH_LENGTH = 60, 8  # characters of a figure's file name

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFLNK: "is a link",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def obstacle(path: Path) -> str | None:
    """Why no file can be written at a path, in words; None where one can.

    Only a regular file is replaced, and a new one is made only in an existing folder. A link is not followed; a device,
    a pipe, a socket or a folder is left alone.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None if path.parent.is_dir() else f"lies in {path.parent}, which is no folder"
    except (OSError, ValueError) as error:  # the name is too long, has a zero byte, or lies below a file
        return f"names no file ({error})"
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "is no regular file")


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file: a pipe would be waited for, and a device may never end.

    Raises:
        OSError: for anything else, and for a file of more than ``most`` bytes, before any of it is read.
    """
    check_regular(path, most)
    return path.read_bytes()


def check_regular(path: Path, most: int | None = None) -> None:
    """Raises OSError for what is no regular file, or a link to one, and for one of more than ``most`` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"it {_KINDS.get(stat.S_IFMT(status.st_mode), 'is no regular file')}")
    if most is not None and status.st_size > most:
        raise OSError(f"it has {status.st_size:,} bytes, and at most {most:,} are read")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a new one, which is flushed to the disk before it gets the name.

    Raises:
        OSError: if there is an `obstacle`, and if the disk fails.
    """
    if reason := obstacle(path):
        raise OSError(f"{path} {reason}, and only a regular file is replaced")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")  # unique to this call
    try:
        write(partial, content)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> None:
    """Write a new file and flush it to the disk.

    Raises:
        OSError: for a name that is taken, and if the disk fails.
    """
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def append(path: Path, content: bytes) -> None:
    """Append to a regular file, or create it."""
    if reason := obstacle(path):
        raise OSError(f"{path} {reason}, and only a regular file is added to")
    with path.open("ab") as file:
        file.write(content)


def sync(folder: Path) -> None:
    """Flush a folder's entries to the disk (not on systems that cannot open folders)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_name(*parts: str) -> str:
    """A valid file name for a figure, made from names of latents and images.

    A name that is too long is cut, and ends in a hash of the full name.
    """
    full = "-".join(parts)
    name = re.sub(r"[^\w.+-]+", "_", full)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(full.encode()).hexdigest()[:_HASH_LENGTH]
        name = f"{name[: _LONGEST_NAME - _HASH_LENGTH - 1]}-{digest}"
    return name + ".png"
