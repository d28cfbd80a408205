"""From a configuration to what is trained: data, latents, model and objective, made once and put on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, in_units
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.program import forked_random_state, seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.threads import using
from pyro_disent.training import building, datasets
from pyro_disent.training.config import FitConfig
from pyro_disent.training.feed import Feed
from pyro_disent.training.handed_over import HANDED_OVER, HandedOver
from pyro_disent.training.log import Reporter
from pyro_disent.training.observed import Observed, observations
from pyro_disent.training.record import RunRecord
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.weights import check_alike, fitting, load_weights


@dataclass(frozen=True)
class Prepared:
    """What is trained, and on what."""

    data: DataSet
    """Train and validation images lie on the device."""
    latents: tuple[Latent, ...]
    edges: Mapping[str, list[float]]
    """factor's name -> inner edges of the bins a predictor sees it in."""
    vae: FactoredVAE
    objective: Objective
    views: int
    """1, or 2 where the objective is about pairs."""
    handed_over: tuple[str, ...]
    """What was handed over from Python, and has to be again when the run is resumed."""
    observed: Observed
    """Adds to training batches the values of latents that are known."""

    def feed(self, config: FitConfig, rank: int = 0, world_size: int = 1) -> Feed:
        """Training batches from the first one on."""

        def sharing(batch: Batch) -> Batch:
            return self.vae.sharing(self.observed(batch))

        return Feed(self.data.train, config.batch_size, config.seed, self.views, sharing, rank, world_size)


def prepare(
    config: FitConfig,
    objects: HandedOver,
    device: torch.device,
    *,
    data: DataSet | None,
    recorded: RunRecord | None,
    folder: RunFolder,
    init: RunFolder | None,
    reporter: Reporter,
) -> Prepared:
    """Load and build what a configuration names, with fresh weights or those of ``init``; nothing is written.

    Args:
        recorded: the record of a resumed run, which has its data, bins and latents.
        folder: that run's; its weights have to fit what was handed over.

    Raises:
        InputError: for what does not exist, does not fit together, or is not what a run recorded.
    """
    if data is None:
        with using(config.threads):
            data = datasets.load_data(config, reporter.preparing, recorded.source if recorded else None)
    elif recorded is not None:
        datasets.check_unchanged(data, recorded.source)
    if recorded is not None:
        data = in_units(data, recorded.units)
    edges = dict(recorded.edges) if recorded else building.factor_edges(data, config)
    latents = recorded.build_latents(objects.vae) if recorded else building.latents(config, data, objects)
    observed = recorded.observed if recorded else observations(config.observe, config.seed, latents, data)
    handed_over = (
        recorded.handed_over if recorded else objects.with_data(HANDED_OVER in (config.data, data.source.kind))
    )
    with forked_random_state(device):
        seed_random_state(config.seed, device)
        vae, objective = building.build(config, data.image_shape, edges, latents, objects, data.pairs.always, observed)
    if init is not None:
        try:
            load_weights(objective, init, "best")
        except InputError:
            check_alike(init, config, data.image_shape, latents)
            raise
    if recorded and objects.names and folder.has_begun:
        fitting(objective, folder, "last")  # otherwise a misfit would look like a damaged optimizer state
    # Convolutions are a third faster where channels lie innermost; checkpoints are written in the usual order.
    objective.to(device).to(memory_format=torch.channels_last)
    data.train.to(device)
    data.validation.to(device)
    views = 2 if objects.needs_pairs(config.method) else 1
    values = Observed(observed, latents, data.train)
    return Prepared(data, latents, edges, vae, objective, views, handed_over, values)
