"""``pyro-disent figures``: the figures that ``fit`` leaves in a run's folder, drawn again."""

from __future__ import annotations

import json

import typer

from pyro_disent.cli.run_options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    RunArgument,
    SeedOption,
    load_run,
    place,
)


def figures(
    run: RunArgument,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Draw what `fit` draws when it is done: of a run that was killed before, or with another checkpoint's weights.

    Writes RUN/figures and prints the path of each figure, the folder last.
    """
    from pyro_disent.errors import InputError
    from pyro_disent.figures.of_run import draw
    from pyro_disent.training.setup import GIVEN

    folder = place(None, run, "")
    loaded = load_run(run, checkpoint, device)
    if loaded.config["source"]["kind"] == GIVEN:
        raise InputError(
            f"{run} was trained on data handed over from Python, which has to hand it over again: "
            "pyro_disent.figures.of_run.draw(run, data)"
        )
    try:
        paths = draw(loaded, loaded.data(), seed)
    except OSError as error:
        raise InputError(f"the figures of {run} cannot be written: {error}") from error
    if as_json:
        typer.echo(json.dumps({"figures": [str(path) for path in paths], "path": str(folder)}))
        return
    for path in (*paths, folder):
        typer.echo(path)
