"""Rotated MNIST (section 5.1 of the paper): a pair is one digit under two angles, uniform within 60 degrees of upright.

Positive angles turn counter-clockwise, as ``PIL.Image.rotate`` does. Beyond the paper's experiment digits may vary in
their size as well, and then a pair differs in one of the two factors. Digits come from `pyro_disent.data.mnist.files`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data.dataset import DataSet, Examples, Factor, Pairs, Split
from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.sources import Origin, Progress, Request
from pyro_disent.errors import InputError

NAME = "rotated-mnist"
MAX_ANGLE = math.radians(60)
MIN_SCALE = 0.6
BORDER = 2
CHUNK = 4_096


ROTATION = Factor("rotation", "radians", edges=(0.0,), range=(-MAX_ANGLE, MAX_ANGLE))
"""The predictor sees left or right, as in the paper."""
SCALE = Factor("scale", edges=((MIN_SCALE + 1) / 2,), range=(MIN_SCALE, 1.0))
"""The factor of a digit's width and height; the predictor sees small or large."""
VARYING = {factor.name: factor for factor in (ROTATION, SCALE)}
"""Each drawn uniformly from its range."""
FACTORS = (ROTATION,)
"""What varies where nothing else is asked for."""
PRESETS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
"""preset's name -> settings of a run."""


def rotation_grid(side: int, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates of pixels on a canvas with a black border, upright and after a quarter turn.

    With the border a digit's canvas is 32 pixels wide: pixel centers, in `grid_sample`'s coordinates, are multiples of
    1/32 and exact in float32, so that an angle of 0 gives back the image bit by bit.

    Returns:
        ``(2, side, side, 2)``: ``(x, y)`` and ``(-y, x)``.
    """
    center = (torch.arange(side, dtype=torch.float32, device=device) - (side - 1) / 2) / (side / 2 + BORDER)
    y, x = torch.meshgrid(center, center, indexing="ij")
    return torch.stack([torch.stack([x, y], -1), torch.stack([-y, x], -1)])


def rotate(images: Tensor, angles: Tensor, grid: Tensor, scales: Tensor | None = None) -> Tensor:
    """Turn and shrink each image about its center, once for each view: bilinear, black outside.

    Same as `affine_grid` and `grid_sample`, in less than a third of the time: the grid of every angle is a weighted
    sum of two fixed ones, and a scale divides the weights. That is elementwise, so neither autocast nor TF32 rounds it
    as they would a matrix product.

    Shrinking does not average over the area that a pixel comes to cover. MNIST's strokes are smooth enough to bear it:
    at 0.6, pixels are 0.03 (root mean square, in [0, 1]) from such an average, and a digit's ink is kept to about 2 %.

    Args:
        images: ``(images, 1, side, side)``, float.
        angles: ``(views, images)``, radians, counter-clockwise.
        grid: `rotation_grid` of the same side, on the same device.
        scales: ``(views, images)``, size of the digit as a share of its own; None: 1.

    Returns:
        ``(views, images, 1, side, side)``, in the range of the images.
    """
    side = images.shape[-1]
    canvas = images.new_zeros((*angles.shape, 1, side + 2 * BORDER, side + 2 * BORDER))
    canvas[..., BORDER:-BORDER, BORDER:-BORDER] = images
    cos, sin = angles.cos(), angles.sin()
    if scales is not None:
        cos, sin = cos / scales, sin / scales
    where = (cos.reshape(-1, 1, 1, 1) * grid[0]).addcmul_(sin.reshape(-1, 1, 1, 1), grid[1])
    return functional.grid_sample(canvas.flatten(0, 1), where, align_corners=False).unflatten(0, angles.shape)


class RotatedMNIST(Split):
    """Digits that are turned, shrunk or both for each batch.

    Args:
        images: ``(images, 1, 28, 28)``, uint8, upright.
        labels: ``{"digit": (images,) int64}``.
        vary: names of `VARYING`; other factors are constant, an angle of 0 and a scale of 1.

    Raises:
        InputError: for names that are unknown, named twice, or none at all.
    """

    images: Tensor

    def __init__(self, images: Tensor, labels: dict[str, Tensor], vary: Sequence[str] = ("rotation",)) -> None:
        super().__init__(images, labels)
        self.vary = varying_in(vary)
        self.grid = rotation_grid(images.shape[-1], images.device)

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The digits at ``index``, every factor drawn anew, on the digits' device.

        If both rotation and scale vary, the views of a pair differ in one of them, with equal probability, and in the
        other they are equal bit by bit.
        """
        draws = self._draw((views, len(index)), generator, self.images.device)
        if views == 2 and len(draws) > 1:
            changes = torch.randint(len(draws), index.shape, generator=generator, device=self.images.device)
            for number, values in enumerate(draws.values()):
                values[1] = torch.where(changes == number, values[1], values[0])
        images = self.images.index_select(0, index).float().div_(255)
        # Rounding could lift a white pixel above 1, which no Bernoulli accepts.
        pairing = Pairing.of(draws, always=("identity",))
        pixels, chosen = self._render(images, draws).clamp_(max=1), index.expand(views, -1)
        return Batch.unchecked(pixels, factors=draws, pairing=pairing, index=chosen)

    def examples(self, seed: int) -> Examples:
        """Each digit once, its factors drawn on the CPU, so that they are the same on every device."""
        factors = self._example_factors(seed)
        return Examples(self._render_bytes(self.images, factors), factors, dict(self.labels))

    @property
    def drawable(self) -> tuple[str, ...]:
        """All factors that vary."""
        return tuple(factor.name for factor in self.vary)

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        current = self._example_factors(seed)
        target = {name: values[b if name in factors else a] for name, values in current.items()}
        return self._render_bytes(self.images[a], target)

    def _example_factors(self, seed: int) -> dict[str, Tensor]:
        """factor's name -> ``(images,)``, as `examples` shows the digits."""
        draws = self._draw((1, len(self)), torch.Generator("cpu").manual_seed(seed), "cpu")
        return {name: values[0].to(self.images.device) for name, values in draws.items()}

    def _render_bytes(self, images: Tensor, factors: dict[str, Tensor]) -> Tensor:
        """Upright digits under these factors ``(images,)``, uint8."""
        parts = [images.new_empty(0, *images.shape[1:])]
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            of_part = {name: values[None, part] for name, values in factors.items()}
            parts.append(self._render(images[part].float(), of_part)[0].round_().to(torch.uint8))
        return torch.cat(parts)

    def _draw(
        self, shape: tuple[int, int], generator: torch.Generator, device: torch.device | str
    ) -> dict[str, Tensor]:
        """factor's name -> values of this shape, ``(views, images)``."""
        return {
            factor.name: torch.empty(shape, device=device).uniform_(*factor.range, generator=generator)
            for factor in self.vary
            if factor.range is not None
        }

    def _render(self, images: Tensor, factors: dict[str, Tensor]) -> Tensor:
        scales = factors.get("scale")
        angles = factors["rotation"] if scales is None else factors.get("rotation", torch.zeros_like(scales))
        return rotate(images, angles, self.grid, scales)


def varying_in(names: Sequence[str]) -> tuple[Factor, ...]:
    """Factors by name, in the order of `VARYING`.

    Raises:
        InputError: for names that are unknown, named twice, or none at all.
    """
    available = list(VARYING)
    selection = list(names) if isinstance(names, Sequence) and not isinstance(names, str) else []
    if not selection or any(name not in available or selection.count(name) > 1 for name in selection):
        raise InputError(
            f"factors of {NAME} are a list of one or more of {', '.join(available)}, each named once, not {names!r}"
        )
    return tuple(factor for name, factor in VARYING.items() if name in selection)


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    factors: Sequence[str] = ("rotation",),
    progress: Progress | None = None,
) -> DataSet:
    """Rotated MNIST from the source of a request.

    Args:
        request: the source, and a folder if one is named.
        seed: without effect: the digits are fixed, and each batch draws its factors.
        limit: use only so many training digits.
        factors: what varies, ``rotation``, ``scale`` or both.
        progress: without effect: reading takes no time worth showing.

    Raises:
        InputError: where the source lacks MNIST, a file of it is damaged, the limit is below 1, or there is no such
            factor.
    """
    varying = varying_in(factors)
    data = mnist.read(request, limit=limit)
    train, validation, test = (
        RotatedMNIST(digits.images, {"digit": digits.labels}, factors)
        for digits in (data.train, data.validation, data.test)
    )
    return DataSet(
        NAME,
        train,
        validation,
        test,
        varying,
        data.source,
        {"limit": limit, "factors": list(factors)},
        _pairs(varying),
    )


def _pairs(varying: tuple[Factor, ...]) -> Pairs:
    """A pair is one digit; if several factors vary, it differs in one of them only."""
    if len(varying) == 1:
        return Pairs((("identity",),), identities=("identity",))
    names = [factor.name for factor in varying]
    kinds = tuple(("identity", *(other for other in names if other != name)) for name in names)
    return Pairs(kinds, identities=("identity",))


def describe(request: Request) -> Origin:
    """The source of the digits, without reading them."""
    return mnist.describe(request)


def prepare(request: Request, *, seed: int = 0, progress: Progress | None = None) -> Path:
    """Put the digits into the cache and return its path, see `mnist.prepare`."""
    return mnist.prepare(request)
