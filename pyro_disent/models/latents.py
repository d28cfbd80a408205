"""Latents are named sample sites: their names, their units, and their prior and posterior families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_disent.errors import InputError
from pyro_disent.models.program import at_least_float32


class Family(nn.Module):
    """What a latent is: its prior p(latent | earlier latents) and the form of its posterior q(latent | x).

    The base class is the standard normal prior with a diagonal normal posterior; other families override what differs.
    All distributions have one event dimension, of the latent's width.
    """

    def width(self, units: int) -> int:
        """Numbers in the code that the decoder sees."""
        return units

    def posterior_parameters(self, units: int) -> int:
        """Numbers the guide's head must give."""
        return 2 * units

    def prior(self, units: int, earlier: Mapping[str, Tensor], like: Tensor) -> dist.TorchDistribution:
        """p(latent | earlier): ``earlier`` maps the names of latents declared before to values ``(..., width)``."""
        return dist.Normal(like.new_zeros(units), like.new_ones(units)).to_event(1)

    def posterior(self, parameters: Tensor) -> dist.TorchDistribution:
        """q(latent | x) from ``(..., posterior_parameters)``; batch shape ``(...,)``, event shape ``(width,)``."""
        loc, log_variance = parameters.chunk(2, -1)
        # A scale below exp(-10) or above exp(10) is no longer a statement about a unit-scale latent, and its square
        # would leave float32.
        return dist.Normal(loc, (0.5 * log_variance.clamp(-20.0, 20.0)).exp()).to_event(1)

    def mean(self, posterior: dist.TorchDistribution) -> Tensor:
        """The posterior's center as the decoder takes it, ``(..., width)``."""
        return posterior.mean

    def mean_and_scale(self, posterior: dist.TorchDistribution) -> tuple[Tensor, Tensor]:
        """Posterior mean and scale of each unit, both ``(..., units)``."""
        return posterior.mean, posterior.stddev

    def quantile(self, probability: Tensor) -> Tensor:
        """The marginal prior's quantiles of one unit, at probabilities of any shape: where a traversal goes."""
        return dist.Normal(torch.zeros_like(probability), torch.ones_like(probability)).icdf(probability)


class Normal(Family):
    """Standard normal prior, diagonal normal posterior."""


class ConditionalNormal(Family):
    """p(latent | parents): a diagonal normal whose mean and log variance are a network's output.

    Args:
        parents: names of latents declared before this one.
        network: ``(..., sum of the parents' widths)`` -> ``(..., 2 x units)``: mean, then log variance.
    """

    def __init__(self, parents: str | Iterable[str], network: nn.Module) -> None:
        super().__init__()
        self.parents = (parents,) if isinstance(parents, str) else tuple(parents)
        self.network = network

    def prior(self, units: int, earlier: Mapping[str, Tensor], like: Tensor) -> dist.TorchDistribution:
        missing = [name for name in self.parents if name not in earlier]
        if missing:
            raise InputError(f"a prior is conditioned on {', '.join(missing)}, which must be declared before it")
        parameters = self.network(torch.cat([earlier[name] for name in self.parents], -1))
        return self.posterior(at_least_float32(parameters))


@dataclass(frozen=True)
class Latent:
    """A named latent of the model.

    Args:
        name: its sample site; a latent named after a factor of the data is shared where that factor is equal.
        units: how many units it has, at least one.
        prior: its family.
        unit_names: a factor's name for each unit, where units stand for factors (empty: they do not).

    Raises:
        InputError: for a name that is no identifier, fewer than one unit, or as many names as do not fit the units.
    """

    name: str
    units: int
    prior: Family = field(default_factory=Normal, compare=False)
    unit_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"latent {self.name!r}: a name must be letters, digits and underscores")
        # Names of other sites and plates, and what a module calls its own.
        if self.name in ("x", "views", "images") or self.name.endswith("_seen") or hasattr(nn.ModuleDict, self.name):
            raise InputError(f"latent {self.name!r}: this name is taken; choose another")
        if self.units < 1:
            raise InputError(f"latent {self.name!r} has {self.units} units; it needs at least 1")
        if self.unit_names and len(self.unit_names) != self.units:
            raise InputError(f"latent {self.name!r} has {self.units} units but {len(self.unit_names)} unit names")

    @property
    def width(self) -> int:
        """Numbers it has in the code that the decoder sees."""
        return self.prior.width(self.units)

    def quantiles(self, count: int) -> Tensor:
        """``(count,)`` values of one unit at evenly spaced quantiles of its prior, from 5 % to 95 %."""
        return self.prior.quantile(torch.linspace(0.05, 0.95, count, dtype=torch.float32, device="cpu"))
