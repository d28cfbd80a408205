"""What a batch accepts."""

from __future__ import annotations

import pytest
import torch

from pyro_disent.batch import Batch, Pairing
from pyro_disent.errors import InputError

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


def test_what_a_batch_says_is_shared_is_kept() -> None:
    own, other = torch.tensor([[True], [False], [True]]), torch.tensor([[False], [True], [True]])
    batch = Batch(IMAGES, {"z": own}).sharing({"z": other, "y": other})
    assert batch.shared["z"].equal(own) and batch.shared["y"].equal(other)


def test_factors_that_are_not_known_are_not_equal() -> None:
    values = torch.tensor([[1.0, float("nan"), 2.0], [1.0, float("nan"), 3.0]])
    assert Batch(IMAGES, factors={"a": values}).in_common().equal["a"].tolist() == [True, False, False]


def test_a_pairing_goes_along() -> None:
    equal = torch.tensor([True, False, True])
    batch = Batch(IMAGES, pairing=Pairing({"a": equal}, ("identity",), True))
    for moved in (batch.to(torch.float64), batch.to("meta")):
        assert moved.pairing is not None
        assert moved.pairing.always == ("identity",) and moved.pairing.rest_differs
        assert moved.pairing.equal["a"].device == moved.images.device
    assert batch.to(torch.float64).pairing.equal["a"].equal(equal)


def test_parts_of_a_batch_are_the_batch_in_everything_it_says() -> None:
    """Every field of a batch, so that a new one is not forgotten: several processes each take a part."""
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.rand(2, 4, 1, 2, 2, generator=generator),
        {"z": torch.tensor([True, False, True, True])},
        {"angle": torch.rand(2, 4, generator=generator)},
        Pairing({"angle": torch.tensor([False, True, True, False])}, ("identity",)),
        {"y": torch.rand(2, 4, 3, generator=generator)},
        torch.arange(8).reshape(2, 4),
    )
    first, second = (vars(batch.part(which)) for which in (slice(0, 1), slice(1, 4)))

    def joined(a: object, b: object, axis: int) -> object:
        if isinstance(a, dict):
            return {name: joined(a[name], b[name], axis) for name in a}  # type: ignore[index]
        return torch.cat([a, b], axis) if isinstance(a, torch.Tensor) else a  # type: ignore[list-item]

    for name, whole in vars(batch).items():
        if name == "counts":  # of all eight angles: the share that a part has of the images
            assert (first[name]["angle"], second[name]["angle"]) == (2, 6)
            continue
        if name == "pairing":
            equal = joined(dict(first[name].equal), dict(second[name].equal), 0)
            assert torch.equal(equal["angle"], whole.equal["angle"]) and first[name].always == whole.always  # type: ignore[index]
            continue
        got = joined(first[name], second[name], 0 if name == "shared" else 1)
        tensors = [(got[key], whole[key]) for key in whole] if isinstance(whole, dict) else [(got, whole)]  # type: ignore[index]
        assert tensors and all(torch.equal(mine, theirs) for mine, theirs in tensors), name  # type: ignore[arg-type]


def test_equal_parts_of_a_batch_count_the_values_that_the_whole_knows() -> None:
    angle = torch.tensor([[0.1, float("nan"), float("nan"), float("nan"), 0.2, 0.3]])
    batch = Batch(torch.rand(1, 6, 1, 2, 2), factors={"angle": angle, "size": angle * float("nan")})
    parts = batch.parts(3)
    assert torch.equal(torch.cat([part.factors["angle"] for part in parts], 1).nan_to_num(9), angle.nan_to_num(9))
    assert [part.counts["angle"].item() for part in parts] == [1, 1, 1]
    assert [half.counts["angle"].item() for half in parts[0].parts(2)] == [0.5, 0.5]
    assert parts[0].counts["size"].item() == pytest.approx(1 / 3)  # of at least one, so that nothing divides by zero
    assert batch.parts(1) == (batch,)
    for number in (4, 0, -1):
        with pytest.raises(InputError, match=f"6 images cannot be taken in {number} equal parts"):
            batch.parts(number)
