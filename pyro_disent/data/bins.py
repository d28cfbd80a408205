"""The bins that a predictor sees a factor in."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError


def edges_by_range(low: float, high: float, bins: int) -> Tensor:
    """Inner edges of equally wide bins, ``(bins - 1,)``."""
    return torch.linspace(low, high, bins + 1)[1:-1]


def edges_by_quantile(values: Tensor, bins: int) -> Tensor:
    """Inner edges of equally filled bins of these values, ``(bins - 1,)``; NaN is ignored."""
    present = values[~values.isnan()].float()
    return present.quantile(torch.linspace(0, 1, bins + 1, device=values.device)[1:-1])


def factor_edges(
    data: DataSet, bins: int | Mapping[str, int] | None = None, by: str = "range", seed: int = 0
) -> dict[str, list[float]]:
    """factor's name -> inner edges of the bins a predictor sees it in, for factors that have them.

    A number of bins divides the factor's range (or that of its training values, where it has none) into equal parts, or
    the training values into equal shares. Factors that are not quantities keep one bin a category.

    Args:
        bins: number for every factor that is a quantity, or factor's name -> number; None: the data set's bins.
        by: ``range``, equally wide, or ``quantile``, equally filled.
        seed: of the draw of the training images whose values give a range or fill the bins.

    Raises:
        InputError: for bins of a factor that does not exist or has categories, or whose values cannot fill them.
    """
    edges = {factor.name: list(factor.edges) for factor in data.factors if factor.edges}
    if bins is None:
        return edges
    quantities = [factor for factor in data.factors if not factor.categories]
    bins_of = bins if isinstance(bins, Mapping) else {factor.name: bins for factor in quantities}
    if unknown := bins_of.keys() - {factor.name for factor in quantities}:
        raise InputError(
            f"`bins` names {', '.join(sorted(unknown))}; factors of {data.name} that can be divided into bins: "
            f"{', '.join(factor.name for factor in quantities) or 'none'}"
        )

    @functools.cache
    def observed() -> dict[str, torch.Tensor]:
        """The factors of the training images. This makes all of the images, so it is called only where needed."""
        return data.train.examples(seed).factors

    for factor in quantities:
        if (count := bins_of.get(factor.name)) is None:
            continue
        if by == "range":
            low, high = factor.range or _extent(observed()[factor.name])
            inner = edges_by_range(low, high, count)
        else:
            inner = edges_by_quantile(observed()[factor.name], count)
        edges[factor.name] = inner.tolist()
        if not (inner.diff() > 0).all() or not inner.isfinite().all():
            raise InputError(
                f"the values of {factor.name} cannot fill {count} bins: give `bins={{{factor.name!r}: N}}` fewer"
            )
    return edges


def _extent(values: torch.Tensor) -> tuple[float, float]:
    """Lowest and highest finite value."""
    finite = values[values.isfinite()]
    return float(finite.min()), float(finite.max())
