"""CelebA (section 5.4 of the paper): any two faces are a pair that shares unit i of ``z`` where attribute i is equal.

The real set is read from its authors' files (`faces.files`); where it is not at hand, drawn faces with the same 40
attributes stand in for it (`faces.drawn`).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data.dataset import DataSet, Examples, Factor, Images, Pairs, Source, Split
from pyro_disent.data.faces import files as celeba_files
from pyro_disent.data.faces.drawn import faces
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.faces.files import SIZE
from pyro_disent.data.images import array_cache
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.array_cache import CorruptCache
from pyro_disent.data.images.store import Stored
from pyro_disent.data.sources import Found, Places, Progress, Request, cache_dir
from pyro_disent.errors import InputError

FACTORS = tuple(Factor(name, edges=(0.5,), categories=("no", "yes")) for name in ATTRIBUTES)
PRESETS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
"""preset's name -> settings of a run."""


class Counts(NamedTuple):
    """Drawn faces in each split."""

    train: int = 12_000
    validation: int = 1_000
    test: int = 2_000


class FaceSplit(Split):
    """Faces of which any two are a pair.

    Args:
        images: ``(images, 3, height, width)``, uint8, at least two.
        attributes: ``(images, 40)``, float32, 1 where the face has the attribute and 0 elsewhere.
        names: see `Split`.
    """

    def __init__(self, images: Images, attributes: Tensor, names: Sequence[str] = ()) -> None:
        super().__init__(images, names=names)
        self.attributes = attributes

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The faces at ``index``, each with any other face of the split, all equally likely."""
        chosen = index[None]
        if views == 2:
            step = torch.randint(1, len(self), index.shape, generator=generator, device=index.device)
            chosen = torch.stack([index, (index + step) % len(self)])
        factors = _by_name(self.attributes[chosen])
        pairing = Pairing.of(factors, rest_differs=True)
        return Batch.unchecked(self.pixels(chosen), factors=factors, pairing=pairing)

    def examples(self, seed: int) -> Examples:
        """Every face once; nothing is drawn, so ``seed`` changes nothing."""
        return Examples(self.images, _by_name(self.attributes), {})


def _by_name(attributes: Tensor) -> dict[str, Tensor]:
    """``(..., 40)`` as attribute's name -> ``(...,)``."""
    return dict(zip(ATTRIBUTES, attributes.unbind(-1), strict=True))


def _newest_converted(cache: Path) -> Path | None:
    converted = (path for path in cache.glob("celeba-real-*.bin") if path.with_suffix(".npz").exists())
    return max(converted, key=lambda path: path.stat().st_mtime, default=None)


PLACES = Places(
    name="CelebA",
    looked_for=f"{celeba_files.EXPECTED}, there or in {celeba_files.FOLDER}",
    locate=celeba_files.locate,
    cached=_newest_converted,
    address="torchvision's address of CelebA at Google Drive",
    embedded="drawn faces",
    called=r"celeb-?a|img_align|list_(attr|eval)",
)


@dataclass(frozen=True)
class _CelebA:
    """One set of faces: where it comes from, and what of it is kept in the cache."""

    found: Found
    seed: int
    counts: Counts

    @classmethod
    def of(cls, request: Request, seed: int, counts: Sequence[int]) -> _CelebA:
        # A configuration that was read from a file has its counts as a list.
        if len(counts) != 3 or min(counts) < 2:
            raise InputError(
                f"counts of drawn faces are for train, validation and test, 2 or more each to be paired, not {counts}"
            )
        return cls(PLACES.find(request), seed, Counts(*counts))

    def downloaded(self) -> _CelebA:
        """Itself, or where it was to be downloaded the same with its files at hand."""
        if self.found.kind != "download" or self.found.path is not None:
            return self
        return replace(self, found=Found("download", celeba_files.download()))

    @cached_property
    def cache_file(self) -> Path:
        """Of the drawn faces and their attributes, or of the real images, whose attributes lie beside them."""
        if self.found.path is None:
            wanted = f"version {faces.VERSION} seed {self.seed} counts {tuple(self.counts)} size {SIZE}"
            key = hashlib.sha256(wanted.encode()).hexdigest()[:16]
            return cache_dir() / f"celeba-embedded-{key}.npz"
        if self.found.kind == "cache":
            return self.found.path
        return cache_dir() / f"celeba-real-{celeba_files.fingerprint(self.found.path)}.bin"

    @property
    def location(self) -> str:
        if self.found.path is not None:
            return str(self.found.path)
        if self.found.kind == "download":
            return self.found.note
        return f"{sum(self.counts)} drawn faces, version {faces.VERSION}, seed {self.seed}"

    def make(self, progress: Progress | None) -> None:
        """Convert or draw the faces into the cache."""
        if self.found.path is not None:
            lists, file = celeba_files.read_lists(self.found.path), self.cache_file
            known = {"attributes": lists.attributes, "partition": lists.partition}
            array_cache.save(file.with_suffix(".npz"), known)
            celeba_files.convert(self.found.path, file, lists, progress)
        else:
            images, attributes = faces.render_faces(self.seed, 0, sum(self.counts), SIZE, progress)
            array_cache.save(self.cache_file, {"images": images, "attributes": attributes})

    def cached(self, limit: int | None = None) -> tuple[list[FaceSplit], str]:
        """Three splits from the cache, the first ``limit`` images of the first, and the hash of all of it.

        Raises:
            FileNotFoundError: where they are not there.
            CorruptCache: where they are not what was written.
        """
        images: Tensor | Stored
        if self.found.path is None:
            arrays, sha256 = array_cache.load(self.cache_file)
            images = torch.from_numpy(arrays["images"])
            partition = np.repeat(range(3), self.counts)
        else:
            images = image_store.opened(self.cache_file)
            arrays, known = array_cache.load(self.cache_file.with_suffix(".npz"))
            sha256 = hashlib.sha256(f"{images.sha256} {known}".encode()).hexdigest()
            partition = arrays["partition"]
        splits = []
        for place, most in enumerate((limit, None, None)):
            rows = np.flatnonzero(partition == place)[:most]
            attributes = torch.from_numpy(arrays["attributes"][rows]).float()
            part = images.images(rows) if isinstance(images, Stored) else images[rows[0] : rows[-1] + 1]
            # Counted from 1: CelebA's own files are, in the order of its lists.
            splits.append(FaceSplit(part, attributes, [f"face {row + 1}" for row in rows.tolist()]))
        return splits, sha256

    def read(self, limit: int | None, progress: Progress | None) -> tuple[list[FaceSplit], str]:
        """The splits as `cached` gives them, made first where they are not there."""
        try:
            return self.cached(limit)
        except FileNotFoundError:
            self.make(progress)
        except CorruptCache as error:
            if self.found.kind != "embedded":
                raise InputError(f"{error}, or run: pyro-disent data prepare celeba --data-root DIR") from error
            self.make(progress)  # the same pixels come out again
        return self.cached(limit)


def describe(request: Request) -> str:
    """What `load` would use, in words, without reading, converting or drawing it.

    Raises:
        InputError: where the request cannot be met.
    """
    celeba = _CelebA.of(request, seed=0, counts=Counts())
    if celeba.found.kind == "download" or celeba.cache_file.exists():
        return f"{celeba.found.kind}: {celeba.location}{celeba.found.but}"
    to_do = "drawn" if celeba.found.kind == "embedded" else "converted"
    return f"{celeba.found.kind}: {celeba.location}, to be {to_do} once{celeba.found.but}"


def prepare(
    request: Request, *, seed: int = 0, counts: Sequence[int] = Counts(), progress: Progress | None = None
) -> Path:
    """Download, convert or draw what `load` would use into the cache, again if the cache is damaged; returns its file.

    Raises:
        InputError: where the request cannot be met, or a file of the set is damaged or missing.
    """
    celeba = _CelebA.of(request, seed, counts).downloaded()
    celeba.found.tell()
    try:
        celeba.cached()
    except FileNotFoundError:
        celeba.make(progress)
    except CorruptCache:
        if celeba.found.kind == "cache":
            raise
        celeba.cache_file.unlink(missing_ok=True)
        celeba.make(progress)
    return celeba.cache_file


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    counts: Sequence[int] = Counts(),
    progress: Progress | None = None,
) -> DataSet:
    """The faces a request comes to: CelebA's from its folder, zip or a conversion made before, or drawn ones.

    CelebA is split as its authors say in the list of partitions. What it converts to takes 2.5 GB in the cache, and is
    read from there as needed, see `images.store`.

    Args:
        request: where to look.
        seed: of the drawn faces; without effect on real ones.
        limit: use this many training images only, the first ones, at least two.
        counts: drawn faces in each split.
        progress: called with (done, total) while something is converted or drawn.

    Raises:
        InputError: where the request cannot be met, or what was found is damaged.
    """
    if limit is not None and limit < 2:
        raise InputError(f"`limit={limit}` is too few for faces: a pair needs two training images")
    celeba = _CelebA.of(request, seed, counts).downloaded()
    celeba.found.tell()
    (train, validation, test), sha256 = celeba.read(limit, progress)
    return DataSet(
        name="celeba",
        train=train,
        validation=validation,
        test=test,
        factors=FACTORS,
        source=Source(celeba.found.kind, celeba.location, sha256),
        options={"seed": seed, "limit": limit, "counts": list(celeba.counts)},
        pairs=Pairs(rest_differs=True),
    )
