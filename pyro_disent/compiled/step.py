"""A whole training step, loss and gradient, traced through Pyro into one compiled graph.

``torch.compile`` on a Pyro program breaks at every effect handler. A trace of the forward pass alone silently loses
detached latents, frozen opponents and straight-through samples, which exist in autograd only. Here loss *and* gradient
are traced together, so a compiled step computes the same numbers as an eager one (on a CPU up to rounding in float32,
see `cpu`). Weights, masks and factors are inputs of the graph; inputs that it was not compiled for run eager.
"""

from __future__ import annotations

import contextlib
import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyro
import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from pyro_disent.batch import Batch
from pyro_disent.compiled.cpu import DECOMPOSITIONS, channels_last
from pyro_disent.errors import InputError
from pyro_disent.models.program import forked_random_state
from pyro_disent.objectives.elbo import ALL_FROZEN, Objective, total
from pyro_disent.objectives.step import LossRecord


class EagerStep:
    """One evaluation of an objective and its gradient, operation by operation.

    Args:
        objective: the objective to minimize.
        autocast: a context for the forward, as Fabric's ``fabric.autocast``.
    """

    is_compiled: ClassVar[bool] = False

    def __init__(
        self,
        objective: Objective,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.objective, self.autocast = objective, autocast

    def __call__(self, batch: Batch) -> LossRecord:
        """Set every parameter's ``grad`` to this batch's gradient and return the record, detached.

        Frozen parameters (``requires_grad=False``) get no gradient.

        Raises:
            InputError: where nothing is left to train.
        """
        with self.autocast():
            record = self.objective.record(batch)
        parameters = list(self.objective.parameters())
        learning = _learning(parameters)
        _assign(parameters, _laid_out(_gradients(record, learning), learning))
        return record.map(torch.detach)


class CompiledStep(EagerStep):
    """`EagerStep` as one graph, compiled for the first batch and for the state of the model at that time.

    A single step runs eager where batch, parameters or buffers have another shape, layout, type or device than they had
    then, where a part of the model has another mode (training or evaluation), or where other parameters are frozen.

    Args:
        backend: ``inductor``, or ``eager`` for the traced graph as it is.
        mode: Inductor's, as in ``torch.compile``. ``reduce-overhead`` uses CUDA graphs: a step then overwrites the
            record and the gradients of the step before.
    """

    is_compiled: ClassVar[bool] = True

    def __init__(
        self,
        objective: Objective,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        *,
        backend: Literal["inductor", "eager"] = "inductor",
        mode: str | None = None,
    ) -> None:
        super().__init__(objective, autocast)
        self.backend, self.mode = backend, mode
        self._graph: Callable[..., Sequence[Tensor]] | None = None
        self._signature: tuple[Any, ...] | None = None
        self._record_spec: pytree.TreeSpec | None = None

    def __call__(self, batch: Batch) -> LossRecord:
        batch = self.objective.sharing(Batch.of(batch))
        if self._graph is None:
            self.compile(batch)
        parameters, buffers, inputs, signature = self._arguments(batch)
        if self._signature != signature:
            return super().__call__(batch)
        assert self._graph is not None and self._record_spec is not None
        if self.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()  # the last step's gradients are no longer needed; see the class
        with torch.no_grad():
            results = self._graph(*parameters, *buffers, *inputs)
        record = self._record_spec.num_leaves
        _assign(parameters, results[record:])
        return pytree.tree_unflatten(results[:record], self._record_spec)

    def _arguments(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor], tuple[Any, ...]]:
        """The graph's parameters, buffers and inputs from a batch, and the signature of those it is valid for."""
        modules = list(self.objective.modules())
        # `parameters()` and `buffers()` would give the same, but each walks through all modules again.
        parameters = _different([part._parameters for part in modules])
        buffers = _different([part._buffers for part in modules])
        tables = _tables(batch)
        inputs = [batch.images, *(tensor for table in tables for tensor in table.values())]
        kinds = tuple(
            (each.shape, each.stride(), each.dtype, each.device, each.requires_grad)
            for each in (*parameters, *buffers, *inputs)
        )
        modes = tuple(module.training for module in modules)
        return parameters, buffers, inputs, (modes, tuple(map(tuple, tables)), kinds)

    def compile(self, batch: Batch) -> None:
        """Capture and compile the step for batches of this shape; no weight, statistic or random state moves."""
        batch = self.objective.sharing(batch)
        names = [name for name, _ in self.objective.named_parameters()]
        buffer_names = [name for name, _ in self.objective.named_buffers()]
        tables = [tuple(table) for table in _tables(batch)]
        module_parameters, module_buffers, inputs, signature = self._arguments(batch)

        def step(*tensors: Tensor) -> list[Tensor]:
            parameters, rest = tensors[: len(names)], tensors[len(names) :]
            buffers, (images, *labels) = rest[: len(buffer_names)], rest[len(buffer_names) :]
            leaves = [
                channels_last(parameter.detach()).requires_grad_(original.requires_grad)
                for parameter, original in zip(parameters, module_parameters, strict=True)
            ]
            values = iter(labels)
            shared, factors, observed, counts = ({name: next(values) for name in table} for table in tables)
            example = Batch.unchecked(images, shared, factors, observed=observed, counts=counts)
            state = dict(zip(names, leaves, strict=True)) | dict(zip(buffer_names, buffers, strict=True))
            with self.autocast():
                record = functional_call(_Recorder(self.objective), _prefixed(state), (example,))
            gradients = _laid_out(_gradients(record, _learning(leaves)), _learning(module_parameters))
            flat, self._record_spec = pytree.tree_flatten(record.map(torch.detach))
            return [*flat, *gradients]

        # Inputs are separate tensors: two latents of this batch may share one mask, and those of another batch may not.
        # Buffers are copies, so that no running statistic moves. The random state is restored, so that a compiled run
        # draws the noise of an eager one. Pyro's validation reads values back, which a trace cannot do.
        copies = [
            *module_parameters,
            *(buffer.clone() for buffer in module_buffers),
            *(tensor.detach() for tensor in inputs),
        ]
        with forked_random_state(batch.images.device), pyro.validation_enabled(False), _one_fake_mode():
            traced = make_fx(step, decomposition_table=DECOMPOSITIONS)(*copies)
            if self.backend == "inductor":
                self._graph = _compiled_by_inductor(traced, copies, self.mode)
            else:
                self._graph = traced
        self._signature = signature


def _one_fake_mode() -> contextlib.AbstractContextManager[Any]:
    """Tracing in one mode that describes tensors without their values.

    Without it, the trace makes one for each tensor, and each of them reads the whole stack: a third of the time.
    """
    return tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))


def _compiled_by_inductor(graph: GraphModule, examples: list[Any], mode: str | None) -> Callable[..., Any]:
    """A graph's kernels, called directly.

    ``torch.compile`` would trace the graph a second time, and check at every call whether it is still valid, as the
    step's signature already does.
    """
    # This import takes a second, and an eager step does not need it.
    import torch._inductor as inductor
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # Inductor caches its kernels on disk only if it knows which sizes are fixed: all of them.
    fixed = TracingContext(FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True, allow_non_fake_inputs=True))
    with torch.no_grad(), tracing(fixed), warnings.catch_warnings():
        # The user chose the precision of matrix products.
        warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
        # Inductor's own generator would draw other noise than an eager step does.
        options = {**inductor.list_mode_options(mode or "default"), "fallback_random": True}
        return inductor.compile(graph, examples, options=options)


class _Recorder(nn.Module):
    """The record as a module's forward, which ``functional_call`` needs."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch) -> LossRecord:
        return self.objective.record(batch)


def _tables(batch: Batch) -> tuple[Mapping[str, Tensor], ...]:
    """What a step reads of a batch beside its images."""
    return batch.shared, batch.factors, batch.observed, batch.counts


def _different(tensors: Iterable[Mapping[str, Tensor | None]]) -> list[Tensor]:
    """The tensors of all modules, each once."""
    return list(dict.fromkeys(each for table in tensors for each in table.values() if each is not None))


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"objective.{name}": tensor for name, tensor in state.items()}


def _learning(parameters: list[Any]) -> list[Any]:
    """The parameters that are not frozen."""
    return [parameter for parameter in parameters if parameter.requires_grad]


def _gradients(record: LossRecord, leaves: list[Any]) -> list[Tensor]:
    """The loss's gradients; zeros for a parameter that it does not depend on, as a user's network may have one."""
    loss = total(record)
    if not leaves or not loss.requires_grad:
        raise InputError(ALL_FROZEN)
    return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


def _laid_out(gradients: list[Tensor], parameters: list[Any]) -> list[Tensor]:
    """Each gradient in its parameter's memory format, which fused optimizers require."""
    return [
        gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]


def _assign(parameters: list[Any], gradients: Sequence[Tensor]) -> None:
    """Set ``grad``: None for a frozen parameter, as its older gradient would still reach the optimizer."""
    remaining = iter(gradients)
    for parameter in parameters:
        parameter.grad = next(remaining) if parameter.requires_grad else None


def why_not_compiled() -> str | None:
    """Why a step cannot be compiled on this machine, in words; None where it can.

    Inductor on a CPU and Triton on CUDA both need a C++ compiler and Python's headers. This only looks for them, and
    compiles nothing.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "there is no C++ compiler"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers are not installed"
    return None
