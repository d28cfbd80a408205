"""A model that paints its code, and the pixels that a figure shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.errors import InputError
from pyro_disent.figures.grids import GAP, RULE
from pyro_disent.models.latents import Latent


class Painter:
    """Paints every number of its code as one grey column, and reads it off again."""

    image_shape = (1, 8, 6)

    def __init__(self, *latents: Latent) -> None:
        self.latents = latents or (Latent("z", 3), Latent("w", 1), Latent("y", 2))

    def latent(self, name: str) -> Latent:
        for latent in self.latents:
            if latent.name == name:
                return latent
        raise InputError(f"there is no latent {name!r}")

    def prior_of(self, latent: str, codes: dict[str, Tensor]) -> object:
        chosen = self.latent(latent)
        return chosen.family.prior(chosen.units, codes, torch.zeros(()), None)

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        widths = [latent.width for latent in self.latents]
        parts = (8 * as_float(images)[:, 0, 0] - 4).split(widths, -1)
        return dict(zip((latent.name for latent in self.latents), parts, strict=True))

    def decode(self, codes: dict[str, Tensor]) -> Tensor:
        code = torch.cat([codes[latent.name] for latent in self.latents], -1)
        return ((code + 4) / 8).clamp(0, 1)[:, None, None].expand(-1, 1, 8, -1)

    def prior_sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        *,
        held: dict[str, Tensor] | None = None,
        given: None = None,
    ) -> dict[str, Tensor]:
        drawn = {latent.name: torch.randn(count, latent.width, generator=generator) for latent in self.latents}
        return drawn | {name: code.expand(count, -1) for name, code in (held or {}).items()}

    def images(self, count: int, seed: int = 0) -> Tensor:
        columns = torch.rand(count, 1, 1, 6, generator=torch.Generator().manual_seed(seed))
        return (columns * 255).round().byte().expand(-1, 1, 8, 6)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """What is on the paper, ``(height, width, 3)``."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def cells(figure: Figure, like: Tensor, headers: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """The images of a grid as they are on the paper, not enlarged, ``(rows, columns, height, width, 3)``."""
    paper = pixels(figure)
    inside = figure.axes[0].get_window_extent()
    left, top = round(inside.x0), round(paper.shape[0] - inside.y1)
    canvas = paper[top : top + round(inside.height), left : left + round(inside.width)]
    height, width = like.shape[-2:]
    scale = round(112 / max(height, width))
    found = []
    y = 0
    while y < canvas.shape[0]:
        row, x = [], 0
        while x < canvas.shape[1]:
            enlarged = canvas[y : y + height * scale, x : x + width * scale]
            small = enlarged[::scale, ::scale]
            assert (small.repeat(scale, 0).repeat(scale, 1) == enlarged).all(), "each pixel is a square of one color"
            row.append(small)
            x += width * scale + (RULE if len(row) == headers[1] else GAP)
        found.append(row)
        y += height * scale + (RULE if len(found) == headers[0] else GAP)
    return np.array(found)


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image file."""
    with Image.open(path) as image:
        return image.size


def drawn(image: Tensor) -> NDArray[np.uint8]:
    grey = (as_float(image) * 255).round().byte().numpy()
    return np.broadcast_to(grey[0, ..., None], (*grey.shape[1:], 3))
