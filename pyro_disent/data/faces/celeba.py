"""CelebA (section 5.4 of the paper): any two faces are a pair that shares unit i of ``z`` where attribute i is equal.

The real set is read from its authors' files (`faces.files`); where it is not at hand, drawn faces with the same 40
attributes stand in for it (`faces.drawn`).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.batch import Batch, Pairing
from pyro_disent.data.cached import Cached, key, newest
from pyro_disent.data.dataset import DataSet, Examples, Factor, Images, Pairs, Source, Split
from pyro_disent.data.faces import files
from pyro_disent.data.faces.drawn import faces
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.faces.files import SIZE
from pyro_disent.data.images import array_cache
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.store import Stored
from pyro_disent.data.sources import Origin, Places, Progress, Request, cache_dir
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
    """Faces; any two of them are a pair.

    Args:
        images: ``(images, 3, height, width)``, uint8, at least two.
        attributes: ``(images, 40)``, float32, 1 where the face has the attribute and 0 elsewhere.
        names: see `Split`.
        drawn: for drawn faces, their seed and the index of the first one.
    """

    def __init__(
        self, images: Images, attributes: Tensor, names: Sequence[str] = (), drawn: tuple[int, int] | None = None
    ) -> None:
        super().__init__(images, names=names)
        self.attributes, self.drawn = attributes, drawn

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The faces at ``index``, each with any other face of the split, all equally likely."""
        chosen = index[None]
        if views == 2:
            step = torch.randint(1, len(self), index.shape, generator=generator, device=index.device)
            chosen = torch.stack([index, (index + step) % len(self)])
        factors = _by_name(self.attributes[chosen])
        pairing = Pairing.of(factors, rest_differs=True)
        return Batch.unchecked(self.pixels(chosen), factors=factors, pairing=pairing, index=chosen)

    def examples(self, seed: int) -> Examples:
        """Every face once; nothing is drawn, so ``seed`` changes nothing."""
        return Examples(self.images, _by_name(self.attributes), {})

    @property
    def drawable(self) -> tuple[str, ...]:
        """All attributes of drawn faces, in any combination; none of photographs."""
        return () if self.drawn is None else ATTRIBUTES

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        assert self.drawn is not None
        of_seed, first = self.drawn
        changed = torch.tensor([name in factors for name in ATTRIBUTES], device=a.device)
        target = self.attributes[b].where(changed, self.attributes[a]) > 0.5
        images = faces.render_changed(of_seed, (a + first).tolist(), target.cpu().numpy(), self.image_shape[-1])
        return torch.from_numpy(images).to(self.images.device)


def _by_name(attributes: Tensor) -> dict[str, Tensor]:
    """attribute's name -> ``(...,)``, from ``(..., 40)``."""
    return dict(zip(ATTRIBUTES, attributes.unbind(-1), strict=True))


def _newest_converted(cache: Path) -> Path | None:
    return newest(path for path in cache.glob("celeba-real-*.bin") if path.with_suffix(".npz").exists())


PLACES = Places(
    name="CelebA",
    looked_for=f"{files.EXPECTED}, there or in {files.FOLDER}",
    locate=files.locate,
    cached=_newest_converted,
    address="torchvision's address of CelebA at Google Drive",
    embedded="drawn faces",
    called=r"celeb-?a|img_align|list_(attr|eval)",
)


class _CachedFaces(NamedTuple):
    """A set of faces in the cache."""

    images: Tensor | Stored
    attributes: NDArray[Any]
    """``(images, 40)``"""
    partition: NDArray[Any]
    """``(images,)``: 0 for training, 1 for validation, 2 for test."""
    sha256: str
    """The hash of images, attributes and partition."""
    seed: int | None = None
    """The seed of drawn faces; None for photographs."""

    def splits(self, limit: int | None) -> list[FaceSplit]:
        """Three splits; of the first one, the first ``limit`` images."""
        splits = []
        for place, most in enumerate((limit, None, None)):
            rows = np.flatnonzero(self.partition == place)[:most]
            attributes = torch.from_numpy(self.attributes[rows]).float()
            images = self.images
            part = images.images(rows) if isinstance(images, Stored) else images[rows[0] : rows[-1] + 1]
            # Counted from 1: CelebA's own files are, in the order of its lists.
            drawn = None if self.seed is None else (self.seed, int(rows[0]))
            splits.append(FaceSplit(part, attributes, [f"face {row + 1}" for row in rows.tolist()], drawn))
        return splits


@dataclass(frozen=True)
class _CelebA(Cached[_CachedFaces]):
    """One set of faces. The attributes of real ones lie beside the cache file with their images."""

    name = "celeba"
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
        """The same source with its files, after a download if it needs one."""
        if self.origin.kind != "download" or self.origin.path is not None:
            return self
        return replace(self, origin=Origin("download", files.download()))

    @property
    def drawing(self) -> str:
        return f"{sum(self.counts)} drawn faces, version {faces.VERSION}, seed {self.seed}"

    def drawn_file(self) -> Path:
        recipe = f"version {faces.VERSION} seed {self.seed} counts {tuple(self.counts)} size {SIZE}"
        return cache_dir() / f"celeba-embedded-{key(recipe)}.npz"

    def converted_file(self, path: Path) -> Path:
        return cache_dir() / f"celeba-real-{files.fingerprint(path)}.bin"

    def draw(self, progress: Progress | None) -> None:
        images, attributes = faces.render_faces(self.seed, 0, sum(self.counts), SIZE, progress)
        array_cache.save(self.cache_file, {"images": images, "attributes": attributes})

    def convert(self, path: Path, progress: Progress | None) -> None:
        lists = files.read_lists(path)
        arrays_of_lists = {"attributes": lists.attributes, "partition": lists.partition}
        array_cache.save(self.cache_file.with_suffix(".npz"), arrays_of_lists)
        files.convert(path, self.cache_file, lists, progress)

    def kept(self) -> _CachedFaces:
        if self.origin.path is None:
            arrays, sha256 = array_cache.load_arrays(self.cache_file)
            images = torch.from_numpy(arrays["images"])
            return _CachedFaces(images, arrays["attributes"], np.repeat(range(3), self.counts), sha256, self.seed)
        stored = image_store.open_store(self.cache_file)
        arrays, lists_sha256 = array_cache.load_arrays(self.cache_file.with_suffix(".npz"))
        sha256 = hashlib.sha256(f"{stored.sha256} {lists_sha256}".encode()).hexdigest()
        return _CachedFaces(stored, arrays["attributes"], arrays["partition"], sha256)


def describe(request: Request) -> str:
    """The source that `load` would use, in words; nothing is read, converted or drawn.

    Raises:
        InputError: where the request cannot be met.
    """
    return _CelebA.of(request, seed=0, counts=Counts()).describe()


def prepare(
    request: Request, *, seed: int = 0, counts: Sequence[int] = Counts(), progress: Progress | None = None
) -> Path:
    """Download, convert or draw the faces for `load` into the cache, again if it is damaged; returns the file.

    Raises:
        InputError: where the request cannot be met, or a file of the set is damaged or missing.
    """
    return _CelebA.of(request, seed, counts).downloaded().prepare(progress)


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    counts: Sequence[int] = Counts(),
    progress: Progress | None = None,
) -> DataSet:
    """The faces of a request: CelebA's from its folder, its zip or an earlier conversion, or drawn ones.

    CelebA is split by its authors' list of partitions. The converted images take 2.5 GB in the cache, and are read from
    there as needed, see `images.store`.

    Args:
        request: the source, and a folder if one is named.
        seed: of the drawn faces; without effect on real ones.
        limit: use this many training images only, the first ones, at least two.
        counts: how many drawn faces each split has.
        progress: called with (done, total) while something is converted or drawn.

    Raises:
        InputError: where the request cannot be met, or its files are damaged.
    """
    if limit is not None and limit < 2:
        raise InputError(f"`limit={limit}` is too few for faces: a pair needs two training images")
    celeba = _CelebA.of(request, seed, counts).downloaded()
    cached = celeba.read(progress)
    train, validation, test = cached.splits(limit)
    return DataSet(
        name="celeba",
        train=train,
        validation=validation,
        test=test,
        factors=FACTORS,
        source=Source(celeba.origin.kind, celeba.location, cached.sha256),
        options={"seed": seed, "limit": limit, "counts": list(celeba.counts)},
        pairs=Pairs(rest_differs=True),
    )
