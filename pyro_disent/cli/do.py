"""``pyro-disent do``: what an image would look like if some of its latents had other values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import called, figure_of_run
from pyro_disent.errors import InputError
from pyro_disent.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run


@figure_of_run
def do(
    run: Run,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A test index from 0, or an image file.")],
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE",
            help="y=2 for all units of y, y=2,-1 for each, y[1]=-1 for one; of a circle 90deg, or radians; LABEL=VALUE "
            "where priors depend on the label.",
        ),
    ],
    seed: int,
) -> tuple[Figure, str]:
    """The counterfactual of an image: infer its latents, set some of them, decode; and what that makes different.

    Units whose priors depend on what is set are drawn anew. Writes RUN/figures/do-IMAGE-NAME=VALUE....png.
    """
    settings: dict[str, str] = {}
    for each in values:
        name, _, value = each.partition("=")
        if not (name and value):
            raise InputError(f"{each} sets nothing: write NAME=VALUE")
        if name in settings:
            raise InputError(f"{name} is set twice, to {settings[name]} and to {value}")
        settings[name] = value
    return run.do(image, settings, seed=seed), file_name("do", *called([image]), *values)
