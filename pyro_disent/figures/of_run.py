"""The table of figures that `fit` draws into a run's folder; other packages can add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent import plugins
from pyro_disent.data.dataset import DataSet
from pyro_disent.figures.inputs import images_at
from pyro_disent.figures.paper import save
from pyro_disent.figures.reconstructions import reconstructions
from pyro_disent.figures.samples import samples
from pyro_disent.figures.swap import swap_matrix, swap_truth
from pyro_disent.figures.traversal import KL_IMAGES, traversal
from pyro_disent.files import file_name
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.use import unit_kl

IMAGES = 14
"""Test images that are shown, at most."""
TRUE_ROWS = 3
"""Rows of the swap matrix, at most, if the truth and the difference are drawn under each row."""


class Subject(NamedTuple):
    """What a figure is drawn from."""

    vae: FactoredVAE
    data: DataSet
    images: Tensor
    """Some test images, ``(N, channels, height, width)``, uint8."""
    names: list[tuple[str, ...]]
    """The name of each image, in parts."""
    shared: tuple[str, ...]
    """Names of the latents that pairs share."""
    seed: int
    """For all random draws."""
    places: tuple[int, ...] = ()
    """The images' positions in the test split."""


Drawn = Figure | Mapping[str, Figure] | None
"""One figure, several by their names, or None where the figure does not apply."""


def draw_figures(vae: FactoredVAE, data: DataSet, folder: Path, shared: Sequence[str], seed: int = 0) -> list[Path]:
    """Draw all `FIGURES`, and those of other packages, from test images.

    Returns:
        The paths written, in ``folder``.
    """
    order, _ = _order(data, seed)
    places = order[:IMAGES].tolist()
    images, names = images_at(data, places, seed=seed)
    subject = Subject(vae, data, images, names, tuple(shared), seed, tuple(places))
    figures: dict[str, Figure] = {}
    for name, draw_one in plugins.by_name(GROUP, FIGURES).items():
        result = draw_one(subject)
        figures |= {name: result} if isinstance(result, Figure) else result or {}
    return [save(figure, folder / file_name(name)) for name, figure in figures.items()]


def _order(data: DataSet, seed: int) -> tuple[Tensor, torch.Generator]:
    """The order in which test images are shown, and the generator for further draws."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(data.test), generator=generator, device="cpu"), generator


def _reconstructions(subject: Subject) -> Drawn:
    return reconstructions(subject.vae, subject.images[:12], labels=subject.names[:12])


def _swap(subject: Subject) -> Drawn:
    """Half of the images, at most six, are rows, the others columns; with the truth, only `TRUE_ROWS` rows remain."""
    vae, data, images, names, shared, seed, places = subject
    rows = min(6, max(1, len(images) // 2))
    columns = slice(rows % len(images), None)
    truth = swap_truth(vae, data, places[:rows], places[columns], shared=shared, seed=seed)
    if truth is not None:
        rows = min(rows, TRUE_ROWS)
        truth = truth[:rows]
    return swap_matrix(
        vae,
        images[:rows],
        images[columns],
        shared=shared,
        row_labels=names[:rows],
        column_labels=names[columns],
        truth=truth,
    )


def _traversals(subject: Subject) -> Drawn:
    """One figure for every latent that pairs do not share."""
    vae, image, name = subject.vae, subject.images[0], subject.names[0]
    moved = [latent.name for latent in vae.latents if latent.name not in subject.shared]
    if not moved:
        return None
    kl = unit_kl(vae, subject.data.test.examples(subject.seed).some_images(KL_IMAGES, subject.seed), moved)
    return {f"traverse-{latent}": traversal(vae, image, latent, name=name, kl=kl.get(latent)) for latent in moved}


def _samples(subject: Subject) -> Drawn:
    return samples(subject.vae, 42, _order(subject.data, subject.seed)[1])


GROUP = "pyro_disent.figures"
FIGURES: dict[str, Callable[[Subject], Drawn]] = {
    "reconstructions": _reconstructions,
    "swap": _swap,
    "traverse": _traversals,
    "samples": _samples,
}
"""Each figure is written to a file of its name."""
