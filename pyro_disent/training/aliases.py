"""Options of a term that the command line and Python accept as settings, by an older and shorter name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyro_disent.errors import InputError
from pyro_disent.training.choice import Choice


class Alias(NamedTuple):
    """The option of a term that a setting stands for."""

    term: str
    option: str
    choice: Choice


ALIASES: dict[str, Alias] = {
    "predictor_side": Alias(
        "predictor",
        "side",
        Choice(
            "How the encoder plays against the predictor; entropy if not given.",
            "Method",
            metavar="entropy|cross-entropy",
        ),
    ),
    "predictor_on": Alias(
        "predictor",
        "on",
        Choice("What the predictor sees of a latent; sample if not given.", "Method", metavar="sample|mean"),
    ),
    "guards": Alias(
        "predictor",
        "guard",
        Choice(
            "A latent that the predictor hides factors from; those of what is common if not given; repeatable.",
            "Method",
            metavar="NAME",
            flag="guard",
            form="each",
        ),
    ),
    "hides": Alias(
        "predictor",
        "hide",
        Choice(
            "A factor that the predictor hides; those that the guarded latents do not stand for if not given; "
            "repeatable.",
            "Method",
            metavar="FACTOR",
            flag="hide",
            form="each",
        ),
    ),
}
"""setting's name -> what it stands for."""


def without_aliases(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with each `ALIASES` name turned into the option of its term; aliases that are None are left out."""
    plain = {name: value for name, value in settings.items() if name not in ALIASES}
    aliased = {name: settings[name] for name in ALIASES if settings.get(name) is not None}
    if aliased:
        terms = {term: dict(options) for term, options in plain.get("terms", {}).items()}
        for name, value in aliased.items():
            term, option, _ = ALIASES[name]
            if option in terms.setdefault(term, {}):
                raise InputError(f"`{name}` says what `terms` says of {term}.{option} already: say it once")
            terms[term][option] = value
        plain["terms"] = terms
    return plain
