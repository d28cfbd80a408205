"""Batches without end, from a position that can be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.errors import InputError
from pyro_disent.models.program import hashed


class Feed:
    """A split's batches, epoch after epoch, each epoch in an order of its own; the last incomplete batch is left out.

    The order of an epoch depends on the seed and the epoch's number alone. What is drawn for a batch (pairs, angles)
    depends on the seed and the batch's number. So a resumed feed gives the batches of an uninterrupted one. Several
    processes together give the batch of a single one: each draws all of it and takes its part.

    Args:
        split: the images.
        batch_size: images before pairing, over all processes.
        views: 1, or 2 for pairs.
        sharing: adds to a batch what its pairs share of each latent, as `FactoredVAE.sharing`.
        rank, world_size: which part of each batch this process takes.

    Raises:
        InputError: for a batch larger than the data, and for two views of images that have no pairs.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        views: int,
        sharing: Callable[[Batch], Batch],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if views > 1 and not split.has_pairs:  # this error comes first: the split says why
            index = torch.zeros(1, dtype=torch.long, device=split.images.device)
            split.batch(index, torch.Generator(split.images.device), views)
        if batch_size > len(split):
            raise InputError(
                f"a batch of {batch_size} images is larger than the data, which has {len(split)} to train on: say "
                f"`batch_size={len(split)}` or less"
            )
        self.split, self.batch_size, self.seed, self.views, self.sharing = split, batch_size, seed, views, sharing
        self.rank, self.world_size = rank, world_size
        self._generator = torch.Generator(split.images.device)
        self.epoch, self.position = 0, 0
        self._order = self._draw_order()

    @property
    def batches_per_epoch(self) -> int:
        return len(self.split) // self.batch_size

    def _draw_order(self) -> torch.Tensor:
        generator = self._generator.manual_seed(hashed("order", self.seed, self.epoch))
        return torch.randperm(len(self.split), generator=generator, device=generator.device)

    def next(self) -> Batch:
        """The next batch; `epoch` moves on before the first batch of a new one."""
        if self.position == self.batches_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._draw_order()
        number = self.epoch * self.batches_per_epoch + self.position
        index = self._order[self.position * self.batch_size :][: self.batch_size]
        self.position += 1
        generator = self._generator.manual_seed(hashed("batch", self.seed, number))
        batch = self.split.batch(index, generator, self.views)
        if self.world_size > 1:
            share = self.batch_size // self.world_size
            batch = batch.part(slice(self.rank * share, (self.rank + 1) * share))
        return self.sharing(batch)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after ``position`` batches of an epoch."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._draw_order()


def batches(
    data: DataSet | Split, batch_size: int, *, seed: int = 0, views: int | None = None, epochs: int = 1
) -> Iterator[Batch]:
    """Batches for your own loop or `SVI`, in the order in which `fit` would see them: those of a `Feed`.

    They hold factors and the labels of their pairs; from these a model's latents tell what is shared.

    Args:
        data: a data set, whose training images are taken, or a split.
        batch_size: images before pairing; the last incomplete batch of an epoch is left out.
        seed: of the order, and of what is drawn for a batch.
        views: 1, or 2 for pairs; None: 2 where the images have pairs.
        epochs: passes over the images, each in an order of its own.

    Raises:
        InputError: for a batch larger than the data, and for two views of images that have no pairs.
    """
    split = data.train if isinstance(data, DataSet) else data
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"`{name}={value!r}` must be a whole number, 1 or more")
    if views not in (None, 1, 2):
        raise InputError(f"there are no batches of {views!r} views: 1, or 2 for pairs")
    if views is None:
        views = 2 if split.has_pairs else 1
    feed = Feed(split, batch_size, seed, views, sharing=lambda batch: batch)
    return (feed.next() for _ in range(epochs * feed.batches_per_epoch))
