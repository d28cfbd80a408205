"""Small models that the tests share."""

from __future__ import annotations

import torch
from torch import nn

from pyro_disent.batch import Batch
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import ConditionalNormal
from pyro_disent.models.latents import Latent, sharing
from pyro_disent.models.likelihoods import Likelihood

SHAPE = (1, 4, 5)
PIXELS = 20


def linear_vae(
    latents: list[Latent] | None = None, likelihood: Likelihood | None = None, hidden: int = 7
) -> FactoredVAE:
    """A VAE small enough to write out by hand: a one-layer encoder and a linear decoder."""
    latents = latents or [Latent("z", 3), Latent("y", 2, explains="rest")]
    width = sum(latent.width for latent in latents)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, hidden), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(width, PIXELS), nn.Unflatten(1, SHAPE))
    return FactoredVAE(latents, encoder, decoder, likelihood)


def conditional_latents() -> list[Latent]:
    """z has a prior that depends on y: an exchange at the latent sites would change its KL."""
    return [Latent("y", 2, explains="rest"), Latent("z", 3, ConditionalNormal("y", nn.Linear(2, 6)))]


def pair_batch(images: int = 6, dtype: torch.dtype = torch.float32, **shared: bool | torch.Tensor) -> Batch:
    """Random images in two views, of which z is shared and y is not unless said otherwise."""
    return Batch(
        torch.rand(2, images, *SHAPE, dtype=dtype),
        shared or {"z": True, "y": False},
        {"angle": torch.randn(2, images, dtype=dtype)},
    )


def masks(batch: Batch, *names: str) -> dict[str, torch.Tensor]:
    """What is shared of ``z``, what pairs have in common, of ``y``, the rest, and of latents named after a factor."""
    roles = {"z": "common", "y": "rest"}
    latents = [Latent(name, 1, explains=roles.get(name, (name,))) for name in names]
    return dict(sharing(latents, batch).shared)
