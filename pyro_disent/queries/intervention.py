"""What an image would be if some of its latents had other values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, cast

import pyro
import torch
from pyro.infer.inspect import get_dependencies
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.graphical_model import prior_labels
from pyro_disent.models.labels import Label
from pyro_disent.models.latents import Latent

Value = str | float | Sequence[float] | Tensor
"""A value for all units of a latent, or one for each: in the terms of `Family.location`, or text for `Family.read`."""

_TARGET = re.compile(r"(?P<latent>[^\[\]]+)(\[(?P<unit>[^\[\]]+)\])?")


class Counterfactual(NamedTuple):
    """Images with their counterfactuals."""

    reconstruction: Tensor
    """The decoded images without the intervention, ``(N, channels, height, width)`` in [0, 1]."""
    image: Tensor
    """The decoded images after the intervention, of the same shape."""
    codes: dict[str, Tensor]
    """latent's name -> the decoder's input after the intervention, ``(N, width)``."""
    redrawn: tuple[str, ...]
    """Latents with units that depend on what was set, and were therefore drawn from their prior given this."""


def do(vae: FactoredVAE, images: Any, values: Mapping[str, Value], *, seed: int = 0) -> Counterfactual:
    """Infer the latents of images, set some of them as `pyro.poutine.do` does, and decode.

    Every latent has the center of its posterior q(latent | x), with two exceptions. Units that are set have their new
    values; the other units of such a latent keep theirs. Units whose prior depends on what is set, directly or through
    other latents, are drawn from their prior given the new values.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, as `FactoredVAE.encode` takes them.
        values: the new values: ``{"hue": 2.0}`` sets all units of hue, ``{"hue": [2, -1]}`` one after the other,
            and ``{"hue[1]": -1}`` only the second. On a circle they are angles in radians, or text such as ``"90deg"``.
            ``{"smiling": 1.0}`` sets a label on which priors depend, to a value as the data has it.
        seed: for the draws.

    Raises:
        InputError: for a latent, unit or label that does not exist or is set twice, a value that it cannot have, and
            units that would be drawn given a label which is not set: no image says it.
    """
    on_labels, on_latents = split_labels(vae, values)
    places = {label.name: label.place(value) for label, value in on_labels}
    codes = vae.codes(images)
    count = len(next(iter(codes.values())))
    changed = _changed(vae, codes, on_latents)
    below = _units_below(vae, {*changed, *places}, changed)
    held = {name: code for name, code in codes.items() if name not in changed and name not in below}
    observed = pyro.condition(vae.model, data=_one_view(held))
    fixed = _one_view(changed) | {
        name: torch.full((1, count), place, device=vae.device) for name, place in places.items()
    }

    def new_codes() -> dict[str, Tensor]:
        with vae.querying(seed):
            trace = pyro.poutine.trace(pyro.poutine.do(observed, data=fixed)).get_trace(images=count)
        # The site named like the latent still holds the draw that the intervention replaced.
        return {name: cast(Tensor, trace.nodes[f"{name}_seen"]["value"]).squeeze(0) for name in codes}

    result = new_codes()
    partly = {name: columns for name, columns in below.items() if not bool(columns.all())}
    if partly:  # their other units keep their values, also for latents that depend on them
        fixed |= _one_view({name: torch.where(drawn, result[name], codes[name]) for name, drawn in partly.items()})
        result = new_codes()
    return Counterfactual(vae.decode(codes), vae.decode(result), result, tuple(below))


def split_labels(vae: FactoredVAE, values: Mapping[str, Value]) -> tuple[list[tuple[Label, Value]], dict[str, Value]]:
    """The values of `do` that are set of labels, and those of latents.

    Raises:
        InputError: where there are none at all.
    """
    if not values:
        raise InputError("nothing is to be set: name a latent and a value")
    labels = prior_labels(vae.latents)
    return [(labels[name], value) for name, value in values.items() if name in labels], {
        name: value for name, value in values.items() if name not in labels
    }


def parents(vae: FactoredVAE) -> dict[str, set[str]]:
    """latent's name -> the latents and labels that its prior depends on, by Pyro's analysis of the model."""
    with vae.querying(0):
        dependencies = get_dependencies(vae.model, model_kwargs={"images": 1})
    above = cast(Mapping[str, Mapping[str, Any]], dependencies["prior_dependencies"])
    names = [latent.name for latent in vae.latents]
    sites = {*names, *prior_labels(vae.latents)}
    return {name: (set(above[name]) & sites) - {name} for name in names}


def descendants(vae: FactoredVAE, names: Iterable[str]) -> list[str]:
    """The latents whose priors depend on one of these latents and labels, directly or through others, in the order of
    the model."""
    reached = set(names)
    below = []
    for name, above in parents(vae).items():
        if above & reached:
            reached.add(name)
            below.append(name)
    return below


def _units_below(vae: FactoredVAE, targets: set[str], changed: Iterable[str]) -> dict[str, Tensor]:
    """latent's name -> which numbers of its code are drawn anew, ``(width,)`` bool, for latents that were not set.

    Raises:
        InputError: where these depend on a label that is not set.
    """
    above, result = parents(vae), {}
    reached = {*targets, *descendants(vae, targets)}
    for latent in vae.latents:
        if latent.name not in reached or latent.name in changed:
            continue
        family = latent.family
        units = {unit for name in above[latent.name] & reached for unit in family.dependent_units(name, latent.units)}
        for label in family.labels.keys() - targets:
            if units.intersection(family.dependent_units(label, latent.units)):
                raise InputError(
                    f"{latent.name} would be drawn given the label {label!r}, which the image does not say: set it too"
                )
        drawn = torch.full((latent.width,), len(units) == latent.units, device=vae.device)
        for unit in units:
            drawn[unit * family.numbers : (unit + 1) * family.numbers] = True
        result[latent.name] = drawn
    return result


def settings(vae: FactoredVAE, values: Mapping[str, Value]) -> dict[str, dict[int, Tensor]]:
    """The values of `do` as codes: latent's name -> unit -> its new numbers in the code.

    Raises:
        InputError: as `do`.
    """
    result: dict[str, dict[int, Tensor]] = {}
    for target, value in values.items():
        latent, units = _units(vae, target)
        numbers = _numbers(latent, target, value, len(units))
        try:
            code = latent.family.code_of(torch.tensor(numbers, device=vae.device))
        except InputError as error:
            raise InputError(f"{target} cannot be {value}: {error}") from error
        of_latent = result.setdefault(latent.name, {})
        for unit, part in zip(units, code.split(latent.family.numbers), strict=True):
            if unit in of_latent:
                raise InputError(f"{latent.unit_labels[unit]} is set twice")
            of_latent[unit] = part
    return result


def _changed(vae: FactoredVAE, codes: Mapping[str, Tensor], values: Mapping[str, Value]) -> dict[str, Tensor]:
    """The codes of the latents that are set."""
    changed = {}
    for name, units in settings(vae, values).items():
        latent, code = vae.latent(name), codes[name].clone()
        for unit, part in units.items():
            code[:, unit * len(part) : (unit + 1) * len(part)] = part
        support = vae.prior_of(name, dict(codes)).support
        if support is not None and not bool(support.check(code).all()):
            words = ", ".join(f"{each}={value}" for each, value in values.items() if _units(vae, each)[0] is latent)
            raise InputError(f"a {latent.family.name} latent cannot be {words}")
        changed[name] = code
    return changed


def _units(vae: FactoredVAE, target: str) -> tuple[Latent, range]:
    """The latent and the units that ``NAME`` or ``NAME[UNIT]`` means; a unit is a number from 0, or its factor."""
    parts = _TARGET.fullmatch(target)
    if parts is None:
        raise InputError(f"{target!r} names no latent and no unit: write y or y[0]")
    latent = vae.latent(parts["latent"])
    unit = parts["unit"]
    if unit is None:
        return latent, range(latent.units)
    if unit in latent.unit_labels:
        place = latent.unit_labels.index(unit)
    elif unit.isdecimal() and int(unit) < latent.units:
        place = int(unit)
    else:
        raise InputError(f"there is no unit {target}: units of {latent.name} run from 0 to {latent.units - 1}")
    return latent, range(place, place + 1)


def _numbers(latent: Latent, target: str, value: Value, count: int) -> list[float]:
    """A value for each of the units."""
    if isinstance(value, str):
        try:
            numbers = [latent.family.read(text.strip()) for text in value.split(",")]
        except InputError as error:
            raise InputError(f"{target} cannot be {value}: {error}") from error
    else:
        items = value.tolist() if hasattr(value, "tolist") else value
        items = items if isinstance(items, Sequence) else [items]
        if not all(isinstance(item, Real) for item in items):
            raise InputError(f"{target} cannot be {value!r}: it takes a number, or one for each unit")
        numbers = [float(item) for item in items]
    if len(numbers) not in (1, count):
        units = "unit" if count == 1 else "units"
        raise InputError(f"{target} has {count} {units}, and got {len(numbers)} values: give one, or one for each")
    return numbers * count if len(numbers) == 1 else numbers


def _one_view(codes: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: code.unsqueeze(0) for name, code in codes.items()}
