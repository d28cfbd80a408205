"""Factors that are observed: which latent each one is the value of, of which training images, and in which terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, Factor, Split
from pyro_disent.errors import InputError, did_you_mean
from pyro_disent.models.latents import Each, Latent
from pyro_disent.models.specification import LatentSpec

_STREAM = 7  # of random numbers: the choice of observed images is independent of their order


@dataclass(frozen=True)
class Observation:
    """A factor that is the value of one unit of a latent, as a run records it."""

    factor: str
    latent: str
    unit: int
    share: float
    """The share of the images, or of the identities, that was requested."""
    known: float
    """The share of the training images whose value is known."""
    seed: int
    """Seed of the choice of these images."""
    center: float = 0.0
    scale: float = 1.0
    """For a number: the latent's value is (the factor's - center) / scale."""
    values: tuple[float, ...] = ()
    """For a choice: the factor's values, increasing; the latent's value is the place among them."""

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "values": list(self.values)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "values": tuple(content["values"])})

    def of(self, values: Tensor) -> Tensor:
        """The latent's values for those of the factor; NaN stays NaN."""
        if not self.values:
            return (values - self.center) / self.scale
        below = torch.stack([values > level for level in self.values]).sum(0)
        return below.to(values.dtype).masked_fill(values.isnan(), torch.nan)


class Observed:
    """Adds the observed values of latents to a training batch.

    Args:
        observations: the observed factors.
        latents: of the model.
        split: the training images, on the device where batches are made.
    """

    def __init__(self, observations: Sequence[Observation], latents: Sequence[Latent], split: Split) -> None:
        self.observations = tuple(observations)
        self.units = {latent.name: latent.units for latent in latents}
        self.chosen: dict[str, Tensor] = {}
        self.counted: dict[str, str] = {}
        for each in self.observations:
            mask, self.counted[each.factor] = chosen(split, each.share, each.seed)
            self.chosen[each.factor] = mask.to(split.images.device)

    def __call__(self, batch: Batch) -> Batch:
        """Raises InputError for a batch that does not say which images it has."""
        if not self.observations:
            return batch
        if batch.index is None:
            raise InputError(
                "`observe` needs to know which images a batch has, and this data set's batches have no index: see "
                "pyro_disent.Batch"
            )
        by_unit = {(each.latent, each.unit): each for each in self.observations}
        values = {}
        for latent in dict.fromkeys(each.latent for each in self.observations):
            columns = [self._column(by_unit.get((latent, unit)), batch) for unit in range(self.units[latent])]
            values[latent] = torch.stack(columns, -1)
        return batch.observing(values)

    def _column(self, observation: Observation | None, batch: Batch) -> Tensor:
        """``(views, images)``, NaN where the value is not known."""
        if observation is None:
            return batch.images.new_full(batch.images.shape[:2], torch.nan)
        values = observation.of(batch.factors[observation.factor]).to(batch.images.dtype)
        return values.masked_fill(~self.chosen[observation.factor][batch.index], torch.nan)

    def in_words(self, views: int, exchange: bool) -> list[str]:
        """Lines that tell a user about it."""
        lines = []
        for number, each in enumerate(self.observations):
            share = f"{each.known:.3g} of the training images"
            unit = f"[{each.unit}]" if self.units[each.latent] > 1 else ""
            lines.append(
                f"{'observed' if number == 0 else '':9}{each.factor} is the value of {each.latent}{unit}, known of "
                f"{share} ({self.counted[each.factor]}); validation and test never see it"
            )
        if views == 2 and any(each.known < 1 for each in self.observations):
            lines.append(f"{'':9}what a pair shares follows from the labels of all images, also where none is observed")
        if exchange and lines:
            lines.append(f"{'':9}under the exchange the decoder sees the other view's value: this is no bound")
        return lines


def known_shares(observations: Iterable[Observation], latents: Iterable[Latent]) -> dict[str, list[float]]:
    """latent's name -> the share of the training images with a known value of each unit, 1 for a unit without any."""
    shares = {latent.name: [1.0] * latent.units for latent in latents}
    observed = {each.latent for each in observations}
    for each in observations:
        shares[each.latent][each.unit] = each.known
    return {name: units for name, units in shares.items() if name in observed}


def chosen(split: Split, share: float, seed: int) -> tuple[Tensor, str]:
    """A seeded share of a split's images, or of its identities where there are any.

    Returns:
        ``(images,)`` bool, on the CPU; and in words how many of what. A smaller share is part of a larger one.
    """
    groups = torch.arange(len(split), device="cpu")
    what = "images"
    if split.identities:
        groups, what = split.labels["identity"].cpu().unique(return_inverse=True)[1], "identities"
    total = int(groups.max()) + 1
    count = max(1, round(share * total))
    picked = torch.zeros(total, dtype=torch.bool, device="cpu")
    picked[torch.from_numpy(np.random.default_rng([seed, _STREAM]).permutation(total)[:count])] = True
    return picked[groups], f"{count:,} of {total:,} {what}"


def specs_with(observe: Iterable[str], made: Sequence[Latent], data: DataSet) -> dict[str, LatentSpec]:
    """Latents of one unit for observed factors that no latent explains alone.

    Raises:
        InputError: for a name that is not a factor's, and a factor that a latent explains together with others.
    """
    factors = {factor.name: factor for factor in data.factors}
    specs = {}
    for name in observe:
        _check_factor(name, factors, made, data)
        if _unit_of(name, made) is not None:
            continue
        together = [latent for latent in made if name in latent.factors]
        if together or any(latent.name == name for latent in made):
            latent = (together or [each for each in made if each.name == name])[0]
            raise InputError(
                f"`observe` needs a latent that explains {name} alone, and {latent.name} explains "
                f"{' and '.join(latent.factors) or latent.explains}: give {name} a latent of its own"
            )
        specs[name] = LatentSpec(1, "circle" if factors[name].circular else "normal", {}, (name,))
    return specs


def _check_factor(name: str, factors: Mapping[str, Factor], made: Sequence[Latent], data: DataSet) -> None:
    if name in factors:
        return
    if name in data.joint:
        raise InputError(f"`observe` names {name}, which is several factors: name {', '.join(data.joint[name])}")
    if latent := next((each for each in made if each.name == name), None):
        explains = " and ".join(latent.factors) or f"the {latent.explains}" * (latent.explains == "rest") or "common"
        raise InputError(
            f"`observe` names factors, and the latent {name} stands for {explains}: no factor is its value"
        )
    raise InputError(
        f"`observe` names {name}, which is no factor of this data{did_you_mean(name, factors)}: there are "
        f"{', '.join(factors) or 'none'}"
    )


def _unit_of(factor: str, latents: Sequence[Latent]) -> tuple[Latent, int] | None:
    """The latent that explains exactly this factor, or one of whose units does, and which unit."""
    matches = []
    for latent in latents:
        if isinstance(latent.explains, Each) and factor in latent.factors:
            matches.append((latent, latent.factors.index(factor)))
        elif latent.factors == (factor,):
            matches.append((latent, 0))
    if len(matches) > 1:
        names = " and ".join(latent.name for latent, _ in matches)
        raise InputError(f"`observe` cannot tell which latent {factor} is the value of: {names} both explain it")
    return matches[0] if matches else None


def observations(
    observe: Mapping[str, float], seed: int, latents: Sequence[Latent], data: DataSet
) -> tuple[Observation, ...]:
    """How each factor that is observed becomes the value of its latent, from the training images.

    Raises:
        InputError: for a latent that cannot have this value, and a factor without a usable one.
    """
    return tuple(_observation(name, share, seed, latents, data) for name, share in observe.items())


def _observation(name: str, share: float, seed: int, latents: Sequence[Latent], data: DataSet) -> Observation:
    _check_factor(name, {factor.name: factor for factor in data.factors}, latents, data)
    place = _unit_of(name, latents)
    if place is None:
        raise InputError(
            f"`observe` needs a latent that explains {name} alone, and the vae handed over, taken as it is, has none"
        )
    latent, unit = place
    if not isinstance(latent.explains, Each) and latent.units != 1:
        raise InputError(f"`observe`: {name} is one value, and the latent {latent.name} has {latent.units} units")
    latent.family.embed(torch.zeros(1, latent.units, device="cpu"))  # which a family may refuse
    split = data.train
    values = split.factors[name] if name in split.factors else split.examples(seed).factors[name]
    values = values.cpu().double()
    mask, counted = chosen(split, share, seed)
    labeled = mask & values.isfinite()
    if not bool(labeled.any()):
        raise InputError(f"`observe`: {name} is known of no training image among {counted}")
    factor = next(factor for factor in data.factors if factor.name == name)
    center, scale = 0.0, 1.0
    levels: tuple[float, ...] = ()
    if latent.family.choices is not None:
        levels = _levels(name, values, latent, latent.family.choices)
    elif latent.family.circular:
        if not factor.circular:
            raise InputError(f"`observe`: {name} is no angle, and the latent {latent.name} is a circle")
    elif name not in data.units:  # otherwise it is standardized already
        center, scale = float(values[labeled].mean()), float(values[labeled].std(correction=0))
        if scale == 0:
            raise InputError(f"`observe`: {name} is the same in all training images among {counted}")
    labeled_share = float(labeled.double().mean())
    return Observation(name, latent.name, unit, share, labeled_share, seed, center, scale, levels)


def _levels(name: str, values: Tensor, latent: Latent, choices: int) -> tuple[float, ...]:
    levels = values[values.isfinite()].unique()
    if len(levels) > choices:
        raise InputError(
            f"`observe`: {name} has {len(levels)} values in the training images, and the latent {latent.name} "
            f"{choices} choices"
        )
    return tuple(levels.tolist())
