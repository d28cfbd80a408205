"""The images a figure is asked to show: test indices of a run's data set, or image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pyro_disent.data.dataset import DataSet, Images
from pyro_disent.data.image_files import read_image
from pyro_disent.errors import InputError


def images_named(
    names: Sequence[str],
    shape: tuple[int, int, int],
    load_data: Callable[[], DataSet],
    *,
    seed: int = 0,
    white: float | None = None,
    pad: bool = False,
) -> Tensor:
    """The images that a user named, ``(N, channels, height, width)``, uint8.

    Args:
        names: test indices from 0, or paths of image files; a whole number is always an index.
        shape: channels, height and width that the model takes.
        load_data: the run's data set; not called where every name is a file.
        seed: of how test images are seen (the evaluation's, so that an index is the image that was measured).
        white: the value of a white pixel in files, see `read_image`.
        pad: keep all of a file between black margins, as the images were that the model was trained on.

    Raises:
        InputError: for an index out of range, and a file that is missing or no image.
    """
    test = load_data().test.examples(seed).images if any(_is_index(name) for name in names) else None
    return torch.stack(
        [
            _from_file(Path(name), shape, white, pad) if test is None or not _is_index(name) else _at(test, int(name))
            for name in names
        ]
    )


def image_at(data: DataSet, index: int, *, seed: int = 0) -> Tensor:
    """One test image, ``(channels, height, width)``, uint8.

    Raises:
        InputError: for an index out of range.
    """
    return _at(data.test.examples(seed).images, index)


def _from_file(path: Path, shape: tuple[int, int, int], white: float | None, pad: bool) -> Tensor:
    """An image file as a model takes it, ``(channels, height, width)``, uint8."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"{path} cannot be shown to a model of images with {channels} channels: it needs 1 or 3")
    pixels = read_image(path, str(path), size=(height, width), channels=channels, white=white, pad=pad)
    return torch.from_numpy(pixels.copy())


def _is_index(name: str) -> bool:
    return name.lstrip("-").isdecimal()


def _at(images: Images, index: int) -> Tensor:
    if not 0 <= index < len(images):
        raise InputError(f"there is no test image {index}: indices run from 0 to {len(images) - 1}")
    return images[index].cpu()
