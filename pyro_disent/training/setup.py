"""From a configuration to what is trained, on what, and how."""

from __future__ import annotations

import functools
import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pyro_disent.batch import Batch
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.errors import InputError
from pyro_disent.models import table
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent, shared_by
from pyro_disent.models.likelihoods import likelihood
from pyro_disent.models.networks import Networks, networks
from pyro_disent.models.program import forked_random_state
from pyro_disent.models.specification import LatentSpec, build_latents
from pyro_disent.objectives import methods
from pyro_disent.objectives.compiled import CompiledStep, EagerStep, why_not_compiled
from pyro_disent.objectives.elbo import ALL_FROZEN, DisentanglingELBO, Objective
from pyro_disent.objectives.terms import edges_by_quantile, edges_by_range
from pyro_disent.objectives.weights import WarmUp
from pyro_disent.pixels import ImageShape
from pyro_disent.threads import Threads, choose
from pyro_disent.training.config import FitConfig
from pyro_disent.training.given import GIVEN as GIVEN
from pyro_disent.training.given import Given
from pyro_disent.training.optimizer import Adam
from pyro_disent.training.record import RunRecord
from pyro_disent.training.run import RunFolder

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric

WORTH_COMPILING = 2000  # steps below which compiling for the first time takes longer than it saves


def load_data(
    config: FitConfig,
    progress: Callable[[int, int], None] | None = None,
    recorded: Source | None = None,
) -> DataSet:
    """The data set a configuration names.

    Args:
        recorded: the source that a run recorded: then the data comes from there, and must be what it was.

    Raises:
        InputError: where it cannot be had, or is not what it was.
    """
    if config.data == GIVEN or (recorded is not None and recorded.kind == GIVEN):
        raise InputError(
            "the data was handed over from Python, which has to hand it over again: run.evaluate(data), and "
            "pyro_disent.fit(data=..., resume=...) to go on"
        )
    source, root = config.source, config.data_root
    if recorded is not None:
        source, root = "auto", None
        if config.data in registry.names():  # a folder of images is its own source
            if recorded.kind in ("embedded", "local"):
                source = recorded.kind
            root = recorded.location if recorded.kind == "local" else None
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


def check_unchanged(data: DataSet, recorded: Source) -> None:
    """Raises InputError for data that is not what a run recorded."""
    if data.source.sha256 != recorded.sha256:
        raise InputError(
            f"this run was trained on data of sha256 {recorded.sha256[:12]}, but {data.source.location} has "
            f"{data.source.sha256[:12]}"
        )


def latents(config: FitConfig, data: DataSet, given: Given | None = None) -> tuple[Latent, ...]:
    """The latents of a configuration, made for the factors of a data set; those of a vae that was handed over.

    Raises:
        InputError: for what they cannot explain in this data.
    """
    given = given or Given()
    made = _explaining(config.latents, data) if given.vae is None else _of_vae(given.vae, data)
    several = len(data.pairs.kinds) > 1 and not data.pairs.always
    if several and (common := [latent.name for latent in made if latent.explains == "common"]):
        kinds = ", ".join("+".join(kind) for kind in data.pairs.kinds)
        raise InputError(
            f"{', '.join(common)} stands for what pairs have in common, and pairs of several kinds ({kinds}) have "
            "nothing in common: say which factors each latent explains, or leave it out by 0 units"
        )
    if given.needs_pairs(config.method) and not _ever_shared(made, data):
        raise InputError(
            f"the method {config.method!r} is about what pairs share, and none of {', '.join(config.latents)} is ever "
            "shared: give a latent that explains common, or factors that can be equal"
        )
    return made


def _explaining(specs: Mapping[str, LatentSpec], data: DataSet) -> tuple[Latent, ...]:
    factors = [factor.name for factor in data.factors]
    return build_latents(specs, factors, of_pairs=data.of_pairs, joint=data.joint)


def _of_vae(vae: FactoredVAE, data: DataSet) -> tuple[Latent, ...]:
    """A vae's own latents: what is not the name of a factor would never be shared, without a word."""
    specs = {latent.name: LatentSpec(latent.units, explains=latent.explains) for latent in vae.latents}
    for latent, understood in zip(vae.latents, _explaining(specs, data), strict=True):
        if latent.explains != understood.explains:
            raise InputError(
                f"latent {latent.name!r} of the vae explains {latent.explains!r}, which here is "
                f"{understood.explains!r}: say that, as a vae handed over is taken as it is"
            )
    return vae.latents


def _ever_shared(made: Sequence[Latent], data: DataSet) -> bool:
    """Whether a pair in which all is equal that may be shares anything."""
    factors = [factor.name for factor in data.factors]
    pair = data.pairs.pair(factors, [*factors, *data.of_pairs])
    return any(bool(mask.any()) for mask in shared_by(made, pair, 1, torch.device("cpu")).values())


def build(
    config: FitConfig,
    image_shape: tuple[int, int, int],
    edges: Mapping[str, list[float]],
    latents: Sequence[Latent],
    given: Networks | Given | None = None,
    always: Sequence[str] = (),
) -> tuple[FactoredVAE, Objective]:
    """Model and objective of a configuration, with fresh weights from torch's random state.

    Args:
        edges: factor's name -> inner edges of the bins a predictor sees it in.
        latents: those of the configuration, made for the data.
        given: what was handed over of them, or encoder and decoder alone.
        always: factors that every pair has in common.

    Raises:
        InputError: for names that do not exist, and where what was handed over is missing or does not fit the images.
    """
    given = given if isinstance(given, Given) else Given(given)
    vae = _vae(config, image_shape, latents, given)
    elbo = _elbo(config, edges, latents, always) if given.elbo is None else given.elbo
    return vae, elbo(vae.model, vae.guide)


def _vae(config: FitConfig, image_shape: ImageShape, latents: Sequence[Latent], given: Given) -> FactoredVAE:
    if given.vae is not None:
        if given.vae.image_shape != tuple(image_shape):
            raise InputError(f"the vae takes images of {given.vae.image_shape}, but the data has {tuple(image_shape)}")
        return table.whole(given.vae)
    if config.model == GIVEN:
        raise InputError("the model of this configuration was handed over from Python: hand it over again, as `vae=`")
    if given.networks is None and config.network == GIVEN:
        raise InputError(
            "the networks of this configuration were handed over from Python: hand them over again, as `encoder=` and "
            "`decoder=`"
        )
    make = networks(config.network) if given.networks is None else lambda *_: given.networks
    return table.make(config.model, latents, image_shape, make, likelihood(config.likelihood)())


def _elbo(
    config: FitConfig, edges: Mapping[str, list[float]], latents: Sequence[Latent], always: Sequence[str]
) -> DisentanglingELBO:
    if config.method == GIVEN:
        raise InputError("the objective of this configuration was handed over from Python: hand it over again")
    setting = methods.Setting(
        tuple(latents),
        {factor: torch.tensor(values) for factor, values in edges.items()},
        tuple(always),
    )
    return methods.build(
        config.method,
        setting,
        options=config.terms,
        weights=config.weights,
        beta=config.beta,
        warmup_steps=config.warmup_steps,
    )


def check_given(objective: Objective, example: Batch, given: Given) -> None:
    """Evaluate once what was handed over, which nobody has seen yet: what it cannot do is said before a run begins.

    No random state, no mode and no buffer is moved.
    """
    if given.vae is None and given.elbo is None:
        return
    buffers = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    with forked_random_state(example.images.device), torch.no_grad():
        objective.record(example)
    for name, buffer in objective.named_buffers():
        buffer.copy_(buffers[name])


def make_optimizer(objective: Objective, lr: float, opponent_lr: float | None = None) -> Adam:
    """Adam; each opponent is a parameter group of its own, with its term's betas, and its rate where none is given.

    Parameters that are frozen (``requires_grad=False``) have no part in it.

    Raises:
        InputError: where all are.
    """
    given = {} if opponent_lr is None else {"lr": opponent_lr}
    groups: list[dict[str, Any]] = [{"params": objective.vae_parameters()}]
    groups += [{"params": list(term.parameters()), **term.optimizer, **given} for term in objective.opponents()]
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
    for name, weight in objective.weights.given.items():
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


def make_step(
    objective: Objective,
    config: FitConfig,
    fabric: Fabric,
    steps: int,
    example: Batch,
    say: Callable[[str], None] = lambda _: None,
    *,
    goes_on: bool = False,
) -> tuple[EagerStep, str]:
    """The step, compiled where it is wanted and can be had, and how it is taken, in words.

    Args:
        example: a batch of the shape that will be trained on; it is compiled now, not at the first step.
        say: told before compiling starts.
        goes_on: with a run, whose record says whether it is compiled.
    """
    eager = EagerStep(objective, fabric.autocast)
    if config.compile is False:
        return eager, f"eager ({'as recorded' if goes_on else '`compile=False`'})"
    if config.compile is None and steps < WORTH_COMPILING:
        return eager, f"eager (fewer than {WORTH_COMPILING} steps)"
    if missing := why_not_compiled():
        return eager, f"eager ({missing})"
    mode = None if config.compile_mode == "default" else config.compile_mode
    compiled = CompiledStep(objective, fabric.autocast, mode=mode)
    start = time.perf_counter()
    say("compiling the step, which takes 10 to 60 seconds the first time")
    try:
        compiled.compile(example)
    except Exception as error:  # compilers fail in ways of their own; what cannot be compiled runs eager, and says so
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return eager, f"eager (compiling failed: {reason[0]})"
    return compiled, f"compiled in {time.perf_counter() - start:.0f} s"


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


def make_fabric(config: FitConfig) -> Fabric:
    """Fabric on the devices and in the precision of a configuration."""
    device = resolve_device(config.device)
    if device.index is not None and config.devices > 1:
        raise InputError(f"`device={config.device}` is one device: leave its number out for `devices={config.devices}`")
    devices = config.devices if device.index is None else [device.index]
    from pyro_disent.training.fabric import quiet_fabric  # a second to import, which only training needs

    return quiet_fabric(accelerator=device.type, devices=devices, precision=precision(config))


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


def thread_count(
    config: FitConfig, recorded: RunRecord | None, device: torch.device, views: int, processes: int
) -> Threads:
    """Threads of the CPU to train with: as set, as recorded, or the fastest now; on CUDA those that torch has."""
    if config.threads is not None:
        return Threads(config.threads, "as set")
    if device.type != "cpu":
        return Threads(torch.get_num_threads(), "torch's own")
    rows = views * config.batch_size // config.devices
    return choose(rows, recorded=None if recorded is None else recorded.threads, processes=processes)


def record_of(
    config: FitConfig,
    latents: Sequence[Latent],
    data: DataSet,
    edges: dict[str, list[float]],
    device: torch.device,
    step: EagerStep,
    how: str,
    threads: int,
    init: RunFolder | None,
    handed_over: tuple[str, ...] = (),
) -> RunRecord:
    """The record of a run that begins."""
    spec = LatentSpec.describing if "vae" in handed_over else LatentSpec.rebuilding
    return RunRecord(
        fit=config,
        source=data.source,
        image_shape=data.image_shape,
        factors=tuple(factor.name for factor in data.factors),
        pairs=data.pairs,
        latents={latent.name: spec(latent) for latent in latents},
        edges=edges,
        units={name: list(unit) for name, unit in data.units.items()},
        device=device.type,
        precision=precision(config),
        compiled=step.is_compiled,
        step=how,
        threads=threads,
        init=None if init is None else str(init.path),
        versions=versions(),
        handed_over=handed_over,
    )


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
            f"`bins` names {', '.join(sorted(unknown))}; factors of {data.name} that can be divided into bins: "
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
            raise InputError(
                f"the values of {factor.name} cannot fill {bins} bins: give `bins={{{factor.name!r}: N}}` fewer"
            )
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
