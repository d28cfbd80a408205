"""Labels that a prior may depend on: sites of the model, with the frequencies of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError

MOST_VALUES = 256
"""A factor with more values is a measurement, not a label."""


@dataclass(frozen=True)
class Label:
    """A factor with few values, and the frequency of each in the training images.

    Args:
        name: the factor's name, which is also its site.
        values: the values in the data, increasing.
        frequencies: one for each value, positive; they sum to 1.

    Raises:
        InputError: for fewer than two values, a wrong number of frequencies, and invalid frequencies.
    """

    name: str
    values: tuple[float, ...]
    frequencies: tuple[float, ...]

    def __post_init__(self) -> None:
        for key in ("values", "frequencies"):
            object.__setattr__(self, key, tuple(map(float, getattr(self, key))))
        if not 2 <= len(self.values) <= MOST_VALUES or list(self.values) != sorted(set(self.values)):
            raise InputError(f"the label {self.name!r} must have 2 to {MOST_VALUES} values, each once and increasing")
        is_valid = len(self.frequencies) == len(self.values) and min(self.frequencies) > 0
        if not is_valid or abs(sum(self.frequencies) - 1) > 1e-4:
            raise InputError(f"the label {self.name!r} needs a frequency above 0 for each value, which sum to 1")
        if self.name in ("x", "views", "images"):
            raise InputError(f"a prior cannot depend on the label {self.name!r}: this name is taken by another site")

    @classmethod
    def count(cls, name: str, values: Tensor) -> Self:
        """Count the values in the training images, ``(images,)``.

        Raises:
            InputError: for images without a value, and fewer than two values or too many.
        """
        if bool(values.isnan().any()):
            raise InputError(f"a prior cannot depend on {name!r}, which is not known of every training image")
        distinct, counts = values.double().unique(return_counts=True)
        if not 2 <= len(distinct) <= MOST_VALUES:
            raise InputError(
                f"a prior cannot depend on {name!r}: a label has 2 to {MOST_VALUES} values, and the training images "
                f"have {len(distinct)}"
            )
        return cls(name, tuple(distinct.tolist()), tuple((counts / len(values)).tolist()))

    @classmethod
    def from_json(cls, name: str, content: Any) -> Self:
        """Inverse of `to_json`; raises InputError for other content."""
        if isinstance(content, cls):
            return content
        if not isinstance(content, Mapping) or content.keys() != {"values", "frequencies"}:
            raise InputError(f"the label {name!r} needs values and frequencies, which are counted from the data")
        try:
            return cls(name, tuple(content["values"]), tuple(content["frequencies"]))
        except (TypeError, ValueError):
            raise InputError(f"the values and frequencies of the label {name!r} must be numbers") from None

    def place(self, value: Any) -> int:
        """The index of a value among the label's values, compared in float32.

        Raises:
            InputError: for a value that no training image had.
        """
        if isinstance(value, Real):
            wanted, *values = torch.tensor([float(value), *self.values], dtype=torch.float32, device="cpu").tolist()
            if wanted in values:
                return values.index(wanted)
        raise InputError(
            f"the label {self.name!r} cannot be {value!r}: it was {', '.join(f'{each:g}' for each in self.values)}"
        )

    def to_json(self) -> dict[str, list[float]]:
        return {"values": list(self.values), "frequencies": list(self.frequencies)}


class LabelSite(nn.Module):
    """A label as a site of the model: observed if the batch has it, else drawn from its frequencies."""

    def __init__(self, label: Label) -> None:
        super().__init__()
        self.label = label
        # Values are compared as float32 bits: a model in half precision would round them.
        self.register_buffer("bits", _bits(torch.tensor(label.values)), persistent=False)
        self.register_buffer("log_frequencies", torch.tensor(label.frequencies).log(), persistent=False)
        self.bits: Tensor
        self.log_frequencies: Tensor

    def forward(self, batch: Batch | None) -> Tensor:
        """The site's value as a one-hot vector, ``(views, images, values)``; NaN for a value not seen in training.

        Raises:
            InputError: for such a value, if Pyro validates.
        """
        name = self.label.name
        fn = dist.Categorical(logits=self.log_frequencies)
        infer = {"label": True}
        if batch is None or name not in batch.factors:
            return self.one_hot(pyro.sample(name, fn, infer=infer))  # type: ignore[arg-type]
        same = _bits(batch.factors[name]).unsqueeze(-1) == self.bits
        if fn._validate_args and not bool(same.any(-1).all()):
            raise InputError(
                f"a prior depends on {name!r}, and the batch has values of it that no training image had: there were "
                f"{', '.join(f'{value:g}' for value in self.label.values)}"
            )
        value = pyro.sample(name, fn, obs=same.long().argmax(-1), infer=infer)  # type: ignore[arg-type]
        hot = self.one_hot(value)
        return hot.masked_fill(~same.any(-1, keepdim=True), torch.nan)

    def one_hot(self, index: Tensor) -> Tensor:
        places = torch.arange(len(self.label.values), device=index.device)
        return (index.unsqueeze(-1) == places).to(self.log_frequencies.dtype)


def _bits(values: Tensor) -> Tensor:
    return (values.to(torch.float32) + 0.0).contiguous().view(torch.int32)  # minus 0 becomes 0
