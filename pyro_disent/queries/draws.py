"""Draws from prior and posterior, and what they predict, as ArviZ knows them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyro
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.pixels import as_pixels
from pyro_disent.queries import tables
from pyro_disent.queries.encoding import unit_names

if TYPE_CHECKING:  # both take long to import
    from xarray import Dataset

LARGEST = 2 << 30
"""Bytes of images that are drawn at most."""
_AT_ONCE = 1024  # images that are decoded together
_PIXELS = ("channel", "height", "width")
_ORDER = ("posterior", "posterior_predictive", "log_likelihood", "prior", "prior_predictive", "observed_data")


def arviz_groups(
    vae: FactoredVAE, images: Any, *, draws: int = 100, seed: int = 0, names: Sequence[str] = ()
) -> dict[str, Dataset]:
    """Draws of a model for images, in ArviZ' groups, with named dimensions; the bound is q, so it is one chain.

    * ``posterior``: draws from q(latent | x), ``(chain, draw, image, <latent>_unit)``, in the terms of
      `Family.location`: an angle in radians; where a family does not say them, its code, over ``<latent>_number``.
    * ``posterior_predictive``: for each of these an x drawn from p(x | latents), over ``channel``, ``height`` and
      ``width`` as well.
    * ``log_likelihood``: log p(x | latents) of the images themselves, in nats, ``(chain, draw, image)``.
    * ``prior``, ``prior_predictive``: as many draws from the prior, each latent given those that its prior depends on.
    * ``observed_data``: the images, in [0, 1].

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, as `FactoredVAE.encode` takes them.
        draws: how many of each image.
        seed: of the draws.
        names: what the images are called; their numbers, where nothing is said.

    Raises:
        InputError: for no draws or images, or so many that the images drawn would not fit into `LARGEST`.
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
    made = {key: np.concatenate([part[key] for part in parts], 1)[None] for key in parts[0]}

    image = ("chain", "draw", "image")
    coordinates: dict[str, Any] = {"chain": [0], "draw": np.arange(draws), "image": list(names) or np.arange(len(x))}
    found: dict[str, dict[str, Any]] = {group: {} for group in _ORDER}
    for group in ("posterior", "prior"):
        for latent in vae.latents:
            dimension, labels = _axis(latent, made[group, latent.name].shape[-1])
            coordinates[dimension] = list(labels)
            said = {"units": latent.family.measured_in} if latent.family.measured_in else {}
            found[group][latent.name] = ((*image, dimension), made[group, latent.name], said)
        found[f"{group}_predictive"]["x"] = ((*image, *_PIXELS), made[f"{group}_predictive", "x"])
    found["log_likelihood"]["x"] = (image, made["log_likelihood", "x"], {"units": "nats"})
    found["observed_data"]["x"] = (("image", *_PIXELS), as_pixels(x).cpu().numpy())
    said = {
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
        "creation_library": "pyro-disent",
    }
    return {
        group: xarray.Dataset(
            variables,
            {key: value for key, value in coordinates.items() if any(key in each[0] for each in variables.values())},
            said,
        )
        for group, variables in found.items()
    }


def write_groups(datasets: Mapping[str, Dataset], path: Path | str, *, overwrite: bool = False) -> Path:
    """Write what `arviz_groups` gives as netCDF, whole or not at all: ``arviz.from_netcdf`` opens it.

    Raises:
        InputError: for another suffix than ``.nc``, a file that is there, unless it is to be replaced, and a disk that
            fails.
    """
    path = Path(path)
    tables.check_place(path, (".nc",), overwrite=overwrite)
    return tables.write(path, tables.netcdf(datasets))


def inference_data(datasets: Mapping[str, Dataset]) -> Any:
    """What ArviZ works on: its `InferenceData` before version 1, xarray's `DataTree` from there on."""
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # version 0.23 tells of version 1, which is looked for here
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
    found: dict[tuple[str, str], Tensor] = {}
    for group, sites in (("posterior", posterior), ("prior", prior)):
        for latent in vae.latents:
            found[group, latent.name] = latent.family.values_of(sites[latent.name]["value"])
        found[f"{group}_predictive", "x"] = sites["x"]["value"]
    found["log_likelihood", "x"] = posterior["x"]["fn"].log_prob(x.unsqueeze(0))
    # Of one view.
    return {key: value.squeeze(1).cpu().numpy() for key, value in found.items()}


def _axis(latent: Latent, width: int) -> tuple[str, Sequence[Any]]:
    """The last dimension of a latent's draws, and what stands along it."""
    if width == latent.units:
        return f"{latent.name}_unit", unit_names(latent)
    return f"{latent.name}_number", range(width)
