"""Latents are named sample sites that say what they explain; this decides what a pair shares of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch, Pairing
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.families.normal import Normal

MOST_UNITS = 2**16
"""More are a mistake, and fill the memory before anything else notices."""


@dataclass(frozen=True)
class Each:
    """One factor for each unit of a latent, in order; see `each`."""

    factors: tuple[str, ...]


def each(*factors: str) -> Each:
    """For ``Latent(explains=...)``: each unit explains one factor, and unit i is shared where factor i is."""
    return Each(factors)


Explains = Literal["common", "rest"] | tuple[str, ...] | Each
"""``common``: what a pair has in common. Names: these factors together. `Each`: one a unit. ``rest``: all others."""


@dataclass(frozen=True)
class Latent:
    """A named latent of the model.

    Args:
        name: its sample site.
        units: how many units it has, at least one.
        family: its prior and the form of its posterior.
        explains: what it stands for, which decides what a pair shares of it:
            ``"common"``: what a pair has in common; always shared.
            ``("azimuth", "elevation")``: these factors together; shared where all of them are equal.
            ``each("red", "green", "blue")``: one factor per unit; each unit is shared where its factor is equal.
            ``"rest"``: the factors that no other latent explains; shared where all of them are equal, and never if
            there are none.

    Raises:
        InputError: for a name that is not an identifier, fewer than one unit, or a number of factors that does not fit.
    """

    name: str
    units: int
    family: Family = field(default_factory=Normal, compare=False)
    explains: Explains = "common"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"latent {self.name!r}: a name must be letters, digits and underscores")
        # Names of other sites and plates, and attributes of a module.
        if self.name in ("x", "views", "images") or self.name.endswith("_seen") or hasattr(nn.ModuleDict(), self.name):
            raise InputError(f"latent {self.name!r}: this name is taken; choose another")
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise InputError(f"latent {self.name!r} has {self.units} units; it needs at least 1")
        if self.units > MOST_UNITS:
            raise InputError(f"latent {self.name!r} has {self.units} units: at most {MOST_UNITS} are made")
        if not isinstance(self.family, Family):
            raise InputError(f"latent {self.name!r}: a family is needed, such as Normal(), not {self.family!r}")
        object.__setattr__(self, "explains", self._checked(self.explains))
        if isinstance(self.explains, Each) and len(self.explains.factors) != self.units:
            raise InputError(
                f"latent {self.name!r} has {self.units} units but explains {len(self.explains.factors)} factors, one a "
                "unit: say what it explains, or give it as many units"
            )
        if isinstance(self.explains, Each):
            self.family.stand_for(self.explains.factors)

    def _checked(self, explains: Explains | str | Iterable[str]) -> Explains:
        if explains == "common":
            return "common"
        if explains == "rest":
            return "rest"
        factors = explains.factors if isinstance(explains, Each) else explains
        names = (factors,) if isinstance(factors, str) else tuple(factors) if isinstance(factors, Iterable) else ()
        if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
            raise InputError(
                f"latent {self.name!r} explains {explains!r}: that is 'common', 'rest', names of factors, each once, "
                "or each(...) of them"
            )
        return Each(names) if isinstance(explains, Each) else names

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors it explains by name."""
        if isinstance(self.explains, Each):
            return self.explains.factors
        return () if isinstance(self.explains, str) else self.explains

    @property
    def width(self) -> int:
        """Numbers it has in the code that the decoder sees."""
        return self.family.width(self.units)

    @property
    def unit_labels(self) -> tuple[str, ...]:
        """Names of its units: the factors they stand for, else their numbers."""
        if isinstance(self.explains, Each):
            return self.explains.factors
        return tuple(f"{self.name}[{unit}]" for unit in range(self.units))


def shared_by(latents: Sequence[Latent], pairing: Pairing, images: int, device: torch.device) -> dict[str, Tensor]:
    """What each pair shares of each latent, from what its views have in common: the only place with this rule.

    Returns:
        latent's name -> bool mask, ``(images, 1)`` or ``(images, units)``; see `Latent` for the rule.
    """
    always, never = (torch.full((images,), value, device=device) for value in (True, False))

    def equal(factor: str) -> Tensor:
        return always if factor in pairing.always else pairing.equal.get(factor, never)

    rest = rest_of(latents, pairing)
    masks = {}
    for latent in latents:
        if latent.explains == "common":
            mask = always.unsqueeze(-1)
        elif latent.explains == "rest":
            decidable = rest and not pairing.rest_differs
            mask = (torch.stack([equal(factor) for factor in rest]).all(0) if decidable else never).unsqueeze(-1)
        elif isinstance(latent.explains, Each):
            mask = torch.stack([equal(factor) for factor in latent.explains.factors], -1)
        else:
            mask = torch.stack([equal(factor) for factor in latent.explains]).all(0).unsqueeze(-1)
        masks[latent.name] = mask
    return masks


def rest_of(latents: Sequence[Latent], pairing: Pairing) -> list[str]:
    """The factors that no latent explains by name.

    What every pair has in common beside the factors, such as the identity, is explained by a ``common`` latent; if
    there is none, it belongs to the rest.
    """
    explained = {factor for latent in latents for factor in latent.factors}
    has_common = any(latent.explains == "common" for latent in latents)
    beside = [] if has_common else [factor for factor in pairing.always if factor not in pairing.equal]
    return [factor for factor in (*pairing.equal, *beside) if factor not in explained]


def sharing(latents: Sequence[Latent], batch: Batch) -> Batch:
    """A batch of pairs with a mask for every latent: its masks are kept, and `shared_by` makes the others.

    Raises:
        InputError: where the batch names latents that do not exist.
    """
    check_shared(latents, batch)
    if batch.views == 1:
        return batch
    return batch.sharing(shared_by(latents, batch.in_common(), batch.size, batch.images.device))


def check_shared(latents: Sequence[Latent], batch: Batch) -> None:
    """Raises InputError where a batch has masks for latents that do not exist."""
    names = [latent.name for latent in latents]
    if unknown := [name for name in batch.shared if name not in names]:
        raise InputError(
            f"a batch says what its pairs share of {', '.join(map(repr, unknown))}, but the latents are "
            f"{', '.join(names)}"
        )


def surely_shared(latents: Sequence[Latent], pair: Pairing) -> tuple[str, ...]:
    """Names of the latents that a typical pair of one image shares; factors that are not equal in it may differ.

    If there are none (any two faces are a pair), all latents but the rest. This decides which latents a swap takes from
    one image and which from the other, and which are measured together.
    """
    masks = shared_by(latents, pair, 1, torch.device("cpu"))
    shared = tuple(name for name, mask in masks.items() if bool(mask.all()))
    return shared or tuple(latent.name for latent in latents if latent.explains != "rest")


class Swapped(NamedTuple):
    """What a counterfactual takes from another image."""

    latents: tuple[str, ...]
    factors: tuple[str, ...]
    """All factors that these latents explain."""


def swapped(latents: Sequence[Latent], pair: Pairing, drawable: Collection[str]) -> Swapped:
    """The latents whose swap has a true image: those that explain only factors that a data set can draw again.

    A ``common`` latent explains what all pairs have in common. The ``rest`` explains what no other latent does; its
    factors are unknown if pairs differ in more than is recorded. The result is empty if no latent qualifies.

    Args:
        latents: the model's latents.
        pair: a typical pair of the data set.
        drawable: factors that the data set can draw images with.
    """
    has_common = any(latent.explains == "common" for latent in latents)
    rest = [factor for factor in rest_of(latents, pair) if not (has_common and factor in pair.always)]
    names: list[str] = []
    factors: list[str] = []
    for latent in latents:
        if latent.explains == "common":
            explained = list(pair.always)
        elif latent.explains == "rest":
            explained = [] if pair.rest_differs else rest
        else:
            explained = list(latent.factors)
        if explained and all(factor in drawable for factor in explained):
            names.append(latent.name)
            factors += explained
    return Swapped(tuple(names), tuple(dict.fromkeys(factors)))
