"""What every data set is: three splits of images that become batches on the device, and the factors behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from pyro_disent.batch import Batch, as_float
from pyro_disent.data.image_store import ImagesOnDisk


@dataclass(frozen=True)
class Factor:
    """A known cause of the images.

    Args:
        name: a latent of this name is shared where the factor is equal.
        unit: "radians" for angles.
        circular: whether its values wrap around.
        edges: inner edges of the bins a predictor sees it in, increasing; empty: it is not predicted.
        range: lowest and highest value, where that is known.
        categories: what its values 0, 1, 2 ... are called, where they are no quantities.
    """

    name: str
    unit: str = ""
    circular: bool = False
    edges: tuple[float, ...] = ()
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()


class Source(NamedTuple):
    """Where the images came from, as it is printed and recorded in the run."""

    kind: str
    """``local``, ``cache``, ``download`` or ``embedded``; ``given`` where Python handed it over."""
    location: str
    """A folder or file; for generated images, what generated them."""
    sha256: str
    """Of the raw bytes that were read, or of the rendered array."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.location} (sha256 {self.sha256[:12]})"


Images = Tensor | ImagesOnDisk
"""``(images, channels, height, width)`` uint8, in memory or read from the disk where it is indexed."""


class Examples(NamedTuple):
    """Images seen once each, with all that is known of them: what probes and metrics are computed on."""

    images: Images
    """``(images, channels, height, width)``, uint8; to be read in parts, by slices or `split`, as it may be large."""
    factors: dict[str, Tensor]
    """factor's name -> ``(images,)`` float32; angles in radians."""
    labels: dict[str, Tensor]
    """label's name -> ``(images,)`` int64: what a good ``z`` should know (``digit``, ``identity``)."""


class Split:
    """One split of a data set: all its images as one uint8 array, made into batches on the device it lies on.

    A subclass says how a pair is made (`batch`) and how each image is seen once (`examples`).

    Args:
        images: ``(images, channels, height, width)``, uint8.
        labels: label's name -> ``(images,)`` int64.
        factors: factor's name -> ``(images,)`` float32, for factors that are fixed in the images.
    """

    def __init__(
        self, images: Images, labels: dict[str, Tensor] | None = None, factors: dict[str, Tensor] | None = None
    ) -> None:
        self.images, self.labels, self.factors = images, labels or {}, factors or {}

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Self:
        """Move every tensor to a device, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor | ImagesOnDisk):
                setattr(self, name, value.to(device))
            elif isinstance(value, dict):
                setattr(self, name, {key: tensor.to(device) for key, tensor in value.items()})
        return self

    def pixels(self, chosen: Tensor) -> Tensor:
        """The images at ``chosen`` ``(views, images)``, ``(views, images, channels, height, width)`` in [0, 1]."""
        # Indexing uint8 by a tensor of two dimensions takes fifteen times as long.
        return as_float(self.images.index_select(0, chosen.flatten()).unflatten(0, chosen.shape))

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The images at ``index`` ``(images,)`` in one or two views, with their factors; nothing touches the host.

        With two views each image is paired with another view of what the pair has in common, never with itself.
        """
        raise NotImplementedError

    def examples(self, seed: int) -> Examples:
        """Each image once, under one seeded draw of whatever varies."""
        raise NotImplementedError


@dataclass(frozen=True)
class DataSet:
    """Three splits with disjoint identities, what varies in them, and where they came from."""

    name: str
    train: Split
    validation: Split
    test: Split
    factors: tuple[Factor, ...]
    source: Source
    options: dict[str, Any]
    """What `load` was told beyond the source, enough to load the same again."""
    unit_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """latent's name -> the factor that each of its units stands for, where the data set says so."""
    notes: tuple[str, ...] = ()
    """What was taken for what, left aside or changed, in words: a user is told before anything is trained."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.train.image_shape
