"""`pyro_disent.fit`: one run from Python, as ``pyro-disent fit`` makes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from pyro_disent.data.arrays import as_data_set
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.registry import named
from pyro_disent.errors import InputError
from pyro_disent.experiments.presets import configure
from pyro_disent.models.networks import Networks
from pyro_disent.training.config import FitConfig
from pyro_disent.training.fit import fit as train
from pyro_disent.training.log import Reporter
from pyro_disent.training.run import Run, RunFolder, load
from pyro_disent.training.setup import GIVEN

Data = str | Path | DataSet | NDArray[Any] | Tensor | Dataset[Any]


def fit(
    method: str | None = None,
    data: Data | None = None,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    resume: Path | str | None = None,
    preset: str | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Run:
    """Train, leave a run folder, and give the run with its best weights; or go on with one, by ``fit(resume=RUN)``.

    A run that goes on takes everything from its folder but what was handed over from Python, which has to be handed
    over again: ``fit(data=images, resume=RUN)``. What else is said must be what the run was begun with, or ``device``.

    Args:
        method: one method, or several joined by ``+``.
        data: a data set's name, a folder of images, or the images themselves: a `DataSet`, or what
            `pyro_disent.data.arrays.from_arrays` and `from_dataset` make one of (call them yourself to name identities
            and factors).
        preset: ``paper`` or ``quick``; ``paper`` on CUDA and ``quick`` on a CPU where it is not named.
        out: the run's folder; ``runs/<data>-<method>-<k>`` where it is not named.
        overwrite: a run that is there may be replaced; it is kept until the new one has a checkpoint.
        resume: the folder of a run that goes on from its last checkpoint.
        encoder, decoder: networks of your own, see `FactoredVAE`; `pyro_disent.load` will ask for them again.
        settings: fields of `FitConfig`, over the preset's; ``latents`` are those named and no others.

    Raises:
        InputError: for what cannot be trained; nothing is written.
        Diverged, StorageError, Interrupted: see `pyro_disent.training.fit.fit`.
    """
    if (encoder is None) != (decoder is None):
        raise InputError("encoder and decoder are handed over together: one of them is missing")
    given = None if encoder is None or decoder is None else (encoder, decoder)
    if resume is not None:
        said = {"method": method, "preset": preset, **settings}
        if overwrite or (out is not None and Path(out).resolve() != Path(resume).resolve()):
            raise InputError(f"resume={str(resume)!r} goes on in its own folder: leave out and overwrite away")
        return _resume(RunFolder(Path(resume)), data, given, reporter, said)
    if method is None or data is None:
        raise InputError("say what to train by method and data, or what to go on with by resume")
    name = GIVEN
    if isinstance(data, str | Path):
        name, handed_over = named(str(data)), None
    else:
        handed_over = as_data_set(data)
    config = configure(method, name, preset, settings | ({"network": GIVEN} if given else {}))
    if "latents" in settings:  # the command line changes the preset's one by one, a dictionary is all of them
        config = dataclasses.replace(config, latents=dict(settings["latents"]))
    folder = RunFolder.named(None if out is None else Path(out), name, method)
    train(config, folder, overwrite=overwrite, data=handed_over, networks=given, reporter=reporter)
    return load(folder.path, device=config.device, encoder=encoder, decoder=decoder)


def _resume(
    folder: RunFolder, data: Data | None, networks: Networks | None, reporter: Reporter | None, said: dict[str, Any]
) -> Run:
    """Go on with a run; raises InputError for anything said that it was not begun with."""
    recorded = folder.read_config()
    config = FitConfig.from_json(recorded["fit"])
    device = said.pop("device", None)
    if isinstance(data, str | Path):
        said["data"], data = named(str(data)), None
    for name, value in said.items():
        begun_with = recorded["fit"].get(name)
        if value is not None and json.loads(json.dumps(value, default=str)) != begun_with:
            raise InputError(
                f"{name}={value!r} contradicts {folder.path}, which was begun with {begun_with!r}: a run goes on as it "
                "was begun, on any device"
            )
    handed_over = None if data is None else as_data_set(data)
    train(config, folder, resume=True, moved_to=device, data=handed_over, networks=networks, reporter=reporter)
    encoder, decoder = networks or (None, None)
    return load(folder.path, device=device or folder.read_config()["device"], encoder=encoder, decoder=decoder)
