"""Images handed over from Python: arrays, tensors, and torch's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from pyro_disent.data import array_cache
from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.data.grouped import alone
from pyro_disent.data.splits import Column, Known, data_set
from pyro_disent.errors import InputError
from pyro_disent.pixels import how_to_scale

Values = Sequence[Any] | NDArray[Any] | Tensor
"""One value an image: a list, an array or a tensor, ``(images,)``."""
CHUNK = 4_096


class Items(Protocol):
    """A map-style data set: how many items there are, and each by its number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def as_data_set(data: DataSet | NDArray[Any] | Tensor | Dataset[Any]) -> DataSet:
    """A data set as it is; arrays and tensors by `from_arrays`, torch's data sets by `from_dataset`.

    Raises:
        InputError: for anything else, and as those.
    """
    if isinstance(data, DataSet):
        return data
    if isinstance(data, np.ndarray | Tensor):
        return from_arrays(data)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return from_dataset(cast(Items, data))
    raise InputError(
        "data is a data set's name, a folder, a DataSet, a NumPy array or tensor of images, or a torch Dataset with a "
        f"length, not {type(data).__name__}"
    )


def from_arrays(
    images: NDArray[Any] | Tensor,
    *,
    identity: Values | None = None,
    factors: Mapping[str, Values] | None = None,
    labels: Mapping[str, Values] | None = None,
    seed: int = 0,
    name: str = "given",
) -> DataSet:
    """A data set of images in memory, split by identity as a folder's are (see `pyro_disent.data.splits.data_set`).

    Of four axes the channels are the one after the images or the last, whichever has length 1 or 3; three axes are grey
    images. Pixels are kept as bytes: floats are rounded to the next of 256 values, True is white.

    Args:
        images: ``(images, height, width)``, ``(images, channels, height, width)`` or ``(images, height, width,
            channels)``; uint8, float in [0, 1], or bool.
        identity: whole numbers or texts, ``(images,)``: two images of one identity are a pair and share everything but
            ``y``. None: there are no pairs.
        factors: factor's name -> numbers, NaN where not known, or texts, None or blank where not known: ``(images,)``.
        labels: label's name -> whole numbers, ``(images,)``: what a good ``z`` should know.
        seed: of the split.
        name: what the data set is called in a run's folder.

    Raises:
        InputError: for images of another shape or type or with pixels out of range, values that are not one an image,
            an identity of a single image, and fewer than 3 identities.
    """
    return _data_set(_pixels(_numpy(images)), identity, factors, labels, seed, name)


def from_dataset(
    dataset: Items,
    *,
    identity: Values | str | None = None,
    factors: Mapping[str, Values] | None = None,
    labels: Mapping[str, Values] | None = None,
    seed: int = 0,
    name: str = "given",
) -> DataSet:
    """A data set of all items of a map-style data set, each read once: random transforms are drawn once.

    Args:
        dataset: its items are an image, or an image and a label. Images are tensors or arrays as `from_arrays` takes
            them, without the first axis, or Pillow's of mode ``L``, ``RGB`` or ``1``, all of one shape. Whole numbers
            become the label ``label``.
        identity: as `from_arrays` takes it, or ``"label"``: the items' labels, whole numbers or texts.
        factors, labels, seed, name: see `from_arrays`.

    Raises:
        InputError: as `from_arrays`, for items that are no such images, and labels of another kind.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(f"a {type(dataset).__name__} has no items by number: a map-style data set is needed")
    count = len(dataset)
    if count == 0:
        raise InputError("the data set has no items")
    pixels = np.empty(0, np.uint8)
    given: list[Any] = []
    for number in range(count):
        item = dataset[number]
        parts = item if isinstance(item, tuple | list) else (item,)
        if not 1 <= len(parts) <= 2:
            raise InputError(f"item {number} has {len(parts)} parts: an image, or an image and a label, are understood")
        image, *label = parts
        one = _one_image(image, f"item {number}")
        if number == 0:
            pixels = np.empty((count, *one.shape), np.uint8)
        if one.shape != pixels.shape[1:]:
            raise InputError(
                f"item {number} has shape {one.shape} (channels, height, width), but item 0 has {pixels.shape[1:]}: "
                "all must be equal"
            )
        pixels[number] = one
        given += label
    if given and len(given) < count:
        raise InputError(f"{count - len(given)} of {count} items have no label, but others do")
    labels = dict(labels or {})
    if isinstance(identity, str):
        if identity != "label" or not given:
            raise InputError(
                f"identity={identity!r}: give one value an item, or 'label' where items are an image and its label"
            )
        identity = [_plain(label) for label in given]
    elif given:
        if "label" in labels:
            raise InputError("the items have labels of their own: call the other one something else than 'label'")
        labels["label"] = [_plain(label) for label in given]
    return _data_set(pixels, identity, factors, labels, seed, name)


def _data_set(
    pixels: NDArray[np.uint8],
    identity: Values | None,
    factors: Mapping[str, Values] | None,
    labels: Mapping[str, Values] | None,
    seed: int,
    name: str,
) -> DataSet:
    if not name or "/" in name or "\\" in name:
        raise InputError(f"name={name!r} cannot be part of a file's name")
    count = len(pixels)
    known = Known(
        count,
        None if identity is None else _identities(identity, count),
        {key: _column(values, f"factor {key!r}", count) for key, values in (factors or {}).items()},
        {key: _label(values, key, count) for key, values in (labels or {}).items()},
    )
    sha256 = array_cache.digest({**known.arrays(), "images": pixels})
    return data_set(
        name,
        lambda rows: torch.from_numpy(pixels[rows]),
        known,
        names=lambda rows: [f"image {row}" for row in rows.tolist()],
        identities="images" if identity is None else "identities",
        seed=seed,
        limit=None,
        source=Source("given", f"{count} images from Python{known.no_factors()}", sha256),
        options={},
    )


def _numpy(values: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(values, Tensor):
        # NumPy has no bfloat16.
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy(force=True)
    if not isinstance(values, np.ndarray):
        raise InputError(f"images are a NumPy array or a tensor, not {type(values).__name__}")
    return values


def _one_image(image: Any, label: str) -> NDArray[np.uint8]:
    """An item's image as bytes, ``(channels, height, width)``."""
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB", "1"):
            raise InputError(f"{label} is an image of mode {image.mode}: convert it to L or RGB")
        image = np.asarray(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise InputError(f"{label} is no image: tensors, arrays and Pillow's images are, not {type(image).__name__}")
    return _pixels(_numpy(image)[None], label)[0]


def _pixels(images: NDArray[Any], label: str | None = None) -> NDArray[np.uint8]:
    """Images as bytes, ``(images, channels, height, width)``; ``label`` is what messages call a single one."""
    images = _channels_first(images, label)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind not in "bf":
        raise InputError(
            f"{label or 'images'} of type {images.dtype}: pixels are uint8 in 0 to 255, floats in [0, 1], or bool"
        )
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        outside = ~((part >= 0) & (part <= 1))  # as NaN is
        if outside.any():
            raise InputError(_out_of_range(images, start + int(np.argwhere(outside)[0, 0]), part[outside][0], label))
        pixels[start : start + CHUNK] = (part.astype(np.float32) * 255).round()
    return pixels


def _out_of_range(images: NDArray[Any], number: int, value: Any, label: str | None) -> str:
    """What to say of the first pixel that is not in [0, 1]."""
    said = f"{label or f'image {number}'} has a pixel of {value}: floats must be in [0, 1], and"
    finite = np.isfinite(images)
    if not finite.all():
        return f"{said} {(~finite).sum()} pixels are no finite numbers at all"
    low, high = float(images.min()), float(images.max())
    return f"{said} these go from {low:g} to {high:g}: {how_to_scale(low, high)}"


def _channels_first(images: NDArray[Any], label: str | None) -> NDArray[Any]:
    shape = images.shape[label is not None :]
    what = f"{label or 'images'} of shape {shape}"
    if images.size == 0:
        raise InputError(f"{what}: there is not a single pixel")
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.ndim == 4 and images.shape[axis] in (1, 3) for axis in (1, -1))
    if first and last:
        raise InputError(f"{what}: the channels may be one axis or the other, so give (images, height, width) instead")
    if not first and not last:
        raise InputError(
            f"{what}: they are (images, height, width), or have 1 or 3 channels on the second or on the last of four "
            "axes"
        )
    return images if first else np.moveaxis(images, -1, 1)


def _plain(label: Any) -> Any:
    """A label as Python or NumPy writes it, where it is a tensor or array of a single value."""
    return label.item() if isinstance(label, Tensor | np.ndarray) and label.ndim == 0 else label


def _one_each(values: Values, label: str, count: int) -> NDArray[Any]:
    try:
        array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise InputError(f"{label} is not one value an image: {error}") from error
    if array.shape != (count,):
        raise InputError(f"{label} has shape {array.shape}: one value for each of {count} images is needed")
    return array


def _identities(values: Values, count: int) -> NDArray[np.int64]:
    array = _one_each(values, "identity", count)
    texts = _texts(array)
    if texts is not None:
        if None in texts:
            raise InputError(f"image {texts.index(None)} has a blank identity")
        array = np.array(texts)
    if array.dtype.kind not in "iuU":
        raise InputError(f"identity is of type {array.dtype}: whole numbers or texts are needed")
    names, identity = np.unique(array, return_inverse=True)
    if len(lonely := alone([torch.from_numpy(identity)])):
        first = int(lonely[0])
        more = f", and {len(lonely) - 1} more likewise" if len(lonely) > 1 else ""
        raise InputError(
            f"identity {names[identity[first]]} has image {first} only, and a pair needs two{more}: leave such images "
            "out, or give no identity"
        )
    return identity.astype(np.int64)


def _column(values: Values, label: str, count: int) -> Column:
    array = _one_each(values, label, count)
    texts = _texts(array)
    if texts is not None:
        return Column.of_texts(texts)
    if array.dtype == object:
        try:
            array = np.array([np.nan if value is None else value for value in array], np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{label} mixes kinds of values: numbers alone or texts alone are needed") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{label} is of type {array.dtype}: numbers or texts are needed")
    return Column.of_numbers(array, label)


def _label(values: Values, name: str, count: int) -> NDArray[np.int64]:
    if name == "identity":
        raise InputError("the label 'identity' is made of identity: give it as that, so that it is split by")
    array = _one_each(values, f"label {name!r}", count)
    if array.dtype.kind not in "biu":
        raise InputError(f"label {name!r} is of type {array.dtype}: whole numbers are needed")
    return array.astype(np.int64)


def _texts(array: NDArray[Any]) -> list[str | None] | None:
    """The texts of an array, None where blank or missing; None where it does not hold texts alone."""
    if array.dtype.kind not in "UTO":
        return None
    values: Iterable[Any] = array.tolist()
    known = [None if value is None or value != value or value == "" else value for value in values]
    if not all(isinstance(value, str) for value in known if value is not None):
        return None
    return known if array.dtype != object or any(value is not None for value in known) else None
