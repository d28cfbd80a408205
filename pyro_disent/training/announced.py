"""What a user is told before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pyro_disent.data.dataset import DataSet
from pyro_disent.models.families import name_of
from pyro_disent.models.latents import Each, Latent, rest_of
from pyro_disent.objectives import methods
from pyro_disent.threads import Threads
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HANDED_OVER
from pyro_disent.training.hardware import precision


def announced(
    config: FitConfig,
    latents: Sequence[Latent],
    data: DataSet,
    edges: Mapping[str, list[float]],
    device: torch.device,
    how: str,
    threads: Threads,
    steps: int,
    views: int,
) -> list[str]:
    """What a user is told before the first step."""
    seen = "one view each" if views == 1 else f"{views} views each"
    parts = f", in {config.accumulate} parts one after the other" if config.accumulate > 1 else ""
    identities = data.identities_split()
    bins = ", ".join(f"{len(inner) + 1} of {name}" for name, inner in edges.items())
    predicts = config.method != HANDED_OVER and methods.needs_factors(config.method)
    lines = [
        f"data     {config.data}: {len(data.train)} training images, {data.source}",
        *(f"         {line}" for line in (*data.details, *data.notes)),
        *([f"         identities: {identities}"] if identities else []),
        *([f"         bins: {bins}"] if bins and predicts else []),
        f"model    {_model(config)}, {', '.join(_in_words(latent) for latent in latents)}, {config.likelihood}",
        f"step     {device}, precision {precision(config)}, {how}",
        f"threads  {threads}",
        f"training {config.method}: {steps} steps of {config.batch_size} images, {seen}{parts}",
    ]
    lines += [
        f"note     {name} explains nothing that varies and is never shared: every factor has a latent of its own"
        + ("" if config.model == HANDED_OVER else f" (`latents={{{name!r}: 0}}` leaves it out)")
        for name in idle(latents, data)
    ]
    return lines


def _model(config: FitConfig) -> str:
    """Its networks, and its name where it is not the usual model."""
    return config.network if config.model in ("factored", config.network) else f"{config.model} of {config.network}"


def _in_words(latent: Latent) -> str:
    """As ``z=10 (common)``, ``azimuth=1 circle (azimuth)``."""
    name = name_of(latent.family)
    family = "" if name == "normal" else f" {name}"
    factors = latent.factors if len(latent.factors) <= 4 else (*latent.factors[:3], f"{len(latent.factors) - 3} more")
    explains = latent.explains if isinstance(latent.explains, str) else ", ".join(factors)
    each = "each of " if isinstance(latent.explains, Each) else ""
    return f"{latent.name}={latent.units}{family} ({each}{explains})"


def idle(latents: Sequence[Latent], data: DataSet) -> list[str]:
    """Names of latents that explain nothing that varies and are never shared: they see noise alone."""
    rest = data.pairs.rest_differs or rest_of(latents, data.pairs.typical_pair(f.name for f in data.factors))
    return [latent.name for latent in latents if latent.explains == "rest" and not rest]
