"""`pyro_disent.fit`: one run from Python, the same as by ``pyro-disent fit``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from pyro_disent.data.dataset import DataSet
from pyro_disent.data.own.arrays import as_data_set
from pyro_disent.data.registry import absolute_name
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import keeping_modes, usual_defaults
from pyro_disent.models.specification import as_mapping
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.runs.presets import beta_of, configure, reconfigure
from pyro_disent.runs.run import Run, load
from pyro_disent.threads import using
from pyro_disent.training.aliases import without_aliases
from pyro_disent.training.config import CHANGEABLE, FitConfig
from pyro_disent.training.handed_over import HANDED_OVER, HandedOver, check_undecided
from pyro_disent.training.log import Reporter
from pyro_disent.training.record import described, read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from pyro_disent.training.validation import OnValidation

Data = str | Path | DataSet | NDArray[Any] | Tensor | Dataset[Any]


@usual_defaults()
def fit(
    method: str | DisentanglingELBO | None = None,
    data: Data | None = None,
    *,
    vae: FactoredVAE | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    resume: Path | str | None = None,
    config: Path | str | None = None,
    init: Path | str | None = None,
    preset: str | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    reporter: Reporter | None = None,
    on_validation: OnValidation | None = None,
    **settings: Any,
) -> Run:
    """Train, leave a run folder, and return the run with its best weights; or resume a run by ``fit(resume=RUN)``.

    A resumed run takes everything from its folder, except objects from Python, which have to be handed over again:
    ``fit(data=images, resume=RUN)``. Other arguments must be those that the run was begun with. Only ``device``,
    ``devices``, ``accumulate``, ``threads``, ``checkpoint_minutes`` and ``patience`` may change, and ``epochs`` or
    ``max_steps``, which make the run longer.

    Args:
        method: one method, or several joined by ``+``; or an objective of your own, a `DisentanglingELBO`.
        data: a data set's name, a folder of images, or the images themselves: a `DataSet`, or what
            `pyro_disent.from_arrays` and `from_dataset` make one of (call them yourself to name identities
            and factors).
        vae: a model of your own, a `FactoredVAE` or an instance of a subclass. It has its own latents, networks and
            likelihood, and is trained in place.
        config: the ``config.json`` of a run, to train by it again, with other settings where you name them; it names
            method and data, except those from Python.
        init: the folder of a run whose best weights this one starts from.
        preset: ``paper`` or ``quick``; None: ``paper`` on CUDA and ``quick`` on a CPU.
        out: the run's folder; None: ``runs/<data>-<method>-<k>``.
        overwrite: replace a run in ``out``; it is kept until the new one has a checkpoint.
        resume: the folder of a run to continue from its last checkpoint.
        encoder, decoder: networks of your own, see `FactoredVAE`; `pyro_disent.load` will ask for them again. Frozen
            parameters (``requires_grad=False``) and parts in evaluation mode stay so.
        on_validation: called with each `pyro_disent.Validation`; ends the training where it returns True.
        settings: fields of `FitConfig`, which replace the preset's; if ``latents`` are named, the model has no others.

    Raises:
        InputError: for arguments that cannot be trained by; nothing is written.
        Diverged, StorageError, Interrupted: see `pyro_disent.training.train.train`; StorageError for figures as well.
    """
    if on_validation is not None and not callable(on_validation):
        raise InputError(f"`on_validation` is a function of a `pyro_disent.Validation`, not {on_validation!r}")
    elbo, method = (None, method) if isinstance(method, str | None) else (method, None)
    objects = HandedOver.of(vae, elbo, encoder, decoder)
    settings = {name: value for name, value in settings.items() if value is not None}
    is_object = data is not None and not isinstance(data, str | Path)
    check_undecided(objects, list(settings), data_is_handed_over=is_object)
    if resume is not None:
        overrides = {"method": method, "preset": preset, **settings}
        if overwrite or config or init or (out is not None and Path(out).resolve() != Path(resume).resolve()):
            raise InputError(
                f"resume={str(resume)!r} goes on in its own folder, with its own weights: leave `out`, `overwrite`, "
                "`config` and `init` away"
            )
        return _resume(RunFolder(Path(resume)), data, objects, reporter, on_validation, overrides)
    name, handed_over = (absolute_name(str(data)), None) if isinstance(data, str | Path) else (HANDED_OVER, data)
    if config is not None:
        if method is not None or preset is not None or isinstance(data, str | Path):
            raise InputError(f"config={str(config)!r} says the method, the data and their settings: leave them away")
        whole = _with_objects(reconfigure(read_fit(Path(config)), settings), objects, settings)
    elif (method is None and elbo is None) or data is None:
        raise InputError("say what to train by method and data, or what to go on with by resume")
    else:
        whole = _with_objects(configure(method or HANDED_OVER, name, preset, settings), objects, settings)
    return trained(
        whole,
        out=None if out is None else Path(out),
        overwrite=overwrite,
        init=None if init is None else Path(init),
        objects=objects,
        data=None if handed_over is None else as_data_set(handed_over),
        reporter=reporter,
        on_validation=on_validation,
    )


def trained(
    config: FitConfig,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    init: Path | None = None,
    objects: HandedOver | None = None,
    data: DataSet | None = None,
    reporter: Reporter | None = None,
    on_validation: OnValidation | None = None,
) -> Run:
    """Train by a whole configuration and return the run with its best weights, after drawing; arguments as in `fit`."""
    objects = objects or HandedOver()
    called = config.method if objects.elbo is None else type(objects.elbo).__name__.lower()
    folder = RunFolder.named(out, config.data, called)
    with using(config.threads):
        train(
            config,
            folder,
            overwrite=overwrite,
            init=None if init is None else RunFolder(init),
            data=data,
            objects=objects,
            reporter=reporter,
            on_validation=on_validation,
        )
        return _finished(folder, config.device, objects, data)


def _finished(folder: RunFolder, device: str, objects: HandedOver, data: DataSet | None) -> Run:
    """The run with its best weights, after drawing its figures; modules from Python keep their modes."""
    encoder, decoder = objects.networks or (None, None)
    with keeping_modes(*objects.modules):
        run = load(folder.path, device=device, vae=objects.vae, elbo=objects.elbo, encoder=encoder, decoder=decoder)
        try:
            return run.drawn(data)
        except InputError as error:
            raise InputError(f"{_undrawn(folder.path)}: {error}") from error
        except KeyboardInterrupt as stop:
            stop.add_note(f"{_undrawn(folder.path)}; to draw them: pyro-disent figures {folder.path}")
            raise


def _undrawn(run: Path) -> str:
    return f"{run} is trained, but its figures could not be drawn"


def resume(
    run: Path | str,
    data: Data | None = None,
    *,
    vae: FactoredVAE | None = None,
    elbo: DisentanglingELBO | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    **settings: Any,
) -> Run:
    """Continue a run from its last checkpoint: the same as ``fit(elbo, data, resume=run, ...)``, see `fit`.

    Objects from Python have to be handed over again; the run's ``record.handed_over`` lists them.
    """
    return fit(elbo, data, resume=run, vae=vae, encoder=encoder, decoder=decoder, **settings)


def _with_objects(config: FitConfig, objects: HandedOver, overrides: Mapping[str, Any]) -> FitConfig:
    """A configuration without the settings that the objects from Python decide themselves."""
    if objects.elbo is not None:
        config = dataclasses.replace(
            config, method=HANDED_OVER, beta=None, weights={}, terms={}, bins=None, warmup_steps=0
        )
    if objects.vae is not None:
        latents = described(objects.vae)
        beta = config.beta if "beta" in overrides else None  # the preset's is for other latents
        return dataclasses.replace(
            config, latents=latents, network=HANDED_OVER, likelihood=HANDED_OVER, model=HANDED_OVER, beta=beta
        )
    if objects.networks is not None:
        config = dataclasses.replace(config, network=HANDED_OVER)
    return _with_those_latents(config, overrides)


def _with_those_latents(config: FitConfig, overrides: Mapping[str, Any]) -> FitConfig:
    """Keep only the latents that the user names, if any; the command line instead changes the preset's one by one."""
    if "latents" not in overrides:
        return config
    latents = {name: config.latents[name] for name in as_mapping(overrides["latents"]) if name in config.latents}
    return dataclasses.replace(config, latents=latents, beta=beta_of(latents, config.beta, overrides))


def _resume(
    folder: RunFolder,
    data: Data | None,
    objects: HandedOver,
    reporter: Reporter | None,
    on_validation: OnValidation | None,
    overrides: dict[str, Any],
) -> Run:
    """Continue a run; raises InputError for a setting that the run was not begun with and that must not change."""
    config = folder.read_record().fit
    device, threads = overrides.pop("device", None), overrides.pop("threads", None)
    if isinstance(data, str | Path):
        overrides["data"], data = absolute_name(str(data)), None
    changes = {name: overrides.pop(name) for name in CHANGEABLE if overrides.get(name) is not None}
    before = config.to_json()
    for name, value in without_aliases(overrides).items():
        if value is None:
            continue
        now = _with_those_latents(reconfigure(config, {name: value}), {name: value})
        if now.to_json()[name] != before[name]:
            raise InputError(
                f"{name}={value!r} contradicts {folder.path}, which was begun with {before[name]!r}: a run goes on "
                "as it was begun, on any device"
            )
    config = reconfigure(config, changes)
    handed_over = None if data is None else as_data_set(data)
    if threads is not None:
        config = dataclasses.replace(config, threads=threads)
    with using(config.threads):
        train(
            config,
            folder,
            resume=True,
            moved_to=device,
            data=handed_over,
            objects=objects,
            reporter=reporter,
            on_validation=on_validation,
        )
        return _finished(folder, device or folder.read_record().device, objects, handed_over)
