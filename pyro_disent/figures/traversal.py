"""One latent moved through its prior, everything else held."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.use import EMPTY

KL_IMAGES = 512
"""Test images over which the KL of the units is averaged, at most."""


def traversal(
    vae: FactoredVAE,
    image: Tensor,
    latent: str,
    k: int = 9,
    *,
    name: Label = "image",
    kl: Tensor | None = None,
) -> Figure:
    """A row for every unit of a latent: that unit at evenly spaced quantiles of its prior, all else as in an image.

    Every row begins with the image and its reconstruction. With ``kl``, units are sorted by KL, the highest
    first, and the title counts the inactive ones, whose KL is below `EMPTY`.

    Args:
        vae: the model.
        image: ``(channels, height, width)``, uint8 or float in [0, 1].
        latent: name of the latent that moves.
        k: how many values, from the 5 % to the 95 % quantile; a discrete latent shows all of its values, however many.
        name: the image's label.
        kl: KL of each unit, ``(units,)`` in nats, see `unit_kl`.
    """
    moved = traversed(vae, image, latent, k)
    original = [as_float(image), vae.decode(vae.codes(image.unsqueeze(0)))[0]]
    moving = vae.latent(latent)
    labels: list[Label] = list(moving.unit_labels)
    title = f"Units of {latent} through the quantiles of their prior"
    order = list(range(moving.units))
    if kl is not None:
        order = kl.argsort(descending=True, stable=True).tolist()
        labels = [(unit, f"{nats:.2f} nats") for unit, nats in zip(moving.unit_labels, kl.tolist(), strict=True)]
        inactive = int((kl < EMPTY).sum())
        title += f", by KL: {inactive or 'none'} of {moving.units} inactive (below {EMPTY:g} nats)"
    rows = [[*original, *moved[unit]] for unit in order]
    return grid(
        rows,
        title=title,
        row_labels=[labels[unit] for unit in order],
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
    # A unit may have several numbers in the code (an angle has its cosine and sine), one after the other.
    numbers = moving.family.numbers
    code = codes[latent].repeat(moving.units, k, 1)
    for unit in range(moving.units):
        place = slice(unit * numbers, (unit + 1) * numbers)
        code[unit, :, place] = values[:, place]
    count = moving.units * k
    held = {name: value.expand(count, -1) for name, value in codes.items()}
    return vae.decode({**held, latent: code.flatten(0, 1)}).unflatten(0, (moving.units, k))
