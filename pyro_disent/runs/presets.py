"""From a preset and what the user said to the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyro_disent.data import registry
from pyro_disent.errors import InputError, did_you_mean
from pyro_disent.models.specification import merged
from pyro_disent.objectives import methods
from pyro_disent.training.aliases import without_aliases
from pyro_disent.training.config import FitConfig, choices
from pyro_disent.training.given import GIVEN
from pyro_disent.training.hardware import resolve_device

PRESETS = ("paper", "quick")
WITH = "with"
"""A preset's table of what it adds for a method, by the method's name."""


def configure(method: str, data: str, preset: str | None, said: Mapping[str, Any]) -> FitConfig:
    """The configuration of a run: the data set's preset and what it adds for the method, under what the user said.

    Args:
        preset: ``paper`` or ``quick``; None: ``paper`` on CUDA and ``quick`` on a CPU.
        said: `FitConfig` fields that the user set, see `overridden`.

    Raises:
        InputError: for a preset that does not exist.
    """
    if preset is None:
        preset = "paper" if resolve_device(said.get("device", "auto")).type == "cuda" else "quick"
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")
    said = without_aliases(said)
    settings = {"method": method, "data": data, "preset": preset, **registry.presets(data)[preset]}
    with_method = settings.pop(WITH, {})
    for part in methods.parse(method) if method != GIVEN else []:
        settings = overridden(settings, with_method.get(part.name, {}))
    settings = overridden(settings, said)
    return _checked(settings | {"beta": beta_of(settings["latents"], settings.get("beta"), said)})


def beta_of(latents: Iterable[str], beta: Any, said: Mapping[str, Any]) -> Any:
    """Weights on KLs without those that a preset has for latents which the user left out; what the user said stays."""
    if not isinstance(beta, Mapping):
        return beta
    by_user = said.get("beta")
    kept = {*latents, *(by_user if isinstance(by_user, Mapping) else ())}
    return {name: weight for name, weight in beta.items() if name in kept} or None


def reconfigure(config: FitConfig, said: Mapping[str, Any]) -> FitConfig:
    """A configuration under what the user said, see `overridden`."""
    return _checked(overridden(vars(config), without_aliases(said)))


def _checked(settings: dict[str, Any]) -> FitConfig:
    """With options as they are taken; raises InputError for those and for settings that are not there."""
    there_are = choices()
    if unknown := [name for name in settings if name not in there_are]:
        raise InputError(
            f"there is no setting {unknown[0]}{did_you_mean(unknown[0], there_are)}: there are {', '.join(there_are)}"
        )
    if settings["method"] != GIVEN:
        settings["terms"] = methods.check_options(settings["method"], settings.get("terms", {}))
    if registry.is_data_set(settings["data"]):  # what was handed over has no options
        settings["options"] = registry.checked_options(settings["data"], settings.get("options", {}))
    return FitConfig(**settings)


def overridden(settings: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, overridden by what the user said.

    Tables (``latents``, ``options``, ``weights``, ``terms``) are merged name by name, latents and terms also what is
    said of each. Who says how long by either measure, epochs or steps, says it instead of both.
    """
    for name in ("terms", "options", "weights"):
        choices()[name].check(name, said.get(name, {}), "dict[str, Any]")
    methods.check_tables(said.get("terms", {}))
    result = dict(settings)
    if said.keys() & {"epochs", "max_steps"}:
        result |= {"epochs": None, "max_steps": None}
    for name, value in said.items():
        if name == "latents":
            result[name] = merged(result.get(name, {}), value)
        elif name == "terms":
            before = result.get(name, {})
            result[name] = before | {term: {**before.get(term, {}), **options} for term, options in value.items()}
        else:
            both_tables = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
            result[name] = result[name] | dict(value) if both_tables else value
    return result
