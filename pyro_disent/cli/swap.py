"""``pyro-disent swap``: what is shared from one image, the rest from another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_disent.cli.run_options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    OutOption,
    RunArgument,
    SeedOption,
    check_out,
    finish,
    load_run,
    place,
)


def swap(
    run: RunArgument,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Two or more images: test indices from 0, or image files.")
    ],
    out: OutOption = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """A matrix of images: what pairs share from the row, the rest from the column.

    Writes RUN/figures/swap-IMAGE-IMAGE....png; swap.png there is what `fit` drew.
    """
    from pyro_disent.errors import InputError

    if len(images) < 2:
        raise InputError("swap needs at least two images: test indices or image files")
    check_out(out)

    from pyro_disent.figures import swap_matrix
    from pyro_disent.figures.inputs import images_named
    from pyro_disent.figures.paper import file_name

    loaded = load_run(run, checkpoint, device)
    vae = loaded.vae
    said = loaded.record.fit.options
    white, pad = said.get("white"), said.get("shape") == "pad"
    shown, names = images_named(images, vae.image_shape, loaded.data, seed=seed, white=white, pad=pad)
    figure = swap_matrix(vae, shown, shown, shared=loaded.shared, row_labels=names, column_labels=names)
    # By the folder too, as photographs of two people may have the same name.
    called = ["/".join(Path(name).with_suffix("").parts[-2:]) for name in images]
    finish(figure, place(out, run, file_name("swap", *called)), as_json)
