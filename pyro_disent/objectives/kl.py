"""KL divergences unit by unit, exact where a closed form is registered and sampled where none is."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor
from torch.distributions import Distribution, kl_divergence


def kl_per_unit(q: Distribution, p: Distribution, value: Tensor) -> Tensor:
    """KL(q || p) in nats, ``(..., units)``, or ``(..., 1)`` for a family that does not factorize over its units.

    Args:
        q: a posterior, one event dimension.
        p: a prior or another posterior, likewise.
        value: a draw from ``q``, used where no closed form exists: log q - log p there, an unbiased estimate.
    """
    factorized = False
    if isinstance(q, dist.Independent) and isinstance(p, dist.Independent):
        factorized = q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims == 1
        if factorized:
            q, p = q.base_dist, p.base_dist
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        kl = q.log_prob(value) - p.log_prob(value)
    return kl if factorized else kl.unsqueeze(-1)
