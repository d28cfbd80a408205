"""Specifications of latents, from a command line, a preset or a run's record, and how to build `Latent` from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pyro_disent.errors import InputError
from pyro_disent.models import families
from pyro_disent.models.latents import MOST_UNITS, Each, Explains, Latent


@dataclass(frozen=True)
class LatentSpec:
    """The specification of a latent, in JSON's terms; `to_json` and `from_json` round-trip.

    Args:
        units: how many; 0 leaves the latent out.
        family: its name in the table of families.
        settings: arguments of the family's constructor.
        explains: see `Latent`; None: the factor with the latent's name, else what pairs have in common.
    """

    units: int
    family: str = "normal"
    settings: Mapping[str, Any] = field(default_factory=dict)
    explains: Explains | None = None

    @classmethod
    def of(cls, latent: LatentSpec | Latent | int | Mapping[str, Any], name: str) -> LatentSpec:
        """From a number of units, a table or a `Latent`.

        Raises:
            InputError: for anything else, and a family that cannot be written as JSON.
        """
        if isinstance(latent, LatentSpec):
            return latent
        if isinstance(latent, int) and not isinstance(latent, bool):
            return cls.from_json({"units": latent}, name)
        if isinstance(latent, Latent):
            if latent.name != name:
                raise InputError(f"the latent {latent.name!r} is called {name!r} here: one of the two")
            return cls.rebuilding(latent)
        if isinstance(latent, Mapping):
            return cls.from_json(latent, name)
        raise InputError(f"latent {name!r}: a number of units, a table or a Latent is needed, not {latent!r}")

    @classmethod
    def rebuilding(cls, latent: Latent) -> LatentSpec:
        """A specification to make the latent from again; raises InputError if its family cannot be written as JSON."""
        settings = families.settings_of(latent.family, latent.name)
        return cls(latent.units, latent.family.name, settings, latent.explains)

    @classmethod
    def describing(cls, latent: Latent) -> LatentSpec:
        """A description of a latent whose model the user passes again; it may not be enough to make the latent."""
        try:
            return cls.rebuilding(latent)
        except InputError:  # a family that is in no table, or has a network of the user's
            return cls(latent.units, families.name_of(latent.family), {}, latent.explains)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], name: str) -> LatentSpec:
        """Inverse of `to_json`; raises InputError for other content."""
        keys = {"units", "family", "settings", "explains"}
        if unknown := values.keys() - keys:
            raise InputError(
                f"latent {name!r} has no {', '.join(sorted(map(str, unknown)))}: it has {', '.join(sorted(keys))}"
            )
        units = values.get("units")
        if isinstance(units, bool) or not isinstance(units, int) or units < 0:
            raise InputError(f"latent {name!r} needs a whole number of units, got {units!r}")
        if units > MOST_UNITS:
            raise InputError(f"latent {name!r} has {units} units: at most {MOST_UNITS} are made")
        family, settings = values.get("family", "normal"), values.get("settings", {})
        if not isinstance(family, str) or not isinstance(settings, Mapping):
            raise InputError(f"latent {name!r}: a family is a name, and its settings a table")
        explains = values.get("explains")
        return cls(units, family, dict(settings), None if explains is None else _explains(explains, name))

    def to_json(self) -> dict[str, Any]:
        """Everything that differs from the defaults."""
        result: dict[str, Any] = {"units": self.units}
        if self.family != "normal" or self.settings:
            result |= {"family": self.family, "settings": dict(self.settings)}
        if self.explains is not None:
            result["explains"] = explains_to_json(self.explains)
        return result


def explains_to_json(explains: Explains) -> Any:
    """Inverse of `_explains`: a word, a list of factors, or ``{"each": [...]}``."""
    if isinstance(explains, Each):
        return {"each": list(explains.factors)}
    return explains if isinstance(explains, str) else list(explains)


def _explains(value: Any, name: str) -> Explains:
    if isinstance(value, Each):
        return value
    if isinstance(value, str):
        return value if value in ("common", "rest") else (value,)  # type: ignore[return-value]
    factors = value.get("each") if isinstance(value, Mapping) else value
    if not isinstance(factors, list | tuple) or not all(isinstance(factor, str) for factor in factors):
        raise InputError(
            f"latent {name!r} explains {value!r}: that is 'common', 'rest', a list of factors, or {{'each': [...]}}"
        )
    return Each(tuple(factors)) if isinstance(value, Mapping) else tuple(factors)


def explains_from_text(text: str) -> Explains:
    """``common``, ``rest``, ``A+B`` for factors together, ``each:A,B`` for one per unit, ``each:*`` for all factors."""
    if text.startswith("each:"):
        return Each(tuple(part.strip() for part in text.removeprefix("each:").split(",")))
    return text if text in ("common", "rest") else tuple(part.strip() for part in text.split("+"))  # type: ignore[return-value]


def spec_from_text(text: str, option: str) -> dict[str, Any]:
    """``UNITS[:FAMILY[,key=value...]]`` as a table of `LatentSpec`.

    Raises:
        InputError: for another form, naming the option.
    """
    units, _, rest = text.partition(":")
    try:
        spec: dict[str, Any] = {"units": int(units)}
    except ValueError:
        raise InputError(f"{option}: {units!r} is not a whole number of units") from None
    if spec["units"] < 0:
        raise InputError(f"{option}: {units} units are too few; 0 leaves the latent out")
    if rest:
        family, *settings = rest.split(",")
        pairs = [setting.partition("=") for setting in settings]
        if not family or any(not (key and equals and value) for key, equals, value in pairs):
            raise InputError(f"{option}: write UNITS:FAMILY,key=value after the latent's name, not {text!r}")
        spec |= {"family": family, "settings": {key: value for key, _, value in pairs}}
    return spec


def as_mapping(latents: Any) -> dict[str, Any]:
    """Latents by name, from such a table or a list of `Latent`.

    Raises:
        InputError: for anything else, and two latents with one name.
    """
    if isinstance(latents, Mapping):
        return dict(latents)
    if not isinstance(latents, list | tuple) or not all(isinstance(latent, Latent) for latent in latents):
        raise InputError(f"latents are a table by their names, or a list of Latent, not {latents!r}")
    if len({latent.name for latent in latents}) < len(latents):
        raise InputError(f"latents need different names, got {', '.join(latent.name for latent in latents)}")
    return {latent.name: latent for latent in latents}


def merged(preset: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A preset's tables of latents, updated by those the user chose; latents with 0 units are left out.

    Raises:
        InputError: for settings of a latent that does not exist.
    """
    result = {name: dict(LatentSpec.of(latent, name).to_json()) for name, latent in preset.items()}
    for name, latent in as_mapping(chosen).items():
        table = latent if isinstance(latent, Mapping) else LatentSpec.of(latent, name).to_json()
        if "units" not in table and name not in result:
            raise InputError(f"there is no latent {name!r} to say anything of; the latents are {', '.join(result)}")
        result[name] = result.get(name, {}) | dict(table)
    return {name: latent for name, latent in result.items() if latent["units"] != 0}


def _nearly(name: str, factors: Sequence[str], cutoff: float) -> str | None:
    """The factor that a name misspells: other capitals or underscores, swapped letters, or only its beginning."""

    def plain(text: str) -> str:
        return text.casefold().replace("_", "")

    for factor in factors:
        same = plain(factor) == plain(name) or sorted(plain(factor)) == sorted(plain(name))
        if same or (len(name) >= 3 and plain(factor).startswith(plain(name))):
            return factor
        if sorted(factor.casefold().split("_")) == sorted(name.casefold().split("_")):
            return factor
    by_plain = {plain(factor): factor for factor in factors}
    close = get_close_matches(plain(name), by_plain, 1, cutoff=cutoff)
    return by_plain[close[0]] if close else None


def build_latents(
    specs: Mapping[str, LatentSpec],
    factors: Iterable[str],
    *,
    of_pairs: Iterable[str] = (),
    joint: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Latent, ...]:
    """Build the specified latents for data with these factors.

    Args:
        factors: names of the data's factors; ``each("*")`` is one unit for each of them.
        of_pairs: what pairs have in common beside them, such as the identity.
        joint: names for several factors together, such as ``view`` for azimuth and elevation.

    Raises:
        InputError: for factors, families or settings that do not exist, and a name that nearly matches a factor.
    """
    factors, joint = list(factors), dict(joint or {})
    names = list(dict.fromkeys([*factors, *of_pairs]))

    def factors_called(name: str, of: str) -> tuple[str, ...]:
        if name in joint:
            return tuple(joint[name])
        if name in names:
            return (name,)
        close = _nearly(name, [*names, *joint], cutoff=0.6)
        hint = f"; did you mean {close}?" if close else ""
        raise InputError(
            f"latent {of!r} explains {name!r}, which is no factor of this data: there are "
            f"{', '.join([*names, *joint]) or 'none'}{hint}"
        )

    def explains(name: str, value: Explains | None) -> Explains:
        if value is None:
            if name in names or name in joint:
                return factors_called(name, name)
            if close := _nearly(name, [*names, *joint], cutoff=0.8):
                raise InputError(
                    f"latent {name!r}: there is no such factor; did you mean {close}? If it is to stand for what "
                    f"pairs have in common, say that it explains common"
                )
            return "common"
        if isinstance(value, Each):
            value = Each(tuple(factors)) if value.factors == ("*",) else value
            for factor in value.factors:
                if factor in joint:
                    raise InputError(f"latent {name!r}: a unit explains one factor, and {factor} is several")
                factors_called(factor, name)
            return value
        if isinstance(value, str):
            return value
        return tuple(dict.fromkeys(factor for part in value for factor in factors_called(part, name)))

    return tuple(
        Latent(name, spec.units, families.make(spec.family, spec.settings, of=name), explains(name, spec.explains))
        for name, spec in specs.items()
    )
