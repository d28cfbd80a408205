"""Everything needed to make a run again: each choice is one field, from which option, help, check and record follow.

Nothing heavy is imported with this module: the command line makes its options from these fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pyro_disent.errors import InputError
from pyro_disent.training.choice import Choice, choice

if TYPE_CHECKING:
    from pyro_disent.models.specification import LatentSpec
    from pyro_disent.objectives.weights import Weight

CHANGEABLE = ("epochs", "max_steps", "patience", "devices", "accumulate", "checkpoint_minutes", "on_divergence")
"""Settings that may change when a run is resumed, beside its device and threads."""


MOST_THREADS = 1024
"""More are a mistake, and fill the memory before anything else notices."""


@dataclass(frozen=True)
class FitConfig:
    """The configuration of a run; `to_json` and `from_json` round-trip.

    Raises:
        InputError: for numbers that make no sense, naming the setting.
    """

    method: str = choice(
        panel="Method",
        metavar="METHOD",
        help="What is trained: a name of `pyro-disent methods`, or several joined by +.",
    )
    data: str = choice(
        panel="Data",
        metavar="DATA",
        help="The data set: a name of `pyro-disent data list`, or a folder of images.",
    )
    latents: Mapping[str, LatentSpec] = choice(
        panel="Model",
        flag="latent",
        metavar="NAME=UNITS[:FAMILY[,key=value...]]",
        form="latents",
        help="A latent, its units and its family, as azimuth=1:circle; 0 units leave it out; repeatable.",
    )
    """latent's name -> its specification, in the order of the code; a number, a table or a `Latent` is accepted."""
    network: str = choice(
        panel="Model",
        metavar="mlp|conv3x3|conv4x4",
        instead=": name one, or hand over `encoder=` and `decoder=`",
        help="Encoder and decoder, those of other packages too; the preset's if not given.",
    )
    likelihood: str = choice(
        panel="Model",
        metavar="NAME",
        help="Of pixels given the code: bernoulli, continuous-bernoulli, normal or another package's; the preset's if "
        "not given.",
    )
    lr: float = choice(panel="Training", metavar="X", above=0, help="Adam's learning rate; the preset's if not given.")
    batch_size: int = choice(
        panel="Training",
        metavar="N",
        above=0,
        help="Images in a step, before pairing; the preset's if not given.",
    )
    """Images before pairing, over all processes."""
    preset: str = choice(
        "custom",
        panel="Training",
        metavar="paper|quick",
        help="Settings to start from; quick on a CPU and paper on CUDA if not given.",
    )
    model: str = choice(
        "factored",
        panel="Model",
        metavar="NAME",
        help="The graphical model: factored, or another package's; factored if not given.",
        instead=": name one, or hand over `vae=`",
    )
    """Its name in the table of models."""
    epochs: int | None = choice(
        None,
        panel="Training",
        metavar="N",
        above=0,
        help="Train for N passes over the images; the preset's if not given.",
    )
    max_steps: int | None = choice(
        None, panel="Training", metavar="N", above=0, help="Train for N steps, instead of epochs."
    )
    beta: Weight | dict[str, Weight] | None = choice(
        None,
        panel="Method",
        metavar="X|NAME=X",
        form="number or named",
        help="Weight on all KLs, or on that of one latent; the method's if not given; repeatable.",
    )
    """Weight on every latent's KL, or latent's name -> weight; None: the method's own."""
    weights: dict[str, Weight] = choice(
        factory=dict,
        panel="Method",
        flag="weight",
        metavar="TERM=X",
        form="named numbers",
        help="Weight of a term of the objective; the method's if not given; repeatable.",
    )
    """term's name -> weight, where it is not the term's own default."""
    terms: dict[str, dict[str, Any]] = choice(
        factory=dict,
        panel="Method",
        flag="term",
        metavar="TERM.OPTION=VALUE",
        form="options of terms",
        help="An option of a term, see `pyro-disent methods`, as info-nce.temperature=0.2; repeatable.",
    )
    """term's name -> its options, where they are not its defaults; see `objectives.methods.Method.options`."""
    bins: int | dict[str, int] | None = choice(
        None,
        panel="Method",
        metavar="N|FACTOR=N",
        form="whole or named",
        help="Bins that the predictor sees factors in; the data's if not given; repeatable.",
    )
    """Bins that the opponent sees every factor in, or factor's name -> bins; None: the data set's own."""
    bins_by: str = choice(
        "range",
        panel="Method",
        one_of=("range", "quantile"),
        help="Bins equally wide or equally filled; range if not given.",
    )
    """Equally wide bins (``range``) or equally filled ones (``quantile``)."""
    observe: dict[str, float] = choice(
        factory=dict,
        panel="Method",
        metavar="FACTOR|FACTOR=SHARE",
        form="shares",
        help="A factor that is the latent's value, of all training images or of a share; repeatable.",
    )
    """factor's name -> share of the training images, or of their identities, that have it observed as the value of its
    latent: above 0, at most 1. A list of names is accepted."""
    opponent_lr: float | None = choice(
        None, panel="Method", metavar="X", above=0, help="Learning rate of opponents; their own if not given."
    )
    """Learning rate of the opponents; None: each term's own."""
    warmup_steps: int = choice(
        0,
        panel="Method",
        metavar="N",
        at_least=0,
        help="Steps over which the weights of terms rise from 0; 0 if not given.",
    )
    """Steps over which the weights of the terms rise from 0, except for weights that are a `WarmUp`."""
    schedule: str = choice(
        "constant",
        panel="Training",
        one_of=("constant", "cosine"),
        help="How the learning rate goes on; the preset's if not given.",
    )
    """Schedule of the learning rates, see `training.schedule.learning_rate_factor`."""
    clip_norm: float = choice(
        10_000.0,
        panel="Training",
        metavar="X",
        above=0,
        help="Largest norm that a gradient may have; 10000 if not given.",
    )
    """Largest norm of the gradient of a parameter group, in nats per unit of parameter."""
    seed: int = choice(
        0,
        panel="Training",
        metavar="N",
        at_least=0,
        at_most=2**32 - 1,
        help="Seed of whatever is drawn; 0 if not given.",
    )
    limit: int | None = choice(
        None, panel="Data", metavar="N", above=0, help="Use N training images only; all if not given."
    )
    source: str = choice(
        "auto",
        panel="Data",
        metavar="auto|local|download|embedded",
        help="Where the data set comes from; auto if not given.",
    )
    data_root: str | None = choice(
        None,
        panel="Data",
        metavar="DIR",
        form="folder",
        help="Folder that the data set lies in; $PYRO_DISENT_DATA if not given.",
    )
    options: dict[str, Any] = choice(
        factory=dict,
        panel="Data",
        flag="",
        help="Options of the data set.",
    )
    """Options of the data set, where they are not its defaults."""
    device: str = choice(
        "auto",
        panel="Machine",
        metavar="auto|cpu|cuda|cuda:N",
        help="What it is trained on; auto, CUDA where there is any, if not given.",
    )
    devices: int = choice(1, panel="Machine", metavar="N", above=0, help="Processes, one a device; 1 if not given.")
    """Processes on this machine; ``torchrun`` starts as many on every machine."""
    accumulate: int = choice(
        1,
        panel="Machine",
        metavar="N",
        above=0,
        help="Take each batch in N parts one after the other, which takes less memory; 1 if not given.",
    )
    """Parts in which each process takes its images of a batch, one after the other; the gradient is the whole batch's.
    """
    precision: str = choice(
        "auto",
        panel="Machine",
        metavar="auto|32|bf16-mixed",
        help="Of the arithmetic; the preset's if not given; auto is bf16-mixed where the device has it.",
    )
    compile: bool | None = choice(
        None,
        panel="Machine",
        flag="compile/no-compile",
        help="Compile the step; if not given, from 2000 steps on, where there is a C++ compiler.",
    )
    """None: where it pays, see `training.compiling.make_step`."""
    compile_mode: str = choice(
        "default",
        panel="Machine",
        one_of=("default", "reduce-overhead"),
        help="Mode of torch.compile; default if not given; reduce-overhead takes CUDA graphs.",
    )
    """Mode of ``torch.compile``: ``reduce-overhead`` uses CUDA graphs."""
    checkpoint_minutes: float = choice(
        5.0,
        panel="Training",
        metavar="X",
        at_least=0,
        help="Minutes between checkpoints, beside one after each epoch; 5 if not given; 0 for none between.",
    )
    """Minutes between saves of the state, beside one after each epoch. 0: only after epochs."""
    patience: int | None = choice(
        None,
        panel="Training",
        metavar="N",
        above=0,
        help="End after N validations without a better held-out objective; never if not given.",
    )
    """Validations without a better held-out objective after which training ends; None: it takes all its steps."""
    validate_every: int | None = choice(
        None,
        panel="Training",
        metavar="N",
        at_least=0,
        help="Steps between validations; 0: each epoch; if not given, every so many epochs that they take 5 % of the "
        "images at most.",
    )
    """Steps between two validations, beside one at the end; 0: one after each epoch; None: see `Calendar`."""
    on_divergence: str = choice(
        "stop",
        panel="Training",
        one_of=("stop", "rollback"),
        help="Where a loss is not finite: stop, or go back to the last checkpoint at half the learning rate; stop if "
        "not given.",
    )
    """``rollback``: from the last checkpoint at half the learning rate, at most three times, see `training.train`."""
    threads: int | None = choice(
        None,
        panel="Machine",
        metavar="N",
        above=0,
        at_most=MOST_THREADS,
        help="Threads of the CPU; those that are fastest when it starts if not given.",
    )
    """Threads of the CPU; None: the fastest number when the run starts, see `pyro_disent.threads.choose`."""

    def __post_init__(self) -> None:
        from pyro_disent.models.specification import LatentSpec, as_mapping

        specs = {name: LatentSpec.of(latent, name) for name, latent in as_mapping(self.latents).items()}
        object.__setattr__(self, "latents", {name: spec for name, spec in specs.items() if spec.units})
        if isinstance(self.observe, str | list | tuple):
            names = [self.observe] if isinstance(self.observe, str) else self.observe
            object.__setattr__(self, "observe", dict.fromkeys(names, 1.0))
        if not self.latents:
            raise InputError("a model needs at least one latent: give one by `latents={NAME: UNITS}`")
        for field in dataclasses.fields(self):
            field.metadata["choice"].check(field.name, getattr(self, field.name), str(field.type))
        for bins in self.bins.values() if isinstance(self.bins, dict) else (self.bins,):
            if bins is not None and bins < 2:
                raise InputError(f"`bins={bins}` leaves nothing to tell apart: it must be 2 or more")
            if bins is not None and bins > 10_000:
                raise InputError(f"`bins={bins}` is more than the 10000 that a predictor can have")
        for beta in self.beta.values() if isinstance(self.beta, dict) else (self.beta,):
            if isinstance(beta, int | float) and not 0 <= beta < float("inf"):
                raise InputError(f"`beta={beta}` is no weight of a KL: it must be a finite number, 0 or more")
        for factor, share in self.observe.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise InputError(
                    f"`observe={{{factor!r}: {share!r}}}` is no share of the images: above 0 and at most 1"
                )
        if (self.epochs is None) == (self.max_steps is None):
            raise InputError("say how long to train by `epochs` or by `max_steps`, one of the two")
        check_parts(self.batch_size, self.devices, self.accumulate)

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in choices()}
        latents = {name: spec.to_json() for name, spec in self.latents.items()}
        return fields | {"latents": latents, "beta": _to_json(self.beta), "weights": _to_json(self.weights)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises InputError for fields that do not exist or are missing."""
        if unknown := values.keys() - choices().keys():
            raise InputError(f"a run's configuration has no {', '.join(sorted(unknown))}")
        weights = {name: _from_json(values[name]) for name in ("beta", "weights") if name in values}
        try:
            return cls(**values | weights)
        except TypeError as error:
            raise InputError(f"the configuration is not whole: {error}") from error

    def lasting(self, other: FitConfig) -> FitConfig:
        """This configuration with the `CHANGEABLE` settings of another one."""
        return dataclasses.replace(self, **{name: getattr(other, name) for name in CHANGEABLE})


def check_parts(batch_size: int, processes: int, accumulate: int) -> None:
    """Raises InputError for a batch that is not to be taken in equal parts."""
    if batch_size % processes:
        raise InputError(f"`batch_size={batch_size}` cannot be divided among {processes} devices")
    if batch_size % (processes * accumulate):
        raise InputError(
            f"`batch_size={batch_size}` cannot be divided by `accumulate={accumulate}`"
            + (f" on each of {processes} devices" if processes > 1 else "")
        )


def choices() -> dict[str, Choice]:
    """field's name -> its `Choice`."""
    return {field.name: field.metadata["choice"] for field in dataclasses.fields(FitConfig)}


_WARM_UP = "warm_up"


def _to_json(weight: Any) -> Any:
    """A weight, or weights by name; a `WarmUp` is ``{"warm_up": {"weight": ..., "steps": ...}}``."""
    if isinstance(weight, Mapping):
        return {name: _to_json(each) for name, each in weight.items()}
    return {_WARM_UP: dataclasses.asdict(weight)} if dataclasses.is_dataclass(weight) else weight  # type: ignore[arg-type]


def _from_json(weight: Any) -> Any:
    from pyro_disent.objectives.weights import WarmUp

    if not isinstance(weight, Mapping):
        return weight
    # A latent may itself be called ``warm_up``: only a table with these two keys below the name is a `WarmUp`.
    inner = weight.get(_WARM_UP)
    if isinstance(inner, Mapping) and inner.keys() == {"weight", "steps"}:
        return WarmUp(**inner)
    return {name: _from_json(each) for name, each in weight.items()}
