"""The page of every figure, and how it is saved: by matplotlib's default settings, never by the user's."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyro_disent.figures.backend import quiet
from pyro_disent.figures.signature import signed
from pyro_disent.files import write_atomically

DPI = 100


@contextmanager
def default_settings() -> Iterator[None]:
    """Matplotlib's default settings while a figure is made, measured or drawn; the user's are restored afterwards."""
    with quiet(), matplotlib.rc_context():  # rc_context does not restore the backend
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated settings, which the defaults contain
            matplotlib.rcParams.update(
                {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
            )
            matplotlib.rcParams["svg.hashsalt"] = "pyro-disent"  # without a salt, names in the file are random
        yield


def paper(width: float, height: float) -> Figure:
    """A white figure without a window; ``width`` and ``height`` in inches."""
    with default_settings():
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure in the format of the path's suffix; an existing file is replaced whole or not at all.

    Nothing is cropped or rescaled: pixels stay whole. Returns the path. Missing folders are made.
    """
    path = Path(path)
    kind = path.suffix.lstrip(".").lower() or "png"
    buffer = io.BytesIO()
    with default_settings():
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white", **signed(kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    return path
