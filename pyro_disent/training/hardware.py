"""Where a run is trained: device, precision, processes and threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from pyro_disent.errors import InputError
from pyro_disent.threads import Threads, choose
from pyro_disent.training.config import FitConfig, check_parts

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric


def resolve_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: for anything else, and for CUDA where there is none.
    """
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda") or (":" in name and (kind == "cpu" or not number.isdecimal())):
        raise InputError(f"`device={name}` is not one of auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        instead = "" if torch.cuda.device_count() else ": use `device=cpu`"
        raise InputError(f"`device={name}`: this machine has {torch.cuda.device_count() or 'no'} CUDA devices{instead}")
    return torch.device(name)


def launched_fabric(config: FitConfig) -> Fabric:
    """Fabric on the devices and in the precision of a configuration, with all its processes.

    Raises:
        InputError: for devices that do not exist, or that are not those that torchrun started processes for.
    """
    device = resolve_device(config.device)
    nodes = machines(config)
    if device.index is not None and config.devices > 1:
        raise InputError(f"`device={config.device}` is one device: leave its number out for `devices={config.devices}`")
    devices = config.devices if device.index is None else [device.index]
    from pyro_disent.training.fabric import launched_quietly  # a second to import, which only training needs

    return launched_quietly(accelerator=device.type, devices=devices, num_nodes=nodes, precision=precision(config))


def machines(config: FitConfig) -> int:
    """The machines that ``torchrun`` started processes on; 1 without it.

    Raises:
        InputError: where it started another number of processes than the configuration has devices, and where a batch
            cannot be divided among all of them.
    """
    if not torch.distributed.is_torchelastic_launched():
        return 1
    here, everywhere = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if here != config.devices:
        raise InputError(
            f"torchrun started {here} processes on this machine, and `devices={config.devices}` wants "
            f"{config.devices}: the two numbers have to be equal"
        )
    check_parts(config.batch_size, everywhere, config.accumulate)
    return everywhere // here


def precision(config: FitConfig) -> Any:
    """Fabric's precision; ``auto`` is bfloat16 where the device has it."""
    if config.precision != "auto":
        if config.precision not in ("32", "bf16-mixed"):
            raise InputError(f"`precision={config.precision}` is not one of auto, 32, bf16-mixed")
        return {"32": "32-true"}.get(config.precision, config.precision)
    if resolve_device(config.device).type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"


def thread_count(config: FitConfig, recorded: int | None, device: torch.device, views: int, processes: int) -> Threads:
    """Threads of the CPU to train with: as set, as recorded, or the fastest now; on CUDA those that torch has."""
    if config.threads is not None:
        return Threads(config.threads, "as set")
    if device.type != "cpu":
        return Threads(torch.get_num_threads(), "torch's own")
    rows = views * config.batch_size // (processes * config.accumulate)
    return choose(rows, recorded=recorded, processes=processes)
