"""``pyro-disent swap``: what is shared from one image, the rest from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import called, figure_of_run
from pyro_disent.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run


@figure_of_run
def swap(
    run: Run,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Two or more images: test indices from 0, or image files.")
    ],
    seed: int,
) -> tuple[Figure, str]:
    """A matrix of images: what pairs share from the row, the rest from the column.

    Writes RUN/figures/swap-IMAGE-IMAGE....png; swap.png there is what `fit` drew.
    """
    return run.swap(images, seed=seed), file_name("swap", *called(images))
