"""``pyro-disent fit``: train, write a run folder, draw its figures."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_disent.cli.console import quietly
from pyro_disent.cli.data_options import of_data, with_data_options
from pyro_disent.cli.named_values import latents, number, one_or_named, pairs, whole
from pyro_disent.cli.run_options import place
from pyro_disent.errors import InputError

if TYPE_CHECKING:
    from pyro_disent.training.run import RunFolder


of_method, of_model, of_training, of_machine, of_run = (
    functools.partial(typer.Option, rich_help_panel=panel)
    for panel in ("Method", "Model", "Training", "Machine", "Run")
)


@with_data_options
@quietly
def fit(
    method: Annotated[
        str | None,
        of_method(
            "--method",
            metavar="METHOD",
            help="What is trained: a name of `pyro-disent methods`, or several joined by +.",
        ),
    ] = None,
    beta: Annotated[
        list[str] | None,
        of_method(
            "--beta",
            metavar="X|NAME=X",
            help="Weight on all KLs, or on that of one latent; the method's if not given; repeatable.",
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        of_method(
            "--weight",
            metavar="TERM=X",
            help="Weight of a term of the objective; the method's if not given; repeatable.",
        ),
    ] = None,
    predictor_side: Annotated[
        str | None,
        of_method(
            "--predictor-side",
            metavar="entropy|cross-entropy",
            help="How the encoder plays against the predictor; entropy if not given.",
        ),
    ] = None,
    predictor_on: Annotated[
        str | None,
        of_method(
            "--predictor-on", metavar="sample|mean", help="What the predictor sees of a latent; sample if not given."
        ),
    ] = None,
    guard: Annotated[
        list[str] | None,
        of_method(
            "--guard",
            metavar="NAME",
            help="A latent that the predictor hides factors from; those of what is common if not given; repeatable.",
        ),
    ] = None,
    bins: Annotated[
        list[str] | None,
        of_method(
            "--bins",
            metavar="N|FACTOR=N",
            help="Bins that the predictor sees factors in; the data's if not given; repeatable.",
        ),
    ] = None,
    bins_by: Annotated[
        str | None,
        of_method(
            "--bins-by", metavar="range|quantile", help="Bins equally wide or equally filled; range if not given."
        ),
    ] = None,
    opponent_lr: Annotated[
        float | None,
        of_method("--opponent-lr", metavar="X", help="Learning rate of opponents; their own if not given."),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        of_method(
            "--warmup-steps", metavar="N", help="Steps over which the weights of terms rise from 0; 0 if not given."
        ),
    ] = None,
    data: Annotated[
        str | None,
        of_data(
            "--data", metavar="DATA", help="The data set: a name of `pyro-disent data list`, or a folder of images."
        ),
    ] = None,
    limit: Annotated[
        int | None, of_data("--limit", metavar="N", help="Use N training images only; all if not given.")
    ] = None,
    source: Annotated[
        str | None,
        of_data(
            "--source", metavar="auto|local|download|embedded", help="Where the data set comes from; auto if not given."
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        of_data("--data-root", metavar="DIR", help="Folder that the data set lies in; $PYRO_DISENT_DATA if not given."),
    ] = None,
    latent: Annotated[
        list[str] | None,
        of_model(
            "--latent",
            metavar="NAME=UNITS[:FAMILY[,key=value...]]",
            help="A latent, its units and its family, as azimuth=1:circle; 0 units leave it out; repeatable.",
        ),
    ] = None,
    explains: Annotated[
        list[str] | None,
        of_model(
            "--explains",
            metavar="NAME=common|rest|A+B|each:A,B",
            help="What a latent stands for: what is common to pairs, the rest, factors, or one a unit; repeatable.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        of_model("--network", metavar="mlp|conv3x3|conv4x4", help="Encoder and decoder; the preset's if not given."),
    ] = None,
    likelihood: Annotated[
        str | None,
        of_model(
            "--likelihood",
            metavar="NAME",
            help="Of pixels given the code: bernoulli, continuous-bernoulli or normal; the preset's if not given.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        of_training("--epochs", metavar="N", help="Train for N passes over the images; the preset's if not given."),
    ] = None,
    max_steps: Annotated[
        int | None, of_training("--max-steps", metavar="N", help="Train for N steps, instead of epochs.")
    ] = None,
    batch_size: Annotated[
        int | None,
        of_training("--batch-size", metavar="N", help="Images in a step, before pairing; the preset's if not given."),
    ] = None,
    lr: Annotated[
        float | None, of_training("--lr", metavar="X", help="Adam's learning rate; the preset's if not given.")
    ] = None,
    schedule: Annotated[
        str | None,
        of_training(
            "--schedule", metavar="constant|cosine", help="How the learning rate goes on; the preset's if not given."
        ),
    ] = None,
    clip_norm: Annotated[
        float | None,
        of_training("--clip-norm", metavar="X", help="Largest norm that a gradient may have; 10000 if not given."),
    ] = None,
    seed: Annotated[
        int | None, of_training("--seed", metavar="N", help="Seed of whatever is drawn; 0 if not given.")
    ] = None,
    preset: Annotated[
        str | None,
        of_training(
            "--preset",
            metavar="paper|quick",
            help="Settings to start from; quick on a CPU and paper on CUDA if not given.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        of_training(
            "--patience",
            metavar="N",
            help="End after N validations without a better held-out objective; never if not given.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        of_machine(
            "--device",
            metavar="auto|cpu|cuda|cuda:N",
            help="What it is trained on; auto, CUDA where there is any, if not given.",
        ),
    ] = None,
    devices: Annotated[
        int | None, of_machine("--devices", metavar="N", help="Processes, one a device; 1 if not given.")
    ] = None,
    precision: Annotated[
        str | None,
        of_machine(
            "--precision",
            metavar="auto|32|bf16-mixed",
            help="Of the arithmetic; the preset's if not given; auto is bf16-mixed where the device has it.",
        ),
    ] = None,
    compiled: Annotated[
        bool | None,
        of_machine(
            "--compile/--no-compile",
            help="Compile the step; if not given, from 2000 steps on, where there is a C++ compiler.",
            show_default=False,
        ),
    ] = None,
    compile_mode: Annotated[
        str | None,
        of_machine(
            "--compile-mode",
            metavar="default|reduce-overhead",
            help="Mode of torch.compile; default if not given; reduce-overhead takes CUDA graphs.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        of_machine(
            "--threads", metavar="N", help="Threads of the CPU; those that are fastest when it starts if not given."
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
        "latents": latents(latent, explains) or None,
        "network": network,
        "likelihood": likelihood,
        "beta": one_or_named(beta, "--beta", number),
        "weights": {name: number(value, "--weight") for name, value in pairs(weight, "--weight").items()} or None,
        "predictor_side": predictor_side,
        "predictor_on": predictor_on,
        "guards": guard or None,
        "bins": one_or_named(bins, "--bins", whole),
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
    from pyro_disent.experiments.run import load
    from pyro_disent.training.validation import best_of

    place(None, folder.path, "")
    load(folder.path, device=device).drawn()
    if (best := best_of(folder)) is None:
        return {}
    numbers = {name: best.numbers[name] for name in ("objective", "elbo")}
    return {"step": best.step, **numbers, "empty": best.empty, "ignored": best.ignored}
