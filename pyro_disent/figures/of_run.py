"""The figures that `fit` leaves in a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pyro_disent.data.dataset import DataSet
from pyro_disent.figures.grids import save
from pyro_disent.figures.reconstructions import reconstructions
from pyro_disent.figures.samples import samples
from pyro_disent.figures.swap import swap_matrix
from pyro_disent.figures.traversal import traversal

if TYPE_CHECKING:
    from pyro_disent.training.run import Run


def draw(run: Run, data: DataSet, seed: int = 0) -> list[Path]:
    """Reconstructions, the swap matrix, a traversal of each factor latent and prior samples, from test images.

    Returns:
        The paths written, in ``RUN/figures``.
    """
    vae, folder = run.vae, run.path / "figures"
    images = data.test.examples(seed).images
    generator = torch.Generator().manual_seed(seed)
    chosen = images[torch.randperm(len(images), generator=generator)[:14].to(images.device)]
    shared = run.shared
    of_factors = [latent.name for latent in vae.latents if latent.name not in shared]
    figures = {
        "reconstructions": reconstructions(vae, chosen[:12]),
        "swap": swap_matrix(vae, chosen[:6], chosen[6:14], shared=shared),
        **{f"traverse-{name}": traversal(vae, chosen[0], name) for name in of_factors},
        "samples": samples(vae, 42, generator),
    }
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]
