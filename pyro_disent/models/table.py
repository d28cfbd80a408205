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
"""What a row is: latents, the images' shape, what makes the networks, and a likelihood -> the model."""


def factored(
    latents: Sequence[Latent], image_shape: ImageShape, networks: MakeNetworks, likelihood: Likelihood
) -> FactoredVAE:
    """The plain `FactoredVAE`."""
    return FactoredVAE(latents, *networks(image_shape, sum(latent.width for latent in latents)), likelihood)


MODELS: dict[str, MakeModel] = {"factored": factored}


def model(name: str) -> MakeModel:
    """What makes the model of a name.

    Raises:
        InputError: for a name that does not exist, with those that do.
    """
    return plugins.find(GROUP, MODELS, name, "model")


def make(
    name: str, latents: Sequence[Latent], image_shape: ImageShape, networks: MakeNetworks, likelihood: Likelihood
) -> FactoredVAE:
    """The model of a name, which is what was asked for.

    Raises:
        InputError: for a name that does not exist, and where what it makes is another model than was asked for.
    """
    vae = model(name)(tuple(latents), image_shape, networks, likelihood)
    if not isinstance(vae, FactoredVAE):
        raise InputError(f"the model {name!r} must be a FactoredVAE, and what was made is a {type(vae).__name__}")
    if vae.latents != tuple(latents):
        raise InputError(f"the model {name!r} has the latents {_said(vae.latents)}, not {_said(latents)} as asked for")
    if vae.image_shape != tuple(image_shape):
        raise InputError(
            f"the model {name!r}: its decoder gives images of {vae.image_shape}, but the data has {tuple(image_shape)}"
        )
    return whole(vae)


def whole(vae: FactoredVAE) -> FactoredVAE:
    """The same model.

    Raises:
        InputError: where a parameter belongs to neither of its programs: nothing would train it, or save it.
    """
    within = {id(parameter) for program in (vae.model, vae.guide) for parameter in program.parameters()}
    if outside := [name for name, parameter in vae.named_parameters() if id(parameter) not in within]:
        raise InputError(
            f"the parameters {', '.join(outside)} of the {type(vae).__name__} belong neither to its model nor to its "
            "guide, so that nothing would train them: give them to one of the two"
        )
    return vae


def _said(latents: Sequence[Latent]) -> str:
    return ", ".join(f"{latent.name}={latent.units} ({latent.explains})" for latent in latents)
