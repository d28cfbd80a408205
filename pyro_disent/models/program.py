"""Modules that are Pyro programs, and whose parameters plain `pyro.infer.SVI` really trains."""

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
    """The random state of the CPU, and of this device where it has its own, put back afterwards."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def hashed(*parts: int | str) -> int:
    """A seed of 32 bits that follows from these alone: a generator on a CPU keeps no more bits of its seed.

    Sums and shifts of several numbers would give some of them one seed.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


def seed_random_state(seed: int, device: torch.device) -> None:
    """Seed the CPU, and this device where it is another.

    ``torch.manual_seed`` would seed every CUDA device, and takes fifty times as long: this is done at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # at once back where it has been; there is no generator before
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


@contextlib.contextmanager
def keeping_modes(*modules: nn.Module) -> Iterator[None]:
    """Leaves each part of modules in the mode that it had: what is frozen inside of a training model stays so."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode for modules and all their parts; each part is left in the mode that it had.

    No part's `train` is called: what one of its own does besides is not done behind the user's back.
    """
    with keeping_modes(*modules):
        for module in modules:
            for part in module.modules():
                part.training = False
        yield


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """float32 on the CPU, where nothing else is said, whatever the user's defaults, which are put back afterwards."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    # A default device is asked at each operation: not entered where it would change nothing.
    with contextlib.nullcontext() if device.type == "cpu" else torch.device("cpu"):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """What a network gives may be in half precision; densities, samples and terms never are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def first_parameter(module: nn.Module) -> nn.Parameter:
    """``next(module.parameters())``, which would make a list of all parts: a step asks several times.

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
    program registers its parameters as param sites each time it runs, unless Pyro is told that modules keep their own
    (``pyro.settings.context(module_local_params=True)``): then Pyro's store stays empty, as in our own training loop.
    Parameters that are frozen (``requires_grad=False``) are no param sites: Pyro would train them.

    Param sites are named ``<store_name>.<parameter's name>``. Without a name given to it, a program has one with a
    serial number, good for this process alone, and never with ``id(self)``: ids are reused, and a model that finds the
    parameters of a dead one under its name would not be trained. With a name, values that were loaded into Pyro's store
    are copied into the program's own parameters when it is next used, see `param_store.take_up`.

    A copy, or what is unpickled, keeps a given name where no living program has it, and gets a serial one otherwise.
    """

    def __getstate__(self) -> Any:
        for parameter in self.parameters():
            vars(parameter).pop("unconstrained", None)  # Pyro's weak reference, which it makes anew where it needs it
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
        """As of every module, once values that wait for this program in Pyro's store were taken up."""
        param_store.take_up(self)
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._weights_loaded = True
