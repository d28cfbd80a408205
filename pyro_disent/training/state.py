"""What a training is besides its weights: optimizer, step, position in the data, random state.

A state that was damaged is refused before any of it is used: the fused optimizer takes shapes and layouts for granted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pyro_disent.compiled.adam import Adam
from pyro_disent.errors import InputError
from pyro_disent.models.program import seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.training.checkpoints import STATE
from pyro_disent.training.feed import Feed
from pyro_disent.training.run import RunFolder
from pyro_disent.training.validation import Progress
from pyro_disent.training.weights import load_weights

MOMENTS = ("exp_avg", "exp_avg_sq")
SCHEDULED = frozenset({"params", "lr", "initial_lr"})
"""What a state's parameter group may have otherwise than a fresh optimizer's."""


def capture(step: int, progress: Progress, optimizer: Adam, feed: Feed, device: torch.device) -> dict[str, Any]:
    optimizer.start()  # so that a state without a parameter is a damaged one
    state = {"step": step, "optimizer": optimizer.state_dict(), "feed": feed.state_dict()}
    state |= {"best": progress.best, "since_best": progress.since_best}
    state["rng"] = torch.get_rng_state()
    if device.type == "cuda":
        state["cuda_rng"] = torch.cuda.get_rng_state(device)
    return state


def restore(
    folder: RunFolder,
    objective: Objective,
    progress: Progress,
    optimizer: Adam,
    feed: Feed,
    device: torch.device,
) -> int:
    """Put everything back as `capture` found it; the step.

    Random states are those of a kind of device: on another kind than before, what is drawn is drawn anew, from the
    feed's seed and the step.

    Raises:
        InputError: for a checkpoint that is damaged, or that of another model, method or data.
    """
    path = folder.checkpoint("last") / STATE
    state = folder.state("last")
    _require("cuda_rng" not in state or _is_bytes(state["cuda_rng"]), path, "a CUDA random state")
    same_kind = ("cuda_rng" in state) == (device.type == "cuda")
    _check(state, feed, same_kind, path)
    moments = _checked_moments(state.get("optimizer"), optimizer, state["step"], path)

    load_weights(objective, folder, "last")
    optimizer.load_state_dict(moments)
    generator = feed.generator
    try:
        if same_kind:
            generator.set_state(state["feed"]["generator"])
            torch.set_rng_state(state["rng"])
            if device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"], device)
        else:
            generator.manual_seed(feed.seed + state["step"])
            seed_random_state(feed.seed + state["step"], device)
    except RuntimeError as error:  # bytes that no generator has as its state
        raise InputError(f"{path} cannot be read as a training state: {error}") from error
    feed.move_to(state["feed"]["epoch"], state["feed"]["position"])
    progress.best, progress.since_best = state["best"], state.get("since_best", 0)  # which older states do not have
    return state["step"]


def _require(holds: bool, path: Path, what: str) -> None:
    if not holds:
        raise InputError(f"{path} is not the state of this training: it lacks {what} that fits")


def _check(state: Mapping[str, Any], feed: Feed, same_kind: bool, path: Path) -> None:
    """Everything but the optimizer's part."""
    step, best, of_feed = state.get("step"), state.get("best"), state.get("feed")
    _require(_is_count(step), path, "a step")
    _require(type(best) is float and best > -math.inf, path, "a best held-out objective")
    _require(_is_count(state.get("since_best", 0)), path, "a count of validations")
    of_feed = of_feed if isinstance(of_feed, dict) else {}
    epoch, position, generator = (of_feed.get(name) for name in ("epoch", "position", "generator"))
    _require(
        _is_count(epoch) and _is_count(position) and position <= feed.batches_per_epoch
        and epoch * feed.batches_per_epoch + position == step,
        path,
        "a position in the data",
    )  # fmt: skip
    _require(_is_bytes(generator, feed.generator.get_state() if same_kind else None), path, "the data's random state")
    _require(_is_bytes(state.get("rng"), torch.get_rng_state()), path, "a random state")


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _is_bytes(value: Any, like: Tensor | None = None) -> bool:
    if not (_is_plain(value) and value.dtype == torch.uint8 and value.dim() == 1):
        return False
    return like is None or value.shape == like.shape


def _is_plain(value: Any) -> TypeGuard[Tensor]:
    """A tensor with numbers behind it, and nothing about it that arithmetic would have to know."""
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
    """Of one parameter: its count of steps, and its moments in its own memory format."""
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
