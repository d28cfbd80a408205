"""What ``config.json`` holds: everything needed to build a run's model again, and what its result depends on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch

from pyro_disent.compiled.step import EagerStep
from pyro_disent.data.dataset import DataSet, Pairs, Source
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import make
from pyro_disent.models.latents import Latent
from pyro_disent.models.specification import LatentSpec, explains_to_json
from pyro_disent.pixels import ImageShape
from pyro_disent.training.aliases import without_aliases
from pyro_disent.training.config import FitConfig
from pyro_disent.training.content import check_record, read_json
from pyro_disent.training.handed_over import HANDED_OVER
from pyro_disent.training.hardware import precision
from pyro_disent.training.observed import Observation

FORMAT = 2
"""The file's format; older ones are read by `_of_format_0` and `_of_format_1`."""
_NEEDED = ("fit", "source", "image_shape", "factors", "edges", "latents", "pairs", "device", "precision", "compiled")


@dataclass(frozen=True)
class RunRecord:
    """A run's configuration, and what was decided when it began; `to_json` and `from_json` round-trip."""

    fit: FitConfig
    source: Source
    image_shape: ImageShape
    factors: tuple[str, ...]
    """Names of the data's factors."""
    pairs: Pairs
    latents: Mapping[str, LatentSpec]
    """The latents of the model, made for the data: each says what it explains."""
    edges: Mapping[str, list[float]]
    """factor's name -> inner edges of the bins a predictor sees it in."""
    device: str
    """``cpu`` or ``cuda``."""
    precision: str
    """Fabric's."""
    compiled: bool
    """Whether its step is compiled."""
    step: str = ""
    """How the step is taken, in words."""
    units: Mapping[str, list[float]] = field(default_factory=dict)
    """factor's name -> center and scale of the user's numbers that a batch holds standardized."""
    threads: int | None = None
    """Threads of the CPU."""
    init: str | None = None
    """The run whose weights it started from."""
    versions: Mapping[str, str] = field(default_factory=dict)
    handed_over: tuple[str, ...] = ()
    """Which of data, vae, elbo, encoder and decoder were handed over from Python, and have to be again."""
    observed: tuple[Observation, ...] = ()
    """Factors that are the values of latents."""
    minimized: str = ""
    """An ELBO that was handed over, in words; empty where there was none."""

    def build_latents(self, vae: FactoredVAE | None = None) -> tuple[Latent, ...]:
        """The model's latents, with fresh families; those of the vae where it was handed over again.

        Raises:
            InputError: where the vae has other latents.
        """
        if vae is not None:
            expected, actual = _in_words(self.latents), _in_words(described(vae))
            if expected != actual:
                raise InputError(f"the vae has the latents {actual}, and the run was trained with {expected}")
            return vae.latents
        return tuple(
            Latent(name, spec.units, make(spec.family, spec.settings, of=name), spec.explains or "common")
            for name, spec in self.latents.items()
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "fit": self.fit.to_json(),
            "source": self.source._asdict(),
            "image_shape": list(self.image_shape),
            "factors": list(self.factors),
            "pairs": self.pairs.to_json(),
            "latents": {name: spec.to_json() for name, spec in self.latents.items()},
            "edges": dict(self.edges),
            "units": dict(self.units),
            "observed": [each.to_json() for each in self.observed],
            "device": self.device,
            "precision": self.precision,
            "compiled": self.compiled,
            "step": self.step,
            "threads": self.threads,
            "init": self.init,
            "versions": dict(self.versions),
            "handed_over": list(self.handed_over),
            "minimized": self.minimized,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: Path) -> Self:
        """From the content of a ``config.json``, whose path messages name.

        Raises:
            InputError: for what is not a record, and for one that needs another version of this program.
        """
        content = _converted(content, path)
        if missing := [name for name in _NEEDED if name not in content]:
            raise InputError(f"{path} is not a run's configuration: it lacks {', '.join(missing)}")
        check_record(content, path)
        try:
            channels, height, width = content["image_shape"]
            return cls(
                fit=FitConfig.from_json(content["fit"]),
                source=Source(**content["source"]),
                image_shape=(channels, height, width),
                factors=tuple(content["factors"]),
                pairs=Pairs.from_json(content["pairs"]),
                latents={name: LatentSpec.from_json(spec, name) for name, spec in content["latents"].items()},
                edges=content["edges"],
                device=content["device"],
                precision=content["precision"],
                compiled=content["compiled"],
                step=content.get("step", ""),
                units=content.get("units", {}),
                observed=tuple(Observation.from_json(each) for each in content.get("observed", ())),
                threads=content.get("threads"),
                init=content.get("init"),
                versions=content.get("versions", {}),
                handed_over=tuple(content.get("handed_over", _handed_over(content))),
                minimized=str(content.get("minimized", "")),
            )
        except InputError as error:
            raise _of_file(error, path) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is not a run's configuration: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises InputError for a file that does not exist or is not a record."""
        return cls.from_json(_content(path), path)


def read_fit(path: Path) -> FitConfig:
    """The configuration of a run's ``config.json``, to train by it again.

    Raises:
        InputError: for a file that does not exist or is not a configuration.
    """
    content = _converted(_content(path), path)
    try:
        return FitConfig.from_json(content["fit"])
    except InputError as error:
        raise _of_file(error, path) from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a run's configuration: {error}") from error


def _of_file(error: InputError, path: Path) -> InputError:
    """The same error, which names the file."""
    return error if str(path) in str(error) else InputError(f"{path} is not a run's configuration: {error}")


def _converted(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The same in today's format; raises InputError also where an older record is not whole."""
    try:
        return _of_this_format(content, path)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a run's configuration: {error!r} while an older format was read") from error


def described(vae: FactoredVAE) -> dict[str, LatentSpec]:
    """latent's name -> what is recorded of it."""
    return {latent.name: LatentSpec.describing(latent) for latent in vae.latents}


def _in_words(latents: Mapping[str, LatentSpec]) -> str:
    """Units, families and factors, which weights of the same shapes do not show."""
    parts = [f"{spec.family}, {explains_to_json(spec.explains or 'common')}" for spec in latents.values()]
    return ", ".join(f"{name}={latents[name].units} ({part})" for name, part in zip(latents, parts, strict=True))


def _handed_over(content: Mapping[str, Any]) -> list[str]:
    """What an older record does not say: only data and networks could be handed over then."""
    fit, kind = content["fit"], content["source"].get("kind")
    data = ["data"] if HANDED_OVER in (fit.get("data"), kind) else []
    return data + (["encoder", "decoder"] if fit.get("network") == HANDED_OVER else [])


def _content(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the config.json of a run")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    content = read_json(path, "a run's configuration")
    if not isinstance(content, dict) or not isinstance(content.get("fit"), dict):
        raise InputError(f"{path} is not a run's configuration: it has no table named fit")
    return content


def _of_this_format(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The same in today's format.

    Raises:
        InputError: for a format that this version does not know, with the way forward.
    """
    number = content.get("format", 0)
    if number == FORMAT:
        return _of_every_epoch(content)
    if number not in (0, 1):
        version = content.get("versions", {}).get("pyro-disent", "a newer one")
        raise InputError(
            f"{path} has the format {number!r}, and this version reads up to {FORMAT}: use the version of pyro-disent "
            f"that wrote it ({version}) or a newer one"
        )
    return _of_every_epoch(_of_format_1(_of_format_0(content) if number == 0 else content))


def _of_every_epoch(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a record that does not say when its run validates: that was after each epoch."""
    fit = content.get("fit")
    return {**content, "fit": {"validate_every": 0, **fit}} if isinstance(fit, Mapping) else dict(content)


def _of_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of format 1, in which a predictor's options were settings."""
    fit = without_aliases(content["fit"])
    if "predictor" not in fit.get("method", "").split("+"):
        fit["terms"] = {}  # their term is not part of the method
    return {**content, "format": FORMAT, "fit": fit}


def _of_format_0(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a record without a format: latents were numbers of units, and roles followed from names.

    A latent named after a factor stood for it, a unit with a factor's name likewise, ``y`` for the factors without a
    latent of their own, and every other latent for what pairs share. The last of these records say what each latent
    explains, as later ones do.
    """
    fit, factors = dict(content["fit"]), content.get("factors", ())
    units, unit_names = fit.get("latents", {}), content.get("unit_names", {})

    def role(name: str) -> Any:
        if unit_names.get(name):
            return {"each": list(unit_names[name])}
        return [name] if name in factors else "rest" if name == "y" else "common"

    has_roles = any(isinstance(count, Mapping) for count in units.values())
    if "predictor" in fit.get("method", "").split("+") and "z" in units and not has_roles:
        fit |= {"guards": ["z"], "hides": list(content.get("edges", {}))}  # whatever the units of z stood for
    latents = units if has_roles else {name: {"units": count, "explains": role(name)} for name, count in units.items()}
    if fit.get("preset") == "paper" and fit.get("precision", "auto") == "auto":
        fit["precision"] = "32"  # which followed from the preset's name alone
    faces = bool(unit_names)
    return {
        "pairs": {"kinds": [] if faces else [["identity"]], "rest_differs": faces, "identities": ["identity"]},
        "compiled": str(content.get("step", "")).startswith("compiled"),
        **content,
        "fit": fit | {"latents": latents},
        "latents": content.get("latents", latents) if has_roles else latents,
    }


def record_of(
    config: FitConfig,
    latents: Sequence[Latent],
    data: DataSet,
    edges: Mapping[str, list[float]],
    device: torch.device,
    step: EagerStep,
    how: str,
    threads: int,
    init: Path | None,
    handed_over: tuple[str, ...] = (),
    minimized: str = "",
    observed: tuple[Observation, ...] = (),
) -> RunRecord:
    """The record of a run that begins."""
    spec = LatentSpec.describing if "vae" in handed_over else LatentSpec.rebuilding
    return RunRecord(
        fit=config,
        source=data.source,
        image_shape=data.image_shape,
        factors=tuple(factor.name for factor in data.factors),
        pairs=data.pairs,
        latents={latent.name: spec(latent) for latent in latents},
        edges=edges,
        units={name: list(unit) for name, unit in data.units.items()},
        device=device.type,
        precision=precision(config),
        compiled=step.is_compiled,
        step=how,
        threads=threads,
        init=None if init is None else str(init),
        versions=versions(),
        handed_over=handed_over,
        minimized=minimized,
        observed=observed,
    )


def versions() -> dict[str, str]:
    """What a result depends on."""
    packages = ("pyro-disent", "torch", "pyro-ppl", "numpy", "lightning-fabric", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
    }
