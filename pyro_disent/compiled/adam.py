"""Adam with a third less of torch's Python overhead; its numbers are those of ``torch.optim.Adam``, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Adam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``, whose `step` calls the fused kernel directly.

    On small models, torch's step takes as long around that kernel as in it. States, parameter groups and state dicts
    are those of ``torch.optim.Adam``; its other options are left out.
    """

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient and is not frozen (``requires_grad=False``).

        Raises:
            TypeError: for a closure, which our steps do not need.
        """
        if closure is not None:
            raise TypeError("this optimizer takes no closure: compute the gradients before its step")
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None and each.requires_grad]
            states = [self.state[parameter] or self._start(parameter) for parameter in parameters]
            steps = [state["step"] for state in states]
            if not parameters:
                continue
            beta1, beta2 = group["betas"]
            torch._foreach_add_(steps, 1.0)
            torch._fused_adam_(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def start(self) -> None:
        """Make the state of every parameter that is trained, also of one without a gradient so far."""
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            if parameter.requires_grad and not self.state[parameter]:
                self._start(parameter)

    def _start(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        self.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        return self.state[parameter]
