"""How fast batches are made, what share of a training step that is, and a DataLoader beside it.

    python benchmarks/data.py

Prints a table and writes ``experiments/results/data.json``. For every data set of the registry (embedded source), and
for a folder of PNG files, ``Split.batch`` makes pairs of the quick preset's batch size on one thread and on two: 9
interleaved rounds, medians, CPU time of one pinned core for one thread and wall time for two. A rate of views counts
both views of a pair. The share of a step is CPU time on one pinned core: ``Feed.next`` in the sum of it, the forward
cycle's loss and gradient, and the optimizer. The DataLoader turns each digit by ``PIL.Image.rotate`` (bilinear, two
views), in the process that waits for it and in two others; it is compared with our batches on as many cores.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.measure import keep, machine
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.mnist.rotated import MAX_ANGLE
from pyro_disent.data.sources import Request
from pyro_disent.runs.presets import configure
from pyro_disent.training import building, compiling, datasets, hardware, record, schedule
from pyro_disent.training.config import FitConfig
from pyro_disent.training.feed import Feed

ROUNDS = 9
SECONDS_PER_ROUND = 0.3
METHOD, VIEWS = "cycle", 2
THREADS = (1, 2)
FOLDER = "folder of images"


def configurations(folder: Path) -> dict[str, FitConfig]:
    """Data set's name -> its quick preset; last a folder of images, which is written here."""
    random = np.random.default_rng(0)
    for identity in range(50):
        (folder / f"{identity:02}").mkdir()
        for view, pixels in enumerate(random.integers(0, 256, (20, 64, 64, 3), np.uint8)):
            Image.fromarray(pixels).save(folder / f"{identity:02}" / f"{view:02}.png")
    sets = {name: configure(METHOD, name, "quick", {"source": "embedded"}) for name in registry.BUILT_IN}
    return sets | {FOLDER: configure(METHOD, str(folder), "quick", {})}


@contextlib.contextmanager
def cores(count: int) -> Iterator[None]:
    """So many threads, on as many cores."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(allowed)[:count])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def batches(split: Split, size: int) -> Callable[[], object]:
    """Makes one batch of pairs of random images."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(split), generator=generator)
    indices = [index for index in order.split(size) if len(index) == size]
    made = 0

    def make() -> object:
        nonlocal made
        made += 1
        return split.batch(indices[made % len(indices)], generator, VIEWS)

    return make


def interleaved(contenders: dict[Any, tuple[int, Callable[[], object]]]) -> dict[Any, float]:
    """Name -> median seconds of one call, each on its number of cores: CPU time on one, wall time on several."""

    def timed(name: Any, repeats: int) -> float:
        threads, call = contenders[name]
        clock = time.process_time if threads == 1 else time.perf_counter
        with cores(threads):
            start = clock()
            for _ in range(repeats):
                call()
            return (clock() - start) / repeats

    for name in contenders:
        timed(name, 3)
    repeats = {name: max(1, round(SECONDS_PER_ROUND / timed(name, 3))) for name in contenders}
    rounds = [{name: timed(name, repeats[name]) for name in contenders} for _ in range(ROUNDS)]
    return {name: statistics.median(times[name] for times in rounds) for name in contenders}


def rates(loaded: dict[str, tuple[FitConfig, DataSet]]) -> dict[str, dict[str, Any]]:
    """Data set's name -> how fast its batches are made."""
    seconds = interleaved(
        {
            (name, threads): (threads, batches(data.train, config.batch_size))
            for name, (config, data) in loaded.items()
            for threads in THREADS
        }
    )
    rows = {}
    for name, (config, data) in loaded.items():
        per_second = {threads: 1 / seconds[name, threads] for threads in THREADS}
        rows[name] = {
            "pairs": config.batch_size,
            "image": list(data.image_shape),
            "batches/s by threads": {threads: round(rate, 1) for threads, rate in per_second.items()},
            "views/s by threads": {
                threads: round(VIEWS * config.batch_size * rate) for threads, rate in per_second.items()
            },
        }
    return rows


def share_of_step(config: FitConfig, data: DataSet) -> dict[str, Any]:
    """CPU time of making a batch, as a share of a whole training step on one thread."""
    torch.manual_seed(0)
    vae, objective = building.build(config, data.image_shape, {}, building.latents(config, data))
    objective.to(memory_format=torch.channels_last)
    feed = Feed(data.train, config.batch_size, 0, VIEWS, vae.sharing)
    optimizer = schedule.make_optimizer(objective, config.lr)
    fabric = hardware.launched_fabric(config)
    step, how = compiling.make_step(objective, config, fabric, compiling.WORTH_COMPILING, feed.next())

    def timed(steps: int) -> tuple[float, float]:
        """CPU seconds in batches, and in all."""
        making, start = 0.0, time.process_time()
        for _ in range(steps):
            before = time.process_time()
            batch = feed.next()
            making += time.process_time() - before
            step(batch)
            optimizer.step()
        return making, time.process_time() - start

    timed(2)
    steps = max(2, round(SECONDS_PER_ROUND / timed(1)[1]))
    rounds = [timed(steps) for _ in range(ROUNDS)]
    return {
        "network": config.network,
        "step": how,
        "precision": hardware.precision(config),
        "step ms": round(1e3 * statistics.median(whole / steps for _, whole in rounds), 2),
        "share of the batch": round(statistics.median(making / whole for making, whole in rounds), 4),
    }


class Turned(Dataset[tuple[Tensor, Tensor]]):
    """Each digit under two random angles, one by one, as data sets of PIL images do it."""

    def __init__(self, digits: Tensor) -> None:
        self.digits = [Image.fromarray(digit) for digit in digits[:, 0].numpy()]

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        views, angles = [], (torch.rand(VIEWS) * 2 - 1) * MAX_ANGLE
        for angle in angles.tolist():
            view = self.digits[index].rotate(math.degrees(angle), Image.Resampling.BILINEAR)
            views.append(torch.from_numpy(np.asarray(view, np.float32) / 255).unsqueeze(0))
        return torch.stack(views), angles


def beside_a_data_loader(config: FitConfig, split: Split) -> dict[str, Any]:
    """Views a second of our batches and of a DataLoader's, in the same rounds, an epoch at a time."""
    digits = Turned(mnist.read(Request("embedded")).train.images)

    def epoch_of_loader(workers: int) -> Callable[[], object]:
        loader = DataLoader(
            digits, config.batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )
        return lambda: sum(len(images) for images, _ in loader)

    def epoch_of_ours() -> Callable[[], object]:
        make = batches(split, config.batch_size)
        return lambda: [make() for _ in range(len(digits) // config.batch_size)]

    contenders: dict[Any, tuple[int, Callable[[], object]]] = {}
    for threads, workers in ((1, 0), (2, 2)):
        contenders["ours", threads] = threads, epoch_of_ours()
        contenders["DataLoader", threads] = threads, epoch_of_loader(workers)
    seconds = interleaved(contenders)
    views = len(digits) // config.batch_size * config.batch_size * VIEWS
    return {
        "pairs": config.batch_size,
        "views/s": {
            "ours, 1 thread": round(views / seconds["ours", 1]),
            "DataLoader, num_workers 0": round(views / seconds["DataLoader", 1]),
            "ours, 2 threads": round(views / seconds["ours", 2]),
            "DataLoader, num_workers 2": round(views / seconds["DataLoader", 2]),
        },
        "ratio on 1 core": round(seconds["DataLoader", 1] / seconds["ours", 1], 1),
        "ratio on 2 cores": round(seconds["DataLoader", 2] / seconds["ours", 2], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    load_before = os.getloadavg()[0]
    pyro.enable_validation(False)
    with tempfile.TemporaryDirectory() as temporary, pyro.settings.context(module_local_params=True):
        sets = configurations(Path(temporary))
        loaded = {name: (config, datasets.load_data(config)) for name, config in sets.items()}
        # What needs an idle machine comes first; the shares of a step are CPU time.
        rows = rates(loaded)
        config, data = loaded["rotated-mnist"]
        beside = beside_a_data_loader(config, data.train)
        for name, (config, data) in loaded.items():
            torch._dynamo.reset()
            with cores(1):
                rows[name] |= share_of_step(config, data)
            row, speed = rows[name], rows[name]["views/s by threads"]
            print(
                f"{name}: {speed[1]:,} views/s on one thread, {speed[2]:,} on two; "
                f"{100 * row['share of the batch']:.1f} % of a step of {row['step ms']} ms ({row['step']})",
                flush=True,
            )
    print(f"rotated-mnist beside a DataLoader: {beside}")
    content = {
        "command": "python benchmarks/data.py",
        "machine": machine(),
        "versions": record.versions(),
        "load average before": round(load_before, 2),
        "batches": rows,
        "rotated-mnist beside a DataLoader": beside,
    }
    keep("data", content)


if __name__ == "__main__":
    main()
