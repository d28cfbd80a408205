"""A procedural family of chairs with ground truth: what stands in for the 3D chairs where those are not at hand.

The views are those of the real set: 31 azimuths at elevations of 20 and 30 degrees. Each image has a zoom of its own,
or every view is drawn at each of a few zooms, so that there are images which differ in nothing but one factor. Every
chair and every image draws from its own child of one seed, so that neither the number of threads nor the number of
other chairs changes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyro_disent.data.chairs.drawn.design import Chair, Style
from pyro_disent.data.chairs.drawn.parts import ARMS, BACKS, LEGS, SEATS, cushion
from pyro_disent.data.chairs.drawn.raycast import Image, render
from pyro_disent.data.chairs.drawn.solids import Array, Prism, Solids
from pyro_disent.data.images.array_cache import Arrays
from pyro_disent.data.sources import Progress
from pyro_disent.data.threads import in_threads

VERSION = 1
"""Raised whenever the same seed gives other pixels, so that no cache outlives them."""

AZIMUTHS: Array = np.linspace(0, 2 * np.pi, 31, endpoint=False)
ELEVATIONS: Array = np.radians(np.array([20.0, 30.0]))
VIEWS = len(AZIMUTHS) * len(ELEVATIONS)
ZOOM_RANGE = (0.75, 1.0)
SPLITS = ("train", "validation", "test")

PARTS: dict[str, dict[str, Style]] = {"seat": SEATS, "legs": LEGS, "back": BACKS, "arms": ARMS}
STYLE_NAMES: dict[str, tuple[str, ...]] = {part: tuple(styles) for part, styles in PARTS.items()}
"""What the integer labels of each part mean."""

_SYMMETRY_AZIMUTHS: Array = np.linspace(0, 2 * np.pi, 16, endpoint=False)

Color = tuple[int, int, int]
WOOD: tuple[Color, ...] = ((150, 96, 52), (190, 140, 86), (96, 58, 34), (214, 178, 124), (70, 44, 30), (168, 82, 46))
METAL: tuple[Color, ...] = ((150, 152, 158), (196, 198, 202), (60, 60, 64), (30, 30, 32), (120, 120, 118))
CLOTH: tuple[Color, ...] = (
    (180, 40, 40),
    (40, 70, 140),
    (60, 110, 70),
    (228, 224, 214),
    (44, 44, 48),
    (120, 92, 70),
    (206, 160, 60),
    (110, 120, 130),
    (150, 60, 90),
    (90, 150, 170),
    (236, 236, 236),
    (200, 110, 50),
)

Choice = TypeVar("Choice")


class Counts(NamedTuple):
    """How many chairs each split has."""

    train: int = 320
    validation: int = 30
    test: int = 50


def sample_chair(generator: np.random.Generator) -> Chair:
    """One chair of the family: styles drawn by the weights of their tables, measures in the ranges of furniture."""
    styles = {part: _weighted(generator, table) for part, table in PARTS.items()}
    measures = _sample_measures(generator)
    if generator.random() < 0.08:  # a bar stool
        measures |= _uniform(
            generator, seat_height=(0.62, 0.76), back_height=(0.20, 0.34), width=(0.34, 0.42), depth=(0.34, 0.42)
        )
    if styles["legs"] == "block":  # a club chair
        styles |= {
            "seat": "square",
            "back": _pick(generator, ("solid", "solid", "split", "curved")),
            "arms": _pick(generator, ("slab", "slab", "slab", "none")),
        }
        measures |= _uniform(
            generator,
            width=(0.55, 0.85),
            depth=(0.52, 0.66),
            seat_height=(0.34, 0.42),
            seat_thickness=(0.10, 0.18),
            back_thickness=(0.08, 0.15),
            back_height=(0.30, 0.46),
            cushion=(0.03, 0.08),
        )
    if styles["back"] == "none":  # a stool, small and high enough not to look like a table
        styles["arms"] = "none"
        measures |= {
            "tilt": 0.0,
            "width": min(measures["width"], 0.42),
            "depth": min(measures["depth"], 0.40),
            "seat_height": max(measures["seat_height"], 0.46),
        }
    round_seat = styles["seat"] in ("round", "bucket")
    if round_seat and styles["legs"] in ("panels", "crossed"):
        styles["seat"], round_seat = "square", False
    if round_seat and styles["arms"] == "slab":
        styles["arms"] = "post"
    chosen: dict[str, Any] = styles | measures
    return Chair(
        **chosen,
        bars=int(generator.integers(3, 8)),
        round_legs=bool(generator.random() < 0.4),
        stretcher=_pick(generator, ("none", "none", "H", "box")),
        star_arms=int(generator.integers(4, 6)),
        casters=bool(generator.random() < 0.6),
        colors=_sample_colors(generator),
    )


def _sample_measures(generator: np.random.Generator) -> dict[str, float]:
    measures = _uniform(
        generator,
        width=(0.40, 0.58),
        depth=(0.40, 0.54),
        seat_height=(0.40, 0.50),
        seat_thickness=(0.025, 0.07),
        front_flare=(1.0, 1.25),
        back_height=(0.36, 0.66),
        back_thickness=(0.02, 0.05),
        back_narrowing=(0.0, 0.2),
        tilt=(0.0, math.radians(16)),
        bulge=(0.02, 0.09),
        arm_height=(0.17, 0.24),
        cushion=(0.03, 0.08),
        leg_radius=(0.014, 0.028),
        leg_taper=(0.45, 1.0),
        splay=(0.03, 0.10),
    )
    if generator.random() < 0.6:
        measures["cushion"] = 0.0
    return measures


def _sample_colors(generator: np.random.Generator) -> tuple[Color, Color, Color]:
    frames = WOOD if generator.random() < 0.55 else METAL
    seats = WOOD + CLOTH if generator.random() < 0.6 else CLOTH
    seat, frame, cushion_color = _pick(generator, seats), _pick(generator, frames), _pick(generator, CLOTH)
    if generator.random() < 0.35:  # all of one piece
        seat = frame
    return seat, frame, cushion_color


def _pick(generator: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[int(generator.integers(len(choices)))]


def _weighted(generator: np.random.Generator, table: Mapping[str, Style]) -> str:
    return list(table)[int(generator.choice(len(table), p=[style.weight for style in table.values()]))]


def _uniform(generator: np.random.Generator, **ranges: tuple[float, float]) -> dict[str, float]:
    return {name: float(generator.uniform(low, high)) for name, (low, high) in ranges.items()}


def build_chair(chair: Chair) -> list[Prism]:
    """The chair's prisms, centered and of radius 1."""
    solids = Solids()
    for part, styles in PARTS.items():
        styles[getattr(chair, part)].build(solids, chair)
    if chair.cushion:
        cushion(solids, chair)
    return solids.normalized()


def draw_chair(chair: Chair, azimuth: Array, elevation: Array, zoom: Array, size: int = 64) -> Image:
    """A chair from many views (radians), RGB ``(views, size, size, 3)``."""
    return render(build_chair(chair), np.asarray(chair.colors, float), azimuth, elevation, zoom, size)


def luma(images: Image) -> Image:
    """RGB images ``(..., 3)`` in grey, ``(...)``; equal bit by bit to Pillow's conversion to ``L``."""
    red, green, blue = np.moveaxis(images.astype(np.uint32), -1, 0)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def zoom_levels(count: int) -> Array:
    """Zooms ``(count,)``, evenly spaced in `ZOOM_RANGE` with both its ends; ``count`` is 2 or more."""
    return np.linspace(*ZOOM_RANGE, count)


class ChairImages(NamedTuple):
    """One chair of the family, from every view, and at each zoom if there are several."""

    chair: Chair
    images: Image
    """``(images, channels, size, size)``: azimuths at the first elevation, then at the second; likewise each zoom."""
    zoom: Array
    """``(images,)``"""
    asymmetry: float
    """Mean absolute pixel difference, in [0, 1], between opposite azimuths at zoom 1."""


def render_chair(
    seed: int, split: str, index: int, color: bool = False, size: int = 64, zooms: int | None = None
) -> ChairImages:
    """Chair ``index`` of a split from every view, at a zoom drawn for each view, or at ``zooms`` zooms."""
    key = (SPLITS.index(split), index)
    chair = _chair(seed, key)
    zoom = _own_zooms(seed, key) if zooms is None else np.repeat(zoom_levels(zooms), VIEWS)
    # Zoom differs between images, so opposite views are drawn once more without it.
    extra = len(_SYMMETRY_AZIMUTHS)
    azimuth, elevation = _views(len(zoom) // VIEWS)
    drawn = draw_chair(
        chair,
        np.concatenate([azimuth, _SYMMETRY_AZIMUTHS]),
        np.concatenate([elevation, np.full(extra, ELEVATIONS[0])]),
        np.concatenate([zoom, np.ones(extra)]),
        size,
    )
    images = _in_mode(drawn, color)
    front, rear = np.split(images[len(zoom) :] / 255, 2)
    return ChairImages(chair, images[: len(zoom)], zoom, float(np.abs(front - rear).mean()))


class Views(NamedTuple):
    """The views of some images of a family, in float64 as they were drawn."""

    chair: NDArray[np.int64]
    """Counted through all splits."""
    azimuth: Array
    elevation: Array
    zoom: Array


class ChairFamily(NamedTuple):
    """The chairs of `render_family`, each of which can be drawn anew from any view."""

    seed: int = 0
    counts: Counts = Counts()
    color: bool = False
    size: int = 64
    zooms: int | None = None

    def key(self, chair: int) -> tuple[int, int]:
        """Split and index of a chair counted through all splits."""
        firsts = np.cumsum([0, *self.counts[:-1]])
        split = int(np.searchsorted(firsts, chair, side="right")) - 1
        return split, chair - int(firsts[split])

    def views(self, rows: NDArray[np.int64]) -> Views:
        """The views of the images at these rows ``(images,)`` of `render_family`'s arrays."""
        chair, place = np.divmod(rows, VIEWS * (self.zooms or 1))
        azimuth, elevation = _views(self.zooms or 1)
        if self.zooms is None:
            zooms_of = {each: _own_zooms(self.seed, self.key(each)) for each in np.unique(chair).tolist()}
            zoom = np.array([zooms_of[each][view] for each, view in zip(chair.tolist(), place.tolist(), strict=True)])
        else:
            zoom = np.repeat(zoom_levels(self.zooms), VIEWS)[place]
        return Views(chair, azimuth[place], elevation[place], zoom)

    def drawn(self, views: Views) -> Image:
        """Chairs from these views, ``(images, channels, size, size)``; equal bit by bit to the family's own images."""
        images = np.empty((len(views.chair), 3 if self.color else 1, self.size, self.size), np.uint8)

        def rows_drawn(chair: int) -> tuple[NDArray[np.intp], Image]:
            rows = np.flatnonzero(views.chair == chair)
            sampled = _chair(self.seed, self.key(chair))
            drawn = draw_chair(sampled, views.azimuth[rows], views.elevation[rows], views.zoom[rows], self.size)
            return rows, _in_mode(drawn, self.color)

        chairs = np.unique(views.chair).tolist()
        for rows, drawn in in_threads(rows_drawn, chairs, len(chairs)):
            images[rows] = drawn
        return images


def _chair(seed: int, key: tuple[int, int]) -> Chair:
    return sample_chair(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)))


def _in_mode(drawn: Image, color: bool) -> Image:
    """RGB images ``(images, size, size, 3)`` as ``(images, channels, size, size)``."""
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 1)) if color else luma(drawn)[:, None]


def _own_zooms(seed: int, key: tuple[int, int]) -> Array:
    """A zoom for each view of a chair, ``(views,)``."""
    return np.array(
        [
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*key, view))).uniform(*ZOOM_RANGE)
            for view in range(VIEWS)
        ]
    )


def _views(times: int) -> tuple[Array, Array]:
    """Azimuth and elevation of all views, repeated ``times`` times, ``(times * views,)`` each."""
    return (
        np.tile(AZIMUTHS, times * len(ELEVATIONS)),
        np.tile(np.repeat(ELEVATIONS, len(AZIMUTHS)), times),
    )


def render_family(
    seed: int = 0,
    counts: Counts = Counts(),  # noqa: B008 - a tuple
    color: bool = False,
    size: int = 64,
    progress: Progress | None = None,
    workers: int | None = None,
    zooms: int | None = None,
) -> Arrays:
    """All chairs of all splits, train first, each with all its views.

    Args:
        seed: of the whole family.
        counts: chairs in each split.
        color: RGB instead of grey.
        size: height and width.
        progress: called with (chairs done, chairs in all).
        workers: number of threads; None: one per core. Does not change the result.
        zooms: draw every view at this number of `zoom_levels`; None: once, at a zoom drawn for the image.

    Returns:
        ``images`` ``(images, channels, size, size)`` uint8; ``factors/azimuth``, ``factors/elevation`` (radians) and
        ``factors/zoom``, ``(images,)`` float32; ``labels/identity``, counted through all splits, and one label for
        every part of `STYLE_NAMES`, ``(images,)`` int64; ``asymmetry`` ``(images,)`` float32, equal for all of a chair.
    """
    total = sum(counts)
    keys = [(split, index) for split, count in zip(SPLITS, counts, strict=True) for index in range(count)]
    times = 1 if zooms is None else zooms
    images = np.empty((total, times * VIEWS, 3 if color else 1, size, size), np.uint8)
    zoom, asymmetry = np.empty((total, times * VIEWS)), np.empty(total)
    styles: dict[str, NDArray[np.int64]] = {part: np.empty(total, np.int64) for part in PARTS}

    rendered = in_threads(lambda key: render_chair(seed, *key, color, size, zooms), keys, total, progress, workers)
    for identity, drawn in enumerate(rendered):
        images[identity], zoom[identity], asymmetry[identity] = drawn.images, drawn.zoom, drawn.asymmetry
        for part, names in STYLE_NAMES.items():
            styles[part][identity] = names.index(getattr(drawn.chair, part))

    def of_chair(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, times * VIEWS)

    azimuth, elevation = _views(total * times)
    arrays: Arrays = {
        "images": images.reshape(-1, *images.shape[2:]),
        "factors/azimuth": azimuth.astype(np.float32),
        "factors/elevation": elevation.astype(np.float32),
        "factors/zoom": zoom.ravel().astype(np.float32),
        "labels/identity": of_chair(np.arange(total)),
        "asymmetry": of_chair(asymmetry).astype(np.float32),
    }
    return arrays | {f"labels/{part}": of_chair(values) for part, values in styles.items()}
