"""Images of which each says its number."""

from __future__ import annotations

import numpy as np
import torch

from pyro_disent.data.dataset import DataSet, Split

IDS = np.repeat(np.arange(12), 3)


def images(count: int = 36, height: int = 9, width: int = 8, channels: int = 3) -> np.ndarray:
    """Image ``i`` begins with a pixel of ``i``, so that it is known again; the rest is noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    pixels[:, :, 0, 0] = np.arange(count)[:, None]
    return pixels


def splits(data: DataSet) -> dict[str, Split]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def found(split: Split) -> list[int]:
    """Which images lie in a split."""
    return split.images[:][:, 0, 0, 0].tolist()


def in_order(data: DataSet) -> torch.Tensor:
    """All images of a data set in the order in which they were given."""
    together = torch.cat([split.images[:] for split in splits(data).values()])
    return together[together[:, 0, 0, 0].argsort()]
