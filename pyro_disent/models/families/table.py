"""Families by name: ours, and those of the entry-point group ``pyro_disent.families``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.families.circle import Circle
from pyro_disent.models.families.normal import ConditionalNormal, Normal

FAMILIES: dict[str, type[Family]] = {family.name: family for family in (Normal, ConditionalNormal, Circle)}
_PARSERS = {"int": int, "float": float}


def families() -> dict[str, type[Family]]:
    """Every family by its name."""
    found = dict(FAMILIES)
    for entry in entry_points(group="pyro_disent.families"):
        found.setdefault(entry.name, entry.load())
    return found


def make(name: str, settings: Mapping[str, Any], *, of: str) -> Family:
    """A family by its name, with settings of its constructor: numbers may be texts, as a command line has them.

    Args:
        of: the latent, as messages call it.

    Raises:
        InputError: for a family or a setting that does not exist or is missing, with those that there are.
    """
    table = FAMILIES if name in FAMILIES else families()
    if name not in table:
        raise InputError(f"latent {of!r}: there is no family {name!r}; choose from {', '.join(table)}")
    parameters = inspect.signature(table[name]).parameters
    accepted = [each for each in parameters if each != "network"]
    if unknown := [key for key in settings if key not in accepted]:
        known = f"it takes {', '.join(accepted)}" if accepted else "it takes no settings"
        raise InputError(f"latent {of!r}: the family {name} has no setting {', '.join(unknown)}: {known}")
    if missing := [
        key for key in accepted if parameters[key].default is inspect.Parameter.empty and key not in settings
    ]:
        raise InputError(f"latent {of!r}: the family {name} needs {', '.join(f'{key}=...' for key in missing)}")
    return table[name](**{key: _parsed(parameters[key], key, value, of) for key, value in settings.items()})


def _parsed(parameter: inspect.Parameter, key: str, value: Any, of: str) -> Any:
    parse = _PARSERS.get(str(parameter.annotation))
    if parse is None or not isinstance(value, str):
        return value
    try:
        return parse(value)
    except ValueError:
        raise InputError(f"latent {of!r}: {key}={value} is not a number") from None
