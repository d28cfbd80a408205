"""Families by name: ours, and those of the entry-point group ``pyro_disent.families``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_disent import plugins, signatures
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.families.circle import Circle
from pyro_disent.models.families.discrete import Binary, Categorical
from pyro_disent.models.families.mixture import Mixture
from pyro_disent.models.families.normal import ConditionalNormal, LabelledNormal, Normal

GROUP = "pyro_disent.families"
FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (Normal, ConditionalNormal, Circle, Categorical, Binary, Mixture, LabelledNormal)
}


def make(name: str, settings: Mapping[str, Any], *, of: str) -> Family:
    """A family by its name, with settings of its constructor; text is converted to the type of the setting.

    Args:
        of: the latent's name in messages.

    Raises:
        InputError: for a family or a setting that does not exist or is missing, listing those that exist.
    """
    try:
        family = plugins.find(GROUP, FAMILIES, name, "family")
    except InputError as error:
        raise InputError(f"latent {of!r}: {error}") from error
    accepted, owner = options(family), f"latent {of!r}: the family {name}"
    arguments = signatures.checked(accepted, settings, owner)
    if missing := [key for key, option in (accepted or {}).items() if option.is_required and key not in arguments]:
        raise InputError(f"{owner} needs {', '.join(f'{key}=...' for key in missing)}")
    return family(**arguments)


def settings_of(family: Family, of: str) -> dict[str, Any]:
    """The settings from which `make` makes this family again.

    Raises:
        InputError: for a family that is in no table, and one whose settings lack an argument of its constructor.
    """
    if not _is_in_table(family):
        raise InputError(
            f"latent {of!r}: a run cannot be recorded with the family {type(family).__name__}, which no table knows by "
            "a name of its own: offer it by the entry-point group pyro_disent.families"
        )
    try:
        settings = family.settings()
    except ValueError as error:
        raise InputError(f"latent {of!r}: its family cannot be written into a run's record: {error}") from error
    if missing := (options(type(family)) or {}).keys() - settings.keys():
        raise InputError(f"latent {of!r}: settings() of {type(family).__name__} lacks {', '.join(sorted(missing))}")
    return settings


def name_of(family: Family) -> str:
    """Its name in the table of families, or its class's name if it is in no table."""
    return family.name if _is_in_table(family) else type(family).__name__


def _is_in_table(family: Family) -> bool:
    name = getattr(family, "name", "")
    if name not in plugins.names(GROUP, FAMILIES):
        return False
    return plugins.find(GROUP, FAMILIES, name, "family") is type(family)


def options(family: type[Family]) -> dict[str, signatures.Option] | None:
    """The options of its constructor, without a network, which text cannot describe."""
    return signatures.options(family, without=("network",))
