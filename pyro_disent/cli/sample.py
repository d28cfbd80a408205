"""``pyro-disent sample``: images from the prior of all latents, or of some."""

from __future__ import annotations

from typing import Annotated

import typer

from pyro_disent.cli.run_options import (
    CheckpointOption,
    DeviceOption,
    IndexOption,
    JsonOption,
    OutOption,
    RunArgument,
    SeedOption,
    check_out,
    finish,
    load_run,
    place,
)


def sample(
    run: RunArgument,
    latents: Annotated[
        list[str] | None,
        typer.Option("--latent", metavar="NAME", help="Draw this latent only; may be repeated; all if not given."),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=10_000, help="How many images.")] = 36,
    index: IndexOption = 0,
    out: OutOption = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Images of codes drawn from the prior; with --latent, of the named latents only, the rest held at a test image.

    Writes RUN/figures/sample.png, or sample-NAME.png.
    """
    check_out(out)

    import torch

    from pyro_disent.figures import sample_latents, samples
    from pyro_disent.figures.inputs import images_at
    from pyro_disent.figures.paper import file_name

    loaded = load_run(run, checkpoint, device)
    vae = loaded.vae
    generator = torch.Generator().manual_seed(seed)
    names = list(dict.fromkeys(vae.latent(name).name for name in latents or ()))
    if names:
        (image,), (of_image,) = images_at(loaded.data(), [index], seed=seed)
        figure = sample_latents(vae, image, names, n, generator, name=of_image)
    else:
        figure = samples(vae, n, generator)
    finish(figure, place(out, run, file_name("sample", *names)), as_json)
