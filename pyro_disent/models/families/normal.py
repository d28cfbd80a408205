"""Normal latents: a standard normal prior, or one whose mean and variance depend on other latents or labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.families.base import Family
from pyro_disent.models.labels import Label
from pyro_disent.models.program import at_least_float32


class Normal(Family):
    """Standard normal prior, diagonal normal posterior."""

    name: ClassVar[str] = "normal"


class ConditionalNormal(Family):
    """p(latent | parents): a diagonal normal whose mean and log variance are a network's output.

    A prior draw is from p(latent | the parents' draws); labels are drawn by their frequencies. A traversal goes from
    the 5 % to the 95 % quantile at an image's latents, of the mixture over labels by their frequencies.

    Args:
        parents: names of latents declared before this one, or of labels; on the command line joined by ``+``.
        network: ``(..., sum of the parents' widths)`` -> ``(..., 2 x units)``: mean, then log variance. None: one
            hidden layer of tanh.
        hidden: units of that layer.
        labels: values and frequencies of the parents that are labels. Training counts them in its data.
    """

    name: ClassVar[str] = "conditional"

    def __init__(
        self,
        parents: str | Iterable[str],
        network: nn.Module | None = None,
        hidden: int = 64,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
            raise InputError(f"a conditional prior needs hidden units, 1 or more, got {hidden!r}")
        self.parents = tuple(parents.split("+")) if isinstance(parents, str) else tuple(parents)
        self.network, self.hidden = network, hidden
        self._own_network = network is None
        self.labels = {name: Label.from_json(name, label) for name, label in (labels or {}).items()}

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        """Make the network if there is none.

        Raises:
            InputError: for parents that are not declared before this latent, and a network of other widths.
        """
        if missing := [name for name in self.parents if name not in earlier]:
            raise InputError(f"a prior is conditioned on {', '.join(missing)}, which must be declared before it")
        width = sum(earlier[name] for name in self.parents)
        if self.network is None:
            last = nn.Linear(self.hidden, 2 * units)
            # The prior starts as the standard normal.
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.network = nn.Sequential(nn.Linear(width, self.hidden), nn.Tanh(), last)
        else:
            self._check(self.network, width, units)

    def _check(self, network: nn.Module, width: int, units: int) -> None:
        """Run a copy of it on zeros, so that none of its buffers changes."""
        like = next(network.parameters(), torch.zeros(()))
        try:
            with torch.no_grad():
                shape = tuple(copy.deepcopy(network).eval()(like.new_zeros(2, width)).shape)
            got = f"gives {shape[-1]}" if shape[:1] == (2,) and len(shape) == 2 else f"gives {shape} for (2, {width})"
        except (RuntimeError, ValueError) as error:
            shape = ()
            first = next((layer for layer in network.modules() if isinstance(layer, nn.Linear)), None)
            got = f"cannot take them ({type(error).__name__})" if first is None else f"takes {first.in_features}"
        if shape != (2, 2 * units):
            raise InputError(
                f"the network of its prior maps the {width} numbers of {' and '.join(self.parents)} (an angle is two) "
                f"to {2 * units}, a mean and a log variance for each of {units} units; this one {got}"
            )

    def prior(
        self, units: int, earlier: Mapping[str, Tensor], like: Tensor, batch: Batch | None
    ) -> dist.TorchDistribution:
        assert self.network is not None
        parameters = self.network(torch.cat([earlier[name] for name in self.parents], -1))
        return self.posterior(at_least_float32(parameters), batch)

    def settings(self) -> dict[str, Any]:
        if not self._own_network:
            raise ValueError("its network was handed over from Python")
        labels = {name: label.to_json() for name, label in self.labels.items()}
        return {"parents": "+".join(self.parents), "hidden": self.hidden, "labels": labels}


class LabelledNormal(ConditionalNormal):
    """p(unit i | label i): a normal for each unit, with a mean and a log variance for each of the label's values.

    For a latent whose units stand for one factor each. Draws and traversals are those of `ConditionalNormal`.

    Args:
        parents: names of labels, one per unit, in the order of the units; on the command line joined by ``+``. Empty:
            the factors that the latent's units explain, see `each`.
        labels: their values and frequencies. Training counts them in its data.
    """

    name: ClassVar[str] = "labelled"

    def __init__(self, parents: str | Iterable[str] = (), labels: Mapping[str, Any] | None = None) -> None:
        super().__init__(parents, labels=labels)

    def stand_for(self, factors: tuple[str, ...]) -> None:
        self.parents = self.parents or factors

    def bind(self, units: int, earlier: Mapping[str, int]) -> None:
        """Make the tables; over the labels by their frequencies, the prior starts with mean 0 and variance 1.

        Raises:
            InputError: for parents that are not labels, and more or fewer of them than units.
        """
        if not self.parents:
            raise InputError(
                "a labelled prior needs parents, one label a unit, or a latent that explains one factor a unit"
            )
        if missing := [name for name in self.parents if name not in self.labels]:
            raise InputError(f"a labelled prior depends on {', '.join(missing)}, of which no values were counted")
        if len(self.parents) != units:
            raise InputError(f"a labelled prior needs one label a unit, {units}, and has {len(self.parents)}")
        if self.network is None:
            self.network = _Tables([self.labels[name] for name in self.parents])

    def dependent_units(self, parent: str, units: int) -> list[int]:
        return [unit for unit, name in enumerate(self.parents) if name == parent]

    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in super().settings().items() if key != "hidden"}


APART = 0.9
"""The share of a labelled prior's standard deviation that lies between its labels when training starts."""


class _Tables(nn.Module):
    """One-hot labels side by side -> a mean and a log variance per label: all means, then all log variances.

    The means start apart, in the order of the labels' values: where all are alike, a unit that says nothing of its
    label is as good as one that does, and other latents learn the label first.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        super().__init__()
        self.values = [len(label.values) for label in labels]
        self.tables = nn.ParameterList(nn.Parameter(self._start(label)) for label in labels)

    def _start(self, label: Label) -> Tensor:
        values, shares = torch.tensor(label.values), torch.tensor(label.frequencies)
        centered = values - (shares * values).sum()
        means = APART * centered / (shares * centered.square()).sum().sqrt()
        return torch.stack([means, torch.full_like(means, math.log(1 - APART**2))], -1)

    def forward(self, labels: Tensor) -> Tensor:
        parts = zip(labels.split(self.values, -1), self.tables, strict=True)
        return torch.stack([part @ table for part, table in parts], -1).flatten(-2)
