"""Data sets by name: the ones of this package, one row each, and those that other packages bring.

A data set is a module, or any object, with ``load(request, *, seed, limit, progress, **options) -> DataSet``, a tuple
``FACTORS``, and, where there is something to say or to do before loading, ``describe(request)`` (its text says what
would be used) and ``prepare(request, *, seed, progress, **options) -> Path``. Other packages name theirs as entry
points of the group ``pyro_disent.datasets``. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyro_disent.data.sources import Progress, Request, absolute, limited
from pyro_disent.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pyro_disent.data.dataset import DataSet, Factor

GROUP = "pyro_disent.datasets"
BUILT_IN: dict[str, str] = {
    "celeba": "pyro_disent.data.celeba",
    "chairs": "pyro_disent.data.chairs",
    "colored-mnist": "pyro_disent.data.colored_mnist",
    "rotated-mnist": "pyro_disent.data.rotated_mnist",
}
FOLDER = "pyro_disent.data.folder"
"""What serves a folder of the user's images, given in place of a name."""

_COMMON = ("request", "seed", "limit", "progress")


class Description(NamedTuple):
    """What is known of a data set before it is loaded."""

    name: str
    factors: tuple[Factor, ...]
    found: str
    """Which source would be used."""


def names() -> list[str]:
    """All data sets by name, in alphabetical order."""
    return sorted({*BUILT_IN, *(point.name for point in _points())})


def is_folder(name: str) -> bool:
    """Whether a name stands for a folder of the user's images: it is one, and no data set has its name."""
    try:
        return name not in ("", *names()) and Path(name).is_dir()
    except ValueError:  # no path has a null character
        return False


def named(name: str) -> str:
    """A data set's name as it is, a folder's as its absolute path, so that a run finds it from anywhere."""
    return str(absolute(Path(name))) if is_folder(name) else name


def load(
    name: str,
    *,
    source: str = "auto",
    root: Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> DataSet:
    """Load a data set.

    Args:
        name: one of `names`, or a folder of images.
        source: ``auto``, ``local``, ``download`` or ``embedded``; see `sources.Places` for their order.
        root: a local folder, which must then hold the set.
        seed: of what is drawn while loading; batches have generators of their own.
        limit: use only so many training images.
        progress: called with how much is done and how much there is.
        options: what this data set accepts beyond these.

    Raises:
        InputError: for a name, source, folder, limit or option that is not accepted, and for files that are damaged.
    """
    limited(limit, 1)
    module, request = _resolve(name, source, root)
    _check_options(name, module.load, options)
    return module.load(request, seed=seed, limit=limit, progress=progress, **options)


def describe(name: str, *, source: str = "auto", root: Path | None = None) -> Description:
    """What a data set varies in, and which source `load` would use; reads no image and asks no network.

    Raises:
        InputError: as `load`, as far as that shows without reading.
    """
    module, request = _resolve(name, source, root)
    found = str(module.describe(request)) if hasattr(module, "describe") else ""
    return Description(name, tuple(getattr(module, "FACTORS", ())), found)


def prepare(
    name: str,
    *,
    source: str = "auto",
    root: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Path:
    """Download, convert or render a data set into the cache, so that `load` is fast; where it lies then.

    Raises:
        InputError: as `load`, and for a data set that has nothing to prepare.
    """
    module, request = _resolve(name, source, root)
    if not hasattr(module, "prepare"):
        raise InputError(f"{name} has nothing to prepare: it is loaded as it is")
    _check_options(name, module.prepare, options)
    return module.prepare(request, seed=seed, progress=progress, **options)


def _points() -> list[EntryPoint]:
    """What other packages bring; a name of ours stays ours."""
    return [point for point in entry_points(group=GROUP) if point.name not in BUILT_IN]


def _resolve(name: str, source: str, root: Path | None) -> tuple[Any, Request]:
    """The module behind a name, or behind a folder in place of one, and the request to hand it."""
    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name]), Request.of(source, root)
    for point in _points():
        if point.name == name:
            return point.load(), Request.of(source, root)
    if is_folder(name):
        if root is not None or source in ("download", "embedded"):
            raise InputError(f"the folder {name} is its own source: leave out `source` and `data_root`")
        return importlib.import_module(FOLDER), Request("local", Path(name))
    if Path(name).is_file():
        raise InputError(f"{name} is a file, and a data set is a folder: name its folder, {Path(name).parent}")
    hint = did_you_mean(name, [*names(), *_folders_beside(Path(name))])
    raise InputError(f"there is no data set and no folder {name}{hint}: there are {', '.join(names())}")


def _folders_beside(path: Path) -> list[str]:
    """The folders that lie where one was looked for, written as it was."""
    try:
        return [str(path.parent / folder.name) for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:  # nor is there a folder to look in
        return []


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse what the function does not take, in a sentence and not in a TypeError."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    accepted = [parameter.name for parameter in parameters if parameter.name not in _COMMON]
    for option in options:
        if option not in accepted:
            known = f"its options are {', '.join(accepted)}" if accepted else "it has no options of its own"
            raise InputError(f"data set {name} has no option {option}: {known}")
