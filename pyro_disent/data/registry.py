"""Data sets by name: those of this package, one row each, and those of other packages.

A data set is a module, or any object, with ``load(request, *, seed, limit, progress, **options) -> DataSet``, a tuple
``FACTORS``, and optionally ``describe(request)`` (its text says what would be used) and ``prepare(request, *, seed,
progress, **options) -> Path`` for work before loading. Other packages register theirs as entry points of the group
``pyro_disent.datasets``; they may use `pyro_disent.from_arrays`, and the data set gets its name here. A module is
imported only when its data set is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyro_disent import plugins, signatures
from pyro_disent.data.sources import Progress, Request, absolute, limited
from pyro_disent.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pyro_disent.data.dataset import DataSet, Factor

GROUP = "pyro_disent.datasets"
BUILT_IN: dict[str, str] = {
    "celeba": "pyro_disent.data.faces.celeba",
    "chairs": "pyro_disent.data.chairs.chairs",
    "colored-mnist": "pyro_disent.data.mnist.colored",
    "rotated-mnist": "pyro_disent.data.mnist.rotated",
}
FOLDER = "pyro_disent.data.own.folder"
"""The module for a folder of the user's images, where a folder stands in place of a name."""

_COMMON = ("request", "seed", "limit", "progress")


class Description(NamedTuple):
    """A description of a data set before it is loaded."""

    name: str
    factors: tuple[Factor, ...]
    origin: str
    """Which source would be used."""
    options: Mapping[str, signatures.Option] | None
    """The options of `load` beyond those of every data set; None where it accepts any."""


def names() -> list[str]:
    """All data sets by name, in alphabetical order."""
    return sorted(plugins.names(GROUP, BUILT_IN))


def is_folder(name: str) -> bool:
    """Whether a name stands for a folder of the user's images: it is one, and no data set has its name."""
    try:
        return name not in ("", *names()) and Path(name).is_dir()
    except ValueError:  # no path has a null character
        return False


def is_data_set(name: str) -> bool:
    """Whether this is the name of a data set, or a folder."""
    return name in names() or is_folder(name)


def absolute_name(name: str) -> str:
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
        seed: of draws while loading; batches have their own generators.
        limit: use only so many training images.
        progress: called with how much is done and how much there is.
        options: further options of this data set.

    Raises:
        InputError: for a name, source, folder, limit or option that is not accepted, and for files that are damaged.
    """
    limited(limit, 1)
    module, request = _resolve(name, source, root)
    settings = _checked(name, module.load, options)
    data = module.load(request, seed=seed, limit=limit, progress=progress, **settings)
    return data if name in BUILT_IN or is_folder(name) else _by_its_name(data, name, request, settings)


def _by_its_name(data: Any, name: str, request: Request, options: Mapping[str, Any]) -> DataSet:
    """Another package's data set with its name, source and options, so that a run can load it again.

    Raises:
        InputError: where the package did not return a data set.
    """
    from pyro_disent.data.dataset import DataSet, Source

    if not isinstance(data, DataSet):
        raise InputError(
            f"the data set {name} of another package loads a {type(data).__name__}: its `load` must return a DataSet, "
            "as pyro_disent.from_arrays(...) makes one"
        )
    if data.source.kind != "given":
        return data
    root = request.root or next(iter(request.roots() if request.kind == "local" else ()), None)
    if root is not None:
        source = Source("local", str(absolute(root)), data.source.sha256)
    else:
        kind = "package" if request.kind == "auto" else request.kind
        source = Source(kind, f"{name}, {data.source.location}", data.source.sha256)
    return replace(data, name=name, source=source, options={**data.options, **options})


def describe(name: str, *, source: str = "auto", root: Path | None = None) -> Description:
    """The factors of a data set, and the source that `load` would use; reads no image and uses no network.

    Raises:
        InputError: as `load`, as far as it can be known without reading images.
    """
    module, request = _resolve(name, source, root)
    place = str(module.describe(request)) if hasattr(module, "describe") else ""
    return Description(name, tuple(getattr(module, "FACTORS", ())), place, _options(module))


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
    return module.prepare(request, seed=seed, progress=progress, **_checked(name, module.prepare, options))


def _resolve(name: str, source: str, root: Path | None) -> tuple[Any, Request]:
    """The module for a name, or for a folder in place of one, and the request to pass to it."""
    module = _module(name)
    if not is_folder(name):
        return module, Request.of(source, root)
    if root is not None or source in ("download", "embedded"):
        raise InputError(f"the folder {name} is its own source: leave out `source` and `data_root`")
    return module, Request("local", Path(name))


def _module(name: str) -> Any:
    """The module for a name, or for a folder in place of one."""
    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name])
    if name in names():
        return plugins.find(GROUP, {}, name, "data set")
    if is_folder(name):
        return importlib.import_module(FOLDER)
    if Path(name).is_file():
        raise InputError(f"{name} is a file, and a data set is a folder: name its folder, {Path(name).parent}")
    hint = did_you_mean(name, [*names(), *_folders_beside(Path(name))])
    raise InputError(f"there is no data set and no folder {name}{hint}: there are {', '.join(names())}")


def _folders_beside(path: Path) -> list[str]:
    """The folders beside a path, written as the path is."""
    try:
        return [str(path.parent / folder.name) for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:  # the folder around it does not exist either
        return []


def options_of_folders() -> dict[str, signatures.Option] | None:
    """The options of `load` for a folder of images."""
    return _options(importlib.import_module(FOLDER))


def _options(module: Any) -> dict[str, signatures.Option] | None:
    return signatures.options(module.load, without=_COMMON)


def checked_options(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a data set as `load` takes them; texts are converted to the options' types.

    Raises:
        InputError: for an option that does not exist, and a value that the option does not accept.
    """
    return _checked(name, _module(name).load, overrides)


def presets(name: str) -> Mapping[str, Mapping[str, Any]]:
    """preset's name -> settings of a run on this data set, after those of a folder of images, which it overrides."""
    general = importlib.import_module(FOLDER).PRESETS
    return {**general, **getattr(_module(name), "PRESETS", {})} if name in names() else general


def _checked(name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    return signatures.checked(signatures.options(function, without=_COMMON), settings, f"data set {name}")
