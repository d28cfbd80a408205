"""Files in MNIST's own format, of a few digits that are noise; and the digits that come with the package."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pyro_disent.data.mnist import files

SAMPLE = files.SAMPLE


@contextlib.contextmanager
def whole_sample() -> Iterator[None]:
    """All 10,000 digits that come with the package, where the tests else have some of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "SAMPLE", SAMPLE)
        yield


@contextlib.contextmanager
def part_of_the_sample(path: Path, train: int = 400, test: int = 60) -> Iterator[None]:
    """The first of these digits alone, in a file of their own."""
    counts = {"train_images": train, "train_labels": train, "test_images": test, "test_labels": test}
    with np.load(SAMPLE) as whole:
        np.savez(path, **{name: whole[name][:count] for name, count in counts.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "SAMPLE", path)
        yield


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def write_mnist(raw: Path, packed: bool = False, seed: int = 0, train: int = 40, test: int = 10) -> Path:
    """A tiny data set in MNIST's own format, noise for digits."""
    rng = np.random.default_rng(seed)
    raw.mkdir(parents=True)
    for split, size in (("train", train), ("t10k", test)):
        for kind, values in (
            ("images-idx3", rng.integers(0, 256, (size, 28, 28))),
            ("labels-idx1", np.arange(size) % 10),
        ):
            content = idx(values)
            path = raw / f"{split}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return raw
