"""The images that a figure shows: test indices of a run's data set, image files, or images from Python."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.data.dataset import DataSet
from pyro_disent.data.images.decoding import read_image
from pyro_disent.errors import InputError
from pyro_disent.figures.naming import image_name
from pyro_disent.pixels import as_float, as_pixels, as_tensor, check_shape

Image = int | str | Path | Tensor | NDArray[Any]
"""A test image by its number, an image file, or an image."""


class Chosen(NamedTuple):
    """The images of a figure."""

    images: Tensor
    """``(N, channels, height, width)``, uint8; float in [0, 1] where floats were handed over."""
    names: list[tuple[str, ...]]
    """The name of each image, in parts."""


def images_named(
    images: Iterable[Image],
    shape: tuple[int, int, int],
    load_data: Callable[[], DataSet],
    *,
    seed: int = 0,
    white: float | None = None,
    pad: bool = False,
) -> Chosen:
    """The images that a user names or passes in.

    Args:
        images: test indices from 0, paths of image files (a text that is a whole number is always an index), or the
            images themselves, see `pyro_disent.pixels.as_pixels`.
        shape: channels, height and width that the model takes.
        load_data: loads the run's data set; called only if an index is among the images.
        seed: for how test images are seen (the evaluation's, so that an index is the image that was measured).
        white: the value of a white pixel in files, see `read_image`.
        pad: keep the whole image of a file, with black margins, if the model was trained on such images.

    Raises:
        InputError: for an index out of range, a file that is missing or is not an image, and images of another shape.
    """
    images = [as_index(image) for image in images]
    indices = [image for image in images if isinstance(image, int)]
    of_data = iter(list(zip(*images_at(load_data(), indices, seed=seed), strict=True)) if indices else [])
    file_names = _file_names({Path(image) for image in images if isinstance(image, str | Path)})
    named_images: list[tuple[Tensor, tuple[str, ...]]] = []
    for number, image in enumerate(images):
        if isinstance(image, int):
            named_images.append(next(of_data))
        elif isinstance(image, str | Path):
            path = Path(image)
            named_images.append((_from_file(path, shape, white, pad), (file_names[str(path)],)))
        else:
            named_images.append((_from_python(image, shape), (f"image {number}",)))
    tensors = [image for image, _ in named_images]
    if len({tensor.dtype for tensor in tensors}) > 1:
        tensors = [as_float(tensor) for tensor in tensors]
    return Chosen(torch.stack(tensors), [name for _, name in named_images])


def images_at(data: DataSet, indices: Sequence[int], *, seed: int = 0) -> Chosen:
    """Test images by their numbers, from 0.

    Raises:
        InputError: for an index out of range.
    """
    examples = data.test.examples(seed)
    for index in indices:
        if not 0 <= index < len(examples.images):
            raise InputError(f"there is no test image {index}: indices run from 0 to {len(examples.images) - 1}")
    images = torch.stack([examples.images[index].cpu() for index in indices])
    return Chosen(images, [image_name(data, data.test, examples, index) for index in indices])


def _from_file(path: Path, shape: tuple[int, int, int], white: float | None, pad: bool) -> Tensor:
    """An image file as a model takes it, ``(channels, height, width)``, uint8."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path} cannot be shown to a model of images with {channels} channels: it needs 1 or 3")
    pixels = read_image(path, str(path), size=(height, width), channels=channels, white=white, pad=pad)
    return torch.from_numpy(pixels.copy())


def _file_names(files: Set[Path]) -> dict[str, str]:
    """Path -> the file's name, with its folder's name in front where several files have the same name."""
    counts = Counter(path.name for path in files)
    return {str(path): path.name if counts[path.name] == 1 else "/".join(path.parts[-2:]) for path in files}


def as_index(image: Image) -> Image:
    """A whole number, however it is written, as an int; anything else as it is."""
    if isinstance(image, str):
        if not re.fullmatch(r"-?\d+", image):
            return image
        if len(image) > 18:  # Python reads no number of thousands of digits
            raise InputError(f"there is no test image {image[:18]}..., a number of {len(image)} characters")
        return int(image)
    number: Any = image.item() if isinstance(image, Tensor | np.ndarray) and image.ndim == 0 else image
    if isinstance(number, bool | float):
        raise InputError(f"{number} is no test index, which is a whole number")
    return int(number) if isinstance(number, Integral) else image


def _from_python(image: Any, shape: tuple[int, int, int]) -> Tensor:
    """An image from Python as a model takes it, uint8 or float."""
    pixels = as_tensor(image, "images")
    check_shape(tuple(pixels.shape), shape)
    return pixels.cpu() if pixels.dtype == torch.uint8 else as_pixels(pixels.cpu()).float()
