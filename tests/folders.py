"""Folders of tiny images of one color each, so that every image can be told wherever it goes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet

SIZE = 8
PEOPLE = ("anna", "bob", "carl", "dora", "emil")


def color(place: int) -> tuple[int, int, int]:
    """The color of the image at a place in its tree's list."""
    return (place % 250, place // 250, 77)


def tree(root: Path, names: Iterable[str]) -> list[str]:
    """Write an image for each of these names; the list of them is what `where` wants."""
    names = list(names)
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), color(place)).save(path, "PNG")
    return names


def of_people(*above: str, views: int = 2, people: Iterable[str] = PEOPLE) -> list[str]:
    """Names of some images of everybody, below each of these folders."""
    return [f"{top}{who}/{view}.png" for top in above or ("",) for who in people for view in range(views)]


def load(root: Path, **options: Any) -> DataSet:
    return registry.load(str(root), **{"image_size": SIZE, "channels": 3, **options})


def where(data: DataSet, names: list[str]) -> dict[str, list[str]]:
    """split's name -> its images' names, sorted."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    colors = {color(place): name for place, name in enumerate(names)}
    return {
        split: sorted(colors[tuple(image[:, 0, 0].tolist())] for image in part.images[:])
        for split, part in splits.items()
    }


def said(data: DataSet) -> tuple[str, ...]:
    """All that a user is told of a data set."""
    return (*data.details, *data.notes)
