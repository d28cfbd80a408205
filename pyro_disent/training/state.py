"""The state of a training besides its weights: optimizer, step, position in the data, losses not yet written.

It holds no random state: all draws depend on the seed and the step.

A state that was damaged is refused before any of it is used: the fused optimizer takes shapes and layouts for granted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from pyro_disent.compiled.adam import Adam
from pyro_disent.errors import InputError
from pyro_disent.objectives.elbo import Objective
from pyro_disent.training.checkpoints import STATE
from pyro_disent.training.feed import Feed
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.validation import Progress
from pyro_disent.training.weights import load_weights

COUNTS = ("since_best", "rollbacks")
"""Of `Progress`; older states do not have them."""
MOMENTS = ("exp_avg", "exp_avg_sq")
SCHEDULED = frozenset({"params", "lr", "initial_lr"})
"""Keys in which a saved parameter group may differ from a fresh optimizer's."""


class Pending(NamedTuple):
    """Losses of the last steps, in no row yet: a row of ``metrics.csv`` is the mean of many steps."""

    names: tuple[str, ...] = ()
    values: Tensor = torch.empty(0, 0, device="cpu")
    """``(steps, numbers)``, on the CPU."""


class Restored(NamedTuple):
    """Where a resumed run goes on."""

    step: int
    pending: Pending
    is_older: bool
    """Whether an earlier version wrote it, which drew by other rules."""


def capture(step: int, progress: Progress, optimizer: Adam, feed: Feed, pending: Pending) -> dict[str, Any]:
    optimizer.start()  # so that a state without a parameter is a damaged one
    state = {"step": step, "optimizer": optimizer.state_dict(), "feed": feed.state_dict()}
    state |= {"best": progress.best, "since_best": progress.since_best, "rollbacks": progress.rollbacks}
    return state | {"pending": {"names": list(pending.names), "values": pending.values}}


def restore(
    folder: RunFolder,
    objective: Objective,
    progress: Progress,
    optimizer: Adam,
    feed: Feed,
) -> Restored:
    """Put everything back as `capture` found it.

    States of earlier versions hold random states, which are not used, and no losses, which were written each time.

    Raises:
        InputError: for a checkpoint that is damaged, or that of another model, method or data.
    """
    path = folder.checkpoint("last") / STATE
    state = folder.state("last")
    _check(state, feed, path)
    pending = _checked_pending(state.get("pending"), state["step"], path)
    moments = _checked_moments(state.get("optimizer"), optimizer, state["step"], path)

    load_weights(objective, folder, "last")
    optimizer.load_state_dict(moments)
    feed.load_state_dict(state["feed"])
    progress.best = state["best"]
    progress.since_best, progress.rollbacks = (state.get(name, 0) for name in COUNTS)
    return Restored(state["step"], pending, "rng" in state)


def _require(holds: bool, path: Path, what: str) -> None:
    if not holds:
        raise InputError(f"{path} is not the state of this training: it lacks {what} that fits")


def _check(state: Mapping[str, Any], feed: Feed, path: Path) -> None:
    """Check everything except the optimizer's state and the losses."""
    step, best, feed_state = state.get("step"), state.get("best"), state.get("feed")
    _require(_is_count(step), path, "a step")
    _require(type(best) is float and best > -math.inf, path, "a best held-out objective")
    for name in COUNTS:
        _require(_is_count(state.get(name, 0)), path, f"a count {name}")
    feed_state = feed_state if isinstance(feed_state, dict) else {}
    epoch, position = (feed_state.get(name) for name in ("epoch", "position"))
    _require(
        _is_count(epoch) and _is_count(position) and position <= feed.batches_per_epoch
        and epoch * feed.batches_per_epoch + position == step,
        path,
        "a position in the data",
    )  # fmt: skip


def _checked_pending(saved: Any, step: int, path: Path) -> Pending:
    """Losses of steps before this one; an earlier version left none."""
    if saved is None:
        return Pending()
    whole = isinstance(saved, dict) and saved.keys() == {"names", "values"} and isinstance(saved["names"], list)
    _require(whole and all(type(name) is str for name in saved["names"]), path, "losses")
    names, values = saved["names"], saved["values"]
    _require(
        _is_plain(values) and values.dim() == 2 and values.shape[1] == len(names) and len(values) <= step
        and values.is_floating_point() and bool(values.isfinite().all()),
        path,
        "losses",
    )  # fmt: skip
    return Pending(tuple(names), values)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _is_plain(value: Any) -> TypeGuard[Tensor]:
    """Whether it is a plain dense tensor on the CPU, and of no subclass."""
    return type(value) is Tensor and value.layout == torch.strided and value.device.type == "cpu"


def _checked_moments(saved: Any, optimizer: Adam, step: int, path: Path) -> dict[str, Any]:
    """An optimizer's saved state, each tensor laid out as its parameter is; raises InputError where it is not whole."""
    fresh = optimizer.state_dict()
    _require(isinstance(saved, dict) and saved.keys() == fresh.keys(), path, "an optimizer's state")
    groups, states = saved["param_groups"], saved["state"]
    _require(isinstance(groups, list) and len(groups) == len(fresh["param_groups"]), path, "the parameter groups")
    for group, expected in zip(groups, fresh["param_groups"], strict=True):
        _require(
            isinstance(group, dict)
            and group.keys() - SCHEDULED == expected.keys() - SCHEDULED
            and group.get("params") == expected["params"]
            and all(_is_same(group[name], expected[name]) for name in expected.keys() - SCHEDULED)
            and all(_is_rate(group[name]) for name in group.keys() & {"lr", "initial_lr"})
            and "lr" in group,
            path,
            "a parameter group",
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trained = {index for index, parameter in enumerate(parameters) if parameter.requires_grad}
    _require(isinstance(states, dict) and trained <= states.keys(), path, "the state of a parameter")
    _require(all(type(index) is int and 0 <= index < len(parameters) for index in states), path, "parameters alone")
    return {
        "param_groups": groups,
        "state": {index: _laid_out(states[index], parameters[index], step, path) for index in states},
    }


def _is_same(value: Any, expected: Any) -> bool:
    return type(value) is type(expected) and value == expected


def _is_rate(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and value >= 0


def _laid_out(state: Any, parameter: Tensor, step: int, path: Path) -> dict[str, Tensor]:
    """A parameter's state: its count of steps, and its moments in its memory format."""
    _require(isinstance(state, dict) and state.keys() == {"step", *MOMENTS}, path, "the state of a parameter")
    count = state["step"]
    _require(
        _is_plain(count) and count.shape == () and count.dtype == torch.float32 and count.item() in range(step + 1),
        path,
        "a parameter's count of steps",
    )
    for name in MOMENTS:
        moment = state[name]
        _require(
            _is_plain(moment) and moment.shape == parameter.shape and moment.dtype == parameter.dtype
            and bool(moment.isfinite().all()) and (name != "exp_avg_sq" or bool((moment >= 0).all())),
            path,
            f"a moment {name} of a parameter",
        )  # fmt: skip
    moments = {name: torch.empty_like(parameter, requires_grad=False).copy_(state[name]) for name in MOMENTS}
    return {"step": count.clone(), **moments}
