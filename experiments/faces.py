"""Faces whose attributes have priors of their own: sampled by an attribute, changed in one, and judged by a classifier.

    python experiments/faces.py judge
    python experiments/faces.py ROW [--steps N] --out OUT.jsonl

The judge is a seeded convolutional network that reads all attributes of generated faces. ``judge`` trains it on the
training faces, measures its balanced accuracy on the test faces, and keeps it and the ten attributes that it reads best
(of those that 10 to 90 % of the faces have) in ``experiments/results/faces-judge.json`` and ``.safetensors``. It is
trained before any model here, and chooses the attributes that all rows are about.

A row trains one model: ``labelled`` (unit i of z has a prior that depends on attribute i), ``observed`` (unit i of z is
attribute i, seen in training), ``similarity`` (the paper's, unit by unit) or ``vae`` (plain). It measures, by the
judge's verdicts:

* how often samples with an attribute, and samples without it, are judged so: 1,000 of each. A labelled model draws
  its unit from p(z_i | attribute i); the others have no such prior, so their unit is set to the mean of its posterior
  over training faces with (or without) the attribute. A plain VAE's unit for an attribute is the one that differs most.
* how often an intervention on one attribute of 300 test faces gives the opposite verdict, and how many of the other
  nine verdicts stay those of the reconstruction.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyro_disent
from experiments.measure import RESULTS, commit, machine
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.queries import do

SEED, EPOCHS, SAMPLES, CHANGED = 0, 4, 1000, 300
WEIGHTS = RESULTS / "faces-judge.safetensors"


class Judge(nn.Sequential):
    """Logits of all attributes of images ``(N, 3, 64, 64)``, floats in [0, 1]."""

    def __init__(self, attributes: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 48), (48, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, attributes))


def labels_of(split: Split) -> Tensor:
    """``(images, attributes)`` float, 0 or 1."""
    return torch.stack(list(split.examples(SEED).factors.values()), 1).round()


def pixels(split: Split, index: Tensor | slice) -> Tensor:
    return torch.as_tensor(split.images[index]).float() / 255


def train_judge(data: DataSet) -> Judge:
    torch.manual_seed(SEED)
    targets = labels_of(data.train)
    judge = Judge(targets.shape[1])
    total = EPOCHS * (len(data.train) // 128)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(data.train)).split(128)[: len(data.train) // 128]:
            loss = nn.functional.binary_cross_entropy_with_logits(judge(pixels(data.train, index)), targets[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"judge: epoch {epoch + 1}, loss {loss.item():.3f}", flush=True)
    return judge.eval()


@torch.no_grad()
def verdicts(judge: Judge, images: Tensor) -> Tensor:
    return torch.cat([judge(part) > 0 for part in images.split(500)])


def balanced_accuracy(verdict: Tensor, truth: Tensor) -> Tensor:
    """Mean of the shares of right verdicts with and without an attribute, ``(attributes,)``."""
    truth = truth > 0.5
    right = (verdict == truth).float()
    return ((right * truth).sum(0) / truth.sum(0) + (right * ~truth).sum(0) / (~truth).sum(0)) / 2


def judge_and_attributes(data: DataSet) -> tuple[Judge, list[str], list[int]]:
    names = [factor.name for factor in data.factors]
    judge = Judge(len(names))
    judge.load_state_dict(load_file(WEIGHTS))
    chosen = json.loads((RESULTS / "faces-judge.json").read_text())["chosen"]
    return judge.eval(), chosen, [names.index(name) for name in chosen]


def make_judge(data: DataSet) -> None:
    judge = train_judge(data)
    names, truth = [factor.name for factor in data.factors], labels_of(data.test)
    accuracy = balanced_accuracy(verdicts(judge, pixels(data.test, slice(None))), truth)
    share = labels_of(data.train).mean(0)
    rated = [i for i in range(len(names)) if 0.1 <= share[i] <= 0.9]
    best = sorted(rated, key=lambda i: -float(accuracy[i]))[:10]
    save_file({name: tensor.contiguous() for name, tensor in judge.state_dict().items()}, WEIGHTS)
    content = {
        "what": "balanced accuracy of the judge on test faces, and the ten attributes chosen by it",
        "command": "python experiments/faces.py judge",
        "seed": SEED,
        "commit": commit(),
        "machine": machine(),
        "data": data.source.sha256,
        "accuracy": {name: round(float(value), 4) for name, value in zip(names, accuracy, strict=True)},
        "share": {name: round(float(value), 4) for name, value in zip(names, share, strict=True)},
        "chosen": [names[i] for i in best],
    }
    (RESULTS / "faces-judge.json").write_text(json.dumps(content, indent=1) + "\n")


def settings_of(row: str, attributes: list[str], steps: int, y_weight: float) -> dict[str, Any]:
    each = {"each": attributes}
    z: dict[str, Any] = {"units": 10, "explains": each}
    if row == "labelled":
        z |= {"family": "labelled", "settings": {"parents": "+".join(attributes)}}
    latents = {"z": {"units": 60}, "y": {"units": 0}} if row == "vae" else {"z": z, "y": {"units": 50}}
    if row == "vae":
        latents["z"]["explains"] = "common"
    return {
        "method": "similarity" if row == "similarity" else "vae",
        "latents": latents,
        "beta": {"y": y_weight} if row in ("labelled", "observed") else None,
        "observe": attributes if row == "observed" else [],
        "max_steps": steps,
        "batch_size": 32,
        "seed": SEED,
    }


class Units:
    """Which unit stands for each attribute, and how samples and changes of it are made."""

    def __init__(self, row: str, vae: FactoredVAE, data: DataSet, attributes: list[str]) -> None:
        self.vae, self.attributes, self.conditional = vae, attributes, row == "labelled"
        count = min(5000, len(data.train))
        means = torch.cat([vae.posteriors(part)["z"].mean for part in pixels(data.train, slice(0, count)).split(500)])
        truth = torch.stack([data.train.examples(SEED).factors[name][:count] for name in attributes], 1) > 0.5
        centers = [torch.stack([means[~has].mean(0), means[has].mean(0)]) for has in truth.T]
        spread = means.std(0)
        self.unit = [
            i if row != "vae" else int(((each[1] - each[0]).abs() / spread).argmax()) for i, each in enumerate(centers)
        ]
        self.center = [each[:, unit] for each, unit in zip(centers, self.unit, strict=True)]

    def samples(self, place: int, value: int, generator: torch.Generator) -> Tensor:
        if self.conditional:
            return self.vae.decode(
                self.vae.prior_sample(SAMPLES, generator, given={self.attributes[place]: float(value)})
            )
        codes = self.vae.prior_sample(SAMPLES, generator)
        codes["z"][:, self.unit[place]] = self.center[place][value]
        return self.vae.decode(codes)

    def changed(self, images: Tensor, place: int, value: int) -> Tensor:
        target: Mapping[str, Any] = (
            {self.attributes[place]: float(value)}
            if self.conditional
            else {f"z[{self.unit[place]}]": float(self.center[place][value])}
        )
        return do(self.vae, images, target, seed=SEED).image


@torch.no_grad()
def measured(row: str, vae: FactoredVAE, data: DataSet) -> dict[str, Any]:
    judge, attributes, places = judge_and_attributes(data)
    units = Units(row, vae, data, attributes)
    generator = torch.Generator().manual_seed(SEED)
    images = pixels(data.test, slice(0, CHANGED))
    rebuilt = vae.decode(vae.codes(images))
    before = verdicts(judge, rebuilt)[:, places]
    truth = labels_of(data.test)[:CHANGED][:, places]
    result: dict[str, Any] = {
        "on_reconstructions": dict(zip(attributes, balanced_accuracy(before, truth).tolist(), strict=True)),
        "attributes": {},
    }
    for place, name in enumerate(attributes):
        drawn = [
            float(
                (verdicts(judge, units.samples(place, value, generator))[:, places[place]] == bool(value))
                .float()
                .mean()
            )
            for value in (0, 1)
        ]
        flipped, kept = [], []
        for value in (0, 1):
            which = before[:, place] != bool(value)
            if not bool(which.any()):
                continue
            after = verdicts(judge, units.changed(images[which], place, value))[:, places]
            flipped.append(after[:, place] == bool(value))
            others = [other for other in range(len(places)) if other != place]
            kept.append((after[:, others] == before[which][:, others]).float().mean(1))
        result["attributes"][name] = {
            "samples_without": drawn[0],
            "samples_with": drawn[1],
            "opposite": float(torch.cat(flipped).float().mean()),
            "others_kept": float(torch.cat(kept).mean()),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=("judge", "labelled", "observed", "similarity", "vae"))
    parser.add_argument("--out", type=Path, help="a line of JSON for each row is added to it")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--y-weight", type=float, default=1.0, help="on the KL of y, of a labelled model")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run is kept")
    chosen = parser.parse_args()
    data = pyro_disent.load_data("celeba", source="embedded")
    if chosen.row == "judge":
        return make_judge(data)
    start = time.perf_counter()
    attributes = json.loads((RESULTS / "faces-judge.json").read_text())["chosen"]
    settings = settings_of(chosen.row, attributes, chosen.steps, chosen.y_weight)
    run = pyro_disent.fit(
        data="celeba",
        source="embedded",
        preset="quick",
        out=chosen.runs / f"faces-{chosen.row}-{chosen.y_weight:g}",
        **settings,
    )
    row = {
        "row": chosen.row,
        "y_weight": chosen.y_weight,
        "steps": chosen.steps,
        "seconds": round(time.perf_counter() - start),
    }
    row |= measured(chosen.row, run.vae, data) | {"commit": commit()}
    if chosen.out:
        with chosen.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
