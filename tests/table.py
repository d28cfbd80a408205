"""The table that drives the tests of a step: every method and two sums, on every data set.

A new method is found in `METHODS`, a new data set in the registry; it needs a row of `TINY` where it is slow to load.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data import registry
from pyro_disent.data.dataset import Pairs, Source
from pyro_disent.models.latents import Latent, sharing
from pyro_disent.models.specification import LatentSpec
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.methods import METHODS
from pyro_disent.runs.presets import configure
from pyro_disent.training import building, datasets
from pyro_disent.training.config import FitConfig
from pyro_disent.training.record import RunRecord

ROWS = [*METHODS, "cycle+similarity", "cycle+similarity+predictor"]
DATA = [*registry.BUILT_IN]
TINY: dict[str, dict[str, Any]] = {"celeba": {"counts": (64, 4, 8)}, "chairs": {"counts": (3, 1, 1)}}
"""data set's name -> options that make it small."""


def tiny(method: str = "cycle", data: str = "rotated-mnist", **said: Any) -> FitConfig:
    """A few steps on a few images, for any data set."""
    settings = {"max_steps": 6, "batch_size": 16, "limit": 64, "source": "embedded", "options": TINY.get(data, {})}
    settings["validate_every"] = 0
    return configure(method, data, "quick", settings | said)


RECORD = RunRecord(
    fit=tiny(),
    source=Source("embedded", "", "0"),
    image_shape=(1, 28, 28),
    factors=("rotation",),
    pairs=Pairs((("identity",),)),
    latents={"z": LatentSpec(10, explains="common")},
    edges={},
    device="cpu",
    precision="32-true",
    compiled=False,
    step="eager",
)
"""Of a run that is a folder and little else."""


class Case(NamedTuple):
    """What a data set makes of a model."""

    image_shape: tuple[int, int, int]
    edges: dict[str, list[float]]
    factors: tuple[str, ...]
    pairs: Pairs
    latents: tuple[Latent, ...]


@functools.cache
def case(data: str) -> Case:
    config = tiny("vae", data)
    loaded = datasets.load_data(config)
    factors = tuple(factor.name for factor in loaded.factors)
    edges, latents = building.factor_edges(loaded, config), building.latents(config, loaded)
    return Case(loaded.image_shape, edges, factors, loaded.pairs, latents)


def objective_of(method: str, data: str) -> Objective:
    """The objective that a run of this method on this data set would train, with the quick preset's networks."""
    image_shape, edges, _, _, latents = case(data)
    return building.build(tiny(method, data), image_shape, edges, latents)[1]


def batch_of(data: str, device: str = "cpu", dtype: torch.dtype = torch.float32, images: int = 4) -> Batch:
    """Pairs of noise with the data set's shape and factors, of which about half are equal in both views."""
    image_shape, _, factors, pairs, latents = case(data)
    values = {name: torch.rand(2, images, device=device, dtype=dtype) for name in factors}
    for value in values.values():
        value[1] = torch.where(torch.rand(images, device=device) < 0.5, value[0], value[1])
    pixels = torch.rand(2, images, *image_shape, device=device, dtype=dtype)
    pairing = Pairing.of(values, always=pairs.always, rest_differs=pairs.rest_differs)
    return sharing(latents, Batch(pixels, factors=values, pairing=pairing))
