"""Files of numbers: checks of the path, writing, and conversion to netCDF."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_disent import files
from pyro_disent.errors import InputError

if TYPE_CHECKING:  # it takes long to import
    from xarray import Dataset


def check_place(path: Path, suffixes: Sequence[str], *, overwrite: bool = False) -> None:
    """Refuse a place where a table cannot or must not be written, before anything is computed.

    Raises:
        InputError: for another suffix, a path that is not a regular file, and an existing file without ``overwrite``.
    """
    if path.suffix.lower() not in suffixes:
        *first, last = suffixes
        raise InputError(f"{path} must end in {', '.join(first)}{' or ' * bool(first)}{last}")
    if reason := files.obstacle(path):
        raise InputError(f"{path} {reason}: name a new file in a folder that exists")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: name another file, or replace it by `overwrite=True`")


def write(path: Path, content: bytes) -> Path:
    """Write a file, whole or not at all.

    Raises:
        InputError: where the disk fails.
    """
    try:
        files.write_atomically(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    return path


def netcdf(groups: Mapping[str, Dataset]) -> bytes:
    """Data sets as one netCDF-4 file, each in the group of its name; the name ``/`` is the root."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.nc"
        for number, (name, dataset) in enumerate(groups.items()):
            encoding = {
                variable: {"zlib": True} for variable in dataset.data_vars if dataset[variable].dtype.kind == "f"
            }
            dataset.to_netcdf(path, "a" if number else "w", group=name, engine="h5netcdf", encoding=encoding)
        return path.read_bytes()
