"""Draws from prior and posterior, and their predictions, in the groups of ArviZ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyro
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.files import WRITTEN_BY
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.pixels import as_pixels
from pyro_disent.queries import tables
from pyro_disent.queries.encoding import unit_names

if TYPE_CHECKING:  # both take long to import
    from xarray import Dataset

LARGEST = 2 << 30
"""The most bytes of images that one call draws."""
_AT_ONCE = 1024  # images that are decoded together
_PIXELS = ("channel", "height", "width")
_ORDER = ("posterior", "posterior_predictive", "log_likelihood", "prior", "prior_predictive", "observed_data")


def arviz_groups(
    vae: FactoredVAE, images: Any, *, draws: int = 100, seed: int = 0, names: Sequence[str] = ()
) -> dict[str, Dataset]:
    """Draws of a model for images, in ArviZ' groups, with named dimensions; draws of q are independent, so one chain.

    * ``posterior``: draws from q(latent | x), ``(chain, draw, image, <latent>_unit)``, in the terms of
      `Family.location`, such as an angle in radians; a family without such terms gives its code, over
      ``<latent>_number``.
    * ``posterior_predictive``: for each of these draws an x drawn from p(x | latents), with the further dimensions
      ``channel``, ``height`` and ``width``.
    * ``log_likelihood``: log p(x | latents) of the images themselves, in nats, ``(chain, draw, image)``.
    * ``prior``, ``prior_predictive``: as many draws from the prior; each latent is drawn after its parents, given them.
    * ``observed_data``: the images, in [0, 1].

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, as `FactoredVAE.encode` takes them.
        draws: how many for each image.
        seed: for the draws.
        names: the images' names; numbers from 0 if empty.

    Raises:
        InputError: for no draws or no images, or so many that the drawn images would take more than `LARGEST`.
    """
    import xarray

    x = vae._images(images)
    if draws < 1 or len(x) < 1:
        raise InputError(f"there must be 1 or more images and draws of each, got {len(x)} and {draws}")
    if (needed := 2 * draws * x.numel() * 4) > LARGEST:
        raise InputError(
            f"{draws} draws of {len(x)} images take {needed / 1e9:.1f} GB, and at most {LARGEST / 1e9:.1f} are made: "
            "ask for fewer"
        )
    parts = []
    with vae.querying(seed):
        for part in x.split(max(1, _AT_ONCE // draws)):
            parts.append(_drawn(vae, as_pixels(part.to(vae.device)).to(vae.guide._like()), draws))
    arrays = {key: np.concatenate([part[key] for part in parts], 1)[None] for key in parts[0]}

    image = ("chain", "draw", "image")
    coordinates: dict[str, Any] = {"chain": [0], "draw": np.arange(draws), "image": list(names) or np.arange(len(x))}
    groups: dict[str, dict[str, Any]] = {group: {} for group in _ORDER}
    for group in ("posterior", "prior"):
        for latent in vae.latents:
            dimension, labels = _axis(latent, arrays[group, latent.name].shape[-1])
            coordinates[dimension] = list(labels)
            units = {"units": latent.family.measured_in} if latent.family.measured_in else {}
            groups[group][latent.name] = ((*image, dimension), arrays[group, latent.name], units)
        groups[f"{group}_predictive"]["x"] = ((*image, *_PIXELS), arrays[f"{group}_predictive", "x"])
    groups["log_likelihood"]["x"] = (image, arrays["log_likelihood", "x"], {"units": "nats"})
    groups["observed_data"]["x"] = (("image", *_PIXELS), as_pixels(x).cpu().numpy())
    attributes = {
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
        "creation_library": WRITTEN_BY,
    }
    return {
        group: xarray.Dataset(
            variables,
            {key: value for key, value in coordinates.items() if any(key in each[0] for each in variables.values())},
            attributes,
        )
        for group, variables in groups.items()
    }


def write_groups(datasets: Mapping[str, Dataset], path: Path | str, *, overwrite: bool = False) -> Path:
    """Write the result of `arviz_groups` as netCDF, whole or not at all: ``arviz.from_netcdf`` opens it.

    Raises:
        InputError: for another suffix than ``.nc``, an existing file without ``overwrite``, and a disk that fails.
    """
    path = Path(path)
    tables.check_place(path, (".nc",), overwrite=overwrite)
    return tables.write(path, tables.netcdf(datasets))


def inference_data(datasets: Mapping[str, Dataset]) -> Any:
    """The data type that the installed ArviZ takes: `InferenceData` before version 1, xarray's `DataTree` since."""
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # version 0.23 warns about version 1, which is handled below
        import arviz
    if int(arviz.__version__.partition(".")[0]) < 1:
        return arviz.InferenceData(**dict(datasets))  # type: ignore[arg-type]
    return xarray.DataTree.from_dict(dict(datasets))


def _drawn(vae: FactoredVAE, x: Tensor, draws: int) -> dict[tuple[str, str], np.ndarray]:
    """Group and variable -> ``(draws, images, ...)``."""
    count = len(x)
    with pyro.plate("draws", draws, dim=-3, device=str(vae.device)):
        guide: Any = pyro.poutine.trace(vae.guide).get_trace(x).nodes
        latents = {latent.name: guide[latent.name]["value"] for latent in vae.latents}
        posterior: Any = pyro.poutine.trace(pyro.condition(vae.model, data=latents)).get_trace(images=count).nodes
        prior: Any = pyro.poutine.trace(vae.model).get_trace(images=count).nodes
    tensors: dict[tuple[str, str], Tensor] = {}
    for group, sites in (("posterior", posterior), ("prior", prior)):
        for latent in vae.latents:
            tensors[group, latent.name] = latent.family.values_of(sites[latent.name]["value"])
        tensors[f"{group}_predictive", "x"] = sites["x"]["value"]
    tensors["log_likelihood", "x"] = posterior["x"]["fn"].log_prob(x.unsqueeze(0))
    # There is a single view.
    return {key: value.squeeze(1).cpu().numpy() for key, value in tensors.items()}


def _axis(latent: Latent, width: int) -> tuple[str, Sequence[Any]]:
    """The last dimension of a latent's draws, and its coordinates."""
    if width == latent.units:
        return f"{latent.name}_unit", unit_names(latent)
    return f"{latent.name}_number", range(width)
