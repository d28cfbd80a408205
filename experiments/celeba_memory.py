"""Memory and time of training on as many images as CelebA has, which are read from the disk as they are needed.

    python -m experiments.celeba_memory

makes a stored file of 202,599 random images (2.5 GB) in a temporary folder, or in ``--folder``, and writes
``experiments/results/celeba_memory.json``: the peak resident memory of fresh processes that train on it through the
program's own loop, with the images on the disk and in memory, and how fast a feed alone reads them either way.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.measure import commit, keep, machine
from pyro_disent.data.dataset import DataSet, Pairs, Source
from pyro_disent.data.faces.celeba import FACTORS, FaceSplit
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.faces.files import SHAPE
from pyro_disent.data.images.store import ImagesOnDisk, Stored, open_store, store
from pyro_disent.models.latents import Latent, each, sharing
from pyro_disent.runs.presets import configure
from pyro_disent.training.feed import Feed
from pyro_disent.training.record import versions
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train

SPLITS = (162_770, 19_867, 19_962)
"""CelebA's: training, validation, test."""
BATCH_SIZE = 64
STEPS = 300
ROUNDS = 9
BATCHES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the stored file is kept")
    parser.add_argument("--measure", choices=MEASUREMENTS, help="only this, in this process, of a file made before")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(MEASUREMENTS[given.measure](given.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        result = {"commit": commit(), "machine": machine(), "versions": versions()} | make(folder)
        for name in MEASUREMENTS:
            command = [sys.executable, "-m", "experiments.celeba_memory", "--measure", name, "--folder", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result[name] = json.loads(done.stdout.splitlines()[-1])
    keep("celeba_memory", result)


def make(folder: Path) -> dict[str, Any]:
    """Store random images, unless that was done before; how many there are."""
    size = sum(SPLITS) * int(np.prod(SHAPE))
    if not (path := stored_in(folder)).exists() and shutil.disk_usage(folder).free < 2 * size:
        raise SystemExit(
            f"{folder} has no room for {size / 1e9:.1f} GB with as much to spare: name another by --folder"
        )
    store(path, range(sum(SPLITS)), random_image, SHAPE)
    return {"images": sum(SPLITS), "bytes": size}


def stored_in(folder: Path) -> Path:
    return folder / "noise.bin"


def random_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def faces(stored: Stored, *, in_memory: bool) -> DataSet:
    """Noise in CelebA's splits, with random attributes."""
    random = np.random.default_rng(0)
    ends = np.cumsum(SPLITS)
    splits = []
    for end, count in zip(ends, SPLITS, strict=True):
        images = stored.images(np.arange(end - count, end))
        if in_memory:
            images = images[:]
        splits.append(FaceSplit(images, torch.from_numpy(random.integers(0, 2, (count, len(ATTRIBUTES)))).float()))
    source = Source("given", "random images", stored.sha256)
    return DataSet("celeba", *splits, FACTORS, source, options={}, pairs=Pairs(rest_differs=True))


def peak_megabytes() -> int:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def training(folder: Path, *, in_memory: bool) -> dict[str, Any]:
    """The paper's setting for CelebA, eager, for some hundred steps and a validation."""
    imported = peak_megabytes()
    start = time.perf_counter()
    stored = open_store(stored_in(folder))
    hashed = time.perf_counter() - start
    data = faces(stored, in_memory=in_memory)
    assert isinstance(data.train.images, ImagesOnDisk) != in_memory
    said = {"max_steps": STEPS, "batch_size": BATCH_SIZE, "compile": False, "device": "cpu"}
    config = configure("similarity", "celeba", "paper", said)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as run:
        train(config, RunFolder(Path(run) / "run"), data=data)
    return {
        "peak_megabytes": peak_megabytes(),
        "peak_megabytes_before_data": imported,
        "seconds_to_check_the_hash": round(hashed, 2),
        "steps": STEPS,
        "pairs_a_step": BATCH_SIZE,
        "seconds_with_validation": round(time.perf_counter() - start, 1),
    }


def feed(folder: Path) -> dict[str, Any]:
    """Images a second of a feed alone, as the loop calls it: medians of interleaved rounds."""
    stored = open_store(stored_in(folder))
    latents = (Latent("z", len(ATTRIBUTES), explains=each(*ATTRIBUTES)), Latent("y", 10, explains="rest"))
    feeds = {
        name: Feed(faces(stored, in_memory=name == "memory").train, BATCH_SIZE, 0, 2, partial(sharing, latents))
        for name in ("disk", "memory")
    }
    rates: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(ROUNDS):
        for name, one in feeds.items():
            start = time.perf_counter()
            for _ in range(BATCHES):
                one.next()
            rates[name].append(2 * BATCH_SIZE * BATCHES / (time.perf_counter() - start))
    return {"images_per_second": {name: round(statistics.median(rate)) for name, rate in rates.items()}}


MEASUREMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "train_from_disk": lambda folder: training(folder, in_memory=False),
    "train_from_memory": lambda folder: training(folder, in_memory=True),
    "feed": feed,
}


if __name__ == "__main__":
    main()
