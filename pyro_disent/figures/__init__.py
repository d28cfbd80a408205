"""Figures of a trained model: each function takes a model and images and returns a matplotlib ``Figure``."""

from pyro_disent.figures.grids import grid, save
from pyro_disent.figures.reconstructions import reconstructions
from pyro_disent.figures.samples import sample_latents, samples
from pyro_disent.figures.swap import swap_matrix
from pyro_disent.figures.traversal import traversal

__all__ = ["grid", "reconstructions", "sample_latents", "samples", "save", "swap_matrix", "traversal"]
