"""The values of options that take ``NAME=VALUE``, as a configuration takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyro_disent.errors import InputError

N = TypeVar("N", int, float)


def name_value_pairs(given: list[str] | None, option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {item}: write {form}")
        if name in pairs:
            raise InputError(f"{option} has two values of {name}, {pairs[name]} and {value}: give one")
        pairs[name] = value
    return pairs


def parse_latents(given: list[str], option: str) -> dict[str, dict[str, Any]]:
    """latent's name -> its specification, as a table of `LatentSpec`."""
    from pyro_disent.models.specification import spec_from_text

    return {
        name: spec_from_text(value, f"{option} {name}")
        for name, value in name_value_pairs(given, option, "NAME=UNITS").items()
    }


def explained(given: list[str] | None) -> dict[str, dict[str, Any]]:
    """latent's name -> what it explains, as a table of `LatentSpec`."""
    from pyro_disent.models.specification import explains_from_text, explains_to_json

    texts = name_value_pairs(given, "--explains", "NAME=FACTORS").items()
    return {name: {"explains": explains_to_json(explains_from_text(value))} for name, value in texts}


def of_terms(given: list[str], option: str) -> dict[str, dict[str, str]]:
    """The options of terms from ``TERM.OPTION=VALUE``: term's name -> option's name -> text."""
    form = "TERM.OPTION=VALUE"
    terms: dict[str, dict[str, str]] = {}
    for name, value in name_value_pairs(given, option, form).items():
        term, dot, key = name.partition(".")
        if not (term and dot and key):
            raise InputError(f"{option} {name}={value}: write {form}")
        terms.setdefault(term, {})[key] = value
    return terms


def one_or_named(given: list[str] | None, option: str, parse: Callable[[str, str], N]) -> N | dict[str, N] | None:
    """One number for all names, or a number for each name."""
    if given and len(given) == 1 and "=" not in given[0]:
        return parse(given[0], option)
    return {name: parse(value, option) for name, value in name_value_pairs(given, option).items()} or None


def parse_float(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a number") from None


def parse_int(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a whole number") from None


def shares(given: list[str], option: str) -> dict[str, float]:
    """Shares from ``NAME=SHARE``, or ``NAME`` for a share of 1."""
    whole = dict.fromkeys((name for name in given if "=" not in name), 1.0)
    parts = name_value_pairs([item for item in given if "=" in item], option, "NAME=SHARE").items()
    return whole | {name: parse_float(value, option) for name, value in parts}


def folder(given: str, option: str) -> str:
    """The absolute path, which a run records."""
    return str(Path(given).absolute())


FORMS: dict[str, tuple[type, Callable[[Any, str], Any]]] = {
    "each": (list[str], lambda values, option: list(values)),
    "folder": (str, folder),
    "latents": (list[str], parse_latents),
    "named numbers": (
        list[str],
        lambda values, option: {
            name: parse_float(value, option) for name, value in name_value_pairs(values, option).items()
        },
    ),
    "number or named": (list[str], lambda values, option: one_or_named(values, option, parse_float)),
    "options of terms": (list[str], of_terms),
    "shares": (list[str], shares),
    "whole or named": (list[str], lambda values, option: one_or_named(values, option, parse_int)),
}
"""form of a `Choice` -> the type of the option's value, and the function that makes the setting of it."""
