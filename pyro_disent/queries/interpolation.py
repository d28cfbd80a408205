"""From one image to another in some of the latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.pixels import as_pixels


def interpolate(vae: FactoredVAE, first: Any, last: Any, latents: Sequence[str] = (), steps: int = 9) -> Tensor:
    """Images on the way from one image's posterior centers to another's, in the named latents only.

    Each family defines its way, see `Family.between`: straight, or the shorter one around a circle. All other latents
    stay as they are in the first image. Nothing is drawn, whatever the latents' priors depend on.

    Args:
        vae: the model.
        first, last: ``(channels, height, width)``, as `FactoredVAE.encode` takes images.
        latents: the latents that move; all if empty.
        steps: how many images; the first one is the reconstruction of ``first``.

    Returns:
        ``(steps, channels, height, width)`` in [0, 1].

    Raises:
        InputError: for a latent that does not exist, fewer than 2 steps, and images that do not fit.
    """
    if steps < 2:
        raise InputError(f"an interpolation has `steps` of 2 or more, got {steps}")
    moving = [vae.latent(name) for name in latents] or vae.latents
    parts = torch.linspace(0, 1, steps, device=vae.device)
    codes = vae.codes(torch.stack([as_pixels(first), as_pixels(last)]))
    held = {name: code[:1].expand(steps, -1) for name, code in codes.items()}
    moved = {each.name: each.family.between(codes[each.name][0], codes[each.name][1], parts) for each in moving}
    return vae.decode({**held, **moved})
