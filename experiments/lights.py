"""Which default keeps a folder's z from staying empty: drawn people under lights that outweigh who they are.

    python experiments/lights.py [--workers N] [--only WORD] OUT.jsonl

60 drawn faces, each under 30 linear lights, in grey, split by person. Every row is trained for one seed as
``pyro-disent fit --preset quick`` trains a folder (`pyro_disent/data/own/folder.toml`). A row holds what is measured on
people for validation, by which a default is chosen, and on people for testing, which are reported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyro_disent
from pyro_disent.data.dataset import DataSet, Examples, Split
from pyro_disent.data.faces.drawn.attributes import sample_attributes
from pyro_disent.data.faces.drawn.design import sample_nuisances
from pyro_disent.data.faces.drawn.faces import draw_face
from pyro_disent.data.grouped import GroupedSplit
from pyro_disent.evaluation.counterfactuals import independent_pairs, swap_error
from pyro_disent.evaluation.viewpoints import recall_at_1, recall_by_chance
from pyro_disent.models.factored_vae import FactoredVAE

PEOPLE, LIGHTS, SIZE = 60, 30, 64
LIGHT = ("light_level", "light_across", "light_down")
BACKDROP = 110


def lit(faces: NDArray[np.float64], lights: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Faces ``(images, size, size)`` in [0, 1] under lights ``(images, 3)``: a level, and slopes across and down."""
    ramp = np.linspace(-1, 1, SIZE)
    level, across, down = (lights[:, [i], None] for i in range(3))
    shade = np.clip(level + across * ramp[None, None, :] + down * ramp[None, :, None], 0.02, None)
    return (np.clip(faces * shade, 0, 1) * 255).round().astype(np.uint8)


def drawn(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Faces ``(people, size, size)`` before one grey backdrop, and each image's person and light ``(images, 3)``."""
    faces = np.empty((PEOPLE, SIZE, SIZE))
    for person in range(PEOPLE):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(person,)))
        attributes, nuisances = sample_attributes(generator), sample_nuisances(generator)
        backdrop = np.full((2, 2, 3), BACKDROP, np.uint8)
        even = replace(nuisances, background=backdrop, light=0.0, brightness=1.0, warmth=0.0)
        faces[person] = draw_face(attributes, even, SIZE).mean(0) / 255
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PEOPLE,)))
    count = PEOPLE * LIGHTS
    angle, slope = generator.uniform(0, 2 * np.pi, count), generator.uniform(0, 0.8, count)
    lights = np.stack([generator.uniform(0.25, 1.1, count), slope * np.cos(angle), slope * np.sin(angle)], 1)
    return faces, np.repeat(np.arange(PEOPLE), LIGHTS), lights


class Lit(GroupedSplit):
    """Images that can be drawn again under another light."""

    faces: NDArray[np.float64]

    @property
    def drawable(self) -> tuple[str, ...]:
        return LIGHT

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        person = self.labels["identity"][a].cpu().numpy()
        light = np.stack([self.factors[name][b if name in factors else a].cpu().numpy() for name in LIGHT], 1)
        return torch.from_numpy(lit(self.faces[person], light.astype(np.float64)))[:, None].to(self.images.device)


def data_set(seed: int = 0) -> DataSet:
    """The images as a user's, with splits that can draw their truth."""
    faces, person, lights = drawn(seed)
    data = pyro_disent.from_arrays(
        lit(faces[person], lights),
        identity=person,
        factors={name: lights[:, place] for place, name in enumerate(LIGHT)},
        kinds=dict.fromkeys(LIGHT, "number"),
        name="lights",
        test_share=0.25,
    )
    scale = {factor.name: (factor.center, factor.scale) for factor in data.factors}

    def split(part: Split) -> Lit:
        assert isinstance(part, GroupedSplit)
        plain = {name: part.factors[name] * scale[name][1] + scale[name][0] for name in LIGHT}
        result = Lit(part.images, part.labels, plain, part.pairs, part.groups, part.names)
        result.faces = faces
        return result

    return replace(data, train=split(data.train), validation=split(data.validation), test=split(data.test))


def measured(vae: FactoredVAE, data: DataSet, split: Split) -> dict[str, Any]:
    """What is judged, on one split's people."""
    examples = split.examples(0)
    images, person = examples.images[:], examples.labels["identity"]
    codes = vae.codes(images)
    every = torch.arange(len(images))  # each image is a view of its own
    swap = swap_error(vae, split, data.pairs.typical_pair(factor.name for factor in data.factors))
    assert swap is not None
    a, b = independent_pairs(person, 1_000, 0)
    other = vae.codes(split.truth(b, a, LIGHT))  # person b under the light of a
    mine = {name: code[a] for name, code in codes.items()}
    decoded = vae.decode(mine)
    alone = {name: (vae.decode({**mine, name: other[name]}) - decoded).square().sum().item() for name in codes}
    both = (vae.decode(other) - decoded).square().sum().item()
    truth = (split.truth(b, a, LIGHT).float() - images[a].float()).div(255).square().sum().item()
    known = data.train.examples(0)
    train_codes = vae.codes(known.images[:])
    return {
        "recall_at_1": {name: recall_at_1(code, person, every) for name, code in codes.items()}
        | {"pixels": recall_at_1(images.flatten(1), person, every), "chance": recall_by_chance(person, every)},
        "use_between_people": {name: change / both for name, change in alone.items()},
        "change_between_people": both / truth,
        "light_r2": {
            name: LinearRegression().fit(train_codes[name].cpu(), _lights(known)).score(code.cpu(), _lights(examples))
            for name, code in codes.items()
        },
        "swap_error": swap.error,
        "interval": swap.interval,
        "ceiling": swap.ceiling,
        "left_alone": swap.left_alone,
        "mean_image": swap.mean_image,
        "one": dict(swap.one_replaced),
    }


def _lights(examples: Examples) -> Tensor:
    return torch.stack([examples.factors[name] for name in LIGHT], 1).cpu()


def rows() -> dict[str, dict[str, Any]]:
    """name -> settings, over the folder's preset."""
    result: dict[str, dict[str, Any]] = {"cycle": {"beta": {"z": 1.0, "y": 1.0}}}
    for y, z in ((30.0, 0.3), (10.0, 0.1), (30.0, 0.1), (100.0, 0.3), (10.0, 0.3), (3.0, 0.1), (30.0, 1.0)):
        result[f"cycle, y {y:g}, z {z:g}"] = {"beta": {"y": y, "z": z}}
    for y, z in ((1.0, 1.0), (1.0, 0.1), (30.0, 0.3)):
        result[f"cycle+info-nce, y {y:g}, z {z:g}"] = {"method": "cycle+info-nce", "beta": {"y": y, "z": z}}
    result["cycle+similarity, y 30, z 0.3"] = {"method": "cycle+similarity", "beta": {"y": 30.0, "z": 0.3}}
    return result


def trained(name: str, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    settings = dict(rows()[name])
    data = data_set()
    with tempfile.TemporaryDirectory() as folder:
        method = settings.pop("method", "cycle")
        run = pyro_disent.fit(method, data, out=f"{folder}/run", preset="quick", seed=seed, threads=1, **settings)
    vae = run.vae
    row = {"row": name, "seed": seed, "steps": run.config.max_steps, "seconds": time.perf_counter() - start}
    return row | {split: measured(vae, data, getattr(data, split)) for split in ("validation", "test")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a line of JSON for each row is added to it")
    parser.add_argument("--workers", type=int, default=1, help="rows that are trained at once")
    parser.add_argument("--only", default="", help="rows with this in their names")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = [name for name in rows() if arguments.only in name]
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(trained, name, arguments.seed) for name in chosen]):
            row = future.result()
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            held_out = row["validation"]
            print(
                row["row"], held_out["swap_error"], held_out["recall_at_1"], held_out["use_between_people"], flush=True
            )


if __name__ == "__main__":
    main()
