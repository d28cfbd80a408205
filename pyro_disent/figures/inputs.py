"""The images a figure is asked to show: test indices of a run's data set, image files, or images from Python."""

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
from pyro_disent.figures.naming import named
from pyro_disent.pixels import as_float, as_pixels, as_tensor, check_shape

Image = int | str | Path | Tensor | NDArray[Any]
"""A test image by its number, an image file, or an image."""


class Chosen(NamedTuple):
    """The images of a figure."""

    images: Tensor
    """``(N, channels, height, width)``, uint8; float in [0, 1] where floats were handed over."""
    names: list[tuple[str, ...]]
    """What each is called, in parts."""


def images_named(
    images: Iterable[Image],
    shape: tuple[int, int, int],
    load_data: Callable[[], DataSet],
    *,
    seed: int = 0,
    white: float | None = None,
    pad: bool = False,
) -> Chosen:
    """The images that a user named or hands over.

    Args:
        images: test indices from 0, paths of image files (a text that is a whole number is always an index), or the
            images themselves, see `pyro_disent.pixels.as_pixels`.
        shape: channels, height and width that the model takes.
        load_data: the run's data set; not called where no index is among them.
        seed: of how test images are seen (the evaluation's, so that an index is the image that was measured).
        white: the value of a white pixel in files, see `read_image`.
        pad: keep all of a file between black margins, as the images were that the model was trained on.

    Raises:
        InputError: for an index out of range, a file that is missing or no image, and images of another shape.
    """
    images = [as_index(image) for image in images]
    indices = [image for image in images if isinstance(image, int)]
    of_data = iter(list(zip(*images_at(load_data(), indices, seed=seed), strict=True)) if indices else [])
    called = _called({Path(image) for image in images if isinstance(image, str | Path)})
    chosen: list[tuple[Tensor, tuple[str, ...]]] = []
    for number, image in enumerate(images):
        if isinstance(image, int):
            chosen.append(next(of_data))
        elif isinstance(image, str | Path):
            path = Path(image)
            chosen.append((_from_file(path, shape, white, pad), (called[str(path)],)))
        else:
            chosen.append((_handed_over(image, shape), (f"image {number}",)))
    found = [image for image, _ in chosen]
    if len({image.dtype for image in found}) > 1:
        found = [as_float(image) for image in found]
    return Chosen(torch.stack(found), [name for _, name in chosen])


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
    return Chosen(images, [named(data, data.test, examples, index) for index in indices])


def _from_file(path: Path, shape: tuple[int, int, int], white: float | None, pad: bool) -> Tensor:
    """An image file as a model takes it, ``(channels, height, width)``, uint8."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path} cannot be shown to a model of images with {channels} channels: it needs 1 or 3")
    pixels = read_image(path, str(path), size=(height, width), channels=channels, white=white, pad=pad)
    return torch.from_numpy(pixels.copy())


def _called(files: Set[Path]) -> dict[str, str]:
    """Path -> what a file is called: its name, with its folder's where files of several folders have it."""
    often = Counter(path.name for path in files)
    return {str(path): path.name if often[path.name] == 1 else "/".join(path.parts[-2:]) for path in files}


def as_index(image: Image) -> Image:
    """A whole number, however it is written, as an int; anything else as it is."""
    if isinstance(image, str):
        return int(image) if re.fullmatch(r"-?\d+", image) else image
    number: Any = image.item() if isinstance(image, Tensor | np.ndarray) and image.ndim == 0 else image
    if isinstance(number, bool | float):
        raise InputError(f"{number} is no test index, which is a whole number")
    return int(number) if isinstance(number, Integral) else image


def _handed_over(image: Any, shape: tuple[int, int, int]) -> Tensor:
    """An image from Python as a model takes it, uint8 or float."""
    pixels = as_tensor(image, "images")
    check_shape(tuple(pixels.shape), shape)
    return pixels.cpu() if pixels.dtype == torch.uint8 else as_pixels(pixels.cpu()).float()
