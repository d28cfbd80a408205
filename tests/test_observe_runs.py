"""Factors that are observed in a training: which latent is which factor, of which images, and what a run records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent import fit, from_arrays, load
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.models.families import Categorical, Circle
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.runs.presets import configure
from pyro_disent.training import datasets
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HandedOver
from pyro_disent.training.log import Silent
from pyro_disent.training.observed import chosen
from pyro_disent.training.prepare import Prepared, prepare
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.validation import validate
from tests.models import linear_vae
from tests.table import TINY, tiny

CHAIRS = "--data chairs --source embedded --data-option counts=4,2,2 --batch-size 4 --no-compile"


def of_chairs(**said: Any) -> FitConfig:
    return tiny(data="chairs", batch_size=8, limit=None, options={"counts": (4, 1, 1)}, **said)


def prepared(config: FitConfig, data: DataSet | None = None) -> Prepared:
    device, folder = torch.device("cpu"), RunFolder(Path("nowhere"))
    said: dict[str, Any] = {"recorded": None, "folder": folder, "init": None, "reporter": Silent()}
    return prepare(config, HandedOver(), device, data=data or datasets.load_data(config), **said)


def test_an_angle_without_a_latent_gets_a_circle_of_its_own() -> None:
    trained = prepared(of_chairs(observe=["azimuth"]))
    latent = trained.vae.latent("azimuth")
    assert (latent.units, type(latent.family), latent.explains) == (1, Circle, ("azimuth",))
    batch = trained.feed(of_chairs()).next()
    torch.testing.assert_close(batch.observed["azimuth"][..., 0], batch.factors["azimuth"])
    step = trained.objective.step(batch)
    expected = torch.stack([batch.factors["azimuth"].cos(), batch.factors["azimuth"].sin()], -1)
    torch.testing.assert_close(step.p.nodes["azimuth"]["value"], expected)


def test_a_share_is_of_the_identities_and_of_both_views() -> None:
    config = of_chairs(observe={"azimuth": 0.5})
    trained = prepared(config)
    identity = trained.data.train.labels["identity"]
    mask, words = chosen(trained.data.train, 0.5, config.seed)
    assert words == "2 of 4 identities"
    known = {int(each) for each in identity[mask].unique()}
    assert len(known) == 2 and mask.tolist() == [int(each) in known for each in identity]
    feed, seen = trained.feed(config), set()
    for _ in range(feed.batches_per_epoch):
        batch = feed.next()
        assert batch.index is not None
        assert torch.equal(~batch.observed["azimuth"][..., 0].isnan(), mask[batch.index])
        seen |= set(batch.index.flatten().tolist())
        values = trained.data.train.factors["azimuth"][batch.index]
        assert torch.equal(batch.factors["azimuth"], values)
    assert len(seen) > len(mask) // 2
    assert trained.observed.observations[0].known == pytest.approx(float(mask.double().mean()))
    # A tenth more is the same ones and others.
    smaller, larger = (chosen(trained.data.train, share, 0)[0] for share in (0.25, 0.75))
    assert bool((larger | ~smaller).all())
    assert any(not torch.equal(chosen(trained.data.train, 0.5, seed)[0], mask) for seed in range(1, 5))


@pytest.mark.parametrize("data", ["rotated-mnist", "colored-mnist", "celeba", "chairs"])
def test_numbers_are_standardized_by_the_training_images(data: str) -> None:
    factor = {"rotated-mnist": "scale", "colored-mnist": "red", "celeba": "Smiling", "chairs": "elevation"}[data]
    options = TINY.get(data, {}) | ({"factors": ("rotation", "scale")} if data == "rotated-mnist" else {})
    latents = {} if data == "celeba" else {factor: 1}  # of which z has a unit for each attribute
    config = tiny("vae", data, observe={factor: 0.5}, latents=latents, options=options, batch_size=8)
    trained = prepared(config)
    (found,) = trained.observed.observations
    split = trained.data.train
    values = split.examples(config.seed).factors[factor].double()
    mask, _ = chosen(split, 0.5, config.seed)
    assert found.center == pytest.approx(values[mask].mean().item())
    assert found.scale == pytest.approx(values[mask].std(correction=0).item())
    batch = trained.feed(config).next()
    assert batch.index is not None
    expected = torch.where(mask[batch.index], (batch.factors[factor] - found.center) / found.scale, torch.nan)
    observed = next(iter(batch.observed.values()))
    column = observed[..., found.unit]
    torch.testing.assert_close(column, expected.to(column), equal_nan=True)


def of_arrays(**factors: Any) -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 1, 28, 28), np.uint8)
    return from_arrays(images, identity=[f"p{number // 3}" for number in range(60)], factors=factors)


HAIR = [("dark", "fair", "red")[number % 3] for number in range(60)]
AGE = [float(number) if number % 5 else math.nan for number in range(60)]


def test_columns_of_ones_own_numbers_categories_and_what_is_not_known(tmp_path: Path) -> None:
    """A number that is standardized by its column stays so; what a row lacks is not observed."""
    data = of_arrays(hair=HAIR, age=AGE)
    latents = {"z": 2, "hair": {"units": 1, "family": "categorical", "settings": {"values": 3}}, "age": 1}
    said: dict[str, Any] = {"max_steps": 2, "batch_size": 8, "compile": False, "latents": latents, "network": "mlp"}
    run = fit("cycle", data, observe=["hair", "age"], out=tmp_path / "run", **said)
    hair, age = run.record.observed
    assert (hair.values, hair.known, age.center, age.scale) == ((0.0, 1.0, 2.0), 1.0, 0.0, 1.0)
    assert age.known == pytest.approx(data.train.factors["age"].isfinite().double().mean().item())
    assert isinstance(run.vae.latent("hair").family, Categorical)
    weights = run.objective.weights
    assert weights["known:age[0]"].item() == pytest.approx(1 / age.known)
    trained = prepared(run.record.fit, data)
    batch = trained.feed(run.record.fit).next()
    for name in ("hair", "age"):
        torch.testing.assert_close(batch.observed[name][..., 0], batch.factors[name], equal_nan=True)


def test_validation_never_sees_a_value() -> None:
    config = of_chairs(method="vae", observe={"azimuth": 0.5, "elevation": 1.0})
    trained = prepared(config)
    before = validate(trained.objective, trained.data.validation, 0, 1)
    for factor in ("azimuth", "elevation"):
        trained.data.validation.factors[factor].fill_(1e30)
    assert validate(trained.objective, trained.data.validation, 0, 1) == before


def test_a_run_is_the_same_when_it_is_resumed(tmp_path: Path) -> None:
    said: dict[str, Any] = {"observe": {"azimuth": 0.5}, "options": TINY["chairs"], "source": "embedded"}
    said |= {"batch_size": 4, "compile": False, "preset": "quick", "schedule": "constant", "weights": {"alpha": 3.0}}
    whole = fit("cycle", "chairs", out=tmp_path / "whole", max_steps=6, **said)
    fit("cycle", "chairs", out=tmp_path / "parts", max_steps=3, **said)
    parts = fit(resume=tmp_path / "parts", max_steps=6)
    assert parts.record.observed == whole.record.observed
    one, other = (RunFolder(run.path).weights("last") for run in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.objective.weights["alpha"] == 3
    with pytest.raises(InputError, match="was begun with"):
        fit(resume=tmp_path / "parts", observe=["azimuth"])


def test_the_command_line(call: Any, tmp_path: Path) -> None:
    done = call(*f"fit --method cycle {CHAIRS} --observe azimuth=0.1 --max-steps 2 --out run".split())
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "azimuth is the value of azimuth, known of" in said and "1 of 4 identities" in said
    assert "validation and test never see it" in said
    assert "what a pair shares follows from the labels of all images, also where none is observed" in said
    assert "this is no bound" in said
    for line in ("fit --resume run --max-steps 3 --quiet", "evaluate run --json"):
        done = call(*line.split())
        assert done.returncode == 0, done.stderr
    run = load(tmp_path / "run")
    (found,) = run.record.observed
    assert (found.factor, found.latent, found.share, found.seed) == ("azimuth", "azimuth", 0.1, 0)
    assert run.record.fit.observe == {"azimuth": 0.1}
    rows = RunFolder(tmp_path / "run").metrics()
    train = [row for row in rows if row["split"] == "train"]
    assert all(math.isfinite(float(row["told.azimuth"])) for row in train) and train
    assert all(not row["told.azimuth"] for row in rows if row["split"] == "validation")


def test_a_folders_column(call: Any, tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), ["file_name,person,light,pose"]
    for person in "abcdefghij":
        (tmp_path / "photos" / person).mkdir(parents=True)
        for number in range(3):
            name = f"{person}/{number}.png"
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "photos" / name)
            rows.append(f"{name},{person},{rng.uniform():.3f},{rng.integers(360)}")
    (tmp_path / "photos/metadata.csv").write_text("\n".join(rows))
    line = "fit --method cycle --data photos --pair-by person --image-size 32 --kind pose=degrees --observe pose "
    line += "--observe light=0.5 --batch-size 4 --max-steps 1 --no-compile --out run --quiet"
    done = call(*line.split())
    assert done.returncode == 0, done.stderr
    run = load(tmp_path / "run")
    assert [latent.family.name for latent in run.vae.latents[-2:]] == ["circle", "normal"]
    assert {each.factor: each.share for each in run.record.observed} == {"pose": 1.0, "light": 0.5}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--observe azimut", "azimut, which is no factor of this data (did you mean azimuth?)"),
        ("--observe azimuth=0", "--observe azimuth=0.0 is no share of the images: above 0 and at most 1"),
        ("--observe azimuth=1.5", "is no share of the images"),
        ("--observe azimuth=some", "is not a number"),
        ("--observe view", "view, which is several factors: name azimuth, elevation"),
        ("--observe y", "the latent y stands for the rest"),
        ("--observe z", "the latent z stands for"),
        ("--observe azimuth --latent view=2", "explains azimuth and elevation"),
        ("--observe azimuth --latent azimuth=3", "has 3 units"),
        ("--observe elevation --latent elevation=1:circle", "elevation is no angle"),
        ("--observe azimuth --latent azimuth=1:categorical,values=2", "and the latent azimuth 2 choices"),
        ("--observe azimuth --latent a=1 --explains a=azimuth --latent b=1 --explains b=azimuth", "a and b both"),
    ],
)
def test_what_cannot_be_observed_is_refused(line: str, says: str, call: Any, tmp_path: Path) -> None:
    done = call(*f"fit --method cycle {CHAIRS} {line} --max-steps 1 --out run".split())
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert says in " ".join(done.stderr.split()), done.stderr


def test_what_python_cannot_observe_is_refused(tmp_path: Path) -> None:
    data = of_arrays(age=AGE)
    with pytest.raises(InputError, match="an elbo handed over says `observe=` itself"):
        fit(DisentanglingELBO(), data, observe=["age"], out=tmp_path / "run")
    vae = linear_vae([Latent("z", 3)])
    config = configure("vae", "chairs", "quick", {"observe": ["azimuth"], "options": TINY["chairs"]})
    with pytest.raises(InputError, match="the vae handed over, taken as it is, has none"):
        loaded = datasets.load_data(config)
        said: dict[str, Any] = {"recorded": None, "folder": RunFolder(tmp_path), "init": None, "reporter": Silent()}
        prepare(config, HandedOver(vae=vae), torch.device("cpu"), data=loaded, **said)
    with pytest.raises(InputError, match="is not a list of factors, or a table of shares"):
        fit("vae", data, observe=3, out=tmp_path / "run")
    none = of_arrays(age=[math.nan if number < 58 else float(number) for number in range(60)])
    with pytest.raises(InputError, match="known of no training image among"):
        fit("vae", none, observe={"age": 0.05}, out=tmp_path / "run", latents={"z": 2})
    assert not (tmp_path / "run").exists()
