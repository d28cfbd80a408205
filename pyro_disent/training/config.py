"""Everything needed to make a run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from pyro_disent.errors import InputError
from pyro_disent.models.specification import LatentSpec, as_mapping
from pyro_disent.objectives.weights import WarmUp, Weight

SCHEDULES = ("constant", "cosine")
BINS_BY = ("range", "quantile")
COMPILE_MODES = ("default", "reduce-overhead")
Side = Literal["entropy", "cross-entropy"]
Seen = Literal["sample", "mean"]


@dataclass(frozen=True)
class FitConfig:
    """What a run is made of; `to_json` and `from_json` round-trip.

    Raises:
        InputError: for numbers that make no sense, naming the option.
    """

    method: str
    """One name of the table of methods, or several joined by ``+``."""
    data: str
    latents: Mapping[str, LatentSpec]
    """latent's name -> what is asked for of it, in the order of the code; a number, a table or a `Latent` will do."""
    network: str
    likelihood: str
    lr: float
    batch_size: int
    """Images before pairing, over all processes."""
    model: str = "factored"
    """One name of the table of models."""
    preset: str = "custom"
    epochs: int | None = None
    max_steps: int | None = None
    beta: Weight | dict[str, Weight] | None = None
    """Weight on every latent's KL, or latent's name -> weight; None: the method's own."""
    weights: dict[str, Weight] = field(default_factory=dict)
    """term's name -> weight, where it is not the term's own default."""
    predictor_side: Side = "entropy"
    """What the encoder does to the opponent of Eq. 3, see `terms.Prediction`."""
    predictor_on: Seen = "sample"
    """What that opponent sees of a latent."""
    guards: list[str] | None = None
    """Latents that factors are hidden from; None: those that stand for what pairs have in common."""
    hides: list[str] | None = None
    """Factors that are hidden from them; None: those that they do not stand for themselves."""
    bins: int | dict[str, int] | None = None
    """Bins that the opponent sees every factor in, or factor's name -> bins; None: the data set's own."""
    bins_by: str = "range"
    """Equally wide bins (``range``) or equally filled ones (``quantile``)."""
    opponent_lr: float | None = None
    """Learning rate of the opponents; None: each term's own."""
    warmup_steps: int = 0
    """Steps over which the weights of the terms rise from 0, but for those that are a `WarmUp` of their own."""
    schedule: str = "constant"
    """Of the learning rates, see `training.setup.learning_rate_factor`."""
    clip_norm: float = 10_000.0
    """Largest norm of the gradient of a parameter group, in nats per unit of parameter."""
    seed: int = 0
    limit: int | None = None
    source: str = "auto"
    data_root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the data set."""
    device: str = "auto"
    devices: int = 1
    precision: str = "auto"
    compile: bool | None = None
    """None: where it pays, see `training.setup.make_step`."""
    compile_mode: str = "default"
    """Of ``torch.compile``: ``reduce-overhead`` uses CUDA graphs."""
    patience: int | None = None
    """Validations without a better held-out objective after which training ends; None: it takes all its steps."""
    threads: int | None = None
    """Of the CPU; None: what is fastest when the run starts, see `pyro_disent.threads.choose`."""

    def __post_init__(self) -> None:
        specs = {name: LatentSpec.of(latent, name) for name, latent in as_mapping(self.latents).items()}
        object.__setattr__(self, "latents", {name: spec for name, spec in specs.items() if spec.units})
        if not self.latents:
            raise InputError("a model needs at least one latent: give one by --latent NAME=UNITS")
        positive = {
            "--lr": self.lr,
            "--batch-size": self.batch_size,
            "--epochs": self.epochs,
            "--max-steps": self.max_steps,
            "--limit": self.limit,
            "--devices": self.devices,
            "--clip-norm": self.clip_norm,
            "--opponent-lr": self.opponent_lr,
            "--patience": self.patience,
            "--threads": self.threads,
        }
        for option, value in positive.items():
            if value is not None and not value > 0:
                raise InputError(f"{option} must be greater than 0, got {value}")
        if self.warmup_steps < 0:
            raise InputError(f"--warmup-steps must be 0, for none, or more, got {self.warmup_steps}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed must be from 0 to {2**32 - 1}, got {self.seed}")
        choices = {
            "--schedule": (self.schedule, SCHEDULES),
            "--predictor-side": (self.predictor_side, get_args(Side)),
            "--predictor-on": (self.predictor_on, get_args(Seen)),
            "--bins-by": (self.bins_by, BINS_BY),
            "--compile-mode": (self.compile_mode, COMPILE_MODES),
        }
        for option, (chosen, accepted) in choices.items():
            if chosen not in accepted:
                raise InputError(f"{option} {chosen} is not one of {', '.join(accepted)}")
        for bins in self.bins.values() if isinstance(self.bins, dict) else (self.bins,):
            if bins is not None and bins < 2:
                raise InputError(f"--bins {bins} leaves nothing to tell apart: it must be 2 or more")
        if (self.epochs is None) == (self.max_steps is None):
            raise InputError("say how long to train by --epochs or by --max-steps, one of the two")
        if self.batch_size % self.devices:
            raise InputError(f"--batch-size {self.batch_size} cannot be divided among {self.devices} devices")

    def to_json(self) -> dict[str, Any]:
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        latents = {name: spec.to_json() for name, spec in self.latents.items()}
        return fields | {"latents": latents, "beta": _to_json(self.beta), "weights": _to_json(self.weights)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises InputError for fields that do not exist or are missing."""
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := values.keys() - known:
            raise InputError(f"a run's configuration has no {', '.join(sorted(unknown))}")
        weights = {name: _from_json(values[name]) for name in ("beta", "weights") if name in values}
        try:
            return cls(**values | weights)
        except TypeError as error:
            raise InputError(f"the configuration is not whole: {error}") from error

    def lasting(self, other: FitConfig) -> FitConfig:
        """The same, for as long as another one lasts."""
        return dataclasses.replace(self, epochs=other.epochs, max_steps=other.max_steps, patience=other.patience)


_WARM_UP = "warm_up"


def _to_json(weight: Any) -> Any:
    """A weight, or weights by name; a `WarmUp` is ``{"warm_up": {"weight": ..., "steps": ...}}``."""
    if isinstance(weight, WarmUp):
        return {_WARM_UP: dataclasses.asdict(weight)}
    return {name: _to_json(each) for name, each in weight.items()} if isinstance(weight, Mapping) else weight


def _from_json(weight: Any) -> Any:
    if not isinstance(weight, Mapping):
        return weight
    # What stands under the name of a latent or a term is a number or has this key: a latent may be called anything.
    inner = weight.get(_WARM_UP)
    if isinstance(inner, Mapping) and inner.keys() == {"weight", "steps"}:
        return WarmUp(**inner)
    return {name: _from_json(each) for name, each in weight.items()}
