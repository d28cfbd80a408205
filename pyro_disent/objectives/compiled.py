"""A whole training step, loss and gradient, traced through Pyro into one compiled graph.

``torch.compile`` on a Pyro program breaks at every effect handler, and tracing the forward alone silently loses what
lives in autograd: detached latents, frozen opponents, straight-through samples. Here loss *and* gradient are traced
together, so what is compiled is what would have been computed. Weights, masks and factors are inputs of the graph;
another batch shape runs eager.
"""

from __future__ import annotations

import contextlib
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch._inductor import list_mode_options
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from pyro_disent.batch import Batch
from pyro_disent.models.program import forked_random_state
from pyro_disent.objectives.cpu import DECOMPOSITIONS, channels_last
from pyro_disent.objectives.elbo import LossRecord, Objective, total


class EagerStep:
    """One evaluation of an objective and its gradient, operation by operation.

    Args:
        objective: what is minimized.
        autocast: a context for the forward, as Fabric's ``fabric.autocast``.
    """

    def __init__(
        self,
        objective: Objective,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.objective, self.autocast = objective, autocast

    def __call__(self, batch: Batch) -> LossRecord:
        """Set every parameter's ``grad`` to this batch's gradient and give the record, detached."""
        with self.autocast():
            record = self.objective.record(batch)
        _assign(self.objective, _gradients(record, list(self.objective.parameters())))
        return _detached(record)


class CompiledStep(EagerStep):
    """`EagerStep` as one graph, compiled for the shape of the first batch; other shapes run eager.

    Args:
        backend: of ``torch.compile``.
        mode: of ``torch.compile``. ``reduce-overhead`` uses CUDA graphs: a step then overwrites the record and the
            gradients of the step before.
    """

    def __init__(
        self,
        objective: Objective,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        *,
        backend: str = "inductor",
        mode: str | None = None,
    ) -> None:
        super().__init__(objective, autocast)
        self.backend, self.mode = backend, mode
        self._graph: Callable[..., tuple[list[Tensor], list[Tensor]]] | None = None
        self._signature: tuple[Any, ...] | None = None
        self._record_spec: pytree.TreeSpec | None = None

    def __call__(self, batch: Batch) -> LossRecord:
        if self._graph is None:
            self.compile(batch)
        if self._signature != self._sign(batch):
            return super().__call__(batch)
        assert self._graph is not None and self._record_spec is not None
        if self.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()  # the last step's gradients are used up; see the class
        inputs = _tensors(batch)
        parameters, buffers = list(self.objective.parameters()), list(self.objective.buffers())
        with torch.no_grad():
            record, gradients = self._graph(parameters, buffers, inputs)
        _assign(self.objective, gradients)
        return pytree.tree_unflatten(record, self._record_spec)

    def _sign(self, batch: Batch) -> tuple[Any, ...]:
        kinds = tuple((t.shape, t.stride(), t.dtype, t.device) for t in _tensors(batch))
        return self.objective.training, tuple(batch.shared), tuple(batch.factors), kinds

    def compile(self, batch: Batch) -> None:
        """Capture and compile the step for batches of this shape; no weight, statistic or random state moves."""
        names = [name for name, _ in self.objective.named_parameters()]
        buffer_names = [name for name, _ in self.objective.named_buffers()]
        shared, factors = tuple(batch.shared), tuple(batch.factors)

        def step(
            parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]
        ) -> tuple[list[Tensor], list[Tensor]]:
            leaves = [channels_last(parameter.detach()).requires_grad_() for parameter in parameters]
            images, *rest = inputs
            again = Batch(images, dict(zip(shared, rest)), dict(zip(factors, rest[len(shared) :])))  # noqa: B905
            state = dict(zip(names, leaves, strict=True)) | dict(zip(buffer_names, buffers, strict=True))
            with self.autocast():
                record = functional_call(_Recorder(self.objective), _prefixed(state), (again,))
            gradients = [_laid_out(g, p) for g, p in zip(_gradients(record, leaves), parameters, strict=True)]
            flat, self._record_spec = pytree.tree_flatten(_detached(record))
            return flat, gradients

        # The step is run twice on copies of the buffers, so that no running statistic is moved by it, and with the
        # random state put back, so that a compiled run draws the same noise as an eager one. Pyro's validation reads
        # values back, which a trace cannot.
        def arguments() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
            # The very kinds of tensors that a step passes: another kind, and the first step would compile once more.
            buffers = [buffer.clone() for buffer in self.objective.buffers()]
            return list(self.objective.parameters()), buffers, _tensors(batch)

        # torch would look at every parameter before every step whether it is still what was compiled for, which takes
        # a hundredth of a small step: that is known here, and of the batch the signature knows it.
        options = {**list_mode_options(self.mode or "default"), "guard_filter_fn": lambda guards: [False] * len(guards)}
        with forked_random_state(batch.images.device), pyro.validation_enabled(False):
            traced = make_fx(step, decomposition_table=DECOMPOSITIONS)(*arguments())
            graph = torch.compile(traced, fullgraph=True, backend=self.backend, options=options)
            with torch.no_grad():
                graph(*arguments())
        self._graph, self._signature = graph, self._sign(batch)


class _Recorder(nn.Module):
    """The record as a module's forward, which is what ``functional_call`` can call."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch) -> LossRecord:
        return self.objective.record(batch)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"objective.{name}": tensor for name, tensor in state.items()}


def _detached(record: LossRecord) -> LossRecord:
    return LossRecord(*pytree.tree_map(torch.detach, tuple(record)))


def _gradients(record: LossRecord, leaves: list[Any]) -> list[Tensor]:
    """Zeros for a parameter that has no part in the loss, as a user's network may hold one."""
    return list(torch.autograd.grad(total(record), leaves, allow_unused=True, materialize_grads=True))


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient in its parameter's memory format, which fused optimizers take for granted."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _assign(objective: Objective, gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
        parameter.grad = gradient


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.images, *batch.shared.values(), *batch.factors.values()]


def why_not_compiled() -> str | None:
    """Why a compiled step cannot be had here, in words; None where it can.

    Inductor on a CPU and Triton on CUDA both need a C++ compiler and Python's headers: they are looked for, nothing is
    tried.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "there is no C++ compiler"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers are not installed"
    return None
