"""Imports matplotlib, before any other module of this package, whatever its user has set that would keep it from it.

Notebooks export an ``MPLBACKEND`` that other environments do not have, and a ``matplotlibrc`` may be damaged: either
would end a training, after all of it, in matplotlib's traceback. No setting of theirs is needed here (see
`pyro_disent.figures.paper`), but what can be used of them is left to whoever else draws in this process.
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
    """Without what matplotlib logs of settings, folders and fonts."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def import_matplotlib() -> None:
    """Import what figures need of matplotlib; nothing happens where that was done before."""
    if all(name in sys.modules for name in NEEDED):
        return
    first = "matplotlib" not in sys.modules
    named = os.environ.pop(_VARIABLE, None) if first else None
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that are not used here
            try:
                _import()
            except Exception:  # a matplotlibrc fails in whatever way it is damaged
                if not first:
                    raise
                for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                    del sys.modules[name]
                with _beside_the_default_settings():
                    _import()
    finally:
        if named is not None:
            os.environ[_VARIABLE] = named
    if named:
        with contextlib.suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.modules["matplotlib"].rcParams["backend"] = named  # as matplotlib does when it is imported


def _import() -> None:
    for name in NEEDED:
        importlib.import_module(name)


@contextlib.contextmanager
def _beside_the_default_settings() -> Iterator[None]:
    """In the folder of matplotlib's own ``matplotlibrc``: that of the working directory is read before all others."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    with contextlib.chdir(Path(spec.origin).with_name("mpl-data")):
        yield


import_matplotlib()
