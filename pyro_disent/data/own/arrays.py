"""Images handed over from Python: arrays, tensors, and torch's data sets."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.data.grouped import alone
from pyro_disent.data.images import array_cache
from pyro_disent.data.images.pixel_range import as_bytes, check_white
from pyro_disent.data.own.columns import Column, check_kinds, column, identity_column
from pyro_disent.data.own.splits import IDENTITY, Facts, data_set
from pyro_disent.data.own.values import is_missing
from pyro_disent.errors import InputError
from pyro_disent.pixels import check_dense, how_to_scale

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
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
    test_share: float | None = None,
    pair_by: Sequence[str] = (IDENTITY,),
) -> DataSet:
    """A data set of images in memory, split by identity as a folder's are (see `splits.data_set`).

    With four axes the channels are the second or the last one, whichever has length 1 or 3; three axes are grey images.
    Pixels are stored as bytes: floats are rounded to the nearest of 256 values, True is white.

    Args:
        images: ``(images, height, width)``, ``(images, channels, height, width)`` or ``(images, height, width,
            channels)``; uint8, float in [0, 1], or bool; with ``white`` any whole numbers and floats.
        identity: whole numbers or texts, ``(images,)``: two images of one identity are a pair and share everything but
            ``y``. None: there are no pairs.
        factors: factor's name -> numbers or texts, ``(images,)``. None, NaN, masked values, ``pandas.NA`` and the texts
            of `values.MISSING` are missing values.
        labels: label's name -> whole numbers, ``(images,)``: what a good ``z`` should know.
        seed: of the split.
        name: what the data set is called in a run's folder.
        kinds: factor's name, or ``identity`` -> its kind, see `columns`; other factors are as their values are.
        white: the value of a white pixel, where black is 0.
        pair_by: what images of a pair have in common: ``("identity", "light")`` makes two kinds of pairs, in turn.
        test_share: share of the identities for testing; None: a tenth.

    Raises:
        InputError: for images of another shape or type or with pixels out of range, a number of values that is not that
            of the images, an identity of a single image, and fewer than 3 identities.
    """
    check_white(white)
    return _data_set(
        _pixels(_numpy(images), white=white), identity, factors, labels, seed, name, kinds, test_share, pair_by
    )


def from_dataset(
    dataset: Items,
    *,
    identity: Values | str | None = None,
    factors: Mapping[str, Values] | None = None,
    labels: Mapping[str, Values] | None = None,
    seed: int = 0,
    name: str = "given",
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
    test_share: float | None = None,
    pair_by: Sequence[str] = (IDENTITY,),
) -> DataSet:
    """A data set of all items of a map-style data set, each read once: random transforms are drawn once.

    Args:
        dataset: its items are an image, or an image and a label. Images are tensors or arrays as `from_arrays` takes
            them, without the first axis, or Pillow's of mode ``L``, ``RGB`` or ``1``, with ``white`` also of 16 and 32
            bits, all of one shape. Whole numbers become the label ``label``.
        identity: as `from_arrays` takes it, or ``"label"``: the items' labels, whole numbers or texts.
        factors, labels, seed, name, kinds, white, test_share, pair_by: see `from_arrays`.

    Raises:
        InputError: as `from_arrays`, and for items that are not such images, and labels of another kind.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(f"a {type(dataset).__name__} has no items by number: a map-style data set is needed")
    check_white(white)
    count = len(dataset)
    if count == 0:
        raise InputError("the data set has no items")
    pixels = np.empty(0, np.uint8)
    item_labels: list[Any] = []
    for number in range(count):
        item = dataset[number]
        parts = item if isinstance(item, tuple | list) else (item,)
        if not 1 <= len(parts) <= 2:
            raise InputError(f"item {number} has {len(parts)} parts: an image, or an image and a label, are understood")
        image, *label = parts
        one = _one_image(image, f"item {number}", white)
        if number == 0:
            pixels = np.empty((count, *one.shape), np.uint8)
        if one.shape != pixels.shape[1:]:
            raise InputError(
                f"item {number} has shape {one.shape} (channels, height, width), but item 0 has {pixels.shape[1:]}: "
                "all must be equal"
            )
        pixels[number] = one
        item_labels += label
    if item_labels and len(item_labels) < count:
        raise InputError(f"{count - len(item_labels)} of {count} items have no label, but others do")
    labels = {} if labels is None else dict(labels.items())
    if isinstance(identity, str):
        if identity != "label" or not item_labels:
            raise InputError(
                f"identity={identity!r}: give one value an item, or 'label' where items are an image and its label"
            )
        identity = [_plain(label) for label in item_labels]
    elif item_labels:
        if "label" in labels:
            raise InputError("the items have labels of their own: call the other one something else than 'label'")
        labels["label"] = [_plain(label) for label in item_labels]
    return _data_set(pixels, identity, factors, labels, seed, name, kinds, test_share, pair_by)


def _data_set(
    pixels: NDArray[np.uint8],
    identity: Values | None,
    factors: Mapping[str, Values] | None,
    labels: Mapping[str, Values] | None,
    seed: int,
    name: str,
    kinds: Mapping[str, str] | None,
    test_share: float | None,
    pair_by: Sequence[str],
) -> DataSet:
    kinds = {} if kinds is None else kinds
    factors = {} if factors is None else factors  # a DataFrame is neither true nor false
    check_kinds(kinds, [*([] if identity is None else ["identity"]), *factors], "what was given")
    if not name or "/" in name or "\\" in name:
        raise InputError(f"name={name!r} cannot be part of a file's name")
    count = len(pixels)
    who, about = (None, "") if identity is None else _identities(identity, count, kinds.get("identity"))
    facts = Facts(
        count,
        None if who is None else who.codes,
        {
            key: column(_one_each(values, f"factor {key!r}", count), key, f"factor {key!r}", _image, kinds.get(key))
            for key, values in factors.items()
        },
        {key: _label(values, key, count) for key, values in ({} if labels is None else labels).items()},
        about=about,
        notes=() if who is None else who.notes,
        pair_by=_kinds_of_pairs(pair_by, who is not None),
    )
    sha256 = array_cache.digest({**facts.arrays(), "images": pixels})
    return data_set(
        name,
        lambda rows: torch.from_numpy(pixels[rows]),
        facts,
        names=lambda rows: [f"image {row}" for row in rows.tolist()],
        identities="images" if identity is None else "identities",
        seed=seed,
        limit=None,
        source=Source("given", f"{count} images from Python{facts.no_factors()}", sha256),
        options={},
        test_share=test_share,
    )


def _kinds_of_pairs(names: Sequence[str], has_identity: bool) -> tuple[str, ...]:
    names = tuple(names)
    if isinstance(names, str) or names[:1] != (IDENTITY,) or len(set(names)) < len(names):
        raise InputError(f"pair_by={names!r} names kinds of pairs, each once: {IDENTITY!r} first, then factors")
    if len(names) > 1 and not has_identity:
        raise InputError(f"pair_by={names!r} needs an identity, by which images are split")
    return names


def _numpy(values: NDArray[Any] | Tensor) -> NDArray[Any]:
    check_dense(values, "images")
    if isinstance(values, Tensor):
        # NumPy has no bfloat16.
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy(force=True)
    if not isinstance(values, np.ndarray):
        raise InputError(f"images are a NumPy array or a tensor, not {type(values).__name__}")
    return values


def _one_image(image: Any, label: str, white: float | None) -> NDArray[np.uint8]:
    """An item's image as bytes, ``(channels, height, width)``."""
    if isinstance(image, Image.Image):
        deep = image.mode[0] in "IF"
        if deep and white is None:
            raise InputError(f"{label} is an image of mode {image.mode}, of no known range: say which value is white")
        if image.mode not in ("L", "RGB", "1") and not deep:
            raise InputError(f"{label} is an image of mode {image.mode}: convert it to L or RGB")
        image = np.asarray(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise InputError(f"{label} is no image: tensors, arrays and Pillow's images are, not {type(image).__name__}")
    return _pixels(_numpy(image)[None], label, white)[0]


def _pixels(images: NDArray[Any], label: str | None = None, white: float | None = None) -> NDArray[np.uint8]:
    """Images as bytes, ``(images, channels, height, width)``; ``label`` is what messages call a single one."""
    images = _channels_first(images, label)
    if images.dtype == np.uint8 and white is None:
        return np.ascontiguousarray(images)
    if images.dtype.kind not in ("bf" if white is None else "biuf"):
        raise InputError(
            f"{label or 'images'} of type {images.dtype}: pixels are uint8 in 0 to 255, floats in [0, 1], or bool, or "
            "whole numbers from 0 to `white=N`"
        )
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        if white is not None:
            pixels[start : start + CHUNK] = as_bytes(part, white, partial(_name_of, label, start))
            continue
        outside = ~((part >= 0) & (part <= 1))  # as NaN is
        if outside.any():
            raise InputError(_out_of_range(images, start + int(np.argwhere(outside)[0, 0]), part[outside][0], label))
        pixels[start : start + CHUNK] = (part.astype(np.float32) * 255).round()
    return pixels


def _out_of_range(images: NDArray[Any], number: int, value: Any, label: str | None) -> str:
    """The error about the first pixel that is not in [0, 1]."""
    sentence = f"{label or f'image {number}'} has a pixel of {value}: floats must be in [0, 1], and"
    finite = np.isfinite(images)
    if not finite.all():
        return f"{sentence} {(~finite).sum()} pixels are no finite numbers at all"
    low, high = float(images.min()), float(images.max())
    return f"{sentence} these go from {low:g} to {high:g}: {how_to_scale(low, high)}"


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
    if label is np.ma.masked:  # an array of a single 0 otherwise
        return None
    return label.item() if isinstance(label, Tensor | np.ndarray) and label.ndim == 0 else label


def _one_each(values: Values, label: str, count: int) -> NDArray[Any]:
    """One value an image: numbers as NumPy has them, texts, or objects."""
    try:
        if isinstance(values, Tensor):
            array = _numpy(values)
        elif isinstance(values, np.ma.MaskedArray):
            array = values.data.astype(object)
            array[np.ma.getmaskarray(values)] = None
        elif isinstance(values, list | tuple):  # NumPy would turn numbers beside texts into texts
            array = np.empty(len(values), object)
            array[:] = [_plain(value) for value in values]
        else:  # an array, or something that converts to one, such as a pandas series
            array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{label} is not one value an image: {error}") from error
    if array.shape != (count,):
        raise InputError(f"{label} has shape {array.shape}: one value for each of {count} images is needed")
    if array.dtype.kind not in "biufUTO":
        raise InputError(f"{label} is of type {array.dtype}: numbers or texts are needed")
    return array


def _image(place: int) -> str:
    return f"image {place}"


def _name_of(label: str | None, start: int, place: int) -> str:
    return label or _image(start + place)


def _identities(values: Values, count: int, kind: str | None) -> tuple[Column, str]:
    array = _one_each(values, "identity", count)
    members, about = identity_column(array, "identity", "identity", _image, kind)
    if len(unknown := np.flatnonzero(members.codes < 0)):
        raise InputError(f"image {unknown[0]} has a blank identity ({array[unknown[0]]!r}): leave such images out")
    measures = [value for value in array if isinstance(value, numbers.Real) and value % 1 != 0]
    if measures and kind is None:
        raise InputError(f"identity holds {measures[0]}: whole numbers or texts are needed")
    if len(lonely := alone([torch.from_numpy(members.codes)])):
        first = int(lonely[0])
        rest = f", and {len(lonely) - 1} more likewise" if len(lonely) > 1 else ""
        raise InputError(
            f"identity {members.names[members.codes[first]]} has image {first} only, and a pair needs two{rest}: leave "
            "such images out, or give no identity"
        )
    return members, about


def _label(values: Values, name: str, count: int) -> NDArray[np.int64]:
    if name == "identity":
        raise InputError("the label 'identity' is made of identity: give it as that, so that it is split by")
    label = f"label {name!r}"
    array = _one_each(values, label, count)
    if array.dtype == object:
        for place, value in enumerate(array):
            if not isinstance(value, numbers.Integral | np.bool_):
                is_none = is_missing(value)
                what = f"none ({value!r})" if is_none else repr(value) if np.ndim(value) == 0 else "several values"
                raise InputError(f"{label}: image {place} has {what}: whole numbers are needed, one for every image")
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise InputError(f"{label} is of type {array.dtype}: whole numbers are needed")
    return array.astype(np.int64)
