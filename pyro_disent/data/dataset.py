"""The base of every data set: three splits of images that become batches on the device, and their factors."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from pyro_disent.batch import Batch, Pairing, as_float
from pyro_disent.data.images.store import Images, ImagesOnDisk
from pyro_disent.errors import InputError


@dataclass(frozen=True)
class Factor:
    """A known cause of the images.

    Args:
        name: a latent with this name is shared where the factor is equal.
        unit: "radians" for angles.
        circular: whether its values wrap around.
        edges: inner edges of the bins a predictor sees it in, increasing; empty: it is not predicted.
        range: lowest and highest value; None where they are unknown.
        categories: names of its values 0, 1, 2 ...; empty where it is a quantity.
        center, scale: the user's number is ``center + scale * value``.
        written: value -> the user's spelling of it.
    """

    name: str
    unit: str = ""
    circular: bool = False
    edges: tuple[float, ...] = ()
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    written: Mapping[float, str] = field(default_factory=dict, repr=False, compare=False)


TEST_MORE = "`test_share=0.3` tests on more of a folder's"
"""The advice where the test split has too few identities."""


class Source(NamedTuple):
    """Where the images came from, as printed and as recorded in the run."""

    kind: str
    """``local``, ``cache``, ``download`` or ``embedded``; ``package`` where another package made it.

    ``given`` where Python handed it over."""
    location: str
    """A folder or file; for generated images, what generated them."""
    sha256: str
    """The hash of the raw bytes that were read, or of the rendered array."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.location} (sha256 {self.sha256[:12]})"


class Examples(NamedTuple):
    """Each image once, with its factors and labels: probes and metrics are computed on these."""

    images: Images
    """``(images, channels, height, width)``, uint8; it may be large, so read it in parts, by slices or `split`."""
    factors: dict[str, Tensor]
    """factor's name -> ``(images,)`` float32; angles in radians."""
    labels: dict[str, Tensor]
    """label's name -> ``(images,)`` int64: what a good ``z`` should know (``digit``, ``identity``)."""

    def some_images(self, count: int, seed: int = 0) -> Tensor:
        """So many images at most, drawn by the seed."""
        images = self.images
        generator = torch.Generator(images.device).manual_seed(seed)
        return images.index_select(0, torch.randperm(len(images), generator=generator, device=images.device)[:count])


class Split:
    """One split of a data set: all its images as one uint8 array, made into batches on the device it lies on.

    A subclass defines how a pair is made (`batch`) and how each image is seen once (`examples`). A subclass that can
    draw its images again names the factors it can change (`drawable`), and gives true counterfactuals (`truth`).

    Args:
        images: ``(images, channels, height, width)``, uint8.
        labels: label's name -> ``(images,)`` int64.
        factors: factor's name -> ``(images,)`` float32, for factors that are fixed in the images.
        names: each image's name, such as its file, ``(images,)``; empty where its labels and factors identify it.
    """

    label_words: ClassVar[Mapping[str, str]] = {}
    """label's name -> the word before its numbers in figures, where it differs from the name (``chair`` 12)."""

    def __init__(
        self,
        images: Images,
        labels: dict[str, Tensor] | None = None,
        factors: dict[str, Tensor] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.images, self.labels, self.factors, self.names = images, labels or {}, factors or {}, names

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def identities(self) -> int:
        """How many different identities the images show; 0 where they have no identities."""
        return len(self.labels["identity"].unique()) if "identity" in self.labels else 0

    @property
    def has_pairs(self) -> bool:
        """Whether `batch` can give two views; a subclass whose images may lack pairs overrides this."""
        return type(self).batch is not Split.batch

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
        # Indexing uint8 with a two-dimensional tensor takes fifteen times as long.
        return as_float(self.images.index_select(0, chosen.flatten()).unflatten(0, chosen.shape))

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        """The images at ``index`` ``(images,)`` in one or two views, with their factors; nothing touches the host.

        With two views each image is paired with another view of what the pair has in common, never with itself. The
        batch's ``index`` names the images of both views; without it, no factor can be observed.
        """
        raise NotImplementedError

    def examples(self, seed: int) -> Examples:
        """Each image once, under one seeded draw of whatever varies."""
        raise NotImplementedError

    @property
    def drawable(self) -> tuple[str, ...]:
        """The factors that `truth` can change by drawing the images again; empty where it cannot."""
        return ()

    def truth(self, a: Tensor, b: Tensor, factors: Sequence[str], *, seed: int = 0) -> Tensor:
        """The images ``a``, drawn again with only these factors changed to those of the images ``b``.

        Args:
            a, b: ``(images,)``, places in `examples`.
            factors: names from `drawable`; empty: the images ``a`` unchanged.
            seed: of `examples`, where images vary with it.

        Returns:
            ``(images, channels, height, width)``, uint8, on the device of the images.

        Raises:
            InputError: for factors that cannot be changed, and places that do not exist.
        """
        names = (factors,) if isinstance(factors, str) else tuple(factors)
        if unknown := [name for name in names if name not in self.drawable]:
            can = (
                f"those that can be changed are {', '.join(self.drawable)}" if self.drawable else "none can be changed"
            )
            raise InputError(f"these images cannot be drawn with another {' or '.join(map(str, unknown))}: {can}")
        places = [torch.as_tensor(each, device=self.images.device) for each in (a, b)]
        for each in places:
            if each.shape != places[0].shape or each.dim() != 1 or each.is_floating_point() or each.is_complex():
                raise InputError(
                    "images are named by their places, as many `a` as `b`: whole numbers (images,), not "
                    f"{tuple(places[0].shape)} and {tuple(places[1].shape)} of {each.dtype}"
                )
            if len(each) and not 0 <= int(each.min()) <= int(each.max()) < len(self):
                raise InputError(f"there is no image {int(each.min())} to {int(each.max())}: there are {len(self)}")
        return self._drawn(places[0].long(), places[1].long(), names, seed)

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        """As `truth`, for names and places that were checked; a subclass with `drawable` factors implements it."""
        raise NotImplementedError


class Pairs(NamedTuple):
    """How two images become a pair, in terms of factors."""

    kinds: tuple[tuple[str, ...], ...] = ()
    """What each kind of pair has in common; each pair draws one kind. Empty: any two images are a pair."""
    rest_differs: bool = False
    """Whether the two images differ in more than their recorded factors."""
    identities: tuple[str, ...] = ()
    """What else images may have in common besides their factors."""

    @property
    def always(self) -> tuple[str, ...]:
        """The factors that every pair has in common, whatever its kind."""
        first, *others = self.kinds or ((),)
        return tuple(factor for factor in first if all(factor in kind for kind in others))

    @property
    def typical(self) -> tuple[str, ...]:
        """What a swap assumes pairs to have in common: the factors `always` in common, else those of the first kind."""
        return self.always or (self.kinds[0] if self.kinds else ())

    @property
    def factors(self) -> tuple[str, ...]:
        """All factors that pairs of any kind have in common."""
        return tuple(dict.fromkeys(factor for kind in self.kinds for factor in kind))

    def pair(self, factors: Iterable[str], equal: Iterable[str]) -> Pairing:
        """The pairing of two images with these factors that have exactly ``equal`` in common."""
        equal = set(equal)
        names = dict.fromkeys([*factors, *(name for name in self.identities if name not in self.always)])
        return Pairing(
            {name: torch.tensor([name in equal], device="cpu") for name in names}, self.always, self.rest_differs
        )

    def typical_pair(self, factors: Iterable[str]) -> Pairing:
        """A `pair` with the `typical` factors in common."""
        return self.pair(factors, self.typical)

    def to_json(self) -> dict[str, Any]:
        kinds = [list(kind) for kind in self.kinds]
        return {"kinds": kinds, "rest_differs": self.rest_differs, "identities": list(self.identities)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(
            tuple(tuple(kind) for kind in values["kinds"]), values["rest_differs"], tuple(values.get("identities", ()))
        )


@dataclass(frozen=True, repr=False)
class DataSet:
    """Three splits with disjoint identities, their factors, and where they came from."""

    name: str
    train: Split
    validation: Split
    test: Split
    factors: tuple[Factor, ...]
    source: Source
    options: dict[str, Any]
    """The settings of `load` beyond the source, enough to load the same data again."""
    pairs: Pairs = field(default_factory=Pairs)
    joint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names for several factors together, such as ``view`` for azimuth and elevation."""
    details: tuple[str, ...] = ()
    """How folders and columns were understood, a line each."""
    notes: tuple[str, ...] = ()
    """What was left aside or changed, or may not be what the user meant, a sentence each: shown before training."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split):,}" for split in (self.train, self.validation, self.test))
        shape = " x ".join(map(str, self.image_shape))
        factors = f", factors {', '.join(factor.name for factor in self.factors)}" if self.factors else ""
        return f"<DataSet {self.name}: {counts} images of {shape} for training, validation, test{factors}>"

    @property
    def of_pairs(self) -> tuple[str, ...]:
        """What pairs may have in common, such as the identity, which latents can explain besides the factors."""
        return tuple(dict.fromkeys([*self.pairs.factors, *self.pairs.identities]))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.train.image_shape

    @property
    def units(self) -> dict[str, tuple[float, float]]:
        """factor's name -> its center and scale, where they are not 0 and 1: a run records these, see `in_units`."""
        return {f.name: (f.center, f.scale) for f in self.factors if (f.center, f.scale) != (0.0, 1.0)}

    def identities_split(self) -> str | None:
        """Identities in each split, and the chance of finding one of the test split; None where there are none."""
        if not self.test.identities:
            return None
        splits = (("training", self.train), ("validation", self.validation), ("test", self.test))
        counts = ", ".join(f"{split.identities:,} for {name}" for name, split in splits)
        if self.test.identities == 1:
            return f"{counts} (finding the only one of the test split measures nothing: {TEST_MORE})"
        return f"{counts} (chance of finding one of the test split: {1 / self.test.identities:.1%})"


def in_units(data: DataSet, units: Mapping[str, Sequence[float]]) -> DataSet:
    """Data with the user's numbers standardized as a run recorded it, so that the run's bins fit them.

    Args:
        units: factor's name -> center and scale; a factor that is left out, as in older runs, has 0 and 1.
    """
    target = {factor.name: tuple(units.get(factor.name, (0.0, 1.0))) for factor in data.factors}
    changed = {f.name: f for f in data.factors if (f.center, f.scale) != target[f.name]}
    if not changed:
        return data

    def converted(name: str, values: Tensor) -> Tensor:
        if name not in changed:
            return values
        factor, (center, scale) = changed[name], target[name]
        return ((values.double() * factor.scale + (factor.center - center)) / scale).float()

    def split(part: Split) -> Split:
        part = copy.copy(part)
        part.factors = {name: converted(name, values) for name, values in part.factors.items()}
        return part

    factors = tuple(
        replace(
            factor,
            edges=tuple(converted(factor.name, torch.tensor(factor.edges)).tolist()),
            center=target[factor.name][0],
            scale=target[factor.name][1],
            written={},
        )
        if factor.name in changed
        else factor
        for factor in data.factors
    )
    return replace(
        data, train=split(data.train), validation=split(data.validation), test=split(data.test), factors=factors
    )
