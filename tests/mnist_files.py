"""Files in MNIST's own format, of a few digits that are noise."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


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
