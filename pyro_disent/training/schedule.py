"""The optimizer of an objective, and how its learning rates and weights change over a run."""

from __future__ import annotations

import math
from typing import Any

import torch

from pyro_disent.compiled.adam import Adam
from pyro_disent.errors import InputError
from pyro_disent.objectives.elbo import ALL_FROZEN, Objective
from pyro_disent.objectives.weights import WarmUp
from pyro_disent.training.config import FitConfig


def make_optimizer(objective: Objective, lr: float, opponent_lr: float | None = None) -> Adam:
    """Adam; each opponent is its own parameter group, with its term's betas, and its term's rate by default.

    Parameters that are frozen (``requires_grad=False``) are left out.

    Raises:
        InputError: where all are frozen.
    """
    overrides = {} if opponent_lr is None else {"lr": opponent_lr}
    groups: list[dict[str, Any]] = [{"params": objective.vae_parameters()}]
    groups += [{"params": list(term.parameters()), **term.optimizer, **overrides} for term in objective.opponents()]
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
    if not any(group["params"] for group in groups):
        raise InputError(ALL_FROZEN)
    return Adam([group for group in groups if group["params"]], lr=lr)


def check_warm_up(objective: Objective, config: FitConfig, steps: int) -> None:
    """Raises InputError for a warm-up that would do nothing, or would not end within a run's steps."""
    if config.warmup_steps and not len(objective.terms):
        raise InputError(
            f"`warmup_steps={config.warmup_steps}` is for the weights of terms, and the method {config.method!r} has "
            "none; from Python, the weight on the KLs warms up by fit(..., beta=WarmUp(weight, steps))"
        )
    for name, weight in objective.weights.by_name.items():
        if isinstance(weight, WarmUp) and weight.steps > steps:
            raise InputError(
                f"the warm-up of {name} takes {weight.steps} steps, and the run has {steps}: its weight would never be "
                f"{weight.weight:g}"
            )


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """What every learning rate is multiplied by at a step, counted from 0.

    ``constant`` is 1; ``cosine`` rises linearly over the first 5 % and falls to 0 along half a cosine.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's own learning rate times a factor."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = factor * group["initial_lr"]
