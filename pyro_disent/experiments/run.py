"""A run that was trained: its model, loaded again, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pyro_disent.data.dataset import DataSet
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import surely_shared
from pyro_disent.models.program import usual_defaults
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from pyro_disent.process import left_as_found
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.given import Given, call, check_again
from pyro_disent.training.record import RunRecord
from pyro_disent.training.run import RunFolder
from pyro_disent.training.setup import build, load_data, resolve_device
from pyro_disent.training.weights import load_weights


@dataclass(frozen=True)
class Run:
    """A trained model and what it was trained on."""

    path: Path
    record: RunRecord
    """What its ``config.json`` says; ``record.fit`` is the `FitConfig`."""
    vae: FactoredVAE
    objective: Objective

    def __repr__(self) -> str:
        latents = ", ".join(f"{latent.name}={latent.units}" for latent in self.vae.latents)
        return f"<Run {self.path}: {self.record.fit.method} on {self.record.fit.data}, {latents}>"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors of the data it was trained on."""
        return self.record.factors

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the latents that its pairs share, see `surely_shared`."""
        return surely_shared(self.vae.latents, self.record.pairs.typical_pair(self.record.factors))

    def data(self, progress: Callable[[int, int], None] | None = None) -> DataSet:
        """The data set it was trained on, loaded again from the same source.

        Raises:
            InputError: where the source is not what it was.
        """
        return load_data(self.record.fit, progress, recorded=self.record.source)


@left_as_found()
@usual_defaults()
def load(
    path: Path | str,
    checkpoint: Which = "best",
    device: str = "cpu",
    *,
    vae: FactoredVAE | None = None,
    elbo: DisentanglingELBO | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Run:
    """A run's model with the weights of a checkpoint, in evaluation mode.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        vae, elbo, encoder, decoder: what a run was trained with that was handed over from Python, handed over again:
            it takes the weights.

    Raises:
        InputError: where the folder is not a run's, the checkpoint is damaged, there is no such device, or something
            else was handed over than before.
    """
    folder = RunFolder(Path(path))
    record = folder.read_record()
    given = Given.of(vae, elbo, encoder, decoder)
    needed = [name for name in record.handed_over if name != "data"]
    check_again(needed, given.names, folder.path, call("load", folder.path, needed))
    latents = record.build_latents(vae)
    vae, objective = build(record.fit, record.image_shape, record.edges, latents, given, record.pairs.always)
    load_weights(objective, folder, checkpoint)
    objective.to(resolve_device(device)).eval()
    vae.eval()
    return Run(folder.path, record, vae, objective)
