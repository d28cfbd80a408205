"""Items of a PyTorch data set become images, labels and identities, or are refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from pyro_disent import from_arrays, from_dataset
from pyro_disent.data.own.arrays import as_data_set
from pyro_disent.errors import InputError
from tests.arrays import IDS, found, images, in_order, splits


class Items(Dataset[Any]):
    """A map-style data set as users write them."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def pillow() -> list[Image.Image]:
    return [Image.fromarray(np.moveaxis(image, 0, -1)) for image in images()]


@pytest.mark.parametrize(
    "items",
    [
        pillow(),
        list(images()),
        [np.moveaxis(image, 0, -1) for image in images()],
        list(torch.from_numpy(images()).float() / 255),
        [(image,) for image in images()],
        [[image, 0] for image in pillow()],
        [(image, torch.tensor(3)) for image in images()],
        [(image, np.int16(3)) for image in images()],
    ],
    ids=["Pillow", "CHW", "HWC", "tensors", "tuples of one", "lists", "tensor labels", "NumPy labels"],
)
def test_items_of_every_kind_become_the_images(items: list[Any]) -> None:
    data = from_dataset(Items(items))
    assert torch.equal(in_order(data), torch.from_numpy(images()))
    assert set(data.train.labels) == ({"label"} if isinstance(items[0], tuple | list) and len(items[0]) > 1 else set())


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_images_of_pillow_have_one_channel(mode: str) -> None:
    given = [image.convert("L").convert(mode) for image in pillow()]
    data = from_dataset(Items(given))
    assert data.image_shape == (1, 9, 8)
    expected = sorted(np.asarray(image.convert("L")).tobytes() for image in given)
    assert sorted(i.numpy().tobytes() for split in splits(data).values() for i in split.images[:]) == expected


def test_labels_of_items_are_labels_unless_they_are_said_to_be_the_identity() -> None:
    tensors = TensorDataset(torch.from_numpy(images()), torch.from_numpy(IDS))
    data = from_dataset(tensors)
    assert data.train.labels["label"].tolist() == [i // 3 for i in found(data.train)]
    with pytest.raises(InputError, match="no pairs"):
        data.train.batch(torch.arange(2), torch.Generator())
    paired = from_dataset(tensors, identity="label")
    assert paired.train.labels.keys() == {"identity"}
    named = from_dataset(Items([(image, f"p{i}") for image, i in zip(images(), IDS, strict=True)]), identity="label")
    assert named.train.batch(torch.arange(2), torch.Generator()).views == 2
    assert len(from_dataset(Subset(tensors, range(9)), identity=IDS[:9]).train) == 3
    assert len(from_dataset(ConcatDataset([tensors, tensors])).train) == 58


BAD_ITEMS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": ([], {}, "the data set has no items"),
    "texts": (["a", "b"], {}, "item 0 is no image: .* not str"),
    "dictionaries": ([{"image": 1}] * 3, {}, "item 0 is no image: .* not dict"),
    "three parts": ([(images()[0], 1, 2)], {}, "item 0 has 3 parts"),
    "no part": ([()], {}, "item 0 has 0 parts"),
    "two sizes": ([images()[0], images(1, 9, 9)[0]], {}, r"item 1 has shape \(3, 9, 9\).* item 0 has \(3, 9, 8\)"),
    "out of range": ([np.full((8, 8), 2.0)] * 3, {}, "item 0 has a pixel of 2.0"),
    "a layer": ([np.zeros((8, 8, 2), np.uint8)] * 3, {}, r"item 0 of shape \(8, 8, 2\)"),
    "CMYK": ([Image.new("CMYK", (8, 8))] * 3, {}, "item 0 is an image of mode CMYK: convert it to L or RGB"),
    "some labels": ([(images()[0], 1), (images()[1],)], {}, "1 of 2 items have no label"),
    "measures": ([(image, 0.5) for image in images()], {}, "label 'label': image 0 has 0.5: whole numbers"),
    "attributes": ([(image, torch.zeros(40)) for image in images()], {}, "label 'label': image 0 has several values"),
    "no labels": (list(images()), {"identity": "label"}, "identity='label': give one value an item, or 'label'"),
    "another": ([(image, 1) for image in images()], {"identity": "person"}, "identity='person'"),
    "taken": ([(image, 1) for image in images()], {"labels": {"label": IDS}}, "labels of their own"),
}


@pytest.mark.parametrize(("items", "options", "says"), BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_items_that_are_none_are_refused(items: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_dataset(Items(items), **options)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield images()[0]


def test_whatever_can_be_trained_on_becomes_a_data_set() -> None:
    data = from_arrays(images())
    assert as_data_set(data) is data
    assert torch.equal(in_order(as_data_set(images())), in_order(data))
    assert torch.equal(in_order(as_data_set(torch.from_numpy(images()))), in_order(data))
    assert torch.equal(in_order(as_data_set(Items(pillow()))), in_order(data))
    for other in (Endless(), [images()], {"images": images()}, None):
        with pytest.raises(InputError, match=f"not {type(other).__name__}"):
            as_data_set(other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Endless has no items by number"):
        from_dataset(Endless())  # type: ignore[arg-type]
