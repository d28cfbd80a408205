"""What a training is besides its weights: optimizer, step, position in the data, random state."""

from __future__ import annotations

from typing import Any

import torch

from pyro_disent.objectives.elbo import Objective
from pyro_disent.training.feed import Feed
from pyro_disent.training.run import RunFolder
from pyro_disent.training.validation import Progress


def capture(
    step: int, progress: Progress, optimizer: torch.optim.Optimizer, feed: Feed, device: torch.device
) -> dict[str, Any]:
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
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    device: torch.device,
) -> int:
    objective.load_state_dict(folder.weights("last"))
    state = folder.state("last")
    optimizer.load_state_dict(state["optimizer"])
    feed.load_state_dict(state["feed"])
    torch.set_rng_state(state["rng"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"], device)
    progress.best, progress.since_best = state["best"], state.get("since_best", 0)  # which older states do not have
    return state["step"]
