"""``pyro-disent traverse``: one latent moved through its prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import figure_of_run
from pyro_disent.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run


@figure_of_run
def traverse(
    run: Run,
    latent: Annotated[
        str | None,
        typer.Option(
            "--latent", metavar="NAME", help="Which latent moves; the last that a pair does not share, if not given."
        ),
    ] = None,
    index: Annotated[
        int | None, typer.Option("--index", metavar="I", help="Which test image, from 0; the first if not given.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, max=101, help="How many values each unit takes.")] = 9,
    seed: int = 0,
) -> tuple[Figure, str]:
    """One latent moved through the quantiles of its prior, unit by unit, all else as in one test image.

    Writes RUN/figures/traverse-NAME.png, or traverse-NAME-I.png.
    """
    chosen = [] if index is None else [str(index)]
    return run.traverse(latent, index or 0, steps, seed=seed), file_name("traverse", run.moving(latent), *chosen)
