"""Families by name: ours, and those of the entry-point group ``pyro_disent.families``."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any, get_args

from pyro_disent import plugins
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.families.circle import Circle
from pyro_disent.models.families.normal import ConditionalNormal, Normal

GROUP = "pyro_disent.families"
FAMILIES: dict[str, type[Family]] = {family.name: family for family in (Normal, ConditionalNormal, Circle)}


def families() -> dict[str, type[Family]]:
    """Every family by its name."""
    return plugins.table(GROUP, FAMILIES)


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
    parameters = _parameters(table[name])
    accepted = list(parameters)
    if unknown := [key for key in settings if key not in accepted]:
        known = f"it takes {', '.join(accepted)}" if accepted else "it takes no settings"
        raise InputError(f"latent {of!r}: the family {name} has no setting {', '.join(unknown)}: {known}")
    if missing := [
        key for key in accepted if parameters[key].default is inspect.Parameter.empty and key not in settings
    ]:
        raise InputError(f"latent {of!r}: the family {name} needs {', '.join(f'{key}=...' for key in missing)}")
    return table[name](**{key: _parsed(parameters[key], key, value, of) for key, value in settings.items()})


def settings_of(family: Family, of: str) -> dict[str, Any]:
    """What `make` makes this family again from.

    Raises:
        InputError: for a family that no table knows, and one that does not say all that its constructor takes.
    """
    if not _is_known(family):
        raise InputError(
            f"latent {of!r}: a run cannot be recorded with the family {type(family).__name__}, which no table knows by "
            "a name of its own: offer it by the entry-point group pyro_disent.families"
        )
    try:
        settings = family.settings()
    except ValueError as error:
        raise InputError(f"latent {of!r}: its family cannot be written into a run's record: {error}") from error
    if missing := _parameters(type(family)).keys() - settings.keys():
        raise InputError(f"latent {of!r}: settings() of {type(family).__name__} lacks {', '.join(sorted(missing))}")
    return settings


def name_of(family: Family) -> str:
    """Its name in the table of families; of one that no table knows, its class's name."""
    return family.name if _is_known(family) else type(family).__name__


def _is_known(family: Family) -> bool:
    name = getattr(family, "name", "")
    return (FAMILIES.get(name) or families().get(name)) is type(family)


def _parameters(family: type[Family]) -> dict[str, inspect.Parameter]:
    """What its constructor takes, but a network, which no setting can say."""
    parameters = inspect.signature(family, eval_str=True).parameters
    return {name: parameter for name, parameter in parameters.items() if name != "network"}


def _parsed(parameter: inspect.Parameter, key: str, value: Any, of: str) -> Any:
    """A text as the number or bool that a constructor takes."""
    kinds = [kind for kind in get_args(parameter.annotation) or (parameter.annotation,) if kind in (bool, int, float)]
    if not kinds or not isinstance(value, str):
        return value
    if bool in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (kind for kind in kinds if kind is not bool):
        with contextlib.suppress(ValueError):
            return kind(value)
    raise InputError(f"latent {of!r}: {key}={value} is not a {'number' if bool not in kinds else 'true or false'}")
