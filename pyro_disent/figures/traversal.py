"""One latent moved through its prior, everything else held."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import grid
from pyro_disent.models.factored_vae import FactoredVAE


def traversal(vae: FactoredVAE, image: Tensor, latent: str, k: int = 9) -> Figure:
    """A row for every unit of a latent: that unit at evenly spaced quantiles of its prior, all else as in an image.

    The image and its reconstruction stand at the left of every row.

    Args:
        vae: the model.
        image: ``(channels, height, width)``, uint8 or float in [0, 1].
        latent: name of the latent that moves.
        k: how many values, from the 5 % to the 95 % quantile.
    """
    moved = traversed(vae, image, latent, k)
    original = [as_float(image), vae.decode(vae.codes(image.unsqueeze(0)))[0]]
    rows = [[*original, *images] for images in moved]
    names = vae.latent(latent).unit_names
    return grid(
        rows,
        title=f"Units of {latent} through the quantiles of their prior",
        row_labels=names or [f"{latent}[{unit}]" for unit in range(len(rows))],
        column_labels=[
            "image",
            "decoded",
            *(f"{100 * q:.0f} %" for q in torch.linspace(0.05, 0.95, k, device="cpu").tolist()),
        ],
        header_columns=2,
    )


def traversed(vae: FactoredVAE, image: Tensor, latent: str, k: int = 9) -> Tensor:
    """The images of a traversal, ``(units, k, channels, height, width)`` in [0, 1]; arguments as in `traversal`."""
    moving = vae.latent(latent)
    codes = vae.codes(image.unsqueeze(0))
    at = codes[latent]
    # A unit may take several numbers of the code (an angle is its cosine and sine); a unit's numbers are neighbors.
    values = moving.quantiles(k).to(at).reshape(k, -1)
    numbers = moving.width // moving.units
    if values.shape[1] != numbers:
        raise ValueError(f"quantiles of {latent!r} have {values.shape[1]} numbers a unit, its code has {numbers}")
    code = at.repeat(moving.units, k, 1)
    for unit in range(moving.units):
        code[unit, :, unit * numbers : (unit + 1) * numbers] = values
    count = moving.units * k
    held = {name: value.expand(count, -1) for name, value in codes.items()}
    return vae.decode({**held, latent: code.flatten(0, 1)}).unflatten(0, (moving.units, k))
