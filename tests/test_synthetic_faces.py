"""The generated faces: reproducible, as often of each kind as CelebA's, drawn from every one of their attributes."""

import doctest
import random
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyro_disent.data.faces import drawn
from pyro_disent.data.faces.drawn.attributes import (
    EXCLUSIVE,
    GROUPS,
    RULES,
    SHARES,
    chances,
    group_shares,
    sample_attributes,
)
from pyro_disent.data.faces.drawn.design import Nuisances, sample_nuisances
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES, draw_face, render_face, render_faces
from pyro_disent.data.images.array_cache import digest

SAMPLES = 12_000
COLUMN = {name: column for column, name in enumerate(ATTRIBUTES)}


@pytest.fixture(scope="module")
def sampled():
    """Attributes by name, each ``(SAMPLES,)``."""
    generator = np.random.default_rng(11)
    return dict(zip(ATTRIBUTES, np.stack([sample_attributes(generator) for _ in range(SAMPLES)], 1), strict=True))


def attributes_of(*names):
    return np.isin(ATTRIBUTES, names)


def nuisances_of(*seed):
    return sample_nuisances(np.random.default_rng(seed))


def frontal(nuisances):
    """The same face, upright, centered, looking ahead."""
    return replace(nuisances, shift=0j, scale=1.0, tilt=0.0, turn=0.0)


def without_and_with(name, *seed):
    """One sampled face that could have the attribute, drawn twice, as integers ``(3, 64, 64)``."""
    attributes = sample_attributes(np.random.default_rng(seed))
    rivals = {rival for rivals in EXCLUSIVE if name in rivals for rival in rivals}
    attributes &= ~attributes_of("Blurry", *rivals)
    nuisances = nuisances_of(1, *seed)
    own = attributes_of(name)
    return tuple(draw_face(drawn, nuisances).astype(int) for drawn in (attributes & ~own, attributes | own))


def difference(first, second):
    """How far each pixel's most different channel lies apart, ``(size, size)`` of integers."""
    return np.abs(first.astype(int) - second).max(0)


def test_the_names_are_celebas_in_its_order():
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES, key=str.lower)
    assert ATTRIBUTES[0] == "5_o_Clock_Shadow" and ATTRIBUTES[20] == "Male" and ATTRIBUTES[-1] == "Young"
    assert set(RULES) | {"Male", "Young"} == set(SHARES) == set(ATTRIBUTES)


def test_a_seed_fixes_every_pixel_whatever_the_number_of_threads():
    one, three = (render_faces(3, 0, 12, workers=workers) for workers in (1, 3))
    assert digest(one._asdict()) == digest(three._asdict())
    other = render_faces(4, 0, 12)
    assert (one.images != other.images).mean(axis=(1, 2, 3)).min() > 0.5
    assert (one.attributes != other.attributes).any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**63), start=st.integers(0, 10**6), count=st.integers(1, 4), data=st.data())
def test_a_face_depends_on_its_seed_and_index_alone(seed, start, count, data):
    faces = render_faces(seed, start, count, size=16)
    row = data.draw(st.integers(0, count - 1))
    image, attributes = render_face(seed, start + row, size=16)
    np.testing.assert_array_equal(faces.images[row], image)
    np.testing.assert_array_equal(faces.attributes[row], attributes)


def test_faces_leave_the_global_random_state_alone_and_do_not_read_it():
    faces = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state in question
        before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        faces.append(render_faces(0, 0, 3))
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    np.testing.assert_array_equal(faces[0].images, faces[1].images)


@pytest.mark.parametrize("size", [32, 64, 100])
def test_shapes_types_and_progress(size):
    seen = []
    faces = render_faces(0, 5, 3, size, progress=lambda done, total: seen.append((done, total)))
    assert faces.images.shape == (3, 3, size, size) and faces.images.dtype == np.uint8
    assert faces.attributes.shape == (3, 40) and faces.attributes.dtype == bool
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_faces_are_no_faces():
    assert render_faces(0, 7, 0).images.shape == (0, 3, 64, 64)


def test_every_chance_is_a_probability():
    assert group_shares() == pytest.approx([0.507, 0.076, 0.267, 0.150], abs=5e-4) and len(GROUPS) == 4
    for chance in chances():
        assert chance.chances.shape == (4, 2)
        assert (chance.chances >= 0).all() and (chance.chances <= 1).all(), ATTRIBUTES[chance.attribute]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_as_frequent_as_in_celeba(name, sampled):
    share = SHARES[name]
    # Four standard errors, and half a percentage point for chances that depend on what excludes an attribute.
    assert sampled[name].mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / SAMPLES) + 0.005)


@pytest.mark.parametrize("rivals", EXCLUSIVE, ids=" ".join)
def test_what_contradicts_itself_is_never_sampled_together(rivals, sampled):
    together = sum(sampled[name].astype(int) for name in rivals)
    assert together.max() == 1


def test_attributes_depend_on_each_other_as_in_life(sampled):
    def share(name, given):
        return sampled[name][given].mean()

    male, young, smiling = (sampled[name] for name in ("Male", "Young", "Smiling"))
    for name in ("5_o_Clock_Shadow", "Goatee", "Sideburns", "Mustache", "Wearing_Necktie", "Bald"):
        assert share(name, male) > 0.04 and not sampled[name][~male].any()
    assert sampled["No_Beard"][~male].all()
    assert share("Wearing_Lipstick", ~male) > 0.7 > 0.05 > share("Wearing_Lipstick", male)
    assert share("Heavy_Makeup", sampled["Wearing_Lipstick"]) > 0.6
    assert share("Gray_Hair", ~young) > 10 * share("Gray_Hair", young)
    assert share("Young", ~male) > share("Young", male) + 0.1
    assert share("Double_Chin", sampled["Chubby"]) > 5 * share("Double_Chin", ~sampled["Chubby"])
    for name in ("Mouth_Slightly_Open", "High_Cheekbones"):
        assert share(name, smiling) > 2 * share(name, ~smiling)
    assert share("Goatee", ~sampled["No_Beard"]) > 0.25 and not sampled["Goatee"][sampled["No_Beard"]].any()


VISIBLE = 12
"""A channel changed by this much of 255 is seen."""
SMALLEST = 10
"""Pixels of the 4,096 that the smallest attribute changes at least."""


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_alone_changes_the_face(name):
    changes = [difference(*without_and_with(name, seed)) for seed in range(8)]
    assert min((change >= VISIBLE).sum() for change in changes) >= SMALLEST
    assert np.median([change[change >= VISIBLE].mean() for change in changes]) >= 25


WHERE = {
    "Wearing_Hat": (-1.0, -0.15),
    "Bangs": (-0.9, -0.1),
    "Receding_Hairline": (-0.9, 0.2),
    "Arched_Eyebrows": (-0.35, -0.05),
    "Bushy_Eyebrows": (-0.35, -0.05),
    "Eyeglasses": (-0.25, 0.2),
    "Narrow_Eyes": (-0.2, 0.1),
    "Bags_Under_Eyes": (-0.1, 0.2),
    "Heavy_Makeup": (-0.3, 0.1),
    "Big_Nose": (-0.15, 0.3),
    "Pointy_Nose": (-0.15, 0.3),
    "Rosy_Cheeks": (0.0, 0.3),
    "Mustache": (0.15, 0.45),
    "Big_Lips": (0.2, 0.5),
    "Wearing_Lipstick": (0.2, 0.5),
    "Smiling": (0.15, 0.55),
    "Mouth_Slightly_Open": (0.2, 0.5),
    "5_o_Clock_Shadow": (0.05, 0.7),
    "Goatee": (0.3, 0.75),
    "Double_Chin": (0.3, 0.85),
    "Wearing_Earrings": (0.05, 0.4),
    "Wearing_Necklace": (0.5, 1.0),
    "Wearing_Necktie": (0.5, 1.0),
}
"""Between which heights an attribute lies in an upright face, in halves of the image."""


@pytest.mark.parametrize("name", WHERE)
def test_an_attribute_changes_the_face_where_it_belongs_and_nowhere_else(name):
    low, high = (int(np.clip((height + 1) * 32, 0, 64)) for height in WHERE[name])
    for seed in range(3):
        nuisances = frontal(nuisances_of(2, seed))
        first, second = (draw_face(attributes_of("Young", "No_Beard", *named), nuisances) for named in ((), (name,)))
        changed = np.nonzero(difference(first, second).any(1))[0]
        assert low <= changed.min() and changed.max() <= high


@settings(max_examples=60, deadline=None)
@given(attributes=st.lists(st.booleans(), min_size=40, max_size=40), seed=st.integers(0, 2**32))
def test_any_combination_of_attributes_is_a_face(attributes, seed):
    image = draw_face(np.array(attributes), nuisances_of(seed), size=32)
    assert image.shape == (3, 32, 32) and image.dtype == np.uint8
    assert image.std() > 3


@pytest.mark.parametrize("attributes", [np.zeros(40, bool), np.ones(40, bool)])
def test_all_attributes_and_none_are_faces(attributes):
    assert draw_face(attributes, nuisances_of(0)).std() > 3


def test_other_than_forty_attributes_are_refused():
    with pytest.raises(ValueError, match=r"attributes have shape \(39,\), a face has \(40,\)"):
        draw_face(np.zeros(39, bool), nuisances_of(0))


@pytest.mark.parametrize("name", [field.name for field in fields(Nuisances)])
def test_every_nuisance_varies_and_is_seen(name):
    """A face on which all of them matter: hat, makeup, wavy hair, a smile, an uneven face."""
    attributes = attributes_of(
        *("Wearing_Hat", "Wearing_Lipstick", "Heavy_Makeup", "Wavy_Hair", "Smiling", "Mouth_Slightly_Open", "Young")
    )
    if name == "parting":
        attributes &= ~attributes_of("Wearing_Hat")
    nuisances = nuisances_of(0)
    image = draw_face(attributes, nuisances)
    values = [getattr(nuisances_of(seed), name) for seed in range(1, 8)]
    assert len({str(value) for value in values}) == (2 if name == "skew" else 7)
    others = [draw_face(attributes, replace(nuisances, **{name: value})) for value in values]
    assert max((difference(image, other) >= VISIBLE).sum() for other in others) >= SMALLEST


def test_a_blurry_picture_is_a_picture_without_its_edges():
    without, blurry = without_and_with("Blurry", 0)
    sharpness = [np.abs(np.diff(image, axis=2)).mean() for image in (without, blurry)]
    assert sharpness[1] < 0.8 * sharpness[0]
    assert blurry.mean() == pytest.approx(without.mean(), abs=1)


LIGHTER = {"Pale_Skin": 1, "Blond_Hair": 1, "Gray_Hair": 1, "Black_Hair": -1}


@pytest.mark.parametrize(("name", "lighter"), LIGHTER.items())
def test_attributes_of_color_are_of_that_color(name, lighter):
    for seed in range(5):
        without, with_ = without_and_with(name, seed)
        changed = difference(without, with_) > 40
        assert lighter * (with_ - without)[:, changed].mean() > 15
        if name == "Gray_Hair":
            assert np.ptp(with_[:, changed].mean(1)) < np.ptp(without[:, changed].mean(1))


def test_size_changes_the_resolution_alone():
    attributes, nuisances = attributes_of("Young", "No_Beard", "Brown_Hair", "Smiling"), nuisances_of(5)
    small, large = draw_face(attributes, nuisances), draw_face(attributes, nuisances, size=256)
    reduced = np.asarray(Image.fromarray(large.transpose(1, 2, 0)).reduce(4)).transpose(2, 0, 1)
    assert np.abs(reduced.astype(int) - small).mean() < 3


def test_the_example_of_the_generator_runs() -> None:
    failed, examples = doctest.testmod(drawn)
    assert examples and not failed


def test_drawing_needs_no_torch() -> None:
    code = "import sys, pyro_disent.data.faces.drawn.faces; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
