"""What a batch accepts, and the one rule of what a pair shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_disent.batch import Batch, shared_latents

IMAGES = torch.zeros(2, 3, 1, 2, 2)


@pytest.mark.parametrize(
    "mask",
    [True, torch.tensor(True), torch.ones(3, dtype=torch.bool), torch.ones(3, 1, dtype=torch.bool)],
    ids=["bool", "0-d", "per image", "column"],
)
def test_sensible_masks_become_one_column(mask: torch.Tensor | bool) -> None:
    shared = Batch(IMAGES, {"z": mask}).shared["z"]
    assert shared.shape == (3, 1) and shared.dtype == torch.bool and shared.all()


def test_a_mask_per_unit_is_kept() -> None:
    mask = torch.tensor([[True, False]] * 3)
    assert Batch(IMAGES, {"z": mask}).shared["z"] is mask


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (torch.ones(5, dtype=torch.bool), "with|images"),
        (torch.ones(3), "bool"),
        (torch.ones(3, 2, 1, dtype=torch.bool), "images"),
        (torch.ones(1, 5, dtype=torch.bool), "images"),
    ],
    ids=["units alone", "not bool", "three axes", "one row"],
)
def test_other_masks_are_refused_by_name(mask: torch.Tensor, why: str) -> None:
    with pytest.raises(ValueError, match=f"'z'.*({why})"):
        Batch(IMAGES, {"z": mask})


@pytest.mark.parametrize("shape", [(3, 1, 2, 2), (3, 3, 1, 2, 2)])
def test_images_need_one_or_two_views(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one or two views"):
        Batch(torch.zeros(shape))


def test_factors_speak_of_every_view() -> None:
    with pytest.raises(ValueError, match="'angle'"):
        Batch(IMAGES, factors={"angle": torch.zeros(3)})


def test_a_tensor_of_images_is_one_view() -> None:
    assert Batch.of(torch.zeros(3, 1, 2, 2)).images.shape == (1, 3, 1, 2, 2)
    batch = Batch(IMAGES)
    assert Batch.of(batch) is batch


FACTORS = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4)


@given(factors=FACTORS, own=FACTORS, bits=st.lists(st.booleans(), min_size=12, max_size=12))
def test_what_is_shared(factors: list[str], own: list[str], bits: list[bool]) -> None:
    values = torch.tensor(bits).reshape(4, 3)
    equal = {name: values[index] for index, name in enumerate(factors)}
    shared = shared_latents(equal, {"z": (), "y": (), **dict.fromkeys(own, ())}, IMAGES)
    assert all(mask.shape == (3, 1) for mask in shared.values())
    assert shared["z"].all()
    for image in range(3):
        rest = [bool(equal[name][image]) for name in factors if name not in own]
        assert shared["y"][image].item() == (bool(rest) and all(rest))
        for name in own:
            expected = bool(equal[name][image]) if name in factors else True
            assert shared[name][image].item() == expected


def test_units_named_after_factors() -> None:
    equal = {"hat": torch.tensor([True, False, True]), "male": torch.tensor([False, False, True])}
    shared = shared_latents(equal, {"z": ("hat", "male", "unknown"), "y": ()}, IMAGES)
    assert shared["z"].tolist() == [[True, False, True], [False, False, True], [True, True, True]]
    assert not shared["y"].any()


def test_sharing_reads_the_factors() -> None:
    batch = Batch(IMAGES, factors={"zoom": torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.5, 3.0]])})
    assert batch.sharing({"z": (), "zoom": ()}).shared["zoom"].squeeze(1).tolist() == [True, False, True]
    assert Batch(IMAGES[:1]).sharing({"z": ()}).shared == {}
