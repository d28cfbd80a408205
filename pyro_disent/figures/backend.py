"""Imports matplotlib before any other module of this package does, also where the user's settings would prevent it.

Notebooks export an ``MPLBACKEND`` that other environments do not have, and a ``matplotlibrc`` may be damaged. Either
would end a finished training in matplotlib's traceback. Our figures need neither setting (see
`pyro_disent.figures.paper`), but valid settings stay in force for other code that draws in this process.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

NEEDED = ("matplotlib", "matplotlib.figure", "matplotlib.font_manager", "matplotlib.backends.backend_agg")
_VARIABLE = "MPLBACKEND"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence matplotlib's log messages about settings, folders and fonts."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def import_matplotlib() -> None:
    """Import the parts of matplotlib that figures need, unless they are imported already."""
    if all(name in sys.modules for name in NEEDED):
        return
    first = "matplotlib" not in sys.modules
    backend = os.environ.pop(_VARIABLE, None) if first else None
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings that are not used here
            try:
                _import()
            except Exception:  # a damaged matplotlibrc can raise anything
                if not first:
                    raise
                for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                    del sys.modules[name]
                with _beside_the_default_settings():
                    _import()
    finally:
        if backend is not None:
            os.environ[_VARIABLE] = backend
    if backend:
        with contextlib.suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.modules["matplotlib"].rcParams["backend"] = backend  # as matplotlib does when it is imported


def _import() -> None:
    for name in NEEDED:
        importlib.import_module(name)


@contextlib.contextmanager
def _beside_the_default_settings() -> Iterator[None]:
    """Work in the folder of matplotlib's default ``matplotlibrc``: the working directory's file is read first."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    with contextlib.chdir(Path(spec.origin).with_name("mpl-data")):
        yield


import_matplotlib()
