"""Many images, some at a time, from files or from a data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.data.dataset import DataSet
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.headers import Header, header
from pyro_disent.data.own.listing import listed, shown
from pyro_disent.data.sources import Progress
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError
from pyro_disent.pixels import ImageShape

PART = 256
"""Images that are in memory at once."""


class Part(NamedTuple):
    """Some images."""

    names: list[str]
    images: Tensor
    """``(images, channels, height, width)``, uint8."""


class Files:
    """Image files in `Part`s; iterating decodes them and resizes them to the model's size.

    Args:
        path: an image file, or a folder: then all images below it, whatever its layout, except files whose names begin
            with a dot and pictures that this program wrote.
        shape: channels, height, width that the model takes.
        white, pad: as in `read_image`; take the values that the model's training images were read with.
        skip_bad: leave out files that cannot be read, and list them in ``skipped``.
        progress: called with (files done, files in all).

    Raises:
        InputError: for a folder without images, a model that does not take 1 or 3 channels, and, unless ``skip_bad``,
            the first file that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        shape: ImageShape,
        *,
        white: float | None = None,
        pad: bool = False,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if shape[0] not in (1, 3):
            raise InputError(f"{path} cannot be shown to a model of images with {shape[0]} channels: it needs 1 or 3")
        self.shape, self.white, self.pad, self.skip_bad, self.progress = shape, white, pad, skip_bad, progress
        self.headers: dict[str, Header | None]
        if path.is_dir():
            self.root, self.headers = path, dict(listed(path).images)
            if not self.headers:
                raise InputError(f"there is no image in {path}")
        else:
            self.root, self.headers = path.parent, {path.name: header(path)}
        self.skipped: list[str] = []
        """Files that the iteration has left out so far, and why."""

    def __iter__(self) -> Iterator[Part]:
        self.skipped.clear()
        names: list[str] = []
        images: list[NDArray[np.uint8]] = []
        for name, image in in_threads(self._read, self.headers, len(self.headers), self.progress):
            if isinstance(image, str):
                self.skipped.append(image)
                continue
            names.append(shown(name))
            images.append(image)
            if len(names) == PART:
                yield Part(names, torch.from_numpy(np.stack(images)))
                names, images = [], []
        if names:
            yield Part(names, torch.from_numpy(np.stack(images)))
        if len(self.skipped) == len(self.headers):
            raise InputError(f"no image in {self.root} can be read: {self.skipped[0]}")

    def notes(self) -> list[str]:
        """How images were changed to the size and channels that the model takes, in sentences."""
        channels, height, width = self.shape
        headers = [each for each in self.headers.values() if each is not None]
        other = sum((each.height, each.width) != (height, width) for each in headers)
        color = sum(each.channels == 3 for each in headers) if channels == 1 else 0
        how = "between black margins" if self.pad else "cropped about the center, where the shape differs"
        notes = [f"{_of(other, headers)} not {height}x{width}, which this model takes: resized, {how}"] if other else []
        return notes + ([f"{_of(color, headers)} in color, of which this model sees the grey"] if color else [])

    def _read(self, name: str) -> tuple[str, NDArray[np.uint8] | str]:
        channels, *size = self.shape
        try:
            return name, read_image(
                self.root / name,
                shown(name),
                size=(size[0], size[1]),
                channels=channels,
                white=self.white,
                pad=self.pad,
            )
        except InputError as error:
            if not self.skip_bad:
                way_out = ": mend that, or leave out what cannot be read by `skip_bad=True`" * (len(self.headers) > 1)
                raise InputError(f"{error}{way_out}") from error
            return name, str(error)


def of_data(data: DataSet, *, seed: int = 0, progress: Progress | None = None) -> Iterator[Part]:
    """All images of a data set in `Part`s, split by split, each as an evaluation sees it under this seed.

    Their names are those of their files, or such as ``test/12``.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    done, total = 0, sum(map(len, splits.values()))
    for name, split in splits.items():
        start = 0
        for images in split.examples(seed).images.split(PART):
            places = range(start, start + len(images))
            yield Part([split.names[place] if split.names else f"{name}/{place}" for place in places], images.cpu())
            start += len(images)
            done += len(images)
            if progress is not None:
                progress(done, total)


def _of(count: int, headers: list[Header]) -> str:
    return f"{count} of {len(headers)} images {'is' if count == 1 else 'are'}"
