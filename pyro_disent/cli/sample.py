"""``pyro-disent sample``: images from the prior of all latents, or of some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.named_values import name_value_pairs
from pyro_disent.cli.run_options import figure_of_run
from pyro_disent.errors import InputError
from pyro_disent.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run


@figure_of_run
def sample(
    run: Run,
    latents: Annotated[
        list[str] | None,
        typer.Option("--latent", metavar="NAME", help="Draw this latent only; may be repeated; all if not given."),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many images.")] = 36,
    index: Annotated[
        int | None,
        typer.Option("--index", metavar="I", help="Test image that the latents not drawn are held at; 0 if not given."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="NAME=VALUE",
            help="Where a prior depends on the label NAME: given its value; repeatable.",
        ),
    ] = None,
    seed: int = 0,
) -> tuple[Figure, str]:
    """Images of codes drawn from the prior; with --latent, of the named latents only, the rest held at a test image.

    Writes RUN/figures/sample.png, or sample-NAME.png.
    """
    names, values = list(dict.fromkeys(latents or ())), name_value_pairs(given, "--given")
    if index is not None and not names:
        raise InputError(f"--index {index} is of the latents that are held: say by --latent which are drawn")
    figure = run.sample(n, names, index or 0, given=values, seed=seed)
    return figure, file_name("sample", *names, *(f"{name}={value}" for name, value in values.items()))
