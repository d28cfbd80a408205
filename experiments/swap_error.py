"""What lowers the swap error of the main job: weights, families, pairs and terms, chosen on validation chairs.

    python experiments/swap_error.py [--workers N] [--seconds S] [--steps N] [--only WORD] OUT.jsonl

Every row is trained as ``pyro-disent fit --data chairs --source embedded --preset quick`` would (steps, batch, learning
rate and its schedule are the preset's), for one seed. Then the best rows of each group by the swap error of validation
chairs are trained with two more seeds. A row holds the swap error of training, validation and test chairs; nothing
is chosen by the last.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.evaluation.counterfactuals import swap_error
from pyro_disent.models.program import seed_random_state
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.objectives.exchange import Replace
from pyro_disent.objectives.step import Step, Term
from pyro_disent.objectives.weights import Weights, kl_weight
from pyro_disent.runs.own_loop import load_data
from pyro_disent.runs.presets import configure
from pyro_disent.training import building, schedule
from pyro_disent.training.feed import Feed
from pyro_disent.training.observed import Observed, observations


class SwapCycle(Term):
    """z of an image with y of another one of the batch, decoded and encoded: both must come back.

    Args:
        z, y: weights of the two.
    """

    name, default_weight, needs_shared = "swap-cycle", 1.0, True

    def __init__(self, z: float = 1.0, y: float = 1.0) -> None:
        super().__init__()
        self.z, self.y = z, y

    def forward(self, step: Step) -> Tensor:
        shared = {name: bool(mask) for name, mask in _always(step).items()}
        values = {name: step.draw(name) if shared[name] else step.draw(name).roll(1, -2) for name in step.latents}
        with Replace(values):
            world = poutine.trace(step.model).get_trace(step.batch, observe=False)
        decoded = Batch.unchecked(
            world.nodes["x"]["fn"].mean, step.batch.shared, step.batch.factors, step.batch.pairing
        )
        again = step._replace(q=poutine.trace(step.guide).get_trace(decoded))
        total = step.batch.images.new_zeros(step.batch.images.shape[:2])
        for name in step.latents:
            family, weight = step.family(name), self.z if shared[name] else self.y
            change = torch.detach if shared[name] else lambda tensor: tensor.detach().roll(1, 1)
            target = family.map(step.posterior(name), change)
            total = total + weight * family.kl(again.posterior(name), target, again.draw(name)).sum(-1)
        return total


def _always(step: Step) -> Mapping[str, bool]:
    """Which latents stand for the chair: by name, as no value of a mask may be read in a step."""
    return {name: name in ("z", "identity") for name in step.latents}


Z, Y = {"units": 29, "explains": "common"}, {"units": 3, "explains": "rest"}


def y_of(units: int, **more: Any) -> dict[str, Any]:
    return {"z": Z, "y": {"units": units, "explains": "rest", **more}}


def view_latents(**more: Any) -> dict[str, Any]:
    return {
        "identity": {"units": 29, "explains": ["identity"]},
        "view": {"units": 3, "explains": ["azimuth", "elevation"], **more},
        "zoom": {"units": 1, "explains": ["zoom"]},
    }


CIRCLE = {
    "z": Z,
    "turn": {"units": 1, "family": "circle", "explains": "rest"},
    "y": {"units": 2, "explains": "rest"},
}
VIEWS = {"pair_by": ["identity", "view"]}


def rows() -> dict[str, dict[str, Any]]:
    """name -> settings; the first word is the row's group."""
    paper: dict[str, dict[str, Any]] = {"paper as published": {}}
    for beta in (10.0, 20.0, 30.0, 45.0):
        paper[f"paper y {beta:g}"] = {"beta": {"y": beta}}
    for units in (2, 4):
        paper[f"paper {units} units of y, y 30"] = {"beta": {"y": 30.0}, "latents": y_of(units)}
    for z in (0.3, 3.0):
        paper[f"paper y 30, z {z:g}"] = {"beta": {"y": 30.0, "z": z}}
    for turn, y in ((4.0, 10.0), (10.0, 10.0), (10.0, 30.0), (20.0, 20.0), (30.0, 30.0), (20.0, 60.0)):
        paper[f"paper circle {turn:g}, y {y:g}"] = {"latents": CIRCLE, "beta": {"turn": turn, "y": y}}
    for weight in (1.0, 10.0):
        for y in (10.0, 20.0):
            paper[f"paper reverse {weight:g}, y {y:g}"] = {
                "method": "cycle+reverse-cycle",
                "weights": {"reverse-cycle": weight},
                "beta": {"y": y},
            }
            paper[f"paper swap-cycle {weight:g}, y {y:g}"] = {"swap": weight, "beta": {"y": y}}
    paper["paper swap-cycle 10, circle 10, y 10"] = {"swap": 10.0, "latents": CIRCLE, "beta": {"turn": 10.0, "y": 10.0}}
    paper["paper similarity, y 30"] = {"method": "cycle+similarity", "beta": {"y": 30.0}}
    paper["paper info-nce, y 30"] = {"method": "cycle+info-nce", "beta": {"y": 30.0}}
    paper["paper total-correlation, y 20"] = {"method": "cycle+total-correlation", "beta": {"y": 20.0}}
    for y, z in ((30.0, 0.1), (20.0, 0.3), (20.0, 0.1)):
        paper[f"paper y {y:g}, z {z:g}"] = {"beta": {"y": y, "z": z}}
    paper["paper circle 20, y 20, z 0.3"] = {"latents": CIRCLE, "beta": {"turn": 20.0, "y": 20.0, "z": 0.3}}
    for first, last in ((100.0, 20.0), (100.0, 10.0)):
        name = f"paper y from {first:g} to {last:g}, z 0.3"
        paper[name] = {"beta": {"y": last, "z": 0.3}, "falls": {"y": (first, last)}}
    paper["paper circle and y from 100 to 10, z 0.3"] = {
        "latents": CIRCLE,
        "beta": {"turn": 10.0, "y": 10.0, "z": 0.3},
        "falls": {"turn": (100.0, 10.0), "y": (100.0, 10.0)},
    }
    for lr in (2e-3, 3e-3):
        paper[f"paper y 30, z 0.3, lr {lr:g}"] = {"beta": {"y": 30.0, "z": 0.3}, "lr": lr}
    for azimuth in (1.0, 10.0):
        paper[f"observed a tenth, azimuth {azimuth:g}, y 30, z 0.3"] = {
            "latents": {"z": Z, "y": {"units": 2, "explains": "rest"}},
            "observe": {"azimuth": 0.1},
            "beta": {"azimuth": azimuth, "y": 30.0, "z": 0.3},
        }
    views: dict[str, dict[str, Any]] = {"views as published": {"latents": view_latents(), "options": VIEWS}}
    for view, zoom in ((1.0, 10.0), (1.0, 30.0), (1.0, 100.0), (4.0, 30.0), (10.0, 30.0), (4.0, 10.0), (10.0, 10.0)):
        views[f"views view {view:g}, zoom {zoom:g}"] = {
            "latents": view_latents(),
            "options": VIEWS,
            "beta": {"view": view, "zoom": zoom},
        }
    views["views view 4, zoom 30, swap-cycle 10"] = {
        "latents": view_latents(),
        "options": VIEWS,
        "beta": {"view": 4.0, "zoom": 30.0},
        "swap": 10.0,
    }
    views["views view 4, zoom 30, similarity"] = {
        "latents": view_latents(),
        "options": VIEWS,
        "beta": {"view": 4.0, "zoom": 30.0},
        "method": "cycle+similarity",
    }
    for view, zoom, identity in ((1.0, 10.0, 0.3), (1.0, 30.0, 0.1)):
        views[f"views view {view:g}, zoom {zoom:g}, identity {identity:g}"] = {
            "latents": view_latents(),
            "options": VIEWS,
            "beta": {"view": view, "zoom": zoom, "identity": identity},
        }
    views["views view and zoom from 100 to 1, identity 0.3"] = {
        "latents": view_latents(),
        "options": VIEWS,
        "beta": {"view": 1.0, "zoom": 1.0, "identity": 0.3},
        "falls": {"view": (100.0, 1.0), "zoom": (100.0, 1.0)},
    }
    return paper | views


@functools.cache
def loaded(options: str) -> DataSet:
    data = load_data("chairs", source="embedded", **json.loads(options))
    for split in (data.train, data.validation, data.test):
        split.to(DEVICE)
    for split in (data.train, data.validation, data.test):
        split.truth = functools.partial(_truth, split)
    return data


_TRUTHS: dict[Any, Tensor] = {}


def _truth(split: Split, a: Tensor, b: Tensor, factors: tuple[str, ...], *, seed: int = 0) -> Tensor:
    """True images, drawn once in a process: the same pairs are judged for every row."""
    key = (id(split), len(a), int(a.sum()), int(b.sum()), factors, seed)
    if key not in _TRUTHS:
        _TRUTHS[key] = type(split).truth(split, a, b, factors, seed=seed)
    return _TRUTHS[key]


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def trained(name: str, settings: Mapping[str, Any], seed: int, steps: int | None) -> dict[str, Any]:
    start = time.perf_counter()
    settings = dict(settings)
    swap, method = settings.pop("swap", None), settings.pop("method", "cycle")
    falls = settings.pop("falls", {})
    latents = settings.get("latents", y_of(3))
    # A row says every weight itself: the preset's, which these rows chose, are for its own latents.
    settings["beta"] = dict.fromkeys(latents, 1.0) | settings.get("beta", {})
    settings["latents"] = {name: {"units": 0} for name in ("z", "y")} | latents
    data = loaded(json.dumps(settings.get("options", {}), sort_keys=True))
    config = configure(method, "chairs", "quick", settings | {"seed": seed})
    config = dataclasses.replace(config, latents={name: config.latents[name] for name in latents})
    if steps:
        config = dataclasses.replace(config, max_steps=steps)
    seed_random_state(seed, torch.device("cpu"))
    made = building.latents(config, data)
    observed = observations(config.observe, seed, made, data)
    vae, target = building.build(config, data.image_shape, {}, made, always=data.pairs.always, observed=observed)
    values = Observed(observed, made, data.train)
    if swap:
        elbo = DisentanglingELBO([SwapCycle()], weights={"swap-cycle": swap}, beta=config.beta or 1.0, exchange=True)
        target = elbo(vae.model, vae.guide)
    target.to(DEVICE).to(memory_format=torch.channels_last)
    feed = Feed(data.train, config.batch_size, seed, 2, lambda batch: vae.sharing(values(batch)))
    optimizer = schedule.make_optimizer(target, config.lr)
    total = config.max_steps or 0
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        step = CompiledStep(target, mode="reduce-overhead" if DEVICE.type == "cuda" else "default")
        seed_random_state(seed, DEVICE)
        for done in range(total):
            schedule.set_learning_rates(optimizer, schedule.learning_rate_factor(config.schedule, done, total))
            for latent, (first, last) in falls.items():
                set_weight(target.weights, kl_weight(latent), falling(first, last, done, total))
            step(feed.next())
            nn.utils.clip_grad_norm_(target.parameters(), config.clip_norm)
            optimizer.step()
        optimizer.zero_grad()
    torch._dynamo.reset()
    pair = data.pairs.typical_pair(factor.name for factor in data.factors)
    row: dict[str, Any] = {"row": name, "seed": seed, "steps": total}
    for split in ("train", "validation", "test"):
        result = swap_error(vae, getattr(data, split), pair)
        assert result is not None
        row[split] = {
            "error": result.error,
            "interval": result.interval,
            "ceiling": result.ceiling,
            "left_alone": result.left_alone,
            "mean_image": result.mean_image,
            "one": dict(result.one_replaced),
            "swapped": list(result.swapped.latents),
        }
    return row | {"seconds": time.perf_counter() - start}


def falling(first: float, last: float, done: int, total: int) -> float:
    """A weight that falls over the first half of the steps, by the same factor each step, and stays."""
    return first * (last / first) ** min(1.0, 2 * done / total)


def set_weight(weights: Weights, name: str, value: float) -> None:
    weights.values[list(weights.by_name).index(name)] = value


def run_all(arguments: argparse.Namespace) -> None:
    begun = time.perf_counter()
    chosen = {name: row for name, row in rows().items() if arguments.only in name}
    load_data("chairs", source="embedded")  # drawn once, before several processes want it
    results: list[dict[str, Any]] = []

    def take(pool: ProcessPoolExecutor, work: list[tuple[str, int]], until: float) -> None:
        """Train rows until there are none left, or no time; as many at once as there are workers."""
        waiting, running = iter(work), {}

        def start() -> None:
            if time.perf_counter() - begun < until and (name_and_seed := next(waiting, None)):
                name, seed = name_and_seed
                running[pool.submit(trained, name, chosen[name], seed, arguments.steps)] = name_and_seed

        for _ in range(arguments.workers):
            start()
        while running:
            future = next(as_completed(running))
            name, seed = running.pop(future)
            start()
            row = future.result()
            results.append(row)
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            held_out, test = row["validation"], row["test"]
            print(f"{name:45} seed {seed}: validation {held_out['error']:.4f}, test {test['error']:.4f}", flush=True)

    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        take(pool, [(name, 0) for name in chosen], 0.68 * arguments.seconds)
        again = []
        for group in dict.fromkeys(name.split()[0] for name in chosen):
            ours = sorted(
                (row for row in results if row["row"].startswith(group)), key=lambda row: row["validation"]["error"]
            )
            again += [(row["row"], seed) for row in ours[: arguments.best] for seed in (1, 2)]
        again += [(name, seed) for name in chosen if name.endswith("as published") for seed in (1, 2)]
        take(pool, list(dict.fromkeys(again)), arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a line of JSON for each row is added to it")
    parser.add_argument("--workers", type=int, default=1, help="rows that are trained at once")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no row is begun")
    parser.add_argument("--steps", type=int, help="fewer of them, to try the script")
    parser.add_argument("--only", default="", help="rows with this in their names")
    parser.add_argument("--best", type=int, default=3, help="rows of each group that are trained with more seeds")
    run_all(parser.parse_args())


if __name__ == "__main__":
    main()
