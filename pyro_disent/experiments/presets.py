"""From a preset and what the user said to the whole configuration of a run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pyro_disent.errors import InputError
from pyro_disent.models.specification import merged
from pyro_disent.objectives import methods
from pyro_disent.training.config import FitConfig
from pyro_disent.training.given import GIVEN
from pyro_disent.training.setup import resolve_device

PRESETS = ("paper", "quick")
WITH = "with"
"""A preset's table of what it adds for a method, by the method's name."""
ANY = "any"
"""The table of what has none of its own: a folder of images, and data from Python or other packages."""


def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """data set's name -> preset's name -> settings."""
    return tomllib.loads((resources.files(__package__) / "presets.toml").read_text())


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
    table = presets()
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")
    settings = {"method": method, "data": data, "preset": preset, **table.get(data, table[ANY])[preset]}
    with_method = settings.pop(WITH, {})
    for part in methods.parse(method) if method != GIVEN else []:
        settings = overridden(settings, with_method.get(part.name, {}))
    return FitConfig(**overridden(settings, said))


def overridden(settings: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, overridden by what the user said.

    Tables (``latents``, ``options``, ``weights``) are merged name by name, latents also what is said of each. Who says
    how long by either measure, epochs or steps, says it instead of both.
    """
    result = dict(settings)
    if said.keys() & {"epochs", "max_steps"}:
        result |= {"epochs": None, "max_steps": None}
    for name, value in said.items():
        if name == "latents":
            result[name] = merged(result.get(name, {}), value)
        else:
            both_tables = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
            result[name] = result[name] | dict(value) if both_tables else value
    return result
