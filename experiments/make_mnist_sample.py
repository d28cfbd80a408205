"""Makes the sample of MNIST that comes with the package: ``python experiments/make_mnist_sample.py ROOT``.

ROOT is a folder in torchvision's layout (``ROOT/MNIST/raw``). The same seed writes the same file, byte for byte.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.sources import Request

ATTRIBUTION = (
    "A subset of the MNIST database of handwritten digits by Yann LeCun, Corinna Cortes and Christopher J. C. Burges "
    "(http://yann.lecun.com/exdb/mnist/), licensed under Creative Commons Attribution-Share Alike 3.0 "
    "(https://creativecommons.org/licenses/by-sa/3.0/). The digits are unchanged."
)


def choose(digits: mnist.Digits, per_class: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many digits of each class, in an order in which every ten in a row are ten classes: any cut is balanced."""
    labels = digits.labels.numpy()
    chosen = np.stack([rng.choice(np.flatnonzero(labels == digit), per_class, replace=False) for digit in range(10)], 1)
    order = rng.permuted(chosen, axis=1).reshape(-1)
    return digits.images[:, 0].numpy()[order], labels[order].astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=mnist.SAMPLE)
    parser.add_argument("--train", type=int, default=800, help="training digits of each class")
    parser.add_argument("--test", type=int, default=200, help="test digits of each class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data, rng = mnist.read(Request.of("local", options.root)), np.random.default_rng(options.seed)
    train_images, train_labels = choose(data.train, options.train, rng)
    test_images, test_labels = choose(data.test, options.test, rng)
    np.savez_compressed(
        options.out,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        attribution=np.array(ATTRIBUTION),
    )
    print(f"{options.out}: {len(train_images)} + {len(test_images)} digits, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
