"""From a configuration to what is trained, on what, and how."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from pyro_disent.batch import Batch
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import LIKELIHOODS
from pyro_disent.models.networks import Networks, networks
from pyro_disent.objectives import methods
from pyro_disent.objectives.compiled import CompiledStep, EagerStep, why_not_compiled
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.terms import edges_by_quantile, edges_by_range
from pyro_disent.training.config import FitConfig
from pyro_disent.training.optimizer import Adam
from pyro_disent.training.run import RunFolder, Which

GIVEN = "given"
"""In place of a name, what was handed over from Python: a run's networks, or its data."""
COMPILED = "compiled"
WORTH_COMPILING = 2000  # steps below which compiling for the first time takes longer than it saves


def load_data(
    config: FitConfig,
    progress: Callable[[int, int], None] | None = None,
    recorded: Mapping[str, str] | None = None,
) -> DataSet:
    """The data set a configuration names.

    Args:
        recorded: the source that a run recorded: then the data comes from there, and must be what it was.

    Raises:
        InputError: where it cannot be had, or is not what it was.
    """
    if config.data == GIVEN or (recorded is not None and recorded["kind"] == GIVEN):
        raise InputError(
            "the data was handed over from Python, which has to hand it over again: evaluate(run, data=...)"
        )
    source, root = config.source, config.data_root
    if recorded is not None:
        source, root = "auto", None
        if config.data in registry.names():  # a folder of images is its own source
            if recorded["kind"] in ("embedded", "local"):
                source = recorded["kind"]
            root = recorded["location"] if recorded["kind"] == "local" else None
    data = registry.load(
        config.data,
        source=source,
        root=Path(root) if root else None,
        limit=config.limit,
        progress=progress,
        **config.options,
    )
    if recorded is not None:
        check_unchanged(data, recorded)
    return data


def check_unchanged(data: DataSet, recorded: Mapping[str, str]) -> None:
    """Raises InputError for data that is not what a run recorded."""
    if data.source.sha256 != recorded["sha256"]:
        raise InputError(
            f"this run was trained on data of sha256 {recorded['sha256'][:12]}, but {data.source.location} has "
            f"{data.source.sha256[:12]}"
        )


def load_weights(objective: Objective, folder: RunFolder, which: Which) -> None:
    """Give an objective the weights of a run's checkpoint.

    Raises:
        InputError: where they are another model's.
    """
    try:
        objective.load_state_dict(folder.weights(which))
    except RuntimeError as error:
        raise InputError(f"the weights of {folder.path} are those of another model or method") from error


def build(
    config: FitConfig,
    image_shape: tuple[int, int, int],
    edges: dict[str, list[float]],
    given: Networks | None = None,
    unit_names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[FactoredVAE, Objective]:
    """Model and objective of a configuration, with fresh weights from torch's random state.

    Args:
        edges: factor's name -> inner edges of the bins a predictor sees it in.
        given: encoder and decoder of a configuration whose network is `GIVEN`.
        unit_names: latent's name -> the factor that each of its units stands for.

    Raises:
        InputError: for names that do not exist, and networks that are missing or do not fit the images.
    """
    stands_for = unit_names or {}
    latents = tuple(
        Latent(name, units, unit_names=tuple(stands_for.get(name, ()))) for name, units in config.latents.items()
    )
    if config.likelihood not in LIKELIHOODS:
        raise InputError(f"there is no likelihood {config.likelihood!r}; choose from {', '.join(LIKELIHOODS)}")
    if given is None and config.network == GIVEN:
        raise InputError("the networks were handed over from Python: load it by load(run, encoder=..., decoder=...)")
    width = sum(latent.width for latent in latents)
    encoder, decoder = given or networks(config.network)(image_shape, width)
    vae = FactoredVAE(latents, encoder, decoder, LIKELIHOODS[config.likelihood]())
    if vae.image_shape != tuple(image_shape):
        raise InputError(f"the decoder gives images of {vae.image_shape}, but the data has {tuple(image_shape)}")
    elbo = methods.build(
        config.method,
        methods.Setting(
            latents,
            {factor: torch.tensor(values) for factor, values in edges.items()},
            config.predictor_side,
            config.predictor_on,
        ),
        weights=config.weights,
        beta=config.beta,
        warmup_steps=config.warmup_steps,
    )
    return vae, elbo(vae.model, vae.guide)


def make_optimizer(objective: Objective, lr: float, opponent_lr: float | None = None) -> torch.optim.Optimizer:
    """Adam; each opponent is a parameter group of its own, with its term's betas, and its rate where none is given."""
    given = {} if opponent_lr is None else {"lr": opponent_lr}
    groups: list[dict[str, Any]] = [{"params": objective.vae_parameters()}]
    groups += [{"params": list(term.parameters()), **term.optimizer, **given} for term in objective.opponents()]
    return Adam(groups, lr=lr)


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


def make_step(
    objective: Objective, config: FitConfig, fabric: Fabric, steps: int, example: Batch
) -> tuple[EagerStep, str]:
    """The step, compiled where it is wanted and can be had, and how it is taken, in words.

    Args:
        example: a batch of the shape that will be trained on; it is compiled now, not at the first step.
    """
    eager = EagerStep(objective, fabric.autocast)
    if config.compile is False:
        return eager, "eager (--no-compile)"
    if config.compile is None and steps < WORTH_COMPILING:
        return eager, f"eager (fewer than {WORTH_COMPILING} steps)"
    if missing := why_not_compiled():
        return eager, f"eager ({missing})"
    mode = None if config.compile_mode == "default" else config.compile_mode
    compiled = CompiledStep(objective, fabric.autocast, mode=mode)
    start = time.perf_counter()
    try:
        compiled.compile(example)
    except Exception as error:  # compilers fail in ways of their own; what cannot be compiled runs eager, and says so
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return eager, f"eager (compiling failed: {reason[0]})"
    return compiled, f"{COMPILED} in {time.perf_counter() - start:.0f} s"


def resolve_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: for anything else, and for CUDA where there is none.
    """
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda") or (":" in name and (kind == "cpu" or not number.isdecimal())):
        raise InputError(f"--device {name} is not one of auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def make_fabric(config: FitConfig) -> Fabric:
    """Fabric on the devices and in the precision of a configuration."""
    device = resolve_device(config.device)
    if device.index is not None and config.devices > 1:
        raise InputError(f"--device {config.device} is one device: leave its number out for --devices {config.devices}")
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


def as_recorded(config: FitConfig, recorded: Mapping[str, Any]) -> FitConfig:
    """A configuration to go on with: what was chosen at the start stays, whatever this machine would choose."""
    if config.devices > 1:
        raise InputError("a run of several processes cannot be resumed: their random states are not recorded")
    return dataclasses.replace(
        config,
        device=recorded["device"],
        precision=recorded["precision"].removesuffix("-true"),
        compile=recorded["step"].startswith(COMPILED),
    )


def described(
    config: FitConfig,
    data: DataSet,
    edges: dict[str, list[float]],
    device: torch.device,
    how: str,
    init: RunFolder | None,
) -> dict[str, Any]:
    """What ``config.json`` holds: everything needed to build the model again, and what a result depends on."""
    return {
        "fit": config.to_json(),
        "source": data.source._asdict(),
        "image_shape": list(data.image_shape),
        "factors": [factor.name for factor in data.factors],
        "edges": edges,
        "unit_names": {latent: list(names) for latent, names in data.unit_names.items()},
        "init": None if init is None else str(init.path),
        "device": device.type,
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
        *(f"         {note}" for note in data.notes),
        f"model    {config.network}, {latents}, {config.likelihood}",
        f"step     {device}, precision {precision(config)}, {how}",
        f"training {config.method}: {steps} steps of {config.batch_size} images, {seen}",
    ]


def factor_edges(data: DataSet, config: FitConfig) -> dict[str, list[float]]:
    """factor's name -> inner edges of the bins a predictor sees it in, for factors that have them.

    Where a number of bins was asked for, they divide the factor's range (that of its training values, where none is
    known), or fill evenly with the training values. Factors that are no quantities keep a bin for each category.

    Raises:
        InputError: for bins of a factor that is not there or has categories, and of one that cannot fill them.
    """
    edges = {factor.name: list(factor.edges) for factor in data.factors if factor.edges}
    if config.bins is None:
        return edges
    quantities = [factor for factor in data.factors if not factor.categories]
    asked = config.bins if isinstance(config.bins, dict) else {factor.name: config.bins for factor in quantities}
    if unknown := asked.keys() - {factor.name for factor in quantities}:
        raise InputError(
            f"--bins names {', '.join(sorted(unknown))}; factors of {data.name} that can be divided into bins: "
            f"{', '.join(factor.name for factor in quantities) or 'none'}"
        )

    @functools.cache
    def observed() -> dict[str, torch.Tensor]:
        """The factors of the training images, all of which are made for it: asked for only where they are needed."""
        return data.train.examples(config.seed).factors

    for factor in quantities:
        if (bins := asked.get(factor.name)) is None:
            continue
        if config.bins_by == "range":
            low, high = factor.range or _extent(observed()[factor.name])
            found = edges_by_range(low, high, bins)
        else:
            found = edges_by_quantile(observed()[factor.name], bins)
        edges[factor.name] = found.tolist()
        if not (found.diff() > 0).all() or not found.isfinite().all():
            raise InputError(f"the values of {factor.name} cannot fill {bins} bins: give --bins {factor.name}=N fewer")
    return edges


def _extent(values: torch.Tensor) -> tuple[float, float]:
    """Lowest and highest of the values that are known."""
    known = values[values.isfinite()]
    return float(known.min()), float(known.max())


def versions() -> dict[str, str]:
    """What a result depends on."""
    packages = ("pyro-disent", "torch", "pyro-ppl", "numpy", "lightning-fabric", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
    }
