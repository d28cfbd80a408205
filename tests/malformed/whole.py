"""Whole things, of which cases damage copies: a trained run, images with a table, MNIST, chairs, CelebA."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

PEOPLE = ("anna", "bert", "carl", "dora", "emil", "finn")
RUN = "run"
OF_DIGITS = ("--data", "rotated-mnist", "--source", "embedded", "--limit", "64", "--batch-size", "16", "--no-compile")


def write_all(base: Path) -> None:
    """Everything below, and a run, in a new folder."""
    from pyro_disent.training.run import RunFolder
    from pyro_disent.training.train import train
    from tests.table import tiny

    base.mkdir()
    write_photos(base / "photos")
    write_mnist(base / "mnist")
    write_chairs(base / "chairs.tar")
    write_celeba(base / "celeba")
    settings = {"latents": {"z": {"units": 3}, "y": {"units": 1}}, "network": "mlp", "threads": 1, "compile": False}
    train(tiny("cycle+predictor", max_steps=4, **settings), RunFolder(base / RUN))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_photos(folder: Path) -> None:
    """Six people, three images each, and a table."""
    random, rows = np.random.default_rng(0), ["file_name,person,light"]
    for person in PEOPLE:
        (folder / person).mkdir(parents=True)
        for number in range(3):
            name = f"{person}/{number}.png"
            (folder / name).write_bytes(png(random.integers(0, 255, (32, 32, 3), np.uint8)))
            rows.append(f"{name},{person},{random.uniform():.3f}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def write_mnist(raw: Path) -> None:
    """MNIST's four files with 40 and 10 digits of noise, packed."""
    random = np.random.default_rng(0)
    raw.mkdir()
    for split, count in (("train", 40), ("t10k", 10)):
        images, labels = random.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(values)))


def write_chairs(path: Path) -> None:
    """Three chairs, two views each, in a tar."""
    random = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for chair in ("a1", "b2", "c3"):
            for number, azimuth in enumerate((0, 11)):
                pixels = np.full((600, 600, 3), 255, np.uint8)
                pixels[200:400, 150 + 40 * number : 400] = random.integers(0, 255, 3)
                content = png(pixels)
                name = f"rendered_chairs/{chair}/renders/image_{number:03d}_p020_t{azimuth:03d}_r096.png"
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_celeba(folder: Path) -> None:
    """Nine faces with their lists."""
    from pyro_disent.data.faces.drawn.faces import ATTRIBUTES

    random = np.random.default_rng(0)
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 10)]
    rows = []
    for name in names:
        pixels = random.integers(0, 255, (218, 178, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name, "JPEG")
        rows.append(f"{name} {' '.join(random.choice(['1', '-1'], len(ATTRIBUTES)))}\n")
    head = f"{len(names)}\n{' '.join(ATTRIBUTES)}\n"
    (folder / "list_attr_celeba.txt").write_text(head + "".join(rows))
    partition = "".join(f"{name} {number % 3}\n" for number, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(partition)


def copied(base: Path, name: str, folder: Path, to: str | None = None) -> Path:
    """A copy of a whole thing in a case's folder."""
    source, target = base / name, folder / (to or name)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target
