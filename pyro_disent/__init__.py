"""Latent representations you can name: explicitly disentangled VAEs as Pyro programs.

Each name is imported on first use, so that ``import pyro_disent`` costs nothing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

_WHERE = {
    "Batch": "batch",
    "Pairing": "batch",
    "FactoredVAE": "models.factored_vae",
    "Latent": "models.latents",
    "each": "models.latents",
    "Family": "models.families",
    "Circle": "models.families",
    "ConditionalNormal": "models.families",
    "Program": "models.program",
    "Bernoulli": "models.likelihoods",
    "ContinuousBernoulli": "models.likelihoods",
    "Normal": "models.likelihoods",
    "DisentanglingELBO": "objectives.elbo",
    "ForwardCycle": "objectives.elbo",
    "LossRecord": "objectives.step",
    "WarmUp": "objectives.weights",
    "Exchange": "objectives.exchange",
    "Replace": "objectives.exchange",
    "Validation": "training.validation",
    "Evaluation": "evaluation.result",
    "batches": "training.feed",
    "evaluate": "evaluation.evaluate",
    "fit": "runs.job",
    "from_arrays": "data.own.arrays",
    "from_dataset": "data.own.arrays",
    "load": "runs.run",
    "resume": "runs.job",
    "load_data": "runs.own_loop",
    "objective": "runs.own_loop",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("pyro-disent")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
