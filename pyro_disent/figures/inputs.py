"""The images a figure is asked to show: test indices of a run's data set, or image files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_disent.data.dataset import DataSet
from pyro_disent.data.image_files import read_image
from pyro_disent.errors import InputError
from pyro_disent.figures.naming import named


class Chosen(NamedTuple):
    """The images of a figure."""

    images: Tensor
    """``(N, channels, height, width)``, uint8."""
    names: list[tuple[str, ...]]
    """What each is called, in parts."""


def images_named(
    names: Sequence[str],
    shape: tuple[int, int, int],
    load_data: Callable[[], DataSet],
    *,
    seed: int = 0,
    white: float | None = None,
    pad: bool = False,
) -> Chosen:
    """The images that a user named.

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
    indices = [int(name) for name in names if _is_index(name)]
    of_data = iter(list(zip(*images_at(load_data(), indices, seed=seed), strict=True)) if indices else [])
    called = _called({Path(name) for name in names if not _is_index(name)})
    chosen = [
        next(of_data) if _is_index(name) else (_from_file(Path(name), shape, white, pad), (called[str(Path(name))],))
        for name in names
    ]
    return Chosen(torch.stack([image for image, _ in chosen]), [name for _, name in chosen])


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


def _is_index(name: str) -> bool:
    return name.lstrip("-").isdecimal()
