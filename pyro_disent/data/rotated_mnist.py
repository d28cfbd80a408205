"""Rotated MNIST (section 5.1 of the paper): a pair is one digit under two angles, uniform within 60 degrees of upright.

Positive angles turn counter-clockwise, as ``PIL.Image.rotate`` does. Digits come from `pyro_disent.data.mnist`.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pyro_disent.batch import Batch
from pyro_disent.data import mnist
from pyro_disent.data.dataset import DataSet, Examples, Factor, Split
from pyro_disent.data.sources import Found, Progress, Request

NAME = "rotated-mnist"
FACTORS = (Factor("rotation", "radians", edges=(0.0,)),)
"""The predictor sees left or right, as in the paper."""

MAX_ANGLE = math.radians(60)
BORDER = 2
CHUNK = 4_096


def rotation_grid(side: int, device: torch.device | str = "cpu") -> Tensor:
    """Where upright pixels lie on a canvas with a black border, and where they lie a quarter turn on.

    With the border a digit's canvas is 32 pixels wide: pixel centers, in `grid_sample`'s coordinates, are multiples of
    1/32 and exact in float32, so that an angle of 0 gives back the image bit by bit.

    Returns:
        ``(2, side, side, 2)``: ``(x, y)`` and ``(-y, x)``.
    """
    center = (torch.arange(side, dtype=torch.float32, device=device) - (side - 1) / 2) / (side / 2 + BORDER)
    y, x = torch.meshgrid(center, center, indexing="ij")
    return torch.stack([torch.stack([x, y], -1), torch.stack([-y, x], -1)])


def rotate(images: Tensor, angles: Tensor, grid: Tensor) -> Tensor:
    """Turn each image about its center, once for each view: bilinear, black outside.

    Same as `affine_grid` and `grid_sample`, in less than a third of the time: the grid of every angle is a weighted
    sum of two fixed ones. That is elementwise, so neither autocast nor TF32 rounds it as they would a matrix product.

    Args:
        images: ``(images, 1, side, side)``, float.
        angles: ``(views, images)``, radians, counter-clockwise.
        grid: `rotation_grid` of the same side, on the same device.

    Returns:
        ``(views, images, 1, side, side)``, in the range of the images.
    """
    side = images.shape[-1]
    canvas = images.new_zeros((*angles.shape, 1, side + 2 * BORDER, side + 2 * BORDER))
    canvas[..., BORDER:-BORDER, BORDER:-BORDER] = images
    angle = angles.reshape(-1, 1, 1, 1)
    where = (angle.cos() * grid[0]).addcmul_(angle.sin(), grid[1])
    return functional.grid_sample(canvas.flatten(0, 1), where, align_corners=False).unflatten(0, angles.shape)


class RotatedMNIST(Split):
    """Digits that are turned as they are asked for.

    Args:
        images: ``(images, 1, 28, 28)``, uint8, upright.
        labels: ``{"digit": (images,) int64}``.
    """

    def __init__(self, images: Tensor, labels: dict[str, Tensor]) -> None:
        super().__init__(images, labels)
        self.grid = rotation_grid(images.shape[-1], images.device)

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The digits at ``index``, under an angle of its own in each view; all on the device the digits lie on."""
        angles = torch.empty(views, len(index), device=self.images.device)
        angles.uniform_(-MAX_ANGLE, MAX_ANGLE, generator=generator)
        images = self.images.index_select(0, index).float().div_(255)
        # Rounding could lift a white pixel above 1, which no Bernoulli accepts.
        return Batch(rotate(images, angles, self.grid).clamp_(max=1), factors={"rotation": angles})

    def examples(self, seed: int) -> Examples:
        """Each digit once, under one angle drawn on the CPU: the same angles whatever the device."""
        angles = torch.empty(len(self), device="cpu")
        angles.uniform_(-MAX_ANGLE, MAX_ANGLE, generator=torch.Generator("cpu").manual_seed(seed))
        angles = angles.to(self.images.device)
        turned = [
            rotate(images.float(), angle.unsqueeze(0), self.grid)[0].round_().to(torch.uint8)
            for images, angle in zip(self.images.split(CHUNK), angles.split(CHUNK), strict=True)
        ]
        return Examples(torch.cat(turned), {"rotation": angles}, dict(self.labels))


def load(request: Request, *, seed: int = 0, limit: int | None = None, progress: Progress | None = None) -> DataSet:
    """Rotated MNIST from the place that a request leads to.

    Args:
        request: which source, and a folder if one was named.
        seed: without effect: the digits are fixed, and angles are drawn by whoever asks for a batch.
        limit: use only so many training digits.
        progress: without effect: reading takes no time worth showing.

    Raises:
        InputError: where the place lacks MNIST, a file of it is damaged, or the limit is below 1.
    """
    data = mnist.read(request, limit=limit)
    train, validation, test = (
        RotatedMNIST(digits.images, {"digit": digits.labels}) for digits in (data.train, data.validation, data.test)
    )
    return DataSet(NAME, train, validation, test, FACTORS, data.source, {"limit": limit})


def describe(request: Request) -> Found:
    """Which digits would be used; reads none of them."""
    return mnist.describe(request)


def prepare(request: Request, *, seed: int = 0, progress: Progress | None = None) -> Path:
    """Put the digits into the cache, for which see `mnist.prepare`; where they lie then."""
    return mnist.prepare(request)
