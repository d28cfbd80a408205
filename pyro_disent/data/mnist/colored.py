"""Colored MNIST (section 5.3; Kim et al. 2019, "Learning not to learn"): in training the color gives the digit away.

Each class has a mean color. Training and validation digits have that of their class, test digits any of the ten, and
every image deviates from it by noise of its own that is drawn once. Digits come from `pyro_disent.data.mnist.files`.
"""

from __future__ import annotations

import math
import tomllib
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data.dataset import DataSet, Examples, Factor, Pairs, Split
from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.mnist.files import Digits
from pyro_disent.data.sources import Origin, Progress, Request, limited
from pyro_disent.errors import InputError

NAME = "colored-mnist"
CHANNELS = ("red", "green", "blue")
FACTORS = tuple(Factor(name, edges=(64 / 255, 128 / 255, 192 / 255), range=(0.0, 1.0)) for name in CHANNELS)
"""In [0, 1]. The predictor sees four bins of each, as in the paper: a channel's uint8 value divided by 64."""

MEAN_COLORS = (
    (220, 20, 60),
    (0, 128, 128),
    (253, 233, 16),
    (0, 149, 182),
    (237, 145, 33),
    (145, 30, 188),
    (70, 240, 240),
    (250, 197, 187),
    (210, 245, 60),
    (128, 0, 0),
)
"""Red, green and blue of the digits 0 to 9, as uint8 values."""
VARIANCE = 0.03
MAX_VARIANCE = 0.25
THRESHOLD = 128
"""What is brighter belongs to the digit."""
PRESETS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
"""preset's name -> settings of a run."""


def within_unit(mean: Tensor, variance: float, uniform: Tensor) -> Tensor:
    """Draws of a normal truncated to [0, 1], by the inverse of its distribution function.

    Drawing again until a value lies inside would give the same distribution, but would wait for the host.

    Args:
        mean: of the normal before truncation, in [0, 1], float64.
        variance: of the normal before truncation.
        uniform: uniform in [0, 1), of the shape of ``mean``, float64.
    """
    spread = math.sqrt(2 * variance)
    low, high = torch.erf(-mean / spread), torch.erf((1 - mean) / spread)
    # An end far from the mean is -1 or 1 in float64, whose inverse is infinite.
    inside = torch.lerp(low, high, uniform).clamp_(math.nextafter(-1, 0), math.nextafter(1, 0))
    return (mean + spread * torch.erfinv(inside)).clamp_(0, 1)


def rounded(colors: Tensor) -> Tensor:
    """Colors in [0, 1] rounded to bytes, 1 / 255 or more, so that a digit is nowhere black.

    The division is in float64: a GPU multiplies by the inverse, which in float32 misses the edges of the bins.
    """
    return colors.double().mul(255).round_().clamp_(1, 255).div_(255).float()


class ColoredMNIST(Split):
    """Digits of one flat color on black; they are stored as masks, and colored for each batch.

    Args:
        images: ``(images, 1, 28, 28)``, uint8, 1 where the digit is and 0 elsewhere.
        labels: ``{"digit": (images,) int64}``.
        colors: ``(3, images)``, float32, in [1 / 255, 1]: each image's own color.
        variance: of a color about its mean, before truncation to [0, 1].
        biased: whether the mean color is that of the digit's class; else any of the ten, equally likely.
    """

    images: Tensor

    def __init__(
        self, images: Tensor, labels: dict[str, Tensor], colors: Tensor, variance: float, *, biased: bool
    ) -> None:
        super().__init__(images, labels, dict(zip(CHANNELS, colors, strict=True)))
        self.colors, self.variance, self.biased = colors, variance, biased
        self.means = mean_colors().to(images.device)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width: of the colored images."""
        return len(CHANNELS), *self.images.shape[2:]

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The digits at ``index`` in their own colors; in a second view recolored by this split's rule.

        The second color has new noise about the mean color of the class (biased) or about any mean color (unbiased). A
        pair shares the digit, pixel by pixel. As colors are bytes, a channel may happen to be equal in both views.
        """
        first = self.colors.index_select(1, index)
        colors = torch.stack([first, self._recolored(index, generator)] if views == 2 else [first], 1)
        digits = self.images.index_select(0, index).float()
        # Contiguous, as the product takes the order of its axes in memory from the colors.
        paint = colors.permute(1, 2, 0).contiguous()[..., None, None]
        factors = dict(zip(CHANNELS, colors, strict=True))
        pairing = Pairing.of(factors, always=("identity",))
        chosen = index.expand(views, -1)
        return Batch.unchecked(digits * paint, factors=factors, pairing=pairing, index=chosen)

    def examples(self, seed: int) -> Examples:
        """Each digit once, in its own color, which the data set's seed decides; ``seed`` has no effect."""
        return Examples(_painted(self.images, self.colors), dict(self.factors), dict(self.labels))

    @property
    def drawable(self) -> tuple[str, ...]:
        """The three channels of the color."""
        return CHANNELS

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        colors = [channel[b if name in factors else a] for name, channel in zip(CHANNELS, self.colors, strict=True)]
        return _painted(self.images[a], torch.stack(colors))

    def _recolored(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Another color for each digit, ``(3, images)``."""
        device = self.images.device
        if self.biased:
            of = self.labels["digit"].index_select(0, index)
        else:
            of = torch.randint(len(MEAN_COLORS), index.shape, generator=generator, device=device)
        mean = self.means[:, of]
        uniform = torch.rand(mean.shape, generator=generator, dtype=torch.float64, device=device)
        return rounded(within_unit(mean, self.variance, uniform))


def _painted(masks: Tensor, colors: Tensor) -> Tensor:
    """Masks ``(images, 1, height, width)`` in colors ``(3, images)`` in [0, 1], uint8."""
    return masks * colors.T.mul(255).round_().to(torch.uint8)[..., None, None]


def mean_colors() -> Tensor:
    """`MEAN_COLORS` in [0, 1], ``(3, 10)`` float64."""
    return torch.tensor(MEAN_COLORS, dtype=torch.float64, device="cpu").T.contiguous() / 255


def own_colors(digits: Tensor, variance: float, biased: bool, seed: int, stream: int) -> Tensor:
    """The colors that images keep, ``(3, images)`` float32.

    Args:
        digits: ``(images,)``, int64.
        variance, biased: as of `ColoredMNIST`.
        seed: of the data set.
        stream: of the split; its colors are independent of those of the other splits.
    """
    random = np.random.default_rng([seed, stream])
    of = digits if biased else torch.from_numpy(random.integers(len(MEAN_COLORS), size=len(digits)))
    uniform = torch.from_numpy(random.random((len(CHANNELS), len(digits))))
    return rounded(within_unit(mean_colors()[:, of], variance, uniform))


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    variance: float = VARIANCE,
    progress: Progress | None = None,
) -> DataSet:
    """Colored MNIST from the source of a request: biased training and validation, unbiased test.

    Args:
        request: the source, and a folder if one is named.
        seed: of the colors.
        limit: use only so many training digits; they keep their colors.
        variance: of a color about its mean, published from 0.02 to 0.05; in (0, 0.25].
        progress: without effect: reading and coloring take no time worth showing.

    Raises:
        InputError: where the source lacks MNIST, a file is damaged, or the limit or the variance is out of range.
    """
    if not isinstance(variance, Real) or not 0 < variance <= MAX_VARIANCE:
        raise InputError(
            f"variance of {NAME} must be above 0 and at most {MAX_VARIANCE}, beyond which colors spread over all of "
            f"[0, 1] whatever their mean, not {variance!r}"
        )
    limited(limit, 1)
    data = mnist.read(request)  # all of it: an image's color must not depend on how many are used
    parts = ((data.train, True, limit), (data.validation, True, None), (data.test, False, None))
    train, validation, test = (
        _colored(digits, float(variance), biased, seed, stream, most)
        for stream, (digits, biased, most) in enumerate(parts)
    )
    options = {"seed": seed, "limit": limit, "variance": float(variance)}
    return DataSet(
        NAME, train, validation, test, FACTORS, data.source, options, Pairs((("identity",),), identities=("identity",))
    )


def _colored(digits: Digits, variance: float, biased: bool, seed: int, stream: int, limit: int | None) -> ColoredMNIST:
    count = limited(limit, len(digits.labels))
    colors = own_colors(digits.labels, variance, biased, seed, stream)[:, :count]
    images = (digits.images[:count] > THRESHOLD).to(torch.uint8)
    return ColoredMNIST(images, {"digit": digits.labels[:count]}, colors, variance, biased=biased)


def describe(request: Request) -> Origin:
    """The source of the digits, without reading them."""
    return mnist.describe(request)


def prepare(request: Request, *, seed: int = 0, progress: Progress | None = None) -> Path:
    """Put the digits into the cache and return its path, see `mnist.prepare`."""
    return mnist.prepare(request)
