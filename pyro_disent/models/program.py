"""Modules that are Pyro programs, and whose parameters plain `pyro.infer.SVI` really trains."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pyro
import torch
from torch import Tensor, nn

_serial = itertools.count()


def forked_random_state(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The random state of the CPU, and of this device where it has its own, put back afterwards."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def seed_random_state(seed: int, device: torch.device) -> None:
    """Seed the CPU, and this device where it is another: ``torch.manual_seed`` would seed every CUDA device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def at_least_float32(x: Tensor) -> Tensor:
    """What a network gives may be in half precision; densities, samples and terms never are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Program(nn.Module):
    """An ``nn.Module`` whose ``forward`` is a Pyro program.

    `pyro.infer.SVI` finds parameters only through param sites, so a plain module under it is silently not trained. A
    program registers its parameters as param sites each time it runs, unless Pyro is told that modules keep their own
    (``pyro.settings.context(module_local_params=True)``): then Pyro's store stays empty, as in our own training loop.

    Site names carry a serial number and never ``id(self)``: ids are reused, and a model that finds the parameters of a
    dead one under its name would not be trained. A copy or an unpickled program gets a number of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._store_name = self._new_store_name()

    def _new_store_name(self) -> str:
        return f"{type(self).__name__}-{next(_serial)}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._store_name = self._new_store_name()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._share_parameters()
        return super().__call__(*args, **kwargs)

    def _share_parameters(self) -> None:
        if pyro.settings.get("module_local_params"):
            return
        for name, parameter in self.named_parameters():
            stored = pyro.param(f"{self._store_name}.{name}", parameter)
            # A store that holds another tensor under this name would be trained in this one's place.
            if stored._cdata != parameter._cdata:
                raise RuntimeError(
                    f"Pyro's parameter store holds another tensor for {name} of this {type(self).__name__} (was it "
                    "replaced, or is its memory not contiguous?): call pyro.clear_param_store() or copy the module"
                )
