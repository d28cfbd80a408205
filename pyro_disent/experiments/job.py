"""`pyro_disent.fit`: one run from Python, as ``pyro-disent fit`` makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from pyro_disent.data.arrays import as_data_set
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.registry import named
from pyro_disent.experiments.presets import configure
from pyro_disent.models.program import keeping_modes, usual_defaults
from pyro_disent.training.fit import fit as train
from pyro_disent.training.log import Reporter
from pyro_disent.training.run import Run, RunFolder, load
from pyro_disent.training.setup import GIVEN
from pyro_disent.training.validation import OnValidation


@usual_defaults()
def fit(
    method: str,
    data: str | Path | DataSet | NDArray[Any] | Tensor | Dataset[Any],
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    preset: str | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    reporter: Reporter | None = None,
    on_validation: OnValidation | None = None,
    **settings: Any,
) -> Run:
    """Train, leave a run folder, and give the run with its best weights.

    Args:
        method: one method, or several joined by ``+``.
        data: a data set's name, a folder of images, or the images themselves: a `DataSet`, or what
            `pyro_disent.data.arrays.from_arrays` and `from_dataset` make one of (call them yourself to name identities
            and factors).
        preset: ``paper`` or ``quick``; ``paper`` on CUDA and ``quick`` on a CPU where it is not named.
        out: the run's folder; ``runs/<data>-<method>-<k>`` where it is not named.
        encoder, decoder: networks of your own, see `FactoredVAE`; `pyro_disent.load` will ask for them again. What is
            frozen in them (``requires_grad=False``, or evaluation mode) stays frozen, and every part keeps its mode.
        on_validation: called with each `pyro_disent.Validation`; ends the training where it returns True.
        settings: fields of `FitConfig`, over the preset's.

    Raises:
        InputError: for what cannot be trained; nothing is written.
        Diverged, StorageError: see `pyro_disent.training.fit.fit`.
    """
    given = None if encoder is None or decoder is None else (encoder, decoder)
    name = GIVEN
    if isinstance(data, str | Path):
        name, handed_over = named(str(data)), None
    else:
        handed_over = as_data_set(data)
    config = configure(method, name, preset, settings | ({"network": GIVEN} if given else {}))
    folder = RunFolder.named(None if out is None else Path(out), name, method)
    train(
        config,
        folder,
        overwrite=overwrite,
        data=handed_over,
        networks=given,
        reporter=reporter,
        on_validation=on_validation,
    )
    with keeping_modes(*(given or ())):
        return load(folder.path, device=config.device, encoder=encoder, decoder=decoder)
