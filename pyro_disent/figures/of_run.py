"""The figures that `fit` leaves in a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pyro_disent.data.dataset import DataSet
from pyro_disent.figures.inputs import images_at
from pyro_disent.figures.paper import file_name, save
from pyro_disent.figures.reconstructions import reconstructions
from pyro_disent.figures.samples import samples
from pyro_disent.figures.swap import swap_matrix
from pyro_disent.figures.traversal import traversal

if TYPE_CHECKING:
    from pyro_disent.experiments.run import Run


def draw(run: Run, data: DataSet, seed: int = 0) -> list[Path]:
    """Reconstructions, the swap matrix, a traversal of each factor latent and prior samples, from test images.

    Returns:
        The paths written, in ``RUN/figures``.
    """
    vae, folder = run.vae, run.path / "figures"
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.test), generator=generator, device="cpu")
    images, names = images_at(data, order[:14].tolist(), seed=seed)
    rows = min(6, max(1, len(images) // 2))  # of the swap matrix; all other images are its columns, if there are any
    columns = slice(rows % len(images), None)
    shared = run.shared
    of_factors = [latent.name for latent in vae.latents if latent.name not in shared]
    figures = {
        "reconstructions": reconstructions(vae, images[:12], labels=names[:12]),
        "swap": swap_matrix(
            vae, images[:rows], images[columns], shared=shared, row_labels=names[:rows], column_labels=names[columns]
        ),
        **{f"traverse-{latent}": traversal(vae, images[0], latent, name=names[0]) for latent in of_factors},
        "samples": samples(vae, 42, generator),
    }
    return [save(figure, folder / file_name(name)) for name, figure in figures.items()]
