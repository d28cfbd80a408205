"""Checkpoints: each is a folder that is complete before a pointer names it; only the named one counts.

``last.json`` and ``best.json`` are the pointers. Only files that a run wrote itself are ever removed.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor

from pyro_disent import files
from pyro_disent.errors import InputError

Which = Literal["last", "best"]
WEIGHTS, STATE = "weights.safetensors", "state.pt"


def save(checkpoints: Path, which: Which, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint, then name it, then remove what is no longer named.

    Raises:
        OSError: where that fails; the checkpoint before it is still named and whole.
    """
    if checkpoints.is_symlink():
        raise OSError(f"{checkpoints} is a link, and nothing is written through links")
    # Copies: a layer that is used twice has one memory, which safetensors does not write twice.
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    before = named(checkpoints, which)
    # The same step may be saved again after a resume: never into the folder that is named now.
    name = f"{which}-{step:09d}"
    folder = checkpoints / (f"{name}-again" if before == name else name)
    remove(folder)  # left by a killed process
    if folder.is_symlink():
        raise OSError(f"{folder} is a link, and nothing is written through links")
    folder.mkdir(exist_ok=True)
    try:
        files.write(folder / WEIGHTS, safetensors.torch.save(contiguous))
        files.write(folder / STATE, buffer.getvalue())
        files.sync(folder)
        files.write_atomically(
            checkpoints / f"{which}.json", json.dumps({"folder": folder.name, "step": step}).encode()
        )
    except OSError:
        if named(checkpoints, which) != folder.name:
            remove(folder)
        raise
    for old in written(checkpoints, which):
        if old != folder:
            remove(old)


def written(checkpoints: Path, which: Which) -> list[Path]:
    """Every folder of a checkpoint, named or not."""
    return [path for path in checkpoints.iterdir() if _is_name(path.name, which)]


def remove(folder: Path) -> None:
    """A checkpoint's own two files, and its folder where nothing else lies in it; no link is followed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in (WEIGHTS, STATE):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it holds something else
        folder.rmdir()


def named(checkpoints: Path, which: Which) -> str | None:
    """The name of a checkpoint's folder; None without a name that `save` could have written."""
    path = checkpoints / f"{which}.json"
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        pointer = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    name = pointer.get("folder") if isinstance(pointer, dict) else None
    return name if isinstance(name, str) and _is_name(name, which) else None


def _is_name(name: str, which: Which) -> bool:
    return re.fullmatch(rf"{which}-[0-9]{{9,}}(-again)?", name) is not None


def exist(checkpoints: Path) -> bool:
    """Whether any named checkpoint exists."""
    names = [named(checkpoints, which) for which in get_args(Which)]
    return any((checkpoints / name / WEIGHTS).is_file() for name in names if name is not None)


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU; each is finite.

    Raises:
        InputError: for a file that is missing or damaged, and for a value that is not finite.
    """
    path = folder / WEIGHTS
    _check_regular(path)
    try:
        # It compares the header with the file's size before it allocates anything.
        tensors = safetensors.torch.load_file(path)
        damaged = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    except Exception as error:  # each damage raises another type
        raise InputError(f"{path} cannot be read as a checkpoint: {_first_line(error)}") from error
    if damaged:
        raise InputError(f"{path} cannot be read as a checkpoint: {damaged[0]} has values that are not finite")
    return tensors


def state(folder: Path) -> dict[str, Any]:
    """The state saved beside the weights, unchecked: `training.state` checks it.

    Raises:
        InputError: for a file that is missing or damaged, and one that holds no state.
    """
    path = folder / STATE
    _check_regular(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it without this check, which would execute what it holds.
        raise InputError(
            f"{path} cannot be read as a training state: it is damaged, or holds more than tensors and plain values, "
            "which is never executed"
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path} cannot be read as a training state: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no training state: it holds a {type(content).__name__}")
    return content


def _check_regular(path: Path) -> None:
    """Raises InputError for a pipe, which would be waited for, a device, which may never end, and a folder."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file, and nothing else is read as a part of a checkpoint")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
