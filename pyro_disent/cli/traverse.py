"""``pyro-disent traverse``: one latent moved through its prior."""

from __future__ import annotations

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


def traverse(
    run: RunArgument,
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
    out: OutOption = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """One latent moved through the quantiles of its prior, unit by unit, all else as in one test image.

    Writes RUN/figures/traverse-NAME.png, or traverse-NAME-I.png.
    """
    check_out(out)

    from pyro_disent.figures import traversal
    from pyro_disent.figures.inputs import images_at
    from pyro_disent.figures.paper import file_name

    loaded = load_run(run, checkpoint, device)
    vae = loaded.vae
    names = [each.name for each in vae.latents]
    differing = [each for each in names if each not in loaded.shared]
    name = latent if latent is not None else (differing or names)[-1]
    vae.latent(name)  # refused before the data are loaded
    (image,), (of_image,) = images_at(loaded.data(), [index or 0], seed=seed)
    figure = traversal(vae, image, name, steps, name=of_image)
    chosen = [] if index is None else [str(index)]
    finish(figure, place(out, run, file_name("traverse", name, *chosen)), as_json)
