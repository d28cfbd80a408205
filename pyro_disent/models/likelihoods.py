"""p(x | code): what the decoder's outputs mean for images in [0, 1]."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_disent import plugins


class Likelihood(nn.Module):
    """A distribution over images from a decoder's outputs.

    Calling it with outputs ``(..., channels, height, width)`` gives the distribution of x, with three event dimensions;
    `mean` gives the image to show.
    """

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Outputs are logits; minus its log density is the summed binary cross entropy of the published code.

    Grey values are taken as probabilities, outside the distribution's support: sampling gives black and white pixels.
    """

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=outputs, validate_args=False).to_event(3)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()


class StableContinuousBernoulli(dist.ContinuousBernoulli):
    """torch's continuous Bernoulli with a log normalizer that is exact at every logit.

    torch's is wrong by 0.6 nats per pixel at \\|logit\\| = 30, as it uses clamped probabilities.
    """

    def _cont_bern_log_norm(self) -> Tensor:
        small = self.logits.abs() < 1e-2
        safe = torch.where(small, torch.ones_like(self.logits), self.logits)
        square = self.logits**2
        series = math.log(2.0) + square / 12 - 7 * square**2 / 1440
        return torch.where(small, series, (safe / (safe / 2).tanh()).log())


class ContinuousBernoulli(Likelihood):
    """A proper density on [0, 1] (Loaiza-Ganem & Cunningham 2019); its nats do not compare with Bernoulli's.

    Args:
        bound: largest \\|logit\\|: pure black and white pixels would make the density unbounded.
    """

    def __init__(self, bound: float = 30.0) -> None:
        super().__init__()
        self.bound = bound

    def _logits(self, outputs: Tensor) -> Tensor:
        return self.bound * (outputs / self.bound).tanh()

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return StableContinuousBernoulli(logits=self._logits(outputs), validate_args=False).to_event(3)

    def mean(self, outputs: Tensor) -> Tensor:
        """p / (2p - 1) + 1 / (2 artanh(1 - 2p)), which is 1/2 + coth(l / 2) / 2 - 1 / l at logit l."""
        logits = self._logits(outputs)
        small = logits.abs() < 1e-1
        safe = torch.where(small, torch.ones_like(logits), logits)
        return 0.5 + torch.where(small, logits / 12 - logits**3 / 720, 0.5 / (safe / 2).tanh() - 1 / safe)


class NormalPixels(Likelihood):
    """A tanh output scaled to [0, 1], with one scale for all pixels.

    At the default scale, 1 / (2 sqrt 2), minus the log density is the paper's squared error on [-1, 1] plus a constant.

    Args:
        scale: standard deviation on [0, 1].
        learnt: make the scale a parameter (Rybkin et al. 2021) that starts at ``scale``.
    """

    def __init__(self, scale: float = 0.5 / math.sqrt(2.0), learnt: bool = False) -> None:
        super().__init__()
        log_scale = torch.tensor(math.log(scale))
        self.log_scale: Tensor
        if learnt:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Normal(self.mean(outputs), self.log_scale.exp(), validate_args=False).to_event(3)

    def mean(self, outputs: Tensor) -> Tensor:
        return 0.5 * (outputs.tanh() + 1)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "normal": NormalPixels,
}


def likelihood(name: str) -> type[Likelihood]:
    """The likelihood of this name: ours, or one of the entry-point group ``pyro_disent.likelihoods``.

    Raises:
        InputError: for a name that does not exist, listing those that do.
    """
    return plugins.find("pyro_disent.likelihoods", LIKELIHOODS, name, "likelihood")


def __getattr__(name: str) -> Any:
    if name == "Normal":
        warnings.warn("likelihoods.Normal is called NormalPixels now", DeprecationWarning, stacklevel=2)
        return NormalPixels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
