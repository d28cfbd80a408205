"""Modules that are Pyro programs, so that plain `pyro.infer.SVI` trains their parameters."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_disent.errors import InputError
from pyro_disent.models import param_store


def forked_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Restore the random state of the CPU, and of this device if it is another one, afterwards."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def hashed(*parts: int | str) -> int:
    """A seed of 32 bits from these parts; a CPU generator uses no more bits.

    Sums and shifts of several numbers would give some of them the same seed.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


def seed_random_state(seed: int, device: torch.device) -> None:
    """Seed the CPU, and this device if it is another one.

    ``torch.manual_seed`` seeds every CUDA device and takes fifty times as long; this is called at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # creates the generators; returns at once on later calls
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


@contextlib.contextmanager
def keeping_modes(*modules: nn.Module) -> Iterator[None]:
    """Restore each part's mode afterwards: a part in evaluation mode inside a training model keeps it."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode for modules and all their parts; each part's mode is restored afterwards.

    `train` is not called, as a part's override of it may have side effects.
    """
    with keeping_modes(*modules):
        for module in modules:
            for part in module.modules():
                part.training = False
        yield


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """Make float32 and the CPU the defaults; the user's defaults are restored afterwards."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    # A default device costs time at each operation: enter it only where it changes something.
    with contextlib.nullcontext() if device.type == "cpu" else torch.device("cpu"):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """A network's output may be in half precision; densities, samples and terms never are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def first_parameter(module: nn.Module) -> nn.Parameter:
    """``next(module.parameters())`` without listing all parts, as a step calls this several times.

    Raises:
        InputError: where there is none.
    """
    parts = [module]
    while parts:
        part = parts.pop()
        for parameter in part._parameters.values():
            if parameter is not None:
                return parameter
        parts.extend(each for each in reversed(list(part._modules.values())) if each is not None)
    raise InputError(f"{type(module).__name__} has no parameters")


class Program(param_store.Named):
    """An ``nn.Module`` whose ``forward`` is a Pyro program.

    `pyro.infer.SVI` finds parameters only through param sites, so a plain module under it is silently not trained. A
    program registers its parameters as param sites each time it runs, except under
    ``pyro.settings.context(module_local_params=True)``: then Pyro's store stays empty, as in our training loop.
    Parameters that are frozen (``requires_grad=False``) are not param sites: Pyro would train them.

    Param sites are named ``<store_name>.<parameter's name>``. By default the store name has a serial number, valid in
    this process alone. It is not ``id(self)``: ids are reused, and a model with the name of a dead one would not be
    trained. If the user names the program, values that were loaded into Pyro's store are copied into its parameters at
    its next use, see `param_store.take_up`.

    A copied or unpickled program keeps the user's name if no living program has it, and else gets a serial one.
    """

    def __getstate__(self) -> Any:
        for parameter in self.parameters():
            vars(parameter).pop("unconstrained", None)  # Pyro's weak reference, which it makes again if needed
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        name = self._store_name
        keeps = param_store.is_given(name) and name not in param_store.living
        self.store_name = name if keeps else param_store.serial_name(type(self).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not pyro.settings.get("module_local_params"):
            param_store.share(self)
        return super().__call__(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As for every module, after taking values that were loaded into Pyro's store for this program."""
        param_store.take_up(self)
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._weights_loaded = True
