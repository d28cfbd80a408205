"""The data and the objective for a training loop of your own, as `fit` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyro_disent.data import registry
from pyro_disent.data.bins import factor_edges
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.sources import Progress
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import usual_defaults
from pyro_disent.objectives import methods
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.weights import Weight


@usual_defaults()
def load_data(
    name: str | Path,
    *,
    source: str = "auto",
    data_root: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> DataSet:
    """A data set by its name, or a folder of images; see `pyro_disent.data.registry.load`.

    Args:
        data_root: a local folder, which must then hold the set.
        options: this data set's further options.
    """
    root = None if data_root is None else Path(data_root)
    return registry.load(str(name), source=source, root=root, seed=seed, limit=limit, progress=progress, **options)


@usual_defaults()
def objective(
    method: str,
    vae: FactoredVAE,
    data: DataSet | None = None,
    *,
    weights: Mapping[str, Weight] | None = None,
    beta: Weight | Mapping[str, Weight] | None = None,
    warmup_steps: int = 0,
    terms: Mapping[str, Mapping[str, Any]] | None = None,
    bins: int | Mapping[str, int] | None = None,
    bins_by: str = "range",
) -> Objective:
    """The objective of a method for a model: a module that gives the loss of a batch, to be differentiated.

    Its ``elbo`` can be the loss of `SVI`.

    Args:
        method: one method, or several joined by ``+``.
        vae: the model; opponents are put on its device.
        data: the data set whose factors a predictor guesses, in bins; needed only by methods that hide factors.
        weights: term's name -> weight, where it differs from the term's default.
        beta: weight on every KL, or latent's name -> weight; None: the method's.
        warmup_steps: steps over which the terms' weights rise from 0, except those that are a `WarmUp` already.
        terms: term's name -> its options, as ``{"predictor": {"side": "cross-entropy"}}``.
        bins, bins_by: the bins of a predictor's factors, see `data.bins.factor_edges`; None: the data set's own.

    Raises:
        InputError: for methods that do not exist or do not fit the model, and for missing labels of factors.
    """
    if data is None and methods.needs_factors(method):
        raise InputError(
            f"the method {method!r} needs labels of factors: hand over `data`, a data set whose factors have bins"
        )
    edges = {} if data is None else factor_edges(data, bins, bins_by)
    setting = methods.Setting(
        tuple(vae.latents),
        {factor: torch.tensor(values) for factor, values in edges.items()},
        always=() if data is None else data.pairs.always,
    )
    elbo = methods.build_objective(
        method, setting, weights=weights, beta=beta, warmup_steps=warmup_steps, options=terms
    )
    return elbo(vae.model, vae.guide).to(vae.device)
