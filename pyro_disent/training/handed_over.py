"""Objects handed over from Python; a record has no name for them, so they have to be handed over again later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.networks import Networks
from pyro_disent.objectives import methods
from pyro_disent.objectives.elbo import DisentanglingELBO

HANDED_OVER = "given"
"""The name of what was handed over from Python: a run's networks, its model, its objective, or its data."""
OF_A_VAE = ("latents", "network", "likelihood", "model")
"""Settings that a vae decides."""
OF_AN_ELBO = (
    "beta", "weights", "terms", "predictor_side", "predictor_on", "guards", "hides", "bins", "bins_by", "warmup_steps",
    "observe",
)  # fmt: skip
"""Settings that an ELBO decides."""
OF_DATA = ("source", "data_root", "limit", "options")
"""Settings of data that has a name."""
_ARTICLES = {"data": "data", "vae": "a vae", "elbo": "an elbo", "encoder": "an encoder", "decoder": "a decoder"}


@dataclass(frozen=True)
class HandedOver:
    """The parts of a model and its objective that were handed over; they are trained in place."""

    networks: Networks | None = None
    vae: FactoredVAE | None = None
    elbo: DisentanglingELBO | None = None

    @classmethod
    def of(
        cls, vae: Any = None, elbo: Any = None, encoder: nn.Module | None = None, decoder: nn.Module | None = None
    ) -> HandedOver:
        """From what a user handed over.

        Raises:
            InputError: for an encoder without a decoder, a vae beside them, and what is neither a vae nor an ELBO of
                this library.
        """
        if (encoder is None) != (decoder is None):
            raise InputError("`encoder=` and `decoder=` are handed over together: one of them is missing")
        if vae is not None and encoder is not None:
            raise InputError("`vae=` has its own networks: leave `encoder=` and `decoder=` away")
        if vae is not None and not isinstance(vae, FactoredVAE):
            raise InputError(f"`vae=` takes a FactoredVAE or an instance of a subclass, not {_called(vae)}")
        if elbo is not None and not isinstance(elbo, DisentanglingELBO):
            raise InputError(
                "what is minimized is a method's name, several joined by +, or a DisentanglingELBO or an instance of a "
                f"subclass, not {_called(elbo)}"
            )
        return cls(None if encoder is None or decoder is None else (encoder, decoder), vae, elbo)

    @property
    def names(self) -> tuple[str, ...]:
        """What has to be handed over again, by the argument names of `pyro_disent.load`."""
        both = ("encoder", "decoder") if self.networks else ()
        return (*(name for name in ("vae", "elbo") if getattr(self, name) is not None), *both)

    @property
    def minimized(self) -> str:
        """What tells an ELBO from another: its class, the exchange and its terms; empty without one."""
        if self.elbo is None:
            return ""
        exchange = " under the exchange" if self.elbo.exchange else ""
        return f"{type(self.elbo).__name__}{exchange} with {' and '.join(self.elbo.terms) or 'no terms'}"

    def with_data(self, data_is_handed_over: bool) -> tuple[str, ...]:
        """The same after the data, where that was handed over as well."""
        return (*(["data"] if data_is_handed_over else []), *self.names)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All that was handed over, whose parts keep their modes."""
        terms = () if self.elbo is None else (self.elbo.terms,)
        return (*(self.networks or ()), *(() if self.vae is None else (self.vae,)), *terms)

    def needs_pairs(self, method: str) -> bool:
        """Whether the objective is about what pairs share: that of a method, where no ELBO was handed over."""
        if self.elbo is not None:
            return self.elbo.needs_pairs
        if method == HANDED_OVER:
            raise InputError(
                "the configuration is of a run that minimized an ELBO of its own: hand it over in the method's place"
            )
        return methods.needs_pairs(method)


def check_undecided(objects: HandedOver, settings: Sequence[str], *, data_is_handed_over: bool = False) -> None:
    """Raises InputError for settings that an object handed over decides."""
    handed_over_of = (
        ("vae", objects.vae is not None, OF_A_VAE),
        ("elbo", objects.elbo is not None, OF_AN_ELBO),
        ("data", data_is_handed_over, OF_DATA),
    )
    for name, handed_over, decided in handed_over_of:
        if handed_over and (conflicts := [f"`{setting}=`" for setting in decided if setting in settings]):
            raise InputError(f"{_ARTICLES[name]} handed over says {_listed(conflicts)} itself: leave that away")


def check_again(handed_over: Sequence[str], objects: Sequence[str], run: Path, instead: str) -> None:
    """Raises InputError where something else is handed over than the run was trained with.

    Args:
        handed_over: what the run was trained with.
        objects: what is handed over now.
        instead: what to do, as the end of a sentence.
    """
    if any(name not in objects for name in handed_over):
        raise InputError(f"{run} was trained with {in_words(handed_over)} handed over from Python: {instead}")
    if extra := [name for name in objects if name not in handed_over]:
        raise InputError(
            f"{run} was trained with no {' and no '.join(extra)} handed over: leave "
            f"{_listed([f'`{name}=`' for name in extra])} away"
        )


def check_minimized(recorded: str, objects: HandedOver, run: Path) -> None:
    """Raises InputError where a run minimized another ELBO than the one that is handed over now."""
    if recorded and objects.minimized != recorded:
        raise InputError(f"{run} minimized a {recorded}, and what is handed over now is a {objects.minimized}")


def call(function: str, run: Path, handed_over: Sequence[str], **settings: Any) -> str:
    """A call of this library about a run, with what has to be handed over: ``pyro_disent.load('runs/x', vae=...)``."""
    arguments = [*(f"{name}=..." for name in handed_over), *(f"{name}={value!r}" for name, value in settings.items())]
    return f"pyro_disent.{function}({', '.join([repr(str(run)), *arguments])})"


def in_words(handed_over: Sequence[str]) -> str:
    """As ``a vae and an elbo``."""
    return _listed([_ARTICLES[name] for name in handed_over])


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _called(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
