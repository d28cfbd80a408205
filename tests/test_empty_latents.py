"""Which latents say nothing and which the decoder ignores: on models built by hand, and wherever it is told."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

from pyro_disent.data.dataset import DataSet, Factor
from pyro_disent.evaluation import report
from pyro_disent.evaluation.codes import Codes
from pyro_disent.evaluation.evaluate import bounds, leaks, uses
from pyro_disent.evaluation.result import Evaluation
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import ConditionalNormal, Mixture
from pyro_disent.models.latents import Latent
from pyro_disent.models.use import EMPTY, IGNORED, Usage, unit_kl, use
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.runs.run import load
from pyro_disent.training.log import Silent
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from pyro_disent.training.validation import best_of, used, validate
from tests.dials import a_run, dials
from tests.models import SHAPE, linear_vae
from tests.table import tiny

PIXELS = 8


def built(
    decoder: dict[str, Tensor], encoder: dict[str, Tensor] | None = None, scale: dict[str, float] | None = None
) -> FactoredVAE:
    """A linear VAE on images of 2x4 pixels.

    Args:
        decoder: latent's name -> what it adds to the logits, ``(pixels, units)``.
        encoder: latent's name -> how its posterior mean is read off pixels minus a half, ``(units, pixels)``; the
            first pixels where it is not named.
        scale: latent's name -> standard deviation of its posterior; 1 where it is not named.
    """
    latents = [Latent(name, weight.shape[1]) for name, weight in decoder.items()]
    linear = nn.Linear(sum(latent.units for latent in latents), PIXELS, bias=False)
    vae = FactoredVAE(latents, nn.Flatten(), nn.Sequential(linear, nn.Unflatten(1, (1, 2, 4))))
    with torch.no_grad():
        linear.weight.copy_(torch.cat(list(decoder.values()), 1))
        for latent in latents:
            read = (encoder or {}).get(latent.name, torch.eye(latent.units, PIXELS))
            head = vae.guide.heads[latent.name]
            head.weight.zero_()
            head.weight[: latent.units] = read
            head.bias[: latent.units] = -read.sum(1) / 2
            head.bias[latent.units :] = 2 * math.log((scale or {}).get(latent.name, 1.0))
    return vae


def test_the_kl_of_each_unit_is_that_of_two_normals() -> None:
    eye = torch.eye(3, PIXELS)
    vae = built({"z": eye.T.clone(), "y": torch.ones(PIXELS, 1)}, {"z": 4 * eye}, {"z": 0.3})
    images = torch.rand(40, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    mean = 4 * (images.flatten(1)[:, :3].double() - 0.5)
    expected = (0.5 * (mean.square() + 0.09 - 1) - math.log(0.3)).mean(0)
    assert torch.allclose(unit_kl(vae, images, ["z"])["z"], expected, rtol=1e-5)


def test_the_kl_of_units_knows_their_parents_and_leaves_out_what_has_no_units() -> None:
    latents = [Latent("y", 1), Latent("z", 2, ConditionalNormal("y", nn.Linear(1, 4))), Latent("m", 2, Mixture(3))]
    vae = linear_vae(latents)
    with torch.no_grad():
        prior = vae.latent("z").family.network
        prior.weight.zero_()
        prior.bias.copy_(torch.tensor([1.0, -2.0, 0.0, 0.0]))  # means, log variances: y changes nothing
    images = torch.rand(9, *SHAPE)
    mean, spread = vae.encode(images)["z"]
    found = unit_kl(vae, images, ["y", "z", "m"])
    distance = (mean - torch.tensor([1.0, -2.0])).square()
    assert found.keys() == {"y", "z"}
    assert torch.allclose(
        found["z"].float(), (0.5 * (distance + spread.square() - 1) - spread.log()).mean(0), rtol=1e-4
    )


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (count, 1, 2, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def matrices(seed: int, **units: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(PIXELS, count, generator=generator) for name, count in units.items()}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_use_is_the_share_of_the_change_written_out(seed: int, z: int, y: int) -> None:
    """Of two images each can only be given the other: sigmoids and squares in NumPy, float64."""
    decoder, encoder = matrices(seed, z=z, y=y), {n: m.T for n, m in matrices(seed + 1, z=z, y=y).items()}
    pair = images(2, seed)
    x = pair.numpy().reshape(2, PIXELS).astype(np.float64) / 255 - 0.5
    codes = {name: x @ read.double().numpy().T for name, read in encoder.items()}

    def decoded(exchanged: tuple[str, ...]) -> np.ndarray:
        parts = [(codes[n][::-1] if n in exchanged else codes[n]) @ decoder[n].double().numpy().T for n in codes]
        return 1 / (1 + np.exp(-sum(parts)))

    change = {names: np.mean((decoded(names) - decoded(())) ** 2) for names in [("z",), ("y",), ("z", "y")]}
    measured = use(built(decoder, encoder), pair)
    expected = {name: change[(name,)] / change[("z", "y")] for name in ("z", "y")}
    assert measured == pytest.approx(expected, rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.permutations(["z", "y", "w"]))
def test_use_is_never_negative_sums_to_one_where_latents_add_up_and_knows_no_order(
    seed: int, count: int, order: list[str]
) -> None:
    decoder = matrices(seed, z=2, y=1, w=3)
    for place, weight in enumerate(decoder.values()):  # each latent draws pixels of its own
        weight[: 2 * place], weight[2 * place + 2 :] = 0, 0
    pictures = images(count, seed)
    found = use(built(decoder), pictures, seed=seed)
    assert all(share >= 0 for share in found.values())
    assert sum(found.values()) == pytest.approx(1, rel=1e-4)
    assert use(built({name: decoder[name] for name in order}), pictures, seed=seed) == pytest.approx(found, rel=1e-4)


def test_a_latent_alone_is_used_entirely_and_one_of_no_weight_not_at_all() -> None:
    decoder = matrices(0, z=2, y=1)
    assert use(built({"z": decoder["z"]}), images(9)) == {"z": pytest.approx(1)}
    ignored = use(built(decoder | {"y": 0 * decoder["y"]}), images(9))
    assert ignored == {"z": pytest.approx(1, abs=1e-6), "y": pytest.approx(0, abs=1e-6)}


def test_use_of_what_never_changes_and_of_a_single_image() -> None:
    decoder = matrices(0, z=2, y=1)
    same = images(1).expand(5, 1, 2, 4)
    assert use(built(decoder), same) == {"z": 0.0, "y": 0.0}
    assert use(built(decoder), images(1)) == {}


def test_use_gives_no_image_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, decoded = built(matrices(0, z=8)), []
    monkeypatch.setattr(vae, "decode", lambda codes: decoded.append(codes["z"]) or torch.zeros(len(codes["z"]), 1))
    for count in range(2, 12):
        decoded.clear()
        use(vae, images(count), seed=count)
        own, others = decoded[0], decoded[1]
        assert (own != others).any(1).all() and torch.equal(own.sort(0).values, others.sort(0).values)


def test_use_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = built(matrices(0, z=2, y=1))
    whole = use(vae, images(30))
    monkeypatch.setattr("pyro_disent.models.use._PART", 7)
    assert use(vae, images(30)) == pytest.approx(whole, rel=1e-5)


def test_use_depends_on_its_seed_alone_and_moves_nothing() -> None:
    vae = built(matrices(0, z=2, y=1)).train()
    state = torch.get_rng_state()
    first = use(vae, images(30), seed=1)
    assert torch.equal(torch.get_rng_state(), state) and vae.training
    torch.rand(3)
    assert use(vae, images(30), seed=1) == first != use(vae, images(30), seed=2)


@pytest.mark.parametrize(
    ("kl", "shares", "empty", "ignored"),
    [
        ({"z": 0.03, "y": 9.0}, {"z": 0.0, "y": 1.0}, ("z",), ()),
        ({"z": EMPTY, "y": 9.0}, {"z": 0.5, "y": 0.5}, (), ()),
        ({"z": 8.0, "y": 9.0}, {"z": 0.9, "y": 0.049}, (), ("y",)),
        ({"z": 8.0, "y": 9.0}, {"z": 0.9, "y": 0.051}, (), ()),
        ({"z": 1.0, "y": 40.0, "azimuth": 3.0, "elevation": 2.0},
         {"z": 0.2, "y": 0.9, "azimuth": 0.02, "elevation": 0.01}, (), ("azimuth", "elevation")),
        ({"z": math.nan}, {"z": 0.0}, (), ("z",)),
        ({"z": 0.0, "y": 0.0}, {"z": 0.0, "y": 0.0}, ("z", "y"), ()),
    ],
)  # fmt: skip
def test_empty_is_below_a_tenth_of_a_nat_and_ignored_below_a_tenth_of_an_even_share(
    kl: dict[str, float], shares: dict[str, float], empty: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    assert IGNORED == 0.1
    usage = Usage(kl, shares)
    assert (usage.empty, usage.ignored) == (empty, ignored)
    numbers = {f"kl/{n}": v for n, v in kl.items()} | {f"use/{n}": v for n, v in shares.items()} | {"elbo": -1.0}
    read = Usage.read(numbers, "/")
    assert (read.empty, read.ignored) == (empty, ignored) and read.use == shares


@pytest.mark.parametrize(
    ("usage", "units", "beta", "says"),
    [
        (Usage({"z": 0.03, "y": 9.0}, {"z": 0.0, "y": 1.0}), {"z": 32, "y": 4}, {},
         ["z says nothing", "0.03 nats", "`beta={'y': 30}`",
          "fewer units for y than 4 (`latents={'y': N}`)", "another method"]),
        (Usage({"z": 9.0, "y": 0.0}, {"z": 1.0, "y": 0.0}), {"z": 1, "y": 1}, {"y": 100.0},
         ["y says nothing", "a smaller weight on its own KL than 100 (`beta={'y': 1}`)", "`beta={'z': 30}`"]),
        (Usage({"a": 3.0, "y": 9.0}, {"a": 0.012, "y": 0.97}), {"a": 1, "y": 8}, {"y": 30.0},
         ["the decoder ignores a", "1.2 %", "fewer units for y than 8"]),
        (Usage({"z": 0.0, "y": 0.0}, {"z": 0.0, "y": 0.0}), {}, {}, ["z says nothing", "training for longer"]),
    ],
)  # fmt: skip
def test_advice_names_what_to_try(usage: Usage, units: dict, beta: dict, says: list[str]) -> None:
    sentence = usage.advice(units, beta)[0]
    assert all(part in sentence for part in says), sentence
    assert ("`beta={'y': 30}`" in sentence) == ("`beta={'y': 30}`" in says)
    assert (": N}`" in sentence) == any("fewer units" in part for part in says)


def test_nothing_is_said_of_latents_that_are_used() -> None:
    usage = Usage({"z": 8.0, "y": 2.0}, {"z": 0.7, "y": 0.4})
    assert usage.advice({}, {}) == [] and str(usage) == ""


def three() -> tuple[FactoredVAE, DataSet]:
    """Height stands in pixel 6. z tells it by a spread of some hundredths under a posterior of scale 1, w tells it well
    and is not decoded, y tells it well and makes the picture."""
    reads = torch.zeros(1, PIXELS)
    reads[0, 6] = 1.0
    decoder = {"z": torch.ones(PIXELS, 1), "w": torch.zeros(PIXELS, 1), "y": torch.ones(PIXELS, 1)}
    vae = built(decoder, {"z": 0.04 * reads, "w": 4 * reads, "y": 4 * reads}, {"w": 0.05, "y": 0.05})
    data = dials((60, 10, 40))
    data = DataSet("dials", data.train, data.validation, data.test, (Factor("height"),), data.source, {})
    return vae, data


@pytest.fixture(scope="module")
def evaluation() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_disent.evaluation.evaluate.METRICS", (bounds, uses, leaks))
        return a_run(*three()).evaluate().to_json()


def test_evaluation_says_which_latents_are_empty_and_ignored_and_what_to_try(evaluation: dict) -> None:
    value = {key: number["value"] for key, number in evaluation["numbers"].items()}
    assert value["kl/z"] < 1e-3 < 1 < value["kl/w"]
    assert value["use/y"] == pytest.approx(1, abs=0.05) and value["use/w"] == pytest.approx(0, abs=1e-6)
    empty, ignored = evaluation["advice"]
    assert empty.startswith("z says nothing") and ignored.startswith("the decoder ignores w")
    assert "`beta={'y': 30}`" in empty and "`beta={'y': 30}`" in ignored


def test_a_leak_is_what_a_latent_says_and_not_what_its_means_betray(evaluation: dict) -> None:
    value = {key: number["value"] for key, number in evaluation["numbers"].items()}
    assert value["leak/height/z"] > 0.95 and value["leak/height/y"] > 0.95
    assert value["leak_drawn/height/z"] < 0.05  # trees that fit noise score below 0
    assert value["leak_drawn/height/y"] > 0.9 and value["leak_drawn/height/w"] > 0.9


def test_the_report_has_both_readings_and_explains_them(evaluation: dict) -> None:
    written = io.StringIO()
    Console(width=140, file=written).print(report.table([Evaluation.from_json(evaluation)]))
    text = " ".join(written.getvalue().split())
    assert "leak of height" in text and "leak by draws of height" in text and "use by the decoder" in text
    assert "what a latent says" in text
    bare = {**evaluation, "numbers": {k: n for k, n in evaluation["numbers"].items() if "leak" not in k}}
    written = io.StringIO()
    Console(width=140, file=written).print(report.table([Evaluation.from_json(bare)]))
    assert "what a latent says" not in written.getvalue()


def test_draws_of_training_and_test_images_share_no_noise_and_depend_on_the_seed() -> None:
    vae, data = three()
    codes, again, other = Codes(vae, data, 3), Codes(vae, data, 3), Codes(vae, data, 4)
    state = torch.get_rng_state()
    train, test = codes.read("z", drawn=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(train, again.read("z", drawn=True)[0])
    for others in (test, other.read("z", drawn=True)[0]):
        both = torch.stack([train[: len(test), 0], others[: len(test), 0]])
        assert abs(both.corrcoef()[0, 1]) < 0.15
    assert train.std() == pytest.approx(1, abs=0.1)  # the posterior's own, and not the means' hundredths


def test_draws_are_of_the_posterior() -> None:
    vae, _ = three()
    pictures = images(1).expand(4_000, 1, 2, 4)
    mean, scale = (stat[0] for stat in vae.encode(pictures[:1])["y"])
    torch.manual_seed(0)
    drawn = vae.draws(pictures)["y"]
    assert drawn.shape == (4_000, 1)
    assert drawn.mean() == pytest.approx(mean.item(), abs=0.01) and drawn.std() == pytest.approx(scale.item(), rel=0.1)


def test_a_validation_has_every_latents_kl_and_use() -> None:
    vae, data = three()
    objective = DisentanglingELBO()(vae.model, vae.guide)
    numbers = validate(objective, data.validation, 0, 1)
    height = data.validation.images.flatten(1)[:, 6].double() / 255
    for name, slope, scale in (("z", 0.04, 1.0), ("w", 4.0, 0.05), ("y", 4.0, 0.05)):
        mean = slope * (height - 0.5)
        kl = (0.5 * (mean**2 + scale**2 - 1) - math.log(scale)).mean().item()
        assert numbers[f"kl.{name}"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
    shares = used(vae, data.validation, 0, 1)
    assert shares["use.w"] == pytest.approx(0, abs=1e-6) and shares["use.y"] == pytest.approx(1, abs=0.05)
    assert used(vae, data.validation, 0, 1) == shares and set(shares) == {"use.z", "use.w", "use.y"}


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.mark.parametrize("method", ["vae", "cycle", "cycle+predictor"])
def test_fit_says_at_every_validation_and_at_its_end_which_latents_say_nothing(method: str, tmp_path: Path) -> None:
    folder, heard = RunFolder(tmp_path / "run"), Listening()
    train(tiny(method, max_steps=12, beta={"z": 3000.0}, latents={"z": 3, "y": 2}), folder, reporter=heard)
    validations = [line for line in heard.said if "held-out objective" in line]
    assert len(validations) == 3 and "z" in validations[-1].partition(";")[2] and "nothing" in validations[-1]
    advice = next(line for line in heard.said if ": z says nothing (" in line)
    assert "`beta={'z': 1}`" in advice and heard.said.index(advice) > heard.said.index(validations[-1])
    row = next(row for row in folder.metrics() if row["split"] == "validation")
    assert float(row["kl.z"]) < EMPTY and {"kl.y", "use.z", "use.y"} <= {name for name in row if row[name]}
    best, named = best_of(folder), json.loads((folder.checkpoints / "best.json").read_text())
    assert best is not None and best.step == named["step"] and "z" in best.empty
    assert set(load(folder.path).objective.betas(["z", "y"]).items()) == {("z", 3000.0), ("y", 1.0)}
