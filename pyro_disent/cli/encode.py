"""``pyro-disent encode``: the value of every latent in every image, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.run_options import Output, OverwriteOption, on_run
from pyro_disent.cli.sentences import as_flags

if TYPE_CHECKING:
    from pyro_disent.runs.run import Run


@on_run
def encode(
    run: Run,
    images: Annotated[
        str,
        typer.Argument(metavar="FOLDER|DATA|IMAGE", help="A folder of images, a data set's name, or an image file."),
    ],
    table: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A new file: .csv, .npz (NumPy) or .nc (netCDF).")
    ],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and count them.")
    ] = False,
    overwrite: OverwriteOption = False,
    seed: int = 0,
) -> Output:
    """Where each unit of every latent is in every image and how sure that is, with the names of the images' files."""
    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.queries.encoding import SUFFIXES
    from pyro_disent.queries.tables import check_place

    check_place(table, SUFFIXES, overwrite=overwrite)
    with shown_progress(f"encoding {images}") as progress:
        result = run.encode(images, skip_bad=skip_bad, seed=seed, progress=progress)
    result.write(table, overwrite=overwrite)
    notes = list(result.notes)
    if result.skipped:
        others = "" if len(result.skipped) == 1 else f" and {len(result.skipped) - 1} more"
        notes.append(f"{len(result.skipped)} bad images left out: {result.skipped[0]}{others}")
    return Output(
        [f"{len(result)} images", *map(as_flags, notes), table],
        {"images": len(result), "skipped": len(result.skipped), "notes": notes, "path": str(table)},
    )
