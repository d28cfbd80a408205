"""The whole configuration of a run, from a preset and the user's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyro_disent.data import registry
from pyro_disent.errors import InputError, did_you_mean
from pyro_disent.models.specification import merged
from pyro_disent.objectives import methods
from pyro_disent.training.aliases import without_aliases
from pyro_disent.training.config import FitConfig, choices
from pyro_disent.training.handed_over import HANDED_OVER
from pyro_disent.training.hardware import resolve_device

PRESETS = ("paper", "quick")
WITH = "with"
"""The key of a preset's table: method's name -> settings that the preset adds for this method."""


def configure(method: str, data: str, preset: str | None, overrides: Mapping[str, Any]) -> FitConfig:
    """The configuration of a run: the data set's preset, its settings for the method, and over both the user's.

    Args:
        preset: ``paper`` or ``quick``; None: ``paper`` on CUDA and ``quick`` on a CPU.
        overrides: `FitConfig` fields that the user sets, see `overridden`.

    Raises:
        InputError: for a preset that does not exist.
    """
    if preset is None:
        preset = "paper" if resolve_device(overrides.get("device", "auto")).type == "cuda" else "quick"
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")
    overrides = without_aliases(overrides)
    settings = {"method": method, "data": data, "preset": preset, **registry.presets(data)[preset]}
    with_method = settings.pop(WITH, {})
    for part in methods.parse(method) if method != HANDED_OVER else []:
        settings = overridden(settings, with_method.get(part.name, {}))
    settings = overridden(settings, overrides)
    return _checked(settings | {"beta": beta_of(settings["latents"], settings.get("beta"), overrides)})


def beta_of(latents: Iterable[str], beta: Any, overrides: Mapping[str, Any]) -> Any:
    """Weights on KLs, without a preset's weights for latents that the user leaves out; the user's weights stay."""
    if not isinstance(beta, Mapping):
        return beta
    by_user = overrides.get("beta")
    names = {*latents, *(by_user if isinstance(by_user, Mapping) else ())}
    return {name: weight for name, weight in beta.items() if name in names} or None


def reconfigure(config: FitConfig, overrides: Mapping[str, Any]) -> FitConfig:
    """A configuration with the user's settings over it, see `overridden`."""
    return _checked(overridden(vars(config), without_aliases(overrides)))


def _checked(settings: dict[str, Any]) -> FitConfig:
    """Settings as a configuration, options converted; raises InputError for settings and options that do not exist."""
    names = choices()
    if unknown := [name for name in settings if name not in names]:
        raise InputError(
            f"there is no setting {unknown[0]}{did_you_mean(unknown[0], names)}: there are {', '.join(names)}"
        )
    if settings["method"] != HANDED_OVER:
        settings["terms"] = methods.check_options(settings["method"], settings.get("terms", {}))
    if registry.is_data_set(settings["data"]):  # data from Python has no options
        settings["options"] = registry.checked_options(settings["data"], settings.get("options", {}))
    return FitConfig(**settings)


def overridden(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, overridden by the user's.

    Tables (``latents``, ``options``, ``weights``, ``terms``) are merged name by name; so are the tables of each latent
    and each term. The user's ``epochs`` or ``max_steps`` replaces both.
    """
    for name in ("terms", "options", "weights"):
        choices()[name].check(name, overrides.get(name, {}), "dict[str, Any]")
    methods.check_tables(overrides.get("terms", {}))
    result = dict(settings)
    if overrides.keys() & {"epochs", "max_steps"}:
        result |= {"epochs": None, "max_steps": None}
    for name, value in overrides.items():
        if name == "latents":
            result[name] = merged(result.get(name, {}), value)
        elif name == "terms":
            before = result.get(name, {})
            result[name] = before | {term: {**before.get(term, {}), **options} for term, options in value.items()}
        else:
            both_tables = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
            result[name] = result[name] | dict(value) if both_tables else value
    return result
