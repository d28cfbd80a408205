"""One latent moved through its prior, everything else held."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE


def traversal(vae: FactoredVAE, image: Tensor, latent: str, k: int = 9, *, name: Label = "image") -> Figure:
    """A row for every unit of a latent: that unit at evenly spaced quantiles of its prior, all else as in an image.

    The image and its reconstruction stand at the left of every row.

    Args:
        vae: the model.
        image: ``(channels, height, width)``, uint8 or float in [0, 1].
        latent: name of the latent that moves.
        k: how many values, from the 5 % to the 95 % quantile; a discrete latent shows all of its values, however many.
        name: of the image.
    """
    moved = traversed(vae, image, latent, k)
    original = [as_float(image), vae.decode(vae.codes(image.unsqueeze(0)))[0]]
    rows = [[*original, *images] for images in moved]
    moving = vae.latent(latent)
    return grid(
        rows,
        title=f"Units of {latent} through the quantiles of their prior",
        row_labels=moving.unit_labels,
        column_labels=[name, "decoded", *map(moving.family.level_label, moving.family.levels(k).tolist())],
        header_columns=2,
    )


def traversed(vae: FactoredVAE, image: Tensor, latent: str, k: int = 9) -> Tensor:
    """The images of a traversal, ``(units, k, channels, height, width)`` in [0, 1]; arguments as in `traversal`.

    The prior of a latent with parents is the one at the image's own parents.
    """
    moving = vae.latent(latent)
    codes = vae.codes(image.unsqueeze(0))
    levels = moving.family.levels(k)
    k = len(levels)
    values = moving.family.quantiles(vae.prior_of(latent, codes), levels).reshape(k, -1)
    # A unit may take several numbers of the code (an angle is its cosine and sine); a unit's numbers are neighbors.
    numbers = moving.family.numbers
    code = codes[latent].repeat(moving.units, k, 1)
    for unit in range(moving.units):
        place = slice(unit * numbers, (unit + 1) * numbers)
        code[unit, :, place] = values[:, place]
    count = moving.units * k
    held = {name: value.expand(count, -1) for name, value in codes.items()}
    return vae.decode({**held, latent: code.flatten(0, 1)}).unflatten(0, (moving.units, k))
