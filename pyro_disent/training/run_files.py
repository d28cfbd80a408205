"""The files of a run's folder, and how to remove them without losing files that the user put there."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pyro_disent import files
from pyro_disent.data.images.headers import header
from pyro_disent.files import WRITTEN_BY
from pyro_disent.training import checkpoints
from pyro_disent.training.checkpoints import Which

CONFIG, METRICS, CHECKPOINTS, FIGURES, LOCK = "config.json", "metrics.csv", "checkpoints", "figures", ".lock"
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")  # see `files.write_atomically`
_EVENTS = re.compile(r"events\.out\.tfevents\.[0-9]+\..+")


def dissolve(run: Path, into: Path) -> None:
    """Remove what the program wrote into a run's folder; everything else moves to the same place in another folder.

    Nothing is replaced: a file whose place is taken stays, and its folder with it. No link is followed. The
    configuration goes last, so that what a kill leaves can still be told to be a run's folder.
    """
    for path in _written(run):
        path.unlink()
    for which in get_args(Which):
        for folder in checkpoints.written(run / CHECKPOINTS, which) if _is_folder(run / CHECKPOINTS) else ():
            checkpoints.remove(folder)
    for folder in (run / CHECKPOINTS, run / FIGURES):
        if _is_folder(folder):
            remove_empty(folder)
    _move(run, into, but=(CONFIG, LOCK))
    for name in (LOCK, CONFIG):
        if _is_file(run / name):
            (run / name).unlink()
    remove_empty(run)


def has_just_begun(run: Path) -> bool:
    """Whether a folder holds nothing but what a run makes before its configuration."""
    if not _is_folder(run):
        return False
    others = [path for path in run.iterdir() if path.name != LOCK and not _PARTIAL.fullmatch(path.name)]
    return all(path.name == CHECKPOINTS and _is_folder(path) and not any(path.iterdir()) for path in others)


def was_cut_short(run: Path) -> bool:
    """Whether a folder is what a run leaves that was killed before it had a configuration: nothing, or a lock."""
    return has_just_begun(run) and (_is_file(run / LOCK) or not any(run.iterdir()))


def _written(run: Path) -> Iterator[Path]:
    """Every file that the program wrote, except the configuration, the lock and the files of checkpoints."""
    is_run = _is_record(run / CONFIG)
    for folder in (run, run / CHECKPOINTS, run / FIGURES):
        for path in list(folder.iterdir()) if _is_folder(folder) else ():
            if _is_file(path) and (_PARTIAL.fullmatch(path.name) or (is_run and _is_written(path, run))):
                yield path


def _is_written(path: Path, run: Path) -> bool:
    name = path.name
    if path.parent == run / CHECKPOINTS:
        return name in {f"{which}.json" for which in get_args(Which)}
    if path.parent == run / FIGURES:
        return _is_figure(path)
    if name.startswith("evaluation") and name.endswith(".json"):
        return _is_evaluation(path)
    if name.endswith(".nc"):
        return _is_posterior(path)
    return name == METRICS or _EVENTS.fullmatch(name) is not None


def _is_figure(path: Path) -> bool:
    """Whether a file has the mark that a figure gets, whatever its name: packages and users add names of their own."""
    image = header(path)
    return image is not None and image.ours


def _is_posterior(path: Path) -> bool:
    """Whether a file is what ``posterior`` writes."""
    import h5netcdf

    try:
        with h5netcdf.File(path) as file:
            return bool(file["posterior"].attrs["creation_library"] == WRITTEN_BY)
    except (OSError, KeyError):
        return False


def _is_record(config: Path) -> bool:
    """Whether a configuration is a run's; in another folder no file counts as ours."""
    try:
        return "latents" in json.loads(files.read_regular(config, 1 << 24))["fit"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_evaluation(path: Path) -> bool:
    """Whether a file is what ``evaluate`` writes, and not another file of such a name."""
    try:
        content = json.loads(files.read_regular(path, 1 << 26))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"protocol", "run", "numbers"} <= content.keys()


def _move(source: Path, target: Path, but: tuple[str, ...] = ()) -> None:
    """Move everything in a folder, except these names, to places in another that are free."""
    for path in [path for path in source.iterdir() if path.name not in but]:
        place = target / path.name
        if not os.path.lexists(place):
            path.rename(place)
        elif _is_folder(path) and _is_folder(place):
            _move(path, place)
            remove_empty(path)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def remove_empty(folder: Path) -> None:
    """Remove a folder, where nothing lies in it; no link is followed."""
    with contextlib.suppress(OSError):  # something else lies in it
        folder.rmdir()
