"""What options that take ``NAME=VALUE`` were given, as a configuration takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pyro_disent.errors import InputError

Number = TypeVar("Number", int, float)


def pairs(given: list[str] | None, option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    pairs = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} {item}: write {form}")
        pairs[name] = value
    return pairs


def latents(latent: list[str] | None, explains: list[str] | None) -> dict[str, dict[str, Any]]:
    """What was said of each latent, as tables of `LatentSpec`."""
    from pyro_disent.models.specification import explains_from_text, explains_to_json, spec_from_text

    said = {
        name: spec_from_text(value, f"--latent {name}")
        for name, value in pairs(latent, "--latent", "NAME=UNITS").items()
    }
    for name, value in pairs(explains, "--explains", "NAME=FACTORS").items():
        said.setdefault(name, {})["explains"] = explains_to_json(explains_from_text(value))
    return said


def one_or_named(
    given: list[str] | None, option: str, parse: Callable[[str, str], Number]
) -> Number | dict[str, Number] | None:
    """One number for all, or a number by name."""
    if given and len(given) == 1 and "=" not in given[0]:
        return parse(given[0], option)
    return {name: parse(value, option) for name, value in pairs(given, option).items()} or None


def number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a number") from None


def whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is not a whole number") from None
