"""The result of an evaluation: numbers with names and units, and their form as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pyro_disent.data.dataset import Source
from pyro_disent.errors import InputError


class Number(NamedTuple):
    """One result."""

    measure: str
    """What was measured: ``linear probe of digit``."""
    block: str
    """The latents it was measured on; empty where it describes the whole model."""
    value: float
    unit: str
    interval: tuple[float, float] | None = None
    """95 % confidence interval by a bootstrap, where that was computed."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without an interval that was not computed; a value that is not finite is null."""
        values = {**self._asdict(), "value": self.value if math.isfinite(self.value) else None}
        interval = values.pop("interval")
        return values if interval is None else {**values, "interval": list(interval)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; null is NaN."""
        value, interval = values["value"], values.get("interval")
        converted = {"value": math.nan if value is None else value, "interval": interval and tuple(interval)}
        return cls(**{**values, **converted})


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The measurements of one model on one data set."""

    protocol: int
    """Version of what the numbers mean; numbers of different versions do not compare."""
    run: str
    """The model's name."""
    method: str
    data: str
    source: Source
    images: Mapping[str, int]
    """``train``, ``validation`` and ``test`` -> how many images."""
    seed: int
    blocks: Mapping[str, tuple[str, ...]]
    """block's name -> the latents in it."""
    numbers: Mapping[str, Number]
    """Keys such as ``linear_probe/digit/z`` -> the result."""
    advice: tuple[str, ...] = ()
    """A sentence for each latent that tells nothing about the image or that the decoder ignores."""
    checkpoint: str = ""
    """``best`` or ``last`` of a run; empty for a model that belongs to no run."""

    def __repr__(self) -> str:
        of = f" of {self.run}" if self.run else ""
        return f"<Evaluation{of} on {self.data}: {len(self.numbers)} numbers of {', '.join(self.blocks)}>"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as ``evaluation.json`` holds them."""
        return {
            **vars(self),
            "source": self.source._asdict(),
            "images": dict(self.images),
            "blocks": {name: list(latents) for name, latents in self.blocks.items()},
            "numbers": {key: number.to_json() for key, number in self.numbers.items()},
            "advice": list(self.advice),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: for values that are not an evaluation.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if values.keys() ^ fields:
            raise InputError(f"this is not an evaluation: it has or lacks {', '.join(sorted(values.keys() ^ fields))}")
        return cls(
            **{
                **values,
                "source": Source(**values["source"]),
                "blocks": {name: tuple(latents) for name, latents in values["blocks"].items()},
                "numbers": {key: Number.from_json(number) for key, number in values["numbers"].items()},
                "advice": tuple(values["advice"]),
            }
        )
