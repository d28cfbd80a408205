"""Twelve people in four places: a folder of images in which who it is and where can be read off each image."""

from __future__ import annotations

import random
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Split

SIZE = 16


PEOPLE = 12


VIEWS = 4


ALL = list(product(range(PEOPLE), range(VIEWS)))
"""Every person in every place: what there are pictures of."""


COLORS = [(20 * person + 20, 255 - 20 * person, (70 * person) % 200) for person in range(PEOPLE)]
"""Each identity's own."""


def picture(person: int, place: int) -> Image.Image:
    """An image of one color, black in one of its four columns: who it is and where can be read off it."""
    pixels = np.empty((SIZE, SIZE, 3), np.uint8)
    pixels[:] = COLORS[person]
    pixels[:, 4 * place : 4 * place + 4] = 0
    return Image.fromarray(pixels)


def person_and_place(images: torch.Tensor) -> tuple[list[int], list[int]]:
    """What `picture` was told, of uint8 images ``(images, 3, SIZE, SIZE)``."""
    places = images[:, :, 0, 2::4].int().sum(1).argmin(-1)
    people = [COLORS.index(tuple(image.amax((1, 2)).tolist())) for image in images]
    return people, places.tolist()


def people(root: Path, ending: str = "png") -> Path:
    """Twelve sub-folders of four images, in an order that is no order."""
    for person, place in random.Random(0).sample(ALL, len(ALL)):
        path = root / f"person {person}" / f"view_{place}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(person, place).save(path)
    return root


def flat(root: Path, rows: list[str] | None = None, header: str = "file_name,who,place,side") -> Path:
    """The same images side by side, with a ``metadata.csv`` that says what is in them."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for person, place in ALL:
        name = f"{person:02}-{place}.png"
        picture(person, place).save(root / name)
        lines.append(f"{name},P{person},{place},{'left' if place < 2 else 'right'}")
    (root / "metadata.csv").write_text("\n".join([header, *(lines if rows is None else rows)]) + "\n")
    return root


def load(root: Path, **options: Any) -> DataSet:
    return registry.load(str(root), **{"image_size": SIZE, **options})


def splits(data: DataSet) -> dict[str, Split]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def contents(data: DataSet) -> dict[str, list[tuple[int, int]]]:
    """Which pictures lie in each split."""
    seen = {name: person_and_place(split.images[:]) for name, split in splits(data).items()}
    return {name: list(zip(*both, strict=True)) for name, both in seen.items()}


def everything(data: DataSet) -> list[tuple[int, int]]:
    """The pictures of all splits, sorted."""
    return sorted(chain.from_iterable(contents(data).values()))


def people_of(split: list[tuple[int, int]]) -> set[int]:
    return {person for person, _ in split}
