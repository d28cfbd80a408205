"""The generated chairs: reproducible, driven by their ground truth, drawn right."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from pyro_disent.data.chairs import drawn
from pyro_disent.data.chairs.drawn.design import Chair
from pyro_disent.data.chairs.drawn.family import (
    AZIMUTHS,
    PARTS,
    STYLE_NAMES,
    VIEWS,
    ZOOM_RANGE,
    Counts,
    build_chair,
    draw_chair,
    luma,
    render_chair,
    render_family,
    sample_chair,
    zoom_levels,
)
from pyro_disent.data.chairs.drawn.raycast import Image, render
from pyro_disent.data.chairs.drawn.solids import Prism, Solids
from pyro_disent.data.images.array_cache import digest

TINY = Counts(2, 1, 1)
SIZE = 32


def one_view(chair: Chair, azimuth: float = 0.5, elevation: float = 0.4, zoom: float = 1.0, size: int = 64) -> Image:
    return draw_chair(chair, np.array([azimuth]), np.array([elevation]), np.array([zoom]), size)[0]


def chair_of(seed: int | tuple[int, ...]) -> Chair:
    return sample_chair(np.random.default_rng(seed))


def extent(image: Image) -> tuple[int, int]:
    rows, columns = np.nonzero((image < 255).any(-1))
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def test_a_seed_fixes_every_pixel_whatever_the_number_of_threads() -> None:
    one, two = (render_family(3, TINY, size=SIZE, workers=workers) for workers in (1, 3))
    assert digest(one) == digest(two)
    assert digest(one) != digest(render_family(4, TINY, size=SIZE))


def test_a_chair_does_not_depend_on_how_many_others_there_are() -> None:
    few, more = render_family(0, TINY, size=SIZE), render_family(0, Counts(3, 1, 1), size=SIZE)
    np.testing.assert_array_equal(few["images"][: 2 * VIEWS], more["images"][: 2 * VIEWS])
    np.testing.assert_array_equal(few["images"][2 * VIEWS :], more["images"][3 * VIEWS :])


def test_the_family_says_what_it_drew() -> None:
    seen = []
    arrays = render_family(0, TINY, size=SIZE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert arrays["images"].shape == (4 * VIEWS, 1, SIZE, SIZE)
    assert (np.bincount(arrays["labels/identity"]) == VIEWS).all()
    azimuth, elevation, zoom = (arrays[f"factors/{name}"] for name in ("azimuth", "elevation", "zoom"))
    assert len(set(zip(azimuth[:VIEWS], elevation[:VIEWS], strict=True))) == VIEWS
    np.testing.assert_allclose(np.unique(azimuth), np.arange(31) * 2 * math.pi / 31, rtol=1e-6)
    np.testing.assert_allclose(np.unique(elevation), np.radians([20, 30]), rtol=1e-6)
    assert len(np.unique(zoom)) == len(zoom)
    assert ZOOM_RANGE[0] <= zoom.min() < zoom.max() <= ZOOM_RANGE[1]
    for index, (split, number) in enumerate((("train", 0), ("train", 1), ("validation", 0), ("test", 0))):
        drawn = render_chair(0, split, number, size=SIZE)
        rows = slice(index * VIEWS, (index + 1) * VIEWS)
        for part, names in STYLE_NAMES.items():
            assert {names[label] for label in arrays[f"labels/{part}"][rows]} == {getattr(drawn.chair, part)}
        # What was recorded draws the same image again.
        again = draw_chair(drawn.chair, azimuth[rows][40:41], elevation[rows][40:41], zoom[rows][40:41], SIZE)
        assert np.abs(luma(again)[0].astype(int) - arrays["images"][rows][40, 0]).mean() < 0.1


@pytest.mark.parametrize("zooms", [2, 3])
def test_every_view_is_drawn_at_each_zoom(zooms: int) -> None:
    arrays = render_family(0, TINY, size=SIZE, zooms=zooms)
    assert arrays["images"].shape == (4 * zooms * VIEWS, 1, SIZE, SIZE)
    azimuth, elevation, zoom = (arrays[f"factors/{name}"] for name in ("azimuth", "elevation", "zoom"))
    np.testing.assert_array_equal(np.unique(zoom), [0.75, 1] if zooms == 2 else [0.75, 0.875, 1])
    own = render_family(0, TINY, size=SIZE)
    for index, (split, number) in enumerate((("train", 0), ("train", 1), ("validation", 0), ("test", 0))):
        rows = slice(index * zooms * VIEWS, (index + 1) * zooms * VIEWS)
        assert len(set(zip(azimuth[rows], elevation[rows], zoom[rows], strict=True))) == zooms * VIEWS
        assert (arrays["labels/identity"][rows] == index).all()
        # The same chairs as those with zooms of their own, and each image what its factors say.
        for name in ("asymmetry", *(f"labels/{part}" for part in STYLE_NAMES)):
            assert (arrays[name][rows] == own[name][index * VIEWS]).all()
        chair = render_chair(0, split, number, size=SIZE).chair
        for row in (rows.start, rows.start + 45, rows.stop - 1):
            again = one_view(chair, azimuth[row], elevation[row], zoom[row], SIZE)
            assert np.abs(luma(again).astype(int) - arrays["images"][row, 0]).mean() < 0.1


@given(count=st.integers(2, 40))
def test_zoom_levels_are_evenly_spaced_and_hold_both_ends(count: int) -> None:
    levels = zoom_levels(count)
    assert (levels[0], levels[-1], len(levels)) == (*ZOOM_RANGE, count)
    np.testing.assert_allclose(np.diff(levels), 0.25 / (count - 1))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), azimuth=st.floats(0, 2 * math.pi), zoom=st.floats(0.6, 1))
def test_every_chair_lies_inside_its_image_and_grows_with_zoom(seed: int, azimuth: float, zoom: float) -> None:
    chair = chair_of(seed)
    near, far = one_view(chair, azimuth), one_view(chair, azimuth, zoom=zoom)
    assert (near[[0, -1]] == 255).all() and (near[:, [0, -1]] == 255).all()
    assert (near < 255).any()
    assert all(small <= large for small, large in zip(extent(far), extent(near), strict=True))


def test_the_extent_shrinks_in_proportion_to_zoom() -> None:
    chair = chair_of(1)
    near, far = (np.array(extent(one_view(chair, zoom=zoom, size=256))) for zoom in (1.0, 0.75))
    np.testing.assert_allclose(far / near, 0.75, atol=0.05)


@pytest.mark.parametrize("change", [{"azimuth": 0.7}, {"elevation": 0.55}, {"zoom": 0.8}])
def test_every_factor_alone_changes_the_image(change: dict[str, float]) -> None:
    chair = chair_of(2)
    changed = np.abs(one_view(chair, **change).astype(int) - one_view(chair)).mean()
    assert changed > 2
    np.testing.assert_array_equal(one_view(chair), one_view(chair))


def test_a_quarter_turn_shows_the_side() -> None:
    """At azimuth 0 the camera stands before the front (+y), a quarter turn on at +x."""
    solids = Solids()
    solids.box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), material=0)
    solids.box((-0.3, 0.5, -0.3), (0.3, 0.55, 0.3), material=1)  # a mark on the front
    solids.box((0.5, -0.3, -0.3), (0.55, 0.3, 0.3), material=2)  # and on the +x side
    colors = np.array([[40.0] * 3, [250, 0, 0], [0, 0, 250]])
    turns = np.array([0, 0.5, 1, 1.5]) * math.pi
    images = render(solids.prisms, colors, turns, np.full(4, 0.1), np.full(4, 0.8))
    red = [bool((image[..., 0] > image[..., 2].astype(int) + 50).sum() > 50) for image in images]
    blue = [bool((image[..., 2] > image[..., 0].astype(int) + 50).sum() > 50) for image in images]
    assert red == [True, False, False, False]
    assert blue == [False, True, False, False]


def test_what_is_in_front_hides_what_is_behind_whatever_the_order() -> None:
    solids = Solids()
    solids.box((-0.2, 0.3, -0.2), (0.2, 0.4, 0.2), material=0)
    solids.box((-0.5, -0.4, -0.5), (0.5, -0.3, 0.5), material=1)
    colors = np.array([[200.0, 0, 0], [0, 0, 200]])
    view = (np.zeros(1), np.zeros(1), np.full(1, 0.8))
    forward, backward = render(solids.prisms, colors, *view), render(solids.prisms[::-1], colors, *view)
    np.testing.assert_array_equal(forward, backward)
    assert forward[0, 32, 32, 0] > 50 > forward[0, 32, 32, 2]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sides=st.integers(3, 12),
    radii=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
    taper=st.floats(0.2, 1),
)
def test_a_prism_lies_inside_its_planes(seed: int, sides: int, radii: tuple[float, float], taper: float) -> None:
    start, end = np.random.default_rng(seed).normal(size=(2, 3))
    solids = Solids()
    solids.prism(start, end, radii, np.array(radii) * taper, sides=sides)
    prism: Prism = solids.prisms[0]
    normals, offsets = prism.planes()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert (prism.vertices @ normals.T <= offsets + 1e-6).all()
    assert ((start + end) / 2 @ normals.T < offsets).all()


@pytest.mark.parametrize("part", PARTS)
def test_styles_are_chosen_with_the_weights_of_their_table(part: str) -> None:
    weights = [style.weight for style in PARTS[part].values()]
    assert sum(weights) == pytest.approx(1)
    chairs = [sample_chair(np.random.default_rng((7, seed))) for seed in range(400)]
    assert {getattr(chair, part) for chair in chairs} == set(STYLE_NAMES[part])
    if part == "seat":  # the others are changed where they do not fit the seat or the legs
        counts = [sum(getattr(chair, part) == name for chair in chairs) for name in PARTS[part]]
        expected = [400 * weight for weight in weights]
        assert all(abs(a - b) < 4 * np.sqrt(b) + 20 for a, b in zip(counts, expected, strict=True))


def test_every_style_is_built_by_some_chair() -> None:
    seen = set()
    for seed in range(150):
        chair = chair_of((1, seed))
        assert all(np.isfinite(prism.vertices).all() for prism in build_chair(chair))
        seen |= {(part, getattr(chair, part)) for part in PARTS}
    assert seen == {(part, name) for part, names in STYLE_NAMES.items() for name in names}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_grey_is_what_pillow_makes_of_the_color(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    expected = [np.asarray(PillowImage.fromarray(image).convert("L")) for image in images]
    np.testing.assert_array_equal(luma(images), expected)


def test_grey_chairs_are_the_color_ones_in_luma() -> None:
    color, grey = render_chair(0, "test", 5, color=True), render_chair(0, "test", 5)
    np.testing.assert_array_equal(luma(np.moveaxis(color.images, 1, -1)), grey.images[:, 0])


def test_a_stool_looks_the_same_from_the_opposite_side_and_a_chair_does_not() -> None:
    drawn = [render_chair(0, "train", index, size=SIZE) for index in range(24)]
    stools = [chair.asymmetry for chair in drawn if chair.chair.back == "none"]
    others = [chair.asymmetry for chair in drawn if chair.chair.back != "none"]
    assert max(stools) < 0.02 < min(others)


def test_azimuths_are_those_of_the_real_set() -> None:
    np.testing.assert_allclose(np.degrees(AZIMUTHS)[[1, 30]], [360 / 31, 360 * 30 / 31])


def test_rendering_needs_numpy_alone() -> None:
    code = "import sys, pyro_disent.data.chairs.drawn.family; print([m for m in ('torch', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_of_the_generator_runs() -> None:
    failed, examples = doctest.testmod(drawn)
    assert examples and not failed
