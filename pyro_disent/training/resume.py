"""What a resumed run takes from its record, and the words that tell a user how to resume it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HandedOver, call, check_again, check_minimized
from pyro_disent.training.log import Reporter
from pyro_disent.training.record import RunRecord
from pyro_disent.training.run_folder import RunFolder


def as_recorded(
    config: FitConfig,
    recorded: RunRecord,
    run: Path,
    moved_to: str | None,
    data: DataSet | None,
    objects: HandedOver,
) -> FitConfig:
    """The configuration of a resumed run: what was chosen at the start stays, whatever this machine would choose.

    Raises:
        InputError: where the run cannot go on here, or with these arguments; it says how it can.
    """
    handed_over = recorded.handed_over
    now = (*(["data"] if data is not None and "data" in handed_over else []), *objects.names)
    check_again(handed_over, now, run, f"go on with {how_to_go_on(run, handed_over)}")
    check_minimized(recorded.minimized, objects, run)
    if moved_to is None and recorded.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{run} was trained on CUDA, which this machine does not have: go on with "
            f"{how_to_go_on(run, handed_over, device='cpu')}"
        )
    return dataclasses.replace(
        config,
        device=moved_to or recorded.device,
        precision=recorded.precision.removesuffix("-true"),
        compile=recorded.compiled,
    )


def how_to_go_on(run: Path, handed_over: Sequence[str], **changed: str | int) -> str:
    """The command that resumes a run, or the call, where something has to be handed over again.

    Args:
        handed_over: what has to be handed over again.
        changed: settings that change from there on, such as the device.
    """
    if handed_over:
        return call("resume", run, handed_over, **changed)
    options = [f"--{name} {value}" for name, value in changed.items()]
    return " ".join(["pyro-disent fit --resume", shlex.quote(str(run)), *options])


def goes_further(folder: RunFolder, steps: int, reporter: Reporter) -> bool:
    """Whether a run has steps left to take; reports where it has none, before anything is compiled for it.

    Raises:
        InputError: where it has taken more steps than are wanted.
    """
    taken = folder.state("last").get("step")
    if not isinstance(taken, int) or taken < steps:
        return True
    if taken > steps:
        raise InputError(f"{folder.path} has taken {taken} steps already, more than the {steps} that it is to go to")
    reporter.say(f"{folder.path} is finished: it has taken all of its {steps} steps")
    return False
