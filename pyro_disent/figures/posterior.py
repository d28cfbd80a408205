"""Is the posterior of all images together the prior, which units go together, and do predictions look like the data?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_disent.figures.paper import DPI, default_settings, paper
from pyro_disent.figures.text import draw_text, shortened

if TYPE_CHECKING:
    from xarray import Dataset

UNITS, PAIRED = 24, 5
"""Units that are shown, at most: in `aggregate`, and in `unit_pairs`."""
_DOTS = 1_000
_SIDE, _GAP, _MARGIN, _HEAD = 1.35, 0.35, 0.35, 0.85  # inches
_POSTERIOR, _PRIOR = "#3b6fb6", "#d9822b"
_WORDS = "0.25"


class Unit(NamedTuple):
    """One unit of a latent over all images."""

    name: str
    posterior: NDArray[Any]
    """``(draws, images)``."""
    prior: NDArray[Any]
    circular: bool


def posterior_figures(groups: Mapping[str, Dataset]) -> dict[str, Figure]:
    """`aggregate`, `unit_pairs` and `predictive_check` by name.

    Args:
        groups: as `queries.arviz_groups` gives them.
    """
    figures = {"aggregate": aggregate(groups), "check": predictive_check(groups)}
    if _count(groups) > 1:
        figures["pairs"] = unit_pairs(groups)
    return figures


def aggregate(groups: Mapping[str, Dataset]) -> Figure:
    """The aggregated posterior of each unit, draws of all images together, against its prior: see `aggregate_kl`.

    Args:
        groups: as `queries.arviz_groups` gives them; the more images the better.
    """
    units = _units(groups, UNITS)
    columns = min(6, len(units))
    rows = -(-len(units) // columns)
    images, of = groups["posterior"].sizes["image"], _count(groups)
    which = f"; the {len(units)} of {of} units by which images differ most" if len(units) < of else ""
    words = (
        f"Draws of the posteriors of {images} images together (filled) and of the prior (line){which}",
        "Where they differ, codes drawn from the prior are codes that the decoder has never seen.",
    )
    figure, place = _page(rows, columns, *words)
    for number, unit in enumerate(units):
        axes = place(*divmod(number, columns), unit.name)
        with default_settings():
            bins = _bins(unit)
            axes.hist(unit.posterior.ravel(), bins, density=True, histtype="stepfilled", color=_POSTERIOR, alpha=0.6)
            axes.hist(unit.prior.ravel(), bins, density=True, histtype="step", color=_PRIOR, linewidth=1.5)
            _bare(axes)
    return figure


def unit_pairs(groups: Mapping[str, Dataset]) -> Figure:
    """Each unit against each other one, for the `PAIRED` units by which images differ most.

    Args:
        groups: as `queries.arviz_groups` gives them.
    """
    units = _units(groups, PAIRED)
    count = len(units) - 1
    words = (
        f"Pairs of the {len(units)} units by which images differ most: draws of posteriors (blue) and prior (orange)",
        "Independent units fill the prior's shape; a line or a bend is one fact that is told by two units.",
    )
    figure, place = _page(count, count, *words)
    rng = np.random.default_rng(0)
    for row in range(count):
        for column in range(row + 1):
            across, up = units[column], units[row + 1]
            axes = place(row, column, f"{up.name} over {across.name}")
            with default_settings():
                for kind, color in (("prior", _PRIOR), ("posterior", _POSTERIOR)):
                    x, y = getattr(across, kind).ravel(), getattr(up, kind).ravel()
                    some = rng.permutation(len(x))[:_DOTS]
                    axes.scatter(x[some], y[some], s=3, color=color, alpha=0.35, linewidths=0)
                _bare(axes)
    return figure


STATISTICS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "brightness (mean of pixels)": lambda images: images.mean((-3, -2, -1)),
    "contrast (spread of pixels)": lambda images: images.std((-3, -2, -1)),
}
"""What a posterior predictive check compares; images are ``(..., channels, height, width)``."""


def predictive_check(groups: Mapping[str, Dataset]) -> Figure:
    """Statistics of the images against those of images drawn from their posterior predictive distribution.

    Args:
        groups: as `queries.arviz_groups` gives them.
    """
    observed, drawn = groups["observed_data"]["x"].values, groups["posterior_predictive"]["x"].values[0]
    counts, panels = [], []
    for name, statistic in STATISTICS.items():
        actual, predicted = statistic(observed), statistic(drawn)
        low, middle, high = np.quantile(predicted, (0.05, 0.5, 0.95), axis=0)
        inside = int(((low <= actual) & (actual <= high)).sum())
        counts.append(f"{inside} in {name.partition(' ')[0]}")
        panels.append((name, actual, low, middle, high))
    words = (
        f"90 % intervals of the posterior predictive hold, of {len(observed)} images, {' and '.join(counts)}",
        "Bars that miss the diagonal are images whose like the model does not draw, even from their own codes.",
    )
    figure, place = _page(1, len(panels), *words, side=2.4)
    for number, (name, actual, low, middle, high) in enumerate(panels):
        axes = place(0, number, f"{name}: predicted over observed")
        with default_settings():
            ends = min(actual.min(), low.min()), max(actual.max(), high.max())
            axes.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
            axes.errorbar(
                actual, middle, [middle - low, high - middle], fmt="o", markersize=2.5, linewidth=0.8, color=_POSTERIOR
            )
            _bare(axes, heights=True)
    return figure


def _units(groups: Mapping[str, Dataset], count: int) -> list[Unit]:
    """The units whose posterior centers differ most over the images, in the order of the model."""
    units = []
    for name, values in groups["posterior"].items():
        prior, dimension = groups["prior"][name], values.dims[-1]
        circular = values.attrs.get("units") == "radians"
        for place, label in enumerate(values.coords[dimension].values.tolist()):
            unit_name = f"{name}[{label}]" if isinstance(label, int) else str(label)
            units.append(Unit(unit_name, values.values[0, ..., place], prior.values[0, ..., place], circular))
    spread = [_spread(unit) for unit in units]
    most = sorted(range(len(units)), key=lambda place: -spread[place])[:count]
    return [units[place] for place in sorted(most)]


def _count(groups: Mapping[str, Dataset]) -> int:
    return sum(values.shape[-1] for values in groups["posterior"].values())


def _spread(unit: Unit) -> float:
    """Variance over images of the mean draw, over the prior's variance; on a circle, variance of the mean direction."""
    if unit.circular:
        return float(np.exp(1j * unit.posterior).mean(0).var())
    return float(unit.posterior.mean(0).var() / max(unit.prior.var(), 1e-12))


def _bins(unit: Unit) -> list[float]:
    """Edges of a histogram: over the circle; between whole numbers; else over all but the most extreme draws."""
    if unit.circular:
        return np.linspace(-math.pi, math.pi, 25).tolist()
    both = np.concatenate([unit.posterior.ravel(), unit.prior.ravel()])
    if np.array_equal(both, both.round()) and np.ptp(both) < 64:
        return np.arange(both.min() - 0.5, both.max() + 1).tolist()
    low, high = np.quantile(both, (0.001, 0.999))
    return np.linspace(low, max(high, low + 1e-6), 31).tolist()


def _page(
    rows: int, columns: int, title: str, caption: str, side: float = _SIDE
) -> tuple[Figure, Callable[[int, int, str], Axes]]:
    """A figure with a title and a sentence above its panels, and a function that adds a panel at a row and column."""
    words = max(columns * side + (columns - 1) * _GAP, 6.4)
    width, height = 2 * _MARGIN + words, _HEAD + rows * (side + _GAP) + _MARGIN / 2
    figure = paper(width, height)
    for up, text, size in ((0.25, title, 9.0), (0.48, caption, 8.0)):
        line = shortened(text, DPI * words, size=size)
        draw_text(figure, _MARGIN / width, 1 - up / height, line, size=size, color=_WORDS, va="center")

    def place(row: int, column: int, name: str) -> Axes:
        left, bottom = _MARGIN + column * (side + _GAP), height - _HEAD - _GAP / 2 - row * (side + _GAP) - side
        name = shortened(name, DPI * (side + _GAP), size=7)
        draw_text(
            figure, (left + side / 2) / width, (bottom + side + 0.1) / height, name, size=7, color=_WORDS, ha="center"
        )
        with default_settings():
            return figure.add_axes((left / width, bottom / height, side / width, side / height))

    return figure, place


def _bare(axes: Axes, heights: bool = False) -> None:
    axes.tick_params(labelsize=6)
    if not heights:
        axes.set(yticks=[])
    for spine in axes.spines.values():
        spine.set(color="0.8")
