"""``pyro-disent fit``: train, write a run folder, draw its figures."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_disent.cli.choices import with_choices
from pyro_disent.cli.console import quietly
from pyro_disent.cli.data_options import with_data_options
from pyro_disent.cli.named_values import explained
from pyro_disent.errors import InputError
from pyro_disent.training.config import CHANGEABLE

if TYPE_CHECKING:
    from pyro_disent.runs.run import Run


of_run = functools.partial(typer.Option, rich_help_panel="Run")


@with_choices
@with_data_options
@quietly
def fit(
    *,
    explains: Annotated[
        list[str] | None,
        typer.Option(
            "--explains",
            rich_help_panel="Model",
            metavar="NAME=common|rest|A+B|each:A,B",
            help="What a latent stands for: what is common to pairs, the rest, factors, or one a unit; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        of_run("--out", metavar="RUN", help="Folder that the run is written to; runs/DATA-METHOD-K if not given."),
    ] = None,
    overwrite: Annotated[
        bool,
        of_run("--overwrite", help="Replace a run that lies in --out; it is kept until the new one has a checkpoint."),
    ] = False,
    config: Annotated[
        Path | None, of_run("--config", metavar="FILE", help="Train again by the config.json of a run.")
    ] = None,
    init: Annotated[
        Path | None, of_run("--init", metavar="RUN", help="Start from the best weights of another run.")
    ] = None,
    resume: Annotated[
        Path | None,
        of_run(
            "--resume",
            metavar="RUN",
            help="Go on where a run stopped, or further by --epochs, --max-steps or --patience.",
        ),
    ] = None,
    quiet: Annotated[bool, of_run("--quiet", help="Print the path of the run only.")] = False,
    as_json: Annotated[
        bool, of_run("--json", help="Print one JSON object as the last line on standard output.")
    ] = False,
    overrides: dict[str, Any],
    options: dict[str, Any],
) -> str:
    """Train a model and leave a run folder: configuration, checkpoints, metrics, figures.

    Writes RUN/config.json, RUN/checkpoints, RUN/metrics.csv, RUN/events.* (TensorBoard) and RUN/figures.
    """
    for name in ("method", "model", "network", "likelihood"):
        if overrides.get(name) == "given":  # stands in a record for an object from Python
            raise InputError(f"--{name} given is what was handed over from Python: name one that `pyro-disent` has")
    method, data, preset = (overrides.pop(name, None) for name in ("method", "data", "preset"))
    for name, table in explained(explains).items():
        overrides.setdefault("latents", {}).setdefault(name, {}).update(table)
    if options:
        overrides["options"] = options
    again = {"--resume": resume, "--config": config}
    sources = [name for name, value in again.items() if value is not None]
    # A run may go on longer, and on another device than it was begun on.
    changeable = ("device", "threads", *CHANGEABLE)
    unchangeable = overrides.keys() - set(changeable)
    if sources and (method or data or preset or (resume and (unchangeable or out or overwrite or config or init))):
        *others, last = (f"--{name.replace('_', '-')}" for name in changeable)
        but = f", but {', '.join(others)} and {last}" if resume else ""
        raise InputError(
            f"{sources[0]} takes the method, the data and their settings from its run: say nothing else{but}"
        )
    if not sources and not (method and data):
        raise InputError("say what to train by --method METHOD and --data DATA, or --resume RUN")

    from pyro_disent.cli.progress import TrainingProgress
    from pyro_disent.data import registry
    from pyro_disent.process import is_first_process
    from pyro_disent.runs import job
    from pyro_disent.runs.presets import configure, reconfigure
    from pyro_disent.training.record import read_fit

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no line about a missing CUDA toolkit
    is_first = is_first_process()
    with TrainingProgress(silent=quiet or not is_first, to_stderr=as_json) as reporter:
        if resume is not None:
            run = job.resume(resume, reporter=reporter, **overrides)
        else:
            # Options for latents change the preset's; `pyro_disent.fit` uses only the latents that are named.
            if config is not None:
                settings = reconfigure(read_fit(config), overrides)
            else:
                settings = configure(str(method), registry.absolute_name(str(data)), preset, overrides)
            run = job.trained(settings, out=out, overwrite=overwrite, init=init, reporter=reporter)
    if not is_first:
        return ""
    return json.dumps({**_numbers(run), "path": str(run.path)}) if as_json else str(run.path)


def _numbers(run: Run) -> dict[str, Any]:
    """The numbers of the validation whose weights the run has."""
    from pyro_disent.training.run_folder import RunFolder
    from pyro_disent.training.validation import best_of

    if (best := best_of(RunFolder(run.path))) is None:
        return {}
    numbers = {name: best.numbers[name] for name in ("objective", "elbo")}
    return {"step": best.step, **numbers, "empty": best.empty, "ignored": best.ignored}
