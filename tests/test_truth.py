"""The true image of a counterfactual, drawn anew by the data sets that can: to the bit what they show themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pyro_disent.data import registry
from pyro_disent.data.chairs.drawn.family import draw_chair, luma, render_chair
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.data.faces.drawn.attributes import ATTRIBUTES, sample_attributes
from pyro_disent.data.faces.drawn.design import sample_nuisances
from pyro_disent.data.faces.drawn.faces import draw_face
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError

SMALL = {"celeba": {"counts": (4, 4, 8)}, "chairs": {"counts": (2, 2, 3)}}
SETS = ("chairs", "celeba", "rotated-mnist", "colored-mnist")
VIEW = ("azimuth", "elevation", "zoom")


def loaded(name: str, **options: object) -> DataSet:
    return registry.load(name, source="embedded", **{**SMALL.get(name, {}), **options})


def some(split: Split, count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(len(split), (2, count), generator=generator)
    return a, b


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_an_image_with_its_own_factors_is_itself(name: str, part: str) -> None:
    split = getattr(loaded(name, seed=3), part)
    a, b = some(split)
    shown = split.examples(5).images[a]
    assert split.drawable == tuple(split.examples(5).factors)
    assert torch.equal(split.truth(a, a, split.drawable, seed=5), shown)
    assert torch.equal(split.truth(a, b, (), seed=5), shown)
    assert split.truth(a[:0], b[:0], split.drawable).shape == (0, *split.image_shape)


@pytest.mark.parametrize("options", [{}, {"color": True}, {"limit": 60}])
def test_a_chair_with_a_zoom_of_its_own_is_drawn_from_the_others_view(options: dict[str, object]) -> None:
    split = loaded("chairs", **options).train
    assert torch.equal(split.truth(*[torch.arange(len(split))] * 2, VIEW), split.images)
    a, b = some(split, 12)
    drawn = split.truth(a, b, VIEW)
    color = bool(options.get("color"))
    for place, (one, other) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        chair = render_chair(0, "train", int(split.labels["identity"][one])).chair
        view = [split.factors[name][other : other + 1].double().numpy() for name in VIEW]
        image = draw_chair(chair, *view)
        expected = np.moveaxis(image, -1, 1) if color else luma(image)[:, None]
        # The factors of a split are float32, and an edge may lie between two rays.
        assert (drawn[place].numpy() != expected[0]).mean() < 0.002
        assert np.abs(drawn[place].numpy().astype(int) - expected[0]).max() < 32


def test_a_chair_in_the_view_of_another_is_its_image_of_that_view_bit_by_bit() -> None:
    """At levels of zoom every chair is shown from every view, so the set holds the answer."""
    split = loaded("chairs", factors=["azimuth", "zoom"], zooms=2).test
    a, b = some(split, 60)
    views = 62 * 2
    same_view = a // views * views + b % views
    assert torch.equal(split.truth(a, b, VIEW), split.images[same_view])
    assert torch.equal(split.truth(a, b, VIEW[:2]), split.images[a // 62 * 62 + b % 62])  # zoom is a's


def test_a_digit_turns_as_another_is_turned() -> None:
    split = loaded("rotated-mnist", factors=["rotation", "scale"]).test
    a, b = some(split)
    known = split.examples(7).factors
    for factors, angle, scale in (
        (("rotation", "scale"), known["rotation"][b], known["scale"][b]),
        (("rotation",), known["rotation"][b], known["scale"][a]),
        (("scale",), known["rotation"][a], known["scale"][b]),
    ):
        cos, sin = (angle.cos() / scale).double(), (angle.sin() / scale).double()
        zero = torch.zeros_like(cos)
        theta = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
        digits = functional.pad(split.images[a].double(), [2] * 4)
        grid = functional.affine_grid(theta, list(digits.shape), align_corners=False)
        expected = functional.grid_sample(digits, grid, align_corners=False)[..., 2:-2, 2:-2]
        found = split.truth(a, b, factors, seed=7)
        assert found.dtype == torch.uint8
        assert (found.double() - expected).abs().max() < 0.501


def test_a_digit_takes_one_channel_of_anothers_color() -> None:
    split = loaded("colored-mnist").test
    a, b = some(split)
    shown = split.examples(0).images
    found = split.truth(a, b, ("green",))
    assert torch.equal(found[:, [0, 2]], shown[a][:, [0, 2]])
    green = shown[b][:, 1].flatten(1).amax(1)
    assert torch.equal(found[:, 1], (shown[a][:, 0] > 0) * green[:, None, None])


def test_a_face_takes_one_attribute_and_keeps_all_else() -> None:
    split = loaded("celeba", seed=2).test
    a, b = some(split, 6)
    found = split.truth(a, b, ("Smiling", "Eyeglasses"))
    for image, one, other in zip(found.numpy(), a.tolist(), b.tolist(), strict=True):
        generator = np.random.default_rng(np.random.SeedSequence(2, spawn_key=(8 + one,)))
        wanted = sample_attributes(generator)
        of_b = sample_attributes(np.random.default_rng(np.random.SeedSequence(2, spawn_key=(8 + other,))))
        for name in ("Smiling", "Eyeglasses"):
            wanted[ATTRIBUTES.index(name)] = of_b[ATTRIBUTES.index(name)]
        np.testing.assert_array_equal(image, draw_face(wanted, sample_nuisances(generator)))


@pytest.mark.parametrize("name", SETS)
def test_factors_that_cannot_be_changed_and_places_that_do_not_exist_are_refused(name: str) -> None:
    split = loaded(name).test
    a, b = some(split)
    said = f"cannot be drawn with another identity: those that can be changed are {split.drawable[0]}"
    with pytest.raises(InputError, match=said):
        split.truth(a, b, ("identity", split.drawable[0]))
    with pytest.raises(InputError, match=f"there are {len(split)}"):
        split.truth(a, b + len(split), split.drawable)
    with pytest.raises(InputError, match=re.escape("whole numbers (images,)")):
        split.truth(a, b[:3], split.drawable)


def test_images_that_cannot_be_drawn_say_so() -> None:
    rng = np.random.default_rng(0)
    data = from_arrays(rng.integers(0, 255, (12, 8, 8, 1), np.uint8), factors={"angle": np.arange(12.0)})
    assert data.test.drawable == ()
    with pytest.raises(InputError, match="another angle: none can be changed"):
        data.test.truth(torch.tensor([0]), torch.tensor([0]), ["angle"])
