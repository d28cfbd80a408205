"""Figures of a trained model: each function takes a model and images and returns a matplotlib ``Figure``."""

import pyro_disent.figures.backend  # noqa: F401  (before what imports matplotlib)
from pyro_disent.figures.counterfactual import counterfactual
from pyro_disent.figures.grids import grid
from pyro_disent.figures.interpolation import interpolation
from pyro_disent.figures.paper import save
from pyro_disent.figures.posterior import posterior_figures
from pyro_disent.figures.reconstructions import reconstructions
from pyro_disent.figures.samples import sample_latents, samples
from pyro_disent.figures.swap import swap_matrix
from pyro_disent.figures.traversal import traversal

__all__ = [
    "counterfactual",
    "grid",
    "interpolation",
    "posterior_figures",
    "reconstructions",
    "sample_latents",
    "samples",
    "save",
    "swap_matrix",
    "traversal",
]
