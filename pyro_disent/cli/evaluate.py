"""``pyro-disent evaluate``: probes, leaks, bounds, and several runs in one table."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_disent import files
from pyro_disent.cli.run_options import Output, on_run
from pyro_disent.cli.sentences import as_flags
from pyro_disent.errors import InputError

if TYPE_CHECKING:
    from pyro_disent.evaluation.result import Evaluation
    from pyro_disent.runs.run import Run


@on_run
def evaluate(
    runs: list[Run],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Another data set; the run's own if not given.")
    ] = None,
    seed: int = 0,
    threads: int | None = None,
) -> Output:
    """Measure what the latents of one or several runs know, on their test split, and show it as a table.

    Writes RUN/evaluation.json, or RUN/evaluation-DATA.json for another data set than the run's own.
    """
    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry
    from pyro_disent.evaluation import report
    from pyro_disent.evaluation.evaluate import check_fits

    other_data = None if data is None else registry.load(data, **_options(data, runs[0]))
    for run in runs:
        if other_data is not None:
            check_fits(run.vae, other_data, str(run.path))
    for run in runs:
        path = run.evaluation_path(other_data)
        if obstacle := files.obstacle(path):
            raise InputError(f"{path} {obstacle}, and the evaluation is written there: move it away")
    evaluations, paths = [], []
    for run in runs:
        with shown_progress(run.name) as progress:
            evaluations.append(run.evaluate(other_data, seed=seed, progress=progress, threads=threads))
        try:
            paths.append(run.write(evaluations[-1]))
        except OSError as error:
            raise InputError(f"nothing can be written into {run.path}: {error}") from error
    advice = [f"{evaluation.run}: {as_flags(sentence)}" for evaluation in evaluations for sentence in evaluation.advice]
    texts = [str(path) for path in paths]
    return Output(
        [report.table([_as_printed(each) for each in evaluations]), *advice, *paths],
        {"evaluations": [each.to_json() for each in evaluations], "paths": texts, "path": texts[-1]},
    )


def _as_printed(evaluation: Evaluation) -> Evaluation:
    """An evaluation that names settings as the command line's options."""
    numbers = {key: number._replace(block=as_flags(number.block)) for key, number in evaluation.numbers.items()}
    return dataclasses.replace(evaluation, numbers=numbers)


def _options(data: str, run: Run) -> dict[str, Any]:
    """Options for a folder of images: the size that the run's model takes, and the run's options if it had a folder."""
    from pyro_disent.data import registry

    if not registry.is_folder(data):
        return {}
    channels, size, _ = run.vae.image_shape
    options = run.record.fit.options if registry.is_folder(run.record.fit.data) else {}
    return {**options, "image_size": size, "channels": channels}
