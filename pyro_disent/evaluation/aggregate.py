"""How far the codes of all images together are from the prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.queries.intervention import parents

_CHUNK = 64  # draws whose density under every image's posterior is computed at once


def aggregate_kl(vae: FactoredVAE, images: Tensor, *, seed: int = 0) -> dict[str, float]:
    """KL(q(latent) || p(latent)) in nats of the aggregated posterior, the mean of q(latent | x) over these images.

    It is the mean KL of the images minus the mutual information of latent and image index (Hoffman & Johnson 2016).
    That information is at least 0 and at most the log of the number of images. The estimate takes one draw of each
    image's posterior and computes the density of the whole mean at each draw.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        seed: for the draws.

    Returns:
        latent's name -> nats. Latents whose prior depends on another latent are left out: their marginal prior has no
        density that could be computed.
    """
    result = {}
    above = parents(vae)
    posteriors = vae.posteriors(images)
    with vae.querying(seed):
        draws = {name: q.sample() for name, q in posteriors.items()}
    for latent in vae.latents:
        if above[latent.name]:
            continue
        q, draw = posteriors[latent.name], draws[latent.name]
        prior = vae.prior_of(latent.name, draws)
        with torch.no_grad():
            log_q = torch.cat([q.log_prob(part.unsqueeze(1)).logsumexp(1) for part in draw.split(_CHUNK)])
            difference = log_q - math.log(len(draw)) - prior.log_prob(draw)
        result[latent.name] = difference.double().mean().item()
    return result
