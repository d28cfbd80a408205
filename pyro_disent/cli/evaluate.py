"""``pyro-disent evaluate``: probes, leaks, bounds, and several runs in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_disent import files
from pyro_disent.cli.run_options import CheckpointOption, DeviceOption, JsonOption, SeedOption, ThreadsOption, load_run
from pyro_disent.cli.sentences import as_flags

if TYPE_CHECKING:
    from pyro_disent.experiments.run import Run


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, as `fit` printed them.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Another data set; the run's own if not given.")
    ] = None,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what the latents of one or several runs know, on their test split, and show it as a table.

    Writes RUN/evaluation.json, or RUN/evaluation-DATA.json for another data set than the run's own.
    """
    from pyro_disent.cli.console import table_console
    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry
    from pyro_disent.errors import InputError
    from pyro_disent.evaluation import report
    from pyro_disent.evaluation.evaluate import check_fits
    from pyro_disent.evaluation.evaluate import evaluate as measured

    # All runs are loaded before the first is measured: a wrong path is told at once, and nothing is written.
    loaded = [load_run(path, checkpoint, device) for path in runs]
    given = None if data is None else registry.load(data, **_options(data, loaded[0]))
    if given is not None:
        for run in loaded:
            check_fits(run, given)
    for run in loaded:
        own = (Path(run.record.fit.data).name, run.record.source.sha256)
        path = report.place(run, *(own if given is None else (given.name, given.source.sha256)))
        if found := files.obstacle(path):
            raise InputError(f"{path} {found}, and the evaluation is written there: move it away")
    evaluations, paths = [], []
    for run in loaded:
        with shown_progress(run.path.name) as progress:
            evaluation = measured(run, data=given, seed=seed, progress=progress, threads=threads)
        evaluations.append(evaluation | {"checkpoint": checkpoint})
        try:
            paths.append(report.write(evaluations[-1], run))
        except OSError as error:
            raise InputError(f"nothing can be written into {run.path}: {error}") from error
    if as_json:
        paths_written = [str(path) for path in paths]
        typer.echo(json.dumps({"evaluations": evaluations, "paths": paths_written, "path": paths_written[-1]}))
        return
    table_console().print(report.table([_as_printed(evaluation) for evaluation in evaluations]))
    for evaluation in evaluations:
        for sentence in evaluation["advice"]:
            typer.echo(f"{evaluation['run']}: {as_flags(sentence)}")
    for path in paths:
        typer.echo(path)


def _as_printed(evaluation: Any) -> Any:
    """An evaluation whose numbers are said to be of what they are in the words of the command line."""
    numbers = {name: number | {"block": as_flags(number["block"])} for name, number in evaluation["numbers"].items()}
    return evaluation | {"numbers": numbers}


def _options(data: str, run: Run) -> dict[str, Any]:
    """Of a folder of images: of the size that the run's model takes, and paired as its own if that was a folder too."""
    from pyro_disent.data import registry

    if not registry.is_folder(data):
        return {}
    channels, size, _ = run.vae.image_shape
    own = run.record.fit.options if registry.is_folder(run.record.fit.data) else {}
    return {**own, "image_size": size, "channels": channels}
