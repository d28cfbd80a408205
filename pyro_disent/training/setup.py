"""From a configuration to what is trained, on what, and how."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import LIKELIHOODS
from pyro_disent.models.networks import networks
from pyro_disent.objectives import methods
from pyro_disent.objectives.compiled import CompiledStep, EagerStep, why_not_compiled
from pyro_disent.objectives.elbo import Objective
from pyro_disent.training.config import FitConfig

WORTH_COMPILING = 1000  # steps below which compiling takes longer than it saves


def load_data(config: FitConfig, progress: Callable[[int, int], None] | None = None) -> DataSet:
    """The data set a configuration names."""
    return registry.load(
        config.data,
        source=config.source,
        root=Path(config.data_root) if config.data_root else None,
        limit=config.limit,
        progress=progress,
        **config.options,
    )


def build(
    config: FitConfig, image_shape: tuple[int, int, int], edges: dict[str, list[float]]
) -> tuple[FactoredVAE, Objective]:
    """Model and objective of a configuration, with fresh weights from torch's random state.

    Args:
        edges: factor's name -> inner edges of the bins a predictor sees it in.
    """
    latents = tuple(Latent(name, units) for name, units in config.latents.items())
    if config.likelihood not in LIKELIHOODS:
        raise InputError(f"there is no likelihood {config.likelihood!r}; choose from {', '.join(LIKELIHOODS)}")
    encoder, decoder = networks(config.network)(image_shape, sum(latent.width for latent in latents))
    vae = FactoredVAE(latents, encoder, decoder, LIKELIHOODS[config.likelihood]())
    elbo = methods.build(
        config.method,
        methods.Setting(latents, {factor: torch.tensor(values) for factor, values in edges.items()}),
        weights=config.weights,
        beta=config.beta,
        warmup_steps=config.warmup_steps,
    )
    return vae, elbo(vae.model, vae.guide)


def make_optimizer(objective: Objective, lr: float) -> torch.optim.Optimizer:
    """Adam; each opponent is a parameter group of its own, with its term's learning rate and betas."""
    groups: list[dict[str, Any]] = [{"params": objective.vae_parameters()}]
    groups += [{"params": list(term.parameters()), **term.optimizer} for term in objective.opponents()]
    return torch.optim.Adam(groups, lr=lr, fused=True)


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


def make_step(objective: Objective, config: FitConfig, fabric: Fabric, steps: int) -> tuple[EagerStep, str]:
    """The step, compiled where it is wanted and can be had, and how it is taken, in words."""
    wanted = steps >= WORTH_COMPILING if config.compile is None else config.compile
    if not wanted:
        reason = "--no-compile" if config.compile is False else f"fewer than {WORTH_COMPILING} steps"
        return EagerStep(objective, fabric.autocast), f"eager ({reason})"
    if missing := why_not_compiled(fabric.device):
        return EagerStep(objective, fabric.autocast), f"eager ({missing})"
    mode = "reduce-overhead" if fabric.device.type == "cuda" else None
    return CompiledStep(objective, fabric.autocast, mode=mode), "compiled"


def resolve_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: for anything else, and for CUDA where there is none.
    """
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdigit())):
        raise InputError(f"--device {name} is not one of auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def make_fabric(config: FitConfig) -> Fabric:
    """Fabric on the devices and in the precision of a configuration."""
    device = resolve_device(config.device)
    devices = config.devices if device.index is None else [device.index]
    return Fabric(accelerator=device.type, devices=devices, precision=precision(config))


def precision(config: FitConfig) -> Any:
    """Fabric's precision; ``auto`` is float32 for the paper's setting, else bfloat16 where the device has it."""
    if config.precision != "auto":
        if config.precision not in ("32", "bf16-mixed"):
            raise InputError(f"--precision {config.precision} is not one of auto, 32, bf16-mixed")
        return {"32": "32-true"}.get(config.precision, config.precision)
    if config.preset == "paper":
        return "32-true"
    if resolve_device(config.device).type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"


def described(config: FitConfig, data: DataSet, how: str) -> dict[str, Any]:
    """What ``config.json`` holds: everything needed to build the model again, and what a result depends on."""
    return {
        "fit": config.to_json(),
        "source": data.source._asdict(),
        "image_shape": list(data.image_shape),
        "factors": [factor.name for factor in data.factors],
        "edges": factor_edges(data),
        "precision": precision(config),
        "step": how,
        "versions": versions(),
    }


def announced(config: FitConfig, data: DataSet, device: torch.device, how: str, steps: int, views: int) -> list[str]:
    """What a user is told before the first step."""
    latents = ", ".join(f"{name}={units}" for name, units in config.latents.items())
    seen = "one view each" if views == 1 else f"{views} views each"
    return [
        f"data     {config.data}: {len(data.train)} training images, {data.source}",
        f"model    {config.network}, {latents}, {config.likelihood}",
        f"step     {device}, precision {precision(config)}, {how}",
        f"training {config.method}: {steps} steps of {config.batch_size} images, {seen}",
    ]


def factor_edges(data: DataSet) -> dict[str, list[float]]:
    """factor's name -> inner edges of the bins a predictor sees it in, for factors that have them."""
    return {factor.name: list(factor.edges) for factor in data.factors if factor.edges}


def versions() -> dict[str, str]:
    """What a result depends on."""
    packages = ("pyro-disent", "torch", "pyro-ppl", "numpy", "lightning-fabric", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
    }
