"""``pyro-disent posterior``: draws from posterior and prior, for ArviZ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import Output, OverwriteOption, on_run, place

if TYPE_CHECKING:
    from pyro_disent.runs.run import Run


@on_run
def posterior(
    run: Run,
    table: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.nc", help="A new file; RUN/posterior.nc if not given.")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", metavar="N", min=1, help="How many test images, evenly spaced.")
    ] = 16,
    draws: Annotated[int, typer.Option("--draws", metavar="N", min=1, help="How many draws of each.")] = 100,
    plots: Annotated[
        bool, typer.Option("--plots", help="Draw RUN/figures/posterior-*.png as well, from the same draws.")
    ] = False,
    overwrite: OverwriteOption = False,
    seed: int = 0,
) -> Output:
    """Draws from posterior and prior, and the images and log-likelihoods that go with them: for `arviz.from_netcdf`."""
    from pyro_disent.queries.draws import write_groups
    from pyro_disent.queries.tables import check_place

    path = table or run.path / "posterior.nc"
    check_place(path, (".nc",), overwrite=overwrite)
    figures = place(None, run.path, "") if plots else None
    groups = run.posterior(images, draws, seed=seed)
    paths = [write_groups(groups, path, overwrite=overwrite)]
    if figures:
        from pyro_disent.figures import posterior_figures, save

        drawn = posterior_figures(groups)
        paths = [*(save(figure, figures / f"posterior-{name}.png") for name, figure in drawn.items()), *paths]
    return Output(paths, {"path": str(path), "figures": [str(each) for each in paths[:-1]]})
