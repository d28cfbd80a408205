"""Networks that the encoder plays against."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from pyro_disent.models.program import Program, at_least_float32


class Opponent(Program):
    """A network as a Pyro program; a frozen call uses ``network`` alone."""

    network: nn.Module

    def forward(self, code: Tensor) -> Tensor:
        return at_least_float32(self.network(code))


class FactorPredictor(Opponent):
    """g(z) of Eq. 3: the logits of every factor's bins, side by side; one hidden layer of 128 ReLU.

    Args:
        width: width of the code that it sees.
        bins: factor's name -> number of values after quantization.
    """

    def __init__(self, width: int, bins: Mapping[str, int], hidden: int = 128) -> None:
        super().__init__()
        self.bins = dict(bins)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, sum(self.bins.values())))


class PermutationDiscriminator(Opponent):
    """FactorVAE's D(code): logits of "drawn from q(code)" and "drawn from the product of its marginals".

    Six hidden layers of 1000 with leaky ReLU 0.2 (Kim & Mnih 2018, appendix A).
    """

    def __init__(self, width: int, hidden: int = 1000, layers: int = 6) -> None:
        super().__init__()
        widths = (width, *[hidden] * layers)
        stack = [module for inner, outer in pairwise(widths) for module in (nn.Linear(inner, outer), nn.LeakyReLU(0.2))]
        self.network = nn.Sequential(*stack, nn.Linear(hidden, 2))
