"""Images beside their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE


def reconstructions(vae: FactoredVAE, images: Tensor, *, labels: Sequence[Label] = ()) -> Figure:
    """Two rows: images, and the decoder's mean image at their posterior means.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        labels: above the columns; empty, or one for each image.
    """
    return grid(
        [list(as_float(images)), list(vae.decode(vae.codes(images)))],
        title="Reconstructions",
        row_labels=("image", "decoded"),
        column_labels=labels,
    )
