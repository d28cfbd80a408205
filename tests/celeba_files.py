"""A tiny CelebA in its authors' layout."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pyro_disent.data.dataset import DataSet
from pyro_disent.data.faces.celeba import FaceSplit
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.sources import Request

NAMES = tuple(f"{number:06d}.jpg" for number in (1, 2, 3, 5, 7, 8, 9, 11, 12, 20))


PARTITION = (0, 0, 1, 0, 2, 1, 0, 2, 0, 2)


HAS = np.random.default_rng(0).random((len(NAMES), 40)) < 0.4


EMBEDDED = Request("embedded")


TINY = (4, 3, 3)


def jpg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def picture(seed: Any, size: tuple[int, int] = (178, 218)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


PICTURES = {name: jpg(picture(place)) for place, name in enumerate(NAMES)}


def attribute_list(names: tuple[str, ...] = NAMES, has: NDArray[np.bool_] = HAS) -> str:
    signs = np.where(has, " 1", "-1")  # aligned in columns, as the authors' list is
    rows = (f"{name} {' '.join(row)}\n" for name, row in zip(names, signs, strict=True))
    return f"{len(names)}\n{' '.join(ATTRIBUTES)} \n{''.join(rows)}"


def partition_list() -> str:
    return "".join(f"{name} {place}\n" for name, place in zip(NAMES, PARTITION, strict=True))


def write_zip(path: Path, contents: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("img_align_celeba/", b"")
        for name, content in contents.items():
            archive.writestr(f"img_align_celeba/{name}", content)


def write(folder: Path, packed: bool = False, contents: dict[str, bytes] = PICTURES) -> Path:
    """A tiny CelebA in its authors' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list_attr_celeba.txt").write_text(attribute_list())
    (folder / "list_eval_partition.txt").write_text(partition_list())
    if packed:
        write_zip(folder / "img_align_celeba.zip", contents)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in contents.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return folder


def local(folder: Path) -> Request:
    return Request("auto", folder)


def splits(data: DataSet) -> list[FaceSplit]:
    return [data.train, data.validation, data.test]  # type: ignore[list-item]


def expected(name: str) -> Tensor:
    """What torchvision's transforms make of a file."""
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    with Image.open(io.BytesIO(PICTURES[name])) as image:
        return Compose([CenterCrop(148), Resize(64), PILToTensor()])(image.convert("RGB"))


def members(place: int) -> list[int]:
    return [row for row, split in enumerate(PARTITION) if split == place]


def check_is_the_tiny_set(data: DataSet) -> None:
    for place, split in enumerate(splits(data)):
        rows = members(place)
        assert torch.equal(split.images[:], torch.stack([expected(NAMES[row]) for row in rows]))
        assert np.array_equal(split.attributes.numpy(), HAS[rows])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
