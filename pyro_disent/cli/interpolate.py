"""``pyro-disent interpolate``: from one image to another in some of the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import called, figure_of_run
from pyro_disent.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run


@figure_of_run
def interpolate(
    run: Run,
    first: Annotated[str, typer.Argument(metavar="A", help="A test index from 0, or an image file.")],
    last: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    latents: Annotated[
        list[str] | None,
        typer.Option("--latent", metavar="NAME", help="Only this latent moves; may be repeated; all if not given."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=101, help="How many decoded images.")] = 9,
    seed: int = 0,
) -> tuple[Figure, str]:
    """From image A to image B in the named latents, all others held as in A; a circle goes the shorter way around.

    Writes RUN/figures/interpolate-A-B.png, or interpolate-A-B-NAME.png.
    """
    figure = run.interpolate(first, last, latents or (), steps, seed=seed)
    return figure, file_name("interpolate", *called([first, last]), *(latents or ()))
