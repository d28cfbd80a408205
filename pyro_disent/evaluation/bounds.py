"""Held-out bounds on log p(x), in nats per image."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.data.dataset import Images
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import evaluating, forked_random_state, seed_random_state
from pyro_disent.objectives.elbo import DisentanglingELBO

_CHUNK = 512  # images, or draws of images, at once


class Bound(NamedTuple):
    """A bound and its parts, in nats per image: ``elbo = log_likelihood - sum(kl.values())``."""

    elbo: float
    log_likelihood: float
    """log p(x | code), for one code drawn from each image's posterior."""
    kl: dict[str, float]
    """latent's name -> KL(q(latent | x) || p(latent)), summed over its units."""
    sampled: tuple[str, ...] = ()
    """Latents whose KL has no closed form and is estimated from one draw for each image."""


def elbo(vae: FactoredVAE, images: Images, *, seed: int = 0) -> Bound:
    """The evidence lower bound of every image under its own posterior, averaged over images.

    Every weight is 1 and nothing is exchanged, whatever objective the model was trained with. Bounds of different
    methods can therefore be compared, and no coefficient changes them. The model and the global random state are left
    as they were.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        seed: for the draws from the posteriors.
    """
    objective = DisentanglingELBO()(vae.model, vae.guide)
    log_likelihood = 0.0
    kl = dict.fromkeys((latent.name for latent in vae.latents), 0.0)
    sampled: tuple[str, ...] = ()
    with evaluating(vae), forked_random_state(vae.device), torch.no_grad():
        seed_random_state(seed, vae.device)
        for part in images.split(_CHUNK):
            step = objective.step(as_float(part.to(vae.device)))
            record = objective.record_of(step)
            sampled = tuple(name for name in kl if not step.kl_is_exact(name))
            share = len(part) / len(images)
            log_likelihood -= share * record.reconstruction.item()
            for name in kl:
                kl[name] += share * record.kl[name].item()
    return Bound(log_likelihood - sum(kl.values()), log_likelihood, kl, sampled)


def iwae(vae: FactoredVAE, images: Images, *, draws: int = 64, seed: int = 0) -> float:
    """The importance-weighted bound of Burda et al. (2016): log of the mean of p(x, code) / q(code | x) over the draws.

    It is at least the evidence lower bound and at most log p(x), which it approaches with the number of draws. As in
    `elbo`, every weight is 1 and the model and the global random state are left as they were.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        draws: how many codes are drawn for each image.
        seed: for the draws from the posteriors.

    Returns:
        Nats per image, averaged over the images.
    """
    total = 0.0
    with vae.querying(seed):
        for part in images.split(max(1, _CHUNK // draws)):
            log_weight = _log_weights(vae, as_float(part.to(vae.device)).to(vae.guide._like()), draws)
            total += (log_weight.logsumexp(0) - math.log(draws)).double().sum().item()
    return total / len(images)


def _log_weights(vae: FactoredVAE, images: Tensor, draws: int) -> Tensor:
    """log p(x, code) - log q(code | x), ``(draws, images)``; an unknown label is drawn, in p as in q."""
    names = [latent.name for latent in vae.latents]
    with pyro.plate("draws", draws, dim=-3, device=str(vae.device)):
        guide: Any = pyro.poutine.trace(vae.guide).get_trace(images)
        model: Any = pyro.poutine.trace(pyro.poutine.replay(vae.model, guide)).get_trace(images)
    model.compute_log_prob(lambda name, _: name in (*names, "x"))
    guide.compute_log_prob(lambda name, _: name in names)
    log_p = sum(model.nodes[name]["log_prob"] for name in (*names, "x"))
    return (log_p - sum(guide.nodes[name]["log_prob"] for name in names)).squeeze(1)
