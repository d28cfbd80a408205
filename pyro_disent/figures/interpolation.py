"""From one image to another in some of the latents, everything else held."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.queries.interpolation import interpolate


def interpolation(
    vae: FactoredVAE,
    first: Tensor,
    last: Tensor,
    latents: Sequence[str] = (),
    steps: int = 9,
    *,
    names: Sequence[Label] = ("first", "last"),
) -> Figure:
    """A row from one image to another: the originals at both ends, the images of `queries.interpolate` between them.

    Args:
        vae: the model.
        first, last: ``(channels, height, width)``, uint8 or float in [0, 1].
        latents: the latents that move; all if empty. The others are held as in the first image.
        steps: how many decoded images.
        names: labels of the two images.
    """
    moving = [vae.latent(name).name for name in latents] or [latent.name for latent in vae.latents]
    decoded = interpolate(vae, first, last, moving, steps)
    held = ", the rest held" if len(moving) < len(vae.latents) else ""
    return grid(
        [[as_float(first), *decoded, as_float(last)]],
        title=f"{', '.join(moving)} from the first image to the last{held}",
        column_labels=[names[0], *(f"{100 * step / (steps - 1):.0f} %" for step in range(steps)), names[1]],
        header_columns=1,
    )
