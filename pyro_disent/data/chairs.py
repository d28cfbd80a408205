"""3D chairs: two views of one chair are a pair, so ``z`` is the chair and ``y`` how it is looked at (section 5.2).

The real set is read from its authors' files (`rendered_chairs`); where it is not at hand, a procedural family with
ground truth stands in for it (`synthetic.chairs`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Batch, as_float
from pyro_disent.data import array_cache, rendered_chairs
from pyro_disent.data.array_cache import Arrays, CorruptCache
from pyro_disent.data.dataset import DataSet, Examples, Factor, Source, Split
from pyro_disent.data.rendered_chairs import SIZE
from pyro_disent.data.sources import Found, Places, Progress, Request, cache_dir
from pyro_disent.data.synthetic import chairs as synthetic
from pyro_disent.data.synthetic.chairs import STYLE_NAMES, Counts
from pyro_disent.errors import InputError

__all__ = ["FACTORS", "STYLE_NAMES", "ChairSplit", "Counts", "describe", "load", "prepare"]

FACTORS: tuple[Factor, ...] = (
    Factor("azimuth", "radians", circular=True, edges=(math.pi / 2, math.pi, 3 * math.pi / 2)),
    Factor("elevation", "radians", edges=(math.radians(25),)),
    Factor("zoom", edges=(0.875,)),
)
"""Zoom is known of embedded chairs only."""


HOW_TO_GET = (
    "the 3D chairs have no stable address to download from: get rendered_chairs.tar of Aubry et al. (Seeing 3D chairs, "
    "CVPR 2014) from its authors' page and name the folder it lies in with --data-root or PYRO_DISENT_DATA"
)


class ChairSplit(Split):
    """Some chairs, each from all its views, one chair after the other.

    Args:
        images: ``(images, channels, height, width)``, uint8, images of one chair beside each other.
        labels: must hold ``identity``: which chair.
        factors: ``azimuth`` and ``elevation`` in radians, ``zoom`` where it is known, ``(images,)`` float32.
        asymmetry: ``(images,)``, mean absolute pixel difference in [0, 1] of the chair from half a turn away.
        vary: factors that may differ within a pair; the others are equal in both views. None: all of them.

    Raises:
        InputError: where an image has no other that it could be paired with.
    """

    def __init__(
        self,
        images: Tensor,
        labels: dict[str, Tensor],
        factors: dict[str, Tensor],
        asymmetry: Tensor,
        vary: Sequence[str] | None = None,
    ) -> None:
        super().__init__(images, labels, factors)
        self.asymmetry = asymmetry
        held = [] if vary is None else [values for name, values in factors.items() if name not in vary]
        columns = torch.stack([labels["identity"].double(), *(values.double() for values in held)], -1)
        group, count = torch.unique(columns, dim=0, return_inverse=True, return_counts=True)[1:]
        if (count < 2).any():
            alone = int(labels["identity"][(count[group] < 2).nonzero()[0, 0]])
            kept = "" if vary is None else f" that differs in nothing but {', '.join(vary)}"
            raise InputError(f"chair {alone} has a view without another one{kept}: a pair needs two")
        # Images that may be paired lie beside each other in `_grouped`; each knows its place, and where its group is.
        self._grouped = torch.argsort(group, stable=True)
        self._place = torch.argsort(self._grouped)
        self._start = (count.cumsum(0) - count)[group]
        self._count = count[group]

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The images at ``index``, each with any other view of the same chair, all equally likely."""
        chosen = index[None]
        if views == 2:
            start, count = self._start[index], self._count[index]
            # Integers far above the number of views: what their remainders lack in evenness is below 1e-10.
            step = torch.randint(1 << 40, index.shape, generator=generator, device=index.device) % (count - 1) + 1
            partner = self._grouped[start + (self._place[index] - start + step) % count]
            chosen = torch.stack([index, partner])
        return Batch(
            as_float(self.images[chosen]), factors={name: values[chosen] for name, values in self.factors.items()}
        )

    def examples(self, seed: int) -> Examples:
        """Every image once; nothing is drawn, so ``seed`` changes nothing."""
        return Examples(self.images, self.factors, self.labels)


def _places(color: bool) -> Places:
    def newest_converted(cache: Path) -> Path | None:
        converted = cache.glob(f"chairs-real-*-{_mode(color)}.npz")
        return max(converted, key=lambda path: path.stat().st_mtime, default=None)

    return Places(
        name="3D chairs",
        looked_for=rendered_chairs.EXPECTED,
        locate=rendered_chairs.locate,
        cached=newest_converted,
        embedded="generated chairs",
    )


def _mode(color: bool) -> str:
    return "color" if color else "grey"


class _Chairs(NamedTuple):
    """One set of chairs: where it comes from, and the cache file its arrays are kept in."""

    found: Found
    seed: int
    color: bool
    counts: Counts

    @classmethod
    def of(cls, request: Request, seed: int, color: bool, counts: Sequence[int]) -> _Chairs:
        if request.kind == "download":
            raise InputError(HOW_TO_GET)
        # A configuration that was read from a file has its counts as a list.
        if len(counts) != 3 or min(counts) < 1:
            raise InputError(
                f"counts of embedded chairs are for train, validation and test, 1 or more each, not {counts}"
            )
        return cls(_places(color).find(request), seed, color, Counts(*counts))

    @property
    def cache_file(self) -> Path:
        if self.found.path is None:
            wanted = f"version {synthetic.VERSION} seed {self.seed} counts {tuple(self.counts)} size {SIZE}"
            key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
            return cache_dir() / f"chairs-embedded-{key}-{_mode(self.color)}.npz"
        if self.found.kind == "cache":
            return self.found.path
        return cache_dir() / f"chairs-real-{rendered_chairs.fingerprint(self.found.path)}-{_mode(self.color)}.npz"

    @property
    def location(self) -> str:
        if self.found.path is not None:
            return str(self.found.path)
        return f"{sum(self.counts)} generated chairs, version {synthetic.VERSION}, seed {self.seed}"

    def make(self, progress: Progress | None) -> tuple[Arrays, str]:
        """Convert or render the arrays into the cache; with their hash."""
        if self.found.path is not None:
            arrays = rendered_chairs.convert(self.found.path, self.color, progress)
        else:
            arrays = synthetic.render_family(self.seed, self.counts, self.color, SIZE, progress)
        return arrays, array_cache.save(self.cache_file, arrays)

    def read(self, progress: Progress | None) -> tuple[Arrays, str]:
        """The arrays and their hash from the cache, made first where they are not there."""
        try:
            return array_cache.load(self.cache_file)
        except FileNotFoundError:
            return self.make(progress)
        except CorruptCache as error:
            if self.found.kind == "embedded":  # the same pixels come out again
                return self.make(progress)
            raise InputError(f"{error}; delete it, or run: pyro-disent data prepare chairs --data-root DIR") from error


def describe(request: Request) -> str:
    """What `load` would use, in words, without reading, converting or rendering it.

    Raises:
        InputError: where the request cannot be met.
    """
    chairs = _Chairs.of(request, seed=0, color=False, counts=Counts())
    to_do = ", to be rendered once" if chairs.found.kind == "embedded" else ", to be converted once"
    return f"{chairs.found.kind}: {chairs.location}{'' if chairs.cache_file.exists() else to_do}"


def prepare(
    request: Request,
    *,
    seed: int = 0,
    color: bool = False,
    counts: Sequence[int] = Counts(),
    progress: Progress | None = None,
) -> Path:
    """Convert or render what `load` would use into the cache, again if the cache is damaged; returns its file.

    Raises:
        InputError: where the request cannot be met, or a file of the set is damaged or missing.
    """
    chairs = _Chairs.of(request, seed, color, counts)
    try:
        array_cache.load(chairs.cache_file)
    except (FileNotFoundError, CorruptCache):
        if chairs.found.kind == "cache":
            raise
        chairs.make(progress)
    return chairs.cache_file


def load(
    request: Request,
    *,
    seed: int = 0,
    color: bool = False,
    limit: int | None = None,
    vary: Sequence[str] | None = None,
    counts: Sequence[int] = Counts(),
    progress: Progress | None = None,
) -> DataSet:
    """The chairs a request comes to: its folder or tar, a set converted before, or the embedded family.

    The real chairs are split by a permutation of their sorted ids that ``seed`` fixes: the first 100 of every 1393 are
    for testing, the next 50 for validation (rounded, at least one each) and the rest for training. Embedded chairs of
    each split are a family of their own under the same seed.

    Args:
        request: where to look.
        seed: of the embedded family, or of the split of the real chairs.
        color: RGB instead of grey.
        limit: use this many training images only: the first ones of the first chairs, at least two of each.
        vary: factors that may differ within a pair, the others being equal; None: all. Zoom is drawn for each
            embedded image, so it must be among them there.
        counts: embedded chairs in each split.
        progress: called with (done, total) while something is converted or rendered.

    Raises:
        InputError: where the request cannot be met, or what was found is damaged.
    """
    if limit is not None and limit < 2:
        raise InputError(f"--limit {limit} is too few for chairs: a pair needs two training images")
    chairs = _Chairs.of(request, seed, color, counts)
    arrays, sha256 = chairs.read(progress)
    _check_vary(vary, arrays)
    parts = _split_real(arrays, seed) if chairs.found.path is not None else _split_embedded(chairs.counts)
    selected = [_images_of(arrays, part) for part in parts]
    if limit is not None:
        selected[0] = _limited(selected[0], arrays["labels/identity"], limit)
    train, validation, test = (_subset(arrays, index, vary) for index in selected)
    return DataSet(
        name="chairs",
        train=train,
        validation=validation,
        test=test,
        factors=tuple(factor for factor in FACTORS if factor.name in train.factors),
        source=Source(chairs.found.kind, chairs.location, sha256),
        options={
            "seed": seed,
            "color": color,
            "limit": limit,
            "vary": vary and list(vary),
            "counts": list(chairs.counts),
        },
    )


def _check_vary(vary: Sequence[str] | None, arrays: Mapping[str, object]) -> None:
    known = [factor.name for factor in FACTORS if f"factors/{factor.name}" in arrays]
    for name in vary or ():
        if name not in known:
            raise InputError(f"chairs have no factor {name!r} that could vary; known are {', '.join(known)}")


def _split_embedded(counts: Counts) -> list[np.ndarray]:
    return np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])


def _split_real(arrays: Arrays, seed: int) -> list[np.ndarray]:
    """Chairs for training, validation and test, see `load`."""
    chairs = int(arrays["labels/identity"].max()) + 1
    if chairs < 3:
        raise InputError(f"there are {chairs} chairs; three splits without a common chair need at least 3")
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(chairs)
    test, validation = max(1, round(chairs * 100 / 1393)), max(1, round(chairs * 50 / 1393))
    return [np.sort(part) for part in (order[test + validation :], order[test : test + validation], order[:test])]


def _images_of(arrays: Arrays, chairs: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(arrays["labels/identity"], chairs))


def _limited(index: np.ndarray, identity: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` images; where the last is alone of its chair, its next replaces the one before."""
    kept = index[:limit]
    of_last = int((identity[kept] == identity[kept[-1]]).sum())
    if of_last > 1 or limit >= len(index):
        return kept
    return np.concatenate([kept[:-2], index[limit - 1 : limit + 1]])


def _subset(arrays: Arrays, index: np.ndarray, vary: Sequence[str] | None) -> ChairSplit:
    whole = index[-1] - index[0] + 1 == len(index)  # then no copy is made of the images
    rows: slice | np.ndarray = slice(index[0], index[-1] + 1) if whole else index

    def group(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): torch.from_numpy(array[rows])
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    images, asymmetry = torch.from_numpy(arrays["images"][rows]), torch.from_numpy(arrays["asymmetry"][rows])
    return ChairSplit(images, group("labels/"), group("factors/"), asymmetry, vary)
