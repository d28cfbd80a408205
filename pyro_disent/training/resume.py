"""What a run that goes on takes from before, and how a user is told to go on with it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.models.networks import Networks
from pyro_disent.training.config import FitConfig
from pyro_disent.training.setup import COMPILED, GIVEN


def as_recorded(
    config: FitConfig,
    recorded: Mapping[str, Any],
    run: Path,
    moved_to: str | None,
    data: DataSet | None,
    networks: Networks | None,
) -> FitConfig:
    """A configuration to go on with: what was chosen at the start stays, whatever this machine would choose.

    Raises:
        InputError: where the run cannot go on here, or with this; and how it can.
    """
    if config.devices > 1:
        raise InputError("a run of several processes cannot be resumed: their random states are not recorded")
    kind = recorded["source"]["kind"]
    again = how_to_go_on(run, config, kind)
    if data is None and GIVEN in (config.data, kind):
        raise InputError(f"{run} was trained on data handed over from Python: go on with {again}")
    if networks is None and config.network == GIVEN:
        raise InputError(f"{run} was trained on networks handed over from Python: go on with {again}")
    if networks is not None and config.network != GIVEN:
        raise InputError(f"{run} was trained on the network {config.network}: hand over none")
    if moved_to is None and recorded["device"] == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{run} was trained on CUDA, which this machine does not have: go on with "
            f"{how_to_go_on(run, config, kind, device='cpu')}"
        )
    return dataclasses.replace(
        config,
        device=moved_to or recorded["device"],
        precision=recorded["precision"].removesuffix("-true"),
        compile=recorded["step"].startswith(COMPILED),
    )


def how_to_go_on(run: Path, config: FitConfig, kind: str, device: str | None = None) -> str:
    """The command that resumes a run, or the call, where something has to be handed over again.

    Args:
        kind: of the data's source.
        device: to go on on.
    """
    networks_given = config.network == GIVEN
    needed = {"data": GIVEN in (config.data, kind), "encoder": networks_given, "decoder": networks_given}
    given = [f"{name}=..." for name, is_needed in needed.items() if is_needed]
    if given:
        said = [*given, f"resume={str(run)!r}", *([f"device={device!r}"] if device else [])]
        return f"pyro_disent.fit({', '.join(said)})"
    return " ".join(["pyro-disent fit --resume", shlex.quote(str(run)), *(["--device", device] if device else [])])
