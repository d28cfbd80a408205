"""Fixed images in groups: two images of one group are a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_disent.batch import Batch, Pairing, replaced
from pyro_disent.data.dataset import Examples, Images, Pairs, Split
from pyro_disent.errors import InputError


class GroupedSplit(Split):
    """Images whose factors are fixed in them, paired within groups.

    Args:
        images: ``(images, channels, height, width)``, uint8.
        labels: label's name -> ``(images,)`` int64.
        factors: factor's name -> ``(images,)`` float32.
        pairs: what two images of a pair have in common, names of ``factors`` and ``groups``. With several kinds, each
            pair draws one in which its image has a partner. None: there are no pairs.
        groups: what else images may have in common, such as an identity: name -> ``(images,)`` int64.
        names: each image's name, see `Split`.

    Raises:
        InputError: where an image has no partner in any kind; `alone` finds such images beforehand.
    """

    def __init__(
        self,
        images: Images,
        labels: dict[str, Tensor],
        factors: dict[str, Tensor],
        pairs: Pairs | None = None,
        groups: Mapping[str, Tensor] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(images, labels, factors, names)
        self.pairs, self.groups = pairs, dict(groups or {})
        if pairs is None:
            return
        kinds = grouped(pairs.kinds, {**self.factors, **self.groups})
        if len(lonely := alone(kinds)):
            raise InputError(f"image {int(lonely[0])} of {len(images)} has no other that it could be paired with")
        # Images of one group are adjacent in `_sorted`; `_place` is an image's place there, `_start` its group's.
        ways = [torch.unique(group, return_inverse=True, return_counts=True)[1:] for group in kinds]
        self._sorted = torch.stack([torch.argsort(group, stable=True) for group, _ in ways])
        self._place = torch.argsort(self._sorted)
        self._start = torch.stack([(count.cumsum(0) - count)[group] for group, count in ways])
        self._count = torch.stack([count[group] for group, count in ways])

    @property
    def has_pairs(self) -> bool:
        """Whether anything says which images belong together."""
        return self.pairs is not None

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The images at ``index``, each with any other one of its group, all equally likely.

        Raises:
            InputError: for two views where there are no pairs.
        """
        if views == 1:
            return self._batch_of(index[None])
        if self.pairs is None:
            raise InputError(
                "these images have no pairs: nothing says which of them belong together; put those of one identity "
                "into a sub-folder of their own, name a column of metadata.csv by `pair_by`, or give arrays an identity"
            )
        rows = torch.stack([index, self._partner(index, generator)])
        batch = self._batch_of(rows)
        pairing = Pairing.of(batch.factors, always=self.pairs.always, rest_differs=self.pairs.rest_differs)
        others = {
            name: codes[rows[0]] == codes[rows[1]]
            for name, codes in self.groups.items()
            if name not in self.pairs.always
        }
        return replaced(batch, pairing=pairing._replace(equal={**pairing.equal, **others}))

    def _batch_of(self, rows: Tensor) -> Batch:
        factors = {name: values[rows] for name, values in self.factors.items()}
        return Batch.unchecked(self.pixels(rows), factors=factors, index=rows)

    def _partner(self, index: Tensor, generator: torch.Generator) -> Tensor:
        if len(self._count) == 1:
            way = torch.zeros_like(index)  # one kind needs no random numbers
        else:
            chance = torch.rand(len(self._count), len(index), generator=generator, device=index.device)
            way = chance.masked_fill(self._count[:, index] < 2, -1).argmax(0)
        start, count = self._start[way, index], self._count[way, index]
        # The integers are far larger than a group, so their remainders are uniform to within 1e-10.
        step = torch.randint(1 << 40, index.shape, generator=generator, device=index.device) % (count - 1) + 1
        return self._sorted[way, start + (self._place[way, index] - start + step) % count]

    def examples(self, seed: int) -> Examples:
        """Every image once; nothing is drawn, so ``seed`` changes nothing."""
        return Examples(self.images, self.factors, self.labels)


def grouped(kinds: Sequence[Sequence[str]], values: Mapping[str, Tensor]) -> list[Tensor]:
    """For each kind of pair, the group of each image: images of one group have all of the kind in common.

    Groups are numbers, ``(images,)`` int64 for each kind. A missing value (NaN) equals no other.

    Args:
        kinds: names of ``values`` that two images of a pair have in common.
        values: name -> ``(images,)``.
    """
    groups = []
    for kind in kinds:
        columns = [torch.unique(values[name], return_inverse=True)[1] for name in kind]
        groups.append(torch.unique(torch.stack(columns, -1), dim=0, return_inverse=True)[1])
    return groups


def alone(groups: Sequence[Tensor]) -> Tensor:
    """Places of the images that have no partner in any of these groupings, ``(images,)`` int64."""
    paired = torch.zeros_like(groups[0], dtype=torch.bool)
    for group in groups:
        _, place, count = torch.unique(group, return_inverse=True, return_counts=True)
        paired |= count[place] > 1
    return (~paired).nonzero().flatten()
