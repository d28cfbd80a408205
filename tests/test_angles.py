"""Factors that are angles, the share of the test split, and what chance is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_disent import from_arrays
from pyro_disent.data.own.columns import column
from pyro_disent.errors import InputError
from pyro_disent.evaluation.viewpoints import recall_at_1, recall_by_chance
from pyro_disent.figures.pairs import factor_text
from pyro_disent.training.building import factor_edges
from pyro_disent.training.config import FitConfig
from tests.tables import call, folder, images_of, load

IDS = np.repeat(np.arange(20), 6)
AZIMUTH = np.tile([0, 355, 60, 120, 180, 240], 20)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def around(one: float, other: float) -> float:
    """How far two angles in degrees are apart."""
    return abs((one - other + 180) % 360 - 180)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-720, 720), st.decimals(-400, 400, places=2).map(float)), min_size=1, max_size=20),
    st.sampled_from(["degrees", "angle"]),
    st.randoms(),
)
def test_angles_in_a_batch_are_where_they_are_on_the_circle(values: list[float], kind: str, random: Any) -> None:
    given_ = values if kind == "degrees" else [math.radians(value) for value in values]
    found = column(given_, "azimuth", "azimuth", str, kind)
    held = np.rad2deg(found.values.astype(np.float64))
    assert all(around(one, other) < 1e-4 for one, other in zip(values, held, strict=True))
    for value, code in zip(values, found.codes, strict=True):
        for other, another in zip(values, found.codes, strict=True):
            assert (around(value, other) < 1e-6) == (code == another)
    low, high = found.turn or (0.0, 0.0)
    assert high - low == pytest.approx(math.tau) and (found.levels >= low - 1e-6).all() and (found.levels < high).all()
    # The circle is cut in a widest gap, so that neighbors on the circle are neighbors in a batch.
    places = np.unique(np.round(np.array(values) % 360, 6) % 360)
    gaps = np.diff([*places, places[0] + 360])
    assert np.ptp(held) == pytest.approx(360 - gaps.max(), abs=1e-3)
    order = random.sample(range(len(values)), len(values))
    again = column([given_[place] for place in order], "azimuth", "azimuth", str, kind)
    np.testing.assert_array_equal(again.codes, found.codes[order])
    assert (again.levels == found.levels).all()


@pytest.mark.parametrize("kind", ["degrees", "angle"])
def test_a_factor_can_be_an_angle(kind: str, tmp_path: Path) -> None:
    given_ = AZIMUTH if kind == "degrees" else np.deg2rad(AZIMUTH)
    data = load(folder(tmp_path / "photos", {"who": IDS, "azimuth": given_}), pair_by="who", kinds={"azimuth": kind})
    (factor,) = data.factors
    assert (factor.unit, factor.circular, factor.categories) == ("radians", True, ())
    for split in (data.train, data.validation, data.test):
        expected = AZIMUTH[[image % 6 for image in images_of(split)]]
        cosine = torch.cos(split.factors["azimuth"] - torch.from_numpy(np.deg2rad(expected)))
        assert (cosine > 1 - 1e-6).all()
        written = [factor_text(factor, value, named=True) for value in split.factors["azimuth"].tolist()]
        radians = [f"{np.deg2rad(value):.3g}" if value else "0.0" for value in expected]  # as long as people read
        names = [f"{value}°" for value in expected] if kind == "degrees" else radians
        assert written == [f"azimuth {name}" for name in names]
    # 355 and 0 have a bin each beside each other, and are one where bins are wider.
    by_angle = {
        image % 6: value for image, value in zip(images_of(data.train), data.train.factors["azimuth"], strict=True)
    }
    assert math.degrees(abs(by_angle[0] - by_angle[1])) == pytest.approx(5, abs=1e-3) and len(factor.edges) == 5
    config = FitConfig("vae", "photos", {"z": 2}, "mlp", "bernoulli", 1e-3, 8, max_steps=1, bins=3)
    edges = torch.tensor(factor_edges(data, config)["azimuth"])
    assert edges.diff().allclose(torch.full((1,), math.tau / 3))
    bins = {angle: int(torch.bucketize(value, edges, right=True)) for angle, value in by_angle.items()}
    assert bins == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2, 5: 2}


def test_angles_that_are_one_turn_apart_are_one_angle() -> None:
    turns = from_arrays(
        np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8),
        factors={"a": [10, 370, -350, 730, 20, 380] * 4, "b": np.deg2rad([10, 370, -350, 730, 20, 380] * 4)},
        kinds={"a": "degrees", "b": "angle"},
    )
    assert all(len(split.factors[name].unique()) == 2 for split in (turns.train,) for name in ("a", "b"))
    assert set(turns.factors[0].written.values()) == {"10°", "20°"}


def test_arcs_are_not_torn_apart_at_their_zero() -> None:
    """A camera that moves from 320 over 0 to 40 degrees: the median is its front, and nothing jumps."""
    arc = np.arange(-40, 41, 5) % 360
    found = column(arc, "azimuth", "azimuth", str, "degrees")
    assert np.rad2deg(found.values) == pytest.approx(np.arange(-40, 41, 5), abs=1e-4)
    assert found.names[0] == "320°" and found.names[-1] == "40°"
    assert found.factor("azimuth", np.arange(len(arc))).edges == (pytest.approx(0, abs=1e-6),)


def test_what_the_command_line_says_of_angles_and_of_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "photos", {"who": IDS, "azimuth": AZIMUTH})
    said = ["--pair-by", "who", "--image-size", "8", "--kind", "azimuth=degrees"]
    result = call(monkeypatch, capfd, tmp_path, "data", "show", "photos", *said, "--test-share", "0.4")
    assert result.returncode == 0, result.stderr
    identities = (
        "  identities: 10 for training, 2 for validation, 8 for test (chance of finding one of the test split: 12.5%)"
    )
    assert result.stdout.splitlines()[1] == identities
    assert "  azimuth: angle, 6 values from 355° to 240°, none missing" in result.stdout
    command = [
        "fit",
        "--method",
        "cycle+predictor",
        "--data",
        "photos",
        *said,
        "--test-share",
        "0.4",
        "--network",
        "mlp",
    ]
    options = ["--batch-size", "8", "--max-steps", "2", "--no-compile", "--latent", "z=2", "--out", "run"]
    result = call(monkeypatch, capfd, tmp_path, *command, *options)
    assert result.returncode == 0, result.stderr
    assert identities.strip() in result.stdout and "bins: 6 of azimuth" in result.stdout
    settings_ = json.loads((tmp_path / "run/config.json").read_text())
    assert settings_["fit"]["options"]["kinds"] == {"azimuth": "degrees"} and settings_["units"] == {}
    result = call(monkeypatch, capfd, tmp_path, "evaluate", "run")
    assert result.returncode == 0, result.stderr
    numbers = json.loads((tmp_path / "run/evaluation.json").read_text())["numbers"]
    assert numbers["recall_at_1_chance"]["value"] == pytest.approx(1 / 8)
    assert numbers["recall_at_1_chance"]["block"] == "chance, 8 identities" and "chance, 8 identities" in result.stdout
    assert "view_error/azimuth/y" in numbers


@pytest.mark.parametrize(("share", "tested"), [(None, 2), (0.01, 1), (0.1, 2), (0.25, 5), (0.5, 10), (0.85, 17)])
def test_the_share_of_the_test_split_is_a_choice(share: float | None, tested: int, tmp_path: Path) -> None:
    root = folder(tmp_path / "photos", {"who": IDS})
    pixels = np.zeros((120, 8, 8), np.uint8)
    pixels[:, -1, -1], pixels[:, 0, 0] = np.arange(120), 255
    found = []
    for data in (load(root, pair_by="who", test_share=share), from_arrays(pixels, identity=IDS, test_share=share)):
        counts = [split.identities for split in (data.train, data.validation, data.test)]
        assert counts == [18 - tested, 2, tested]
        whose = [set(IDS[images_of(split)]) for split in (data.train, data.validation, data.test)]
        assert sum(map(len, whose)) == len(set.union(*whose)) == 20
        found.append(whose)
    if share in (None, 0.1):
        usual = from_arrays(pixels, identity=IDS).test
        assert set(IDS[images_of(usual)]) == found[1][2]


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (0, "is no share"),
        (1, "is no share"),
        (-0.1, "is no share"),
        (1.5, "is no share"),
        (0.9, "leave none to train on"),
    ],
)
def test_shares_that_leave_nobody_are_refused(share: float, says: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 8), dtype=np.uint8)
    with pytest.raises(InputError, match=f"`test_share={share}`.*{says}"):
        from_arrays(pixels, identity=IDS, test_share=share)
    with pytest.raises(InputError, match=f"`test_share={share}`.*{says}"):
        load(folder(tmp_path / "photos", {"who": IDS}), pair_by="who", test_share=share)


@pytest.mark.parametrize(
    ("identity", "view"),
    [
        (np.repeat(np.arange(7), 3), np.tile([0, 1, 2], 7)),
        (np.repeat(np.arange(5), 4), np.arange(20)),
        ([0, 0, 1, 1, 2, 3, 3, 3, 4], [0, 1, 0, 1, 0, 1, 2, 2, 1]),  # some are seen in one view alone
    ],
    ids=["a grid", "views of their own", "few"],
)
def test_chance_is_the_recall_of_codes_that_say_nothing(identity: Any, view: Any) -> None:
    identity, view = torch.as_tensor(identity), torch.as_tensor(view).float()
    generator = torch.Generator().manual_seed(0)
    drawn = [
        recall_at_1(torch.randn(len(view), 8, generator=generator), identity, view, seed=seed, draws=20)
        for seed in range(60)
    ]
    assert recall_by_chance(identity, view) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 60**0.5)


def test_chance_of_identities_that_are_seen_once() -> None:
    assert recall_by_chance(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])) == 0.5
    with pytest.raises(ValueError, match="two views"):
        recall_by_chance(torch.arange(3), torch.zeros(3))
