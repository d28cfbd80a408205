"""Arrays in one uncompressed file with their hash, which detects damage and changes."""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_disent.errors import InputError

Arrays = dict[str, NDArray[Any]]
_HASH = "sha256"


class CorruptCache(InputError):
    """A cache file that is damaged, or whose arrays have changed since it was written."""


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and contents."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays and their hash, and return the hash; an incomplete file is never at ``path``.

    Raises:
        InputError: where the cache cannot be written.
    """
    sha256 = digest(arrays)
    members: dict[str, NDArray[Any]] = {_HASH: np.array(sha256), **arrays}
    # Every writer has its own file: two that prepare the same data replace each other's file with an equal one.
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            np.savez(file, **members)  # type: ignore[arg-type]  # its stubs take any keyword for `allow_pickle`
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write the cache file {path} ({error.strerror or error}); "
            "set PYRO_DISENT_CACHE to a folder with room that can be written"
        ) from error
    finally:
        with suppress(OSError):  # it was renamed, or never created
            temporary.unlink()
    return sha256


def load_arrays(path: Path) -> tuple[Arrays, str]:
    """The arrays of a cache file and their hash, after comparing it with the recorded one.

    Raises:
        FileNotFoundError: where there is no such file.
        CorruptCache: where the file is not what was written.
    """
    try:
        # Opened here, because NumPy does not close a file that it opened and could not read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            arrays: Arrays = {name: members[name] for name in members.files}
        recorded = str(arrays.pop(_HASH))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptCache(f"the cache file {path} is damaged ({error})") from error
    if digest(arrays) != recorded:
        raise CorruptCache(
            f"the cache file {path} has changed since it was written: its sha256 is not the recorded one"
        )
    return arrays, recorded
