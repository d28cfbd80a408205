"""Models by name: ours, and those of the entry-point group ``pyro_disent.models``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyro_disent import plugins
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import Likelihood
from pyro_disent.models.networks import Networks
from pyro_disent.pixels import ImageShape

GROUP = "pyro_disent.models"
MakeNetworks = Callable[[ImageShape, int], Networks]
"""Image shape and width of the code -> encoder and decoder."""
MakeModel = Callable[[Sequence[Latent], ImageShape, MakeNetworks, Likelihood], FactoredVAE]
"""A row of the table: latents, image shape, maker of the networks and likelihood -> the model."""


def factored(
    latents: Sequence[Latent], image_shape: ImageShape, networks: MakeNetworks, likelihood: Likelihood
) -> FactoredVAE:
    """The plain `FactoredVAE`."""
    return FactoredVAE(latents, *networks(image_shape, sum(latent.width for latent in latents)), likelihood)


MODELS: dict[str, MakeModel] = {"factored": factored}


def model(name: str) -> MakeModel:
    """The function that makes the model of this name.

    Raises:
        InputError: for a name that does not exist, listing those that do.
    """
    return plugins.find(GROUP, MODELS, name, "model")


def make(
    name: str, latents: Sequence[Latent], image_shape: ImageShape, networks: MakeNetworks, likelihood: Likelihood
) -> FactoredVAE:
    """Make the model of this name, and check that it fits the arguments.

    Raises:
        InputError: for a name that does not exist, and a model whose latents or image shape differ from the arguments.
    """
    vae = model(name)(tuple(latents), image_shape, networks, likelihood)
    if not isinstance(vae, FactoredVAE):
        raise InputError(f"the model {name!r} must be a FactoredVAE, and what was made is a {type(vae).__name__}")
    if vae.latents != tuple(latents):
        raise InputError(
            f"the model {name!r} has the latents {_listed(vae.latents)}, not {_listed(latents)} as asked for"
        )
    if vae.image_shape != tuple(image_shape):
        raise InputError(
            f"the model {name!r}: its decoder gives images of {vae.image_shape}, but the data has {tuple(image_shape)}"
        )
    return check_parameters(vae)


def check_parameters(vae: FactoredVAE) -> FactoredVAE:
    """Return the same model after a check.

    Raises:
        InputError: where a parameter belongs to neither of its programs: nothing would train or save it.
    """
    within = {id(parameter) for program in (vae.model, vae.guide) for parameter in program.parameters()}
    if outside := [name for name, parameter in vae.named_parameters() if id(parameter) not in within]:
        raise InputError(
            f"the parameters {', '.join(outside)} of the {type(vae).__name__} belong neither to its model nor to its "
            "guide, so that nothing would train them: give them to one of the two"
        )
    return vae


def _listed(latents: Sequence[Latent]) -> str:
    return ", ".join(f"{latent.name}={latent.units} ({latent.explains})" for latent in latents)
