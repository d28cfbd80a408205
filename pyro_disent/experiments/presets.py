"""From a preset and what the user said to the whole configuration of a run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pyro_disent.errors import InputError
from pyro_disent.training.config import FitConfig

PRESETS = ("paper", "quick")


def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """data set's name -> preset's name -> settings."""
    return tomllib.loads((resources.files(__package__) / "presets.toml").read_text())


def configure(method: str, data: str, preset: str, said: Mapping[str, Any]) -> FitConfig:
    """The configuration of a run: the data set's preset, overridden by what the user said.

    Args:
        said: `FitConfig` fields that the user set; ``latents`` and ``options`` are merged name by name.

    Raises:
        InputError: for a preset that does not exist.
    """
    table = presets()
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}; choose from {', '.join(PRESETS)}")
    settings: dict[str, Any] = dict(table.get(data, table["chairs"])[preset])
    said = {name: value for name, value in said.items() if value is not None}
    # Whoever says how long, by either measure, has said it instead of the preset.
    if said.keys() & {"epochs", "max_steps"}:
        settings.pop("epochs", None)
        settings.pop("max_steps", None)
    settings["latents"] = settings["latents"] | dict(said.pop("latents", {}))
    return FitConfig(method=method, data=data, preset=preset, **(settings | said))
