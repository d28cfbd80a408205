"""3D chairs: two views of one chair are a pair, so ``z`` is the chair and ``y`` how it is looked at (section 5.2).

The real set is read from its authors' files (`chairs.rendered`); where it is not at hand, a procedural family with
ground truth stands in for it (`chairs.drawn`). The two views may be any, or differ in one named factor only.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_disent.data.cached import Cached, key, newest
from pyro_disent.data.chairs import rendered
from pyro_disent.data.chairs.drawn import family
from pyro_disent.data.chairs.drawn.family import STYLE_NAMES, ChairFamily, Counts
from pyro_disent.data.chairs.rendered import SIZE
from pyro_disent.data.dataset import DataSet, Factor, Pairs, Source
from pyro_disent.data.grouped import GroupedSplit, alone, grouped
from pyro_disent.data.images import array_cache
from pyro_disent.data.images.array_cache import Arrays
from pyro_disent.data.sources import Places, Progress, Request, cache_dir
from pyro_disent.errors import InputError, did_you_mean

__all__ = ["FACTORS", "STYLE_NAMES", "ChairSplit", "Counts", "describe", "load", "prepare"]

FACTORS: tuple[Factor, ...] = (
    Factor(
        "azimuth",
        "radians",
        circular=True,
        edges=(math.pi / 2, math.pi, 3 * math.pi / 2),
        range=(0.0, 2 * math.pi),
    ),
    Factor("elevation", "radians", edges=(math.radians(25),)),
    Factor("zoom", edges=(0.875,), range=(0.75, 1.0)),
)
"""Zoom is known of embedded chairs only."""
ZOOMS = 3
"""Levels of zoom that embedded chairs are rendered at where pairs change one factor."""

HOW_TO_GET = (
    "the 3D chairs have no stable address to download from: get rendered.tar of Aubry et al. (Seeing 3D chairs, "
    "CVPR 2014) from its authors' page and name the folder it lies in with `data_root` or PYRO_DISENT_DATA"
)


JOINT = {"view": ("azimuth", "elevation")}
"""Factors that go by one name together."""
PRESETS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
"""preset's name -> settings of a run."""


class ChairSplit(GroupedSplit):
    """Images of some chairs, each from all its views.

    Args:
        images: ``(images, channels, height, width)``, uint8.
        labels: with ``identity``, the number of the chair.
        factors: ``azimuth`` and ``elevation`` in radians, for drawn chairs also ``zoom``, ``(images,)`` float32.
        asymmetry: ``(images,)``, mean absolute pixel difference in [0, 1] to the chair seen from half a turn away.
        pairs: what two images of a pair have in common, see `pairs_of`.
        drawn_by, rows: for embedded chairs, the family that draws them, and the indices of its images, ``(images,)``.

    Raises:
        InputError: where an image has no partner for a pair.
    """

    label_words = MappingProxyType({"identity": "chair"})

    def __init__(
        self,
        images: Tensor,
        labels: dict[str, Tensor],
        factors: dict[str, Tensor],
        asymmetry: Tensor,
        pairs: Pairs,
        drawn_by: ChairFamily | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        groups = grouped(pairs.kinds, {**factors, "identity": labels["identity"]})
        if len(lonely := alone(groups)):
            chair = int(labels["identity"][lonely[0]])
            kinds = " or ".join("+".join(kind) for kind in pairs.kinds)
            raise InputError(f"chair {chair} has a view without another one of the same {kinds}: a pair needs two")
        super().__init__(images, labels, factors, pairs, {"identity": labels["identity"]})
        self.asymmetry, self.drawn_by, self.rows = asymmetry, drawn_by, rows

    @property
    def drawable(self) -> tuple[str, ...]:
        """All factors for embedded chairs; none for real ones, which are files."""
        return tuple(self.factors) if self.drawn_by is not None else ()

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        assert self.drawn_by is not None and self.rows is not None
        of_a, of_b = (self.drawn_by.views(self.rows[places.cpu().numpy()]) for places in (a, b))
        images = self.drawn_by.drawn(of_a._replace(**{name: getattr(of_b, name) for name in factors}))
        return torch.from_numpy(images).to(self.images.device)


def pairs_of(
    factors: Sequence[str], *, vary: Sequence[str] | None = None, pair_by: Sequence[str] | None = None
) -> Pairs:
    """What two images of a pair have in common: the chair, unless ``vary`` or ``pair_by`` changes that.

    Args:
        factors: names of the factors that these chairs have.
        vary: factors of which each pair changes one, drawn anew for each pair, while every other one and the chair are
            equal in both views.
        pair_by: kinds of pairs, drawn in turn: ``identity``, a factor, ``view`` for azimuth and elevation, or several
            joined by ``+``. All else may differ.

    Raises:
        InputError: for kinds of other factors, a kind that is named twice, and where both arguments are given.
    """
    if pair_by is None:
        if vary is None:
            return Pairs((("identity",),), identities=("identity",))
        changing = tuple(("identity", *(other for other in factors if other != name)) for name in vary)
        return Pairs(changing, identities=("identity",))
    if vary is not None:
        raise InputError("`factors` says what a pair changes and `pair_by` what it shares: say one of the two")
    choices = ("identity", *factors, *JOINT)
    kinds = []
    for kind in (pair_by,) if isinstance(pair_by, str) else pair_by:
        names = [name.strip() for name in kind.split("+")]
        if unknown := [name for name in names if name not in choices]:
            raise InputError(
                f"`pair_by={kind}`: chairs have no {', '.join(unknown)} in common: choose from {', '.join(choices)}"
            )
        kinds.append(tuple(dict.fromkeys(factor for name in names for factor in JOINT.get(name, (name,)))))
    if not kinds or len(set(kinds)) < len(kinds):
        raise InputError(f"`pair_by={','.join(pair_by)}`: name each kind of pair once, and at least one")
    return Pairs(tuple(kinds), identities=("identity",))


def _places(color: bool) -> Places:
    return Places(
        name="3D chairs",
        looked_for=rendered.EXPECTED,
        locate=rendered.locate,
        cached=lambda cache: newest(cache.glob(f"chairs-real-*-{_mode(color)}.npz")),
        embedded="generated chairs",
        called=r"(?<![a-z])chairs",
    )


def _mode(color: bool) -> str:
    return "color" if color else "grey"


@dataclass(frozen=True)
class _Chairs(Cached[tuple[Arrays, str]]):
    """The arrays of a set of chairs, and their hash."""

    name = "chairs"
    by_drawing = "rendered"
    seed: int
    color: bool
    counts: Counts
    vary: tuple[str, ...] | None
    """See `pairs_of`."""
    zooms: int | None
    """How many zooms every view of embedded chairs is drawn at; None: each image has a different zoom."""

    @classmethod
    def of(
        cls,
        request: Request,
        seed: int = 0,
        color: bool = False,
        counts: Sequence[int] = Counts(),
        factors: Sequence[str] | None = None,
        zooms: int = ZOOMS,
    ) -> _Chairs:
        if request.kind == "download":
            raise InputError(HOW_TO_GET)
        # A configuration that was read from a file has its counts as a list.
        if len(counts) != 3 or min(counts) < 1:
            raise InputError(
                f"counts of embedded chairs are for train, validation and test, 1 or more each, not {counts}"
            )
        if not isinstance(zooms, int) or zooms < 2:
            raise InputError(f"zooms of embedded chairs are a number of levels, 2 or more, not {zooms!r}")
        place = _places(color).find(request)
        vary = None if factors is None else _checked(factors, embedded=place.path is None)
        levels = None if vary is None or place.path is not None else zooms
        return cls(place, seed, color, Counts(*counts), vary, levels)

    @property
    def drawing(self) -> str:
        levels = "" if self.zooms is None else f" at {self.zooms} zooms"
        return f"{sum(self.counts)} generated chairs{levels}, version {family.VERSION}, seed {self.seed}"

    def drawn_file(self) -> Path:
        recipe = f"version {family.VERSION} seed {self.seed} counts {tuple(self.counts)} size {SIZE}"
        if self.zooms is not None:
            recipe += f" zooms {self.zooms}"
        return cache_dir() / f"chairs-embedded-{key(recipe)}-{_mode(self.color)}.npz"

    def converted_file(self, path: Path) -> Path:
        return cache_dir() / f"chairs-real-{rendered.fingerprint(path)}-{_mode(self.color)}.npz"

    def draw(self, progress: Progress | None) -> None:
        arrays = family.render_family(self.seed, self.counts, self.color, SIZE, progress, zooms=self.zooms)
        array_cache.save(self.cache_file, arrays)

    def convert(self, path: Path, progress: Progress | None) -> None:
        array_cache.save(self.cache_file, rendered.convert(path, self.color, progress))

    def kept(self) -> tuple[Arrays, str]:
        return array_cache.load_arrays(self.cache_file)


def describe(request: Request) -> str:
    """The source that `load` would use, in words; nothing is read, converted or rendered.

    Raises:
        InputError: where the request cannot be met.
    """
    return _Chairs.of(request).describe()


def prepare(
    request: Request,
    *,
    seed: int = 0,
    color: bool = False,
    counts: Sequence[int] = Counts(),
    factors: Sequence[str] | None = None,
    zooms: int = ZOOMS,
    progress: Progress | None = None,
) -> Path:
    """Convert or render the chairs for `load` into the cache, again if it is damaged; returns the file.

    Raises:
        InputError: where the request cannot be met, or a file of the set is damaged or missing.
    """
    return _Chairs.of(request, seed, color, counts, factors, zooms).prepare(progress)


def load(
    request: Request,
    *,
    seed: int = 0,
    color: bool = False,
    limit: int | None = None,
    counts: Sequence[int] = Counts(),
    factors: Sequence[str] | None = None,
    pair_by: Sequence[str] | None = None,
    zooms: int = ZOOMS,
    progress: Progress | None = None,
) -> DataSet:
    """The chairs of a request: from its folder or tar, from an earlier conversion, or the embedded family.

    The real chairs are split by a permutation of their sorted ids that ``seed`` fixes: the first 100 of every 1393 are
    for testing, the next 50 for validation (rounded, at least one each) and the rest for training. The embedded chairs
    of the splits are different chairs of one seed.

    Args:
        request: the source, and a folder if one is named.
        seed: of the embedded family, or of the split of the real chairs.
        color: RGB instead of grey.
        limit: use this many training images only: the first ones of the first chairs, at least two of each. With
            ``factors``, images that differ in the first of them are put side by side, and the first of all are used,
            without one that would have no partner.
        counts: how many embedded chairs each split has.
        factors: what varies within pairs: each pair changes one of these factors, all equally likely, and every other
            one is equal in both views. None: any two views of a chair are a pair, and all factors may differ.
        pair_by: kinds of pairs by what they have in common, see `pairs_of`; None: two views of a chair.
        zooms: with ``factors``, embedded chairs are rendered from every view at this many zooms, evenly spaced from
            0.75 to 1; without ``factors``, each image has a different zoom.
        progress: called with (done, total) while something is converted or rendered.

    Raises:
        InputError: where the request cannot be met, its files are damaged, or there is no such factor.
    """
    if limit is not None and limit < 2:
        raise InputError(f"`limit={limit}` is too few for chairs: a pair needs two training images")
    chairs = _Chairs.of(request, seed, color, counts, factors, zooms)
    arrays, sha256 = chairs.read(progress)
    for name in chairs.vary or ():
        if len(np.unique(arrays[f"factors/{name}"])) < 2:
            raise InputError(f"{chairs.location} holds a single {name}: no pair can change it")
    available = [factor for factor in FACTORS if f"factors/{factor.name}" in arrays]
    pairs = pairs_of([factor.name for factor in available], vary=chairs.vary, pair_by=pair_by)
    parts = _split_real(arrays, seed) if chairs.origin.path is not None else _split_embedded(chairs.counts)
    selected = [_images_of(arrays, part) for part in parts]
    if limit is not None:
        selected[0] = _limited(arrays, selected[0], limit, pairs)
    embedded = chairs.origin.path is None
    drawn_by = ChairFamily(seed, chairs.counts, color, SIZE, chairs.zooms) if embedded else None
    train, validation, test = (_subset(arrays, index, pairs, drawn_by) for index in selected)
    return DataSet(
        name="chairs",
        train=train,
        validation=validation,
        test=test,
        factors=tuple(available),
        source=Source(chairs.origin.kind, chairs.location, sha256),
        options={
            "seed": seed,
            "color": color,
            "limit": limit,
            "counts": list(chairs.counts),
            "factors": chairs.vary and list(chairs.vary),
            "pair_by": pair_by and ([pair_by] if isinstance(pair_by, str) else list(pair_by)),
            "zooms": zooms,
        },
        pairs=pairs,
        joint=JOINT,
    )


def _checked(factors: Sequence[str], embedded: bool) -> tuple[str, ...]:
    """Names of factors in the order of `FACTORS`."""
    available = [factor.name for factor in FACTORS if embedded or factor.name != "zoom"]
    names = list(factors) if isinstance(factors, Sequence) and not isinstance(factors, str) else []
    if not names or any(name not in available or names.count(name) > 1 for name in names):
        hint = "" if embedded else "; zoom is known of embedded chairs only"
        unknown = [name for name in names if name not in available]
        hint = did_you_mean(str(unknown[0]), available) + hint if unknown else hint
        raise InputError(
            f"factors of {'embedded' if embedded else 'the real'} chairs are a list of one or more of "
            f"{', '.join(available)}, each named once, not {', '.join(map(str, names)) or repr(factors)}{hint}"
        )
    return tuple(name for name in available if name in names)


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


def _limited(arrays: Arrays, index: np.ndarray, limit: int, pairs: Pairs) -> np.ndarray:
    """The first ``limit`` images with partners side by side, sorted by their places in the arrays.

    If the last one has no partner, the next image takes the place of the one before it, or the last one is left out.
    """
    if limit >= len(index):
        return index
    identity = torch.from_numpy(arrays["labels/identity"][index])
    groups = grouped(pairs.kinds, {**_tensors(arrays, "factors/", index), "identity": identity})
    order = torch.argsort(groups[0], stable=True)
    first, replaced = order[:limit], torch.cat([order[: limit - 2], order[limit - 1 : limit + 1]])
    for chosen in (first, replaced, order[: limit - 1]):
        if not len(alone([group[chosen] for group in groups])):
            break
    return np.sort(index[chosen.numpy()])


def _subset(arrays: Arrays, index: np.ndarray, pairs: Pairs, drawn_by: ChairFamily | None) -> ChairSplit:
    whole = index[-1] - index[0] + 1 == len(index)  # then no copy is made of the images
    rows: slice | np.ndarray = slice(index[0], index[-1] + 1) if whole else index
    images, asymmetry = torch.from_numpy(arrays["images"][rows]), torch.from_numpy(arrays["asymmetry"][rows])
    labels, factors = (_tensors(arrays, prefix, rows) for prefix in ("labels/", "factors/"))
    return ChairSplit(images, labels, factors, asymmetry, pairs, drawn_by, index)


def _tensors(arrays: Arrays, prefix: str, rows: slice | np.ndarray) -> dict[str, Tensor]:
    """Rows of the arrays whose names begin with ``prefix``, by the rest of their names."""
    return {
        name.removeprefix(prefix): torch.from_numpy(array[rows])
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
