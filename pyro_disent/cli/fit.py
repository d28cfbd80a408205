"""``pyro-disent fit``: train, write a run folder, draw its figures."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pyro_disent.cli.console import quietly
from pyro_disent.cli.data_options import with_data_options
from pyro_disent.cli.run_options import ThreadsOption, place
from pyro_disent.errors import InputError, StorageError

if TYPE_CHECKING:
    from pyro_disent.training.run import RunFolder


Number = TypeVar("Number", int, float)


@with_data_options
@quietly
def fit(
    method: Annotated[
        str | None, typer.Option("--method", metavar="METHOD", help="One method, or several joined by +.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="A data set's name, or a folder of images.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Where to write; runs/DATA-METHOD-K if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N")] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Images before pairing.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="X", help="Adam's learning rate.")] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="constant|cosine", help="Of the learning rate.")
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option("--clip-norm", metavar="X", help="Largest norm of a group's gradient.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Use only N training images.")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="paper|quick", help="If not given: quick on a CPU, paper on CUDA.")
    ] = None,
    latent: Annotated[
        list[str] | None,
        typer.Option(
            "--latent",
            metavar="NAME=UNITS[:FAMILY[,key=value...]]",
            help="A latent and its family, as azimuth=1:circle; 0 units leave it out; repeatable.",
        ),
    ] = None,
    explains: Annotated[
        list[str] | None,
        typer.Option(
            "--explains",
            metavar="NAME=common|rest|A+B|each:A,B",
            help="What a latent stands for: factors by name, one a unit, the rest, or what pairs have in common.",
        ),
    ] = None,
    network: Annotated[str | None, typer.Option("--network", metavar="NAME")] = None,
    likelihood: Annotated[str | None, typer.Option("--likelihood", metavar="NAME")] = None,
    beta: Annotated[
        list[str] | None, typer.Option("--beta", metavar="X|NAME=X", help="Weight on the KLs, or on one latent's.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="TERM=X", help="Weight of a term; repeatable.")
    ] = None,
    predictor_side: Annotated[
        str | None,
        typer.Option("--predictor-side", metavar="entropy|cross-entropy", help="How the encoder plays the predictor."),
    ] = None,
    predictor_on: Annotated[
        str | None, typer.Option("--predictor-on", metavar="sample|mean", help="What the opponent sees of a latent.")
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option("--guard", metavar="NAME", help="A latent that the predictor hides factors from; repeatable."),
    ] = None,
    bins: Annotated[
        list[str] | None,
        typer.Option(
            "--bins", metavar="N|FACTOR=N", help="Bins a predictor sees a factor in; the data's if not given."
        ),
    ] = None,
    bins_by: Annotated[
        str | None, typer.Option("--bins-by", metavar="range|quantile", help="Bins equally wide, or equally filled.")
    ] = None,
    opponent_lr: Annotated[
        float | None,
        typer.Option("--opponent-lr", metavar="X", help="Of the opponents; their own if not given."),
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option("--warmup-steps", metavar="N", help="Steps over which terms' weights rise from 0.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="auto|local|download|embedded", help="Where data comes from.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Its folder; $PYRO_DISENT_DATA if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N")] = None,
    devices: Annotated[int | None, typer.Option("--devices", metavar="N", help="Processes, one a device.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", metavar="auto|32|bf16-mixed")] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="If not given: from 2000 steps on, where there is a C++ compiler.",
            show_default=False,
        ),
    ] = None,
    compile_mode: Annotated[str | None, typer.Option("--compile-mode", metavar="default|reduce-overhead")] = None,
    patience: Annotated[
        int | None,
        typer.Option("--patience", metavar="N", help="End after N validations without a better held-out objective."),
    ] = None,
    threads: ThreadsOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Run again what a run's config.json says.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", metavar="RUN", help="Start from another run's best weights.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on where it stopped, or further by --epochs, --max-steps or --patience."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the path only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The last line on stdout is one JSON object.")] = False,
    *,
    options: dict[str, Any],
) -> str:
    """Train a model and leave a run folder: configuration, checkpoints, metrics, figures.

    Writes RUN/config.json, RUN/checkpoints, RUN/metrics.csv, RUN/events.* (TensorBoard) and RUN/figures.
    """
    said: dict[str, Any] = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "clip_norm": clip_norm,
        "seed": seed,
        "limit": limit,
        "latents": _latents(latent, explains) or None,
        "network": network,
        "likelihood": likelihood,
        "beta": _one_or_named(beta, "--beta", _number),
        "weights": {name: _number(value, "--weight") for name, value in _pairs(weight, "--weight").items()} or None,
        "predictor_side": predictor_side,
        "predictor_on": predictor_on,
        "guards": guard or None,
        "bins": _one_or_named(bins, "--bins", _whole),
        "bins_by": bins_by,
        "opponent_lr": opponent_lr,
        "warmup_steps": warmup_steps,
        "source": source,
        "data_root": None if data_root is None else str(data_root.absolute()),
        "options": options or None,
        "device": device,
        "devices": devices,
        "precision": precision,
        "compile": compiled,
        "compile_mode": compile_mode,
        "patience": patience,
        "threads": None if resume else threads,
    }
    said = {name: value for name, value in said.items() if value is not None}
    again = {"--resume": resume, "--config": config}
    given = [name for name, value in again.items() if value is not None]
    longer: dict[str, Any] = {name: said[name] for name in ("epochs", "max_steps", "patience") if name in said}
    beside = said.keys() - {"device", *longer}  # a run may go on on another device than it was begun on, and for longer
    if given and (method or data or preset or (resume and (beside or out or overwrite or config or init))):
        but = ", but --device, --threads, --epochs, --max-steps and --patience" if resume else ""
        raise InputError(
            f"{given[0]} takes the method, the data and their settings from its run: say nothing else{but}"
        )
    if not given and not (method and data):
        raise InputError("say what to train by --method METHOD and --data DATA, or --resume RUN")

    from pyro_disent.cli.progress import TrainingProgress
    from pyro_disent.data import registry
    from pyro_disent.experiments.presets import configure, overridden
    from pyro_disent.objectives import methods
    from pyro_disent.threads import using
    from pyro_disent.training.config import FitConfig
    from pyro_disent.training.fit import fit as train
    from pyro_disent.training.record import read_fit
    from pyro_disent.training.run import RunFolder

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # a missing CUDA toolkit is no news here
    if resume is not None:
        folder = RunFolder(resume)
        recorded = folder.read_record()
        settings, used = FitConfig(**overridden(vars(recorded.fit), longer)), device or recorded.device
        if threads is not None:
            settings = dataclasses.replace(settings, threads=threads)
    else:
        if config is not None:
            settings = FitConfig(**overridden(vars(read_fit(config)), said))
        else:
            assert method is not None and data is not None
            methods.parse(method)
            settings = configure(method, registry.named(data), preset, said)
        folder, used = RunFolder.named(out, settings.data, settings.method), settings.device

    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes that --devices starts
    with TrainingProgress(silent=quiet or not is_first, to_stderr=as_json) as reporter, using(settings.threads):
        train(
            settings,
            folder,
            resume=resume is not None,
            moved_to=device if resume is not None else None,
            overwrite=overwrite,
            init=None if init is None else RunFolder(init),
            reporter=reporter,
        )
        numbers = _finish(folder, used) if is_first else {}
    if not is_first:
        return ""
    return json.dumps({**numbers, "path": str(folder.path)}) if as_json else str(folder.path)


def _finish(folder: RunFolder, device: str) -> dict[str, Any]:
    """Draw the run's figures from its best weights; the last validation's numbers."""
    from pyro_disent.figures.of_run import draw
    from pyro_disent.training.run import load
    from pyro_disent.training.validation import best_of

    place(None, folder.path, "")
    run = load(folder.path, device=device)
    try:
        draw(run, run.data())
    except OSError as error:
        raise StorageError(
            f"{folder.path} is trained, but its figures could not be written ({error}); to draw them: "
            f"pyro-disent figures {folder.path}"
        ) from error
    if (best := best_of(folder)) is None:
        return {}
    numbers = {name: best.numbers[name] for name in ("objective", "elbo")}
    return {"step": best.step, **numbers, "empty": best.empty, "ignored": best.ignored}


def _pairs(given: list[str] | None, option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    pairs = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {item}: write {form}")
        pairs[name] = value
    return pairs


def _latents(latent: list[str] | None, explains: list[str] | None) -> dict[str, dict[str, Any]]:
    """What was said of each latent, as tables of `LatentSpec`."""
    from pyro_disent.models.specification import explains_from_text, explains_to_json, spec_from_text

    said = {
        name: spec_from_text(value, f"--latent {name}")
        for name, value in _pairs(latent, "--latent", "NAME=UNITS").items()
    }
    for name, value in _pairs(explains, "--explains", "NAME=FACTORS").items():
        said.setdefault(name, {})["explains"] = explains_to_json(explains_from_text(value))
    return said


def _one_or_named(
    given: list[str] | None, option: str, parse: Callable[[str, str], Number]
) -> Number | dict[str, Number] | None:
    """One number for all, or a number by name."""
    if given and len(given) == 1 and "=" not in given[0]:
        return parse(given[0], option)
    return {name: parse(value, option) for name, value in _pairs(given, option).items()} or None


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a number") from None


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a whole number") from None
