"""Chairs from a request to pairs: the cache, how two views become a pair, and what they may differ in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from pyro_disent.batch import Batch
from pyro_disent.data.chairs import chairs
from pyro_disent.data.chairs.chairs import ChairSplit, describe, load, pairs_of, prepare
from pyro_disent.data.chairs.drawn.family import VIEWS
from pyro_disent.data.dataset import DataSet, Split
from pyro_disent.data.images import array_cache
from pyro_disent.data.sources import Request
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError
from pyro_disent.runs.presets import configure
from tests.models import masks

TINY = (2, 1, 1)
EMBEDDED = Request("embedded")


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For tests that look into the cache; the others share what was rendered."""
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def all_of(data: DataSet) -> list[Split]:
    return [data.train, data.validation, data.test]


# The cache


def test_embedded_chairs_are_rendered_once(own_cache: Path) -> None:
    assert "to be rendered" in describe(EMBEDDED)
    rendered = []
    first = load(EMBEDDED, counts=TINY, progress=lambda *done: rendered.append(done))
    assert len(rendered) == 4
    again = load(EMBEDDED, counts=list(TINY), progress=lambda *done: pytest.fail("rendered again"))
    assert first.source == again.source and torch.equal(first.train.images, again.train.images)
    assert [path.suffix for path in own_cache.iterdir()] == [".npz"]
    assert load(EMBEDDED, counts=TINY, seed=1).source.sha256 != first.source.sha256
    assert load(EMBEDDED, counts=TINY, color=True).image_shape == (3, 64, 64)


def damage(path: Path, how: str) -> None:
    """Spoil a file of the cache in one of four ways."""
    content = bytearray(path.read_bytes())
    if how == "changed":
        content[len(content) // 2] ^= 1
    elif how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    else:  # a whole file with other contents: only the recorded hash tells
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["images"][0] ^= 1
        with path.open("wb") as file:
            np.savez(file, **arrays)
        return
    path.write_bytes(content)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("how", ["changed", "truncated", "empty", "other"])
def test_a_damaged_cache_is_rendered_again_and_never_trusted(how: str) -> None:
    whole = load(EMBEDDED, counts=TINY)
    damage(prepare(EMBEDDED, counts=TINY), how)
    assert torch.equal(load(EMBEDDED, counts=TINY).train.images, whole.train.images)
    load(EMBEDDED, counts=TINY, progress=lambda *done: pytest.fail("rendered again"))


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="PYRO_DISENT_CACHE"):
        load(EMBEDDED, counts=(1, 1, 1))


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "arrays.npz"
    sha256 = array_cache.save(path, {"a": np.arange(3)})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        array_cache.save(path, {"a": np.arange(4)})
    monkeypatch.undo()
    arrays, recorded = array_cache.load_arrays(path)
    assert recorded == sha256 and arrays["a"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_threads_keep_the_order_and_stop_at_the_first_error() -> None:
    assert list(in_threads(lambda x: x * x, iter(range(50)), 50, workers=3)) == [x * x for x in range(50)]
    started = []

    def fail(x: int) -> int:
        started.append(x)
        if x == 3:
            raise ValueError("three")
        return x

    with pytest.raises(ValueError, match="three"):
        list(in_threads(fail, iter(range(10_000)), 10_000, workers=2))
    assert len(started) < 100


# Splits and pairs


def make_split(counts: list[int], vary: tuple[str, ...] | None = None) -> ChairSplit:
    """Image ``i`` is a single pixel of brightness ``i``, so that a batch shows which images it took."""
    total = sum(counts)
    identity = torch.repeat_interleave(torch.arange(len(counts)) * 3, torch.tensor(counts))
    factors = {
        "azimuth": torch.cat([torch.arange(count) // 2 for count in counts]).float(),
        "elevation": torch.arange(total).remainder(2).float(),
    }
    images = torch.arange(total, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return ChairSplit(images, {"identity": identity}, factors, torch.zeros(total), pairs_of(list(factors), vary=vary))


def taken(batch: Batch) -> Tensor:
    return (batch.images * 255).round().long().flatten(1)


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(2, 9), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_a_pair_is_one_chair_in_two_different_images(counts: list[int], seed: int) -> None:
    split = make_split(counts)
    index = torch.randint(len(split), (40,), generator=torch.Generator().manual_seed(seed))
    batch = split.batch(index, torch.Generator().manual_seed(seed))
    first, second = taken(batch)
    assert torch.equal(first, index)
    assert (first != second).all()
    assert torch.equal(split.labels["identity"][first], split.labels["identity"][second])
    for name, values in split.factors.items():
        assert torch.equal(batch.factors[name], values[torch.stack([first, second])])
    single = split.batch(index, torch.Generator(), views=1)
    assert single.images.shape == (1, 40, 1, 1, 1) and torch.equal(taken(single)[0], index)


def test_every_other_view_is_equally_likely() -> None:
    split = make_split([3, 7, 2])
    draws = 7000
    index = torch.full((draws,), 5)  # the third image of the chair of seven
    second = taken(split.batch(index, torch.Generator().manual_seed(0)))[1]
    counted = torch.bincount(second, minlength=12)
    assert counted[[0, 1, 2, 5, 10, 11]].sum() == 0
    expected = draws / 6
    statistic = ((counted[[3, 4, 6, 7, 8, 9]] - expected) ** 2 / expected).sum()
    assert statistic < 20.5  # chi-square, five degrees of freedom: passed by 999 of 1000


def test_vary_holds_the_other_factors_equal() -> None:
    split = make_split([8, 6], vary=("azimuth",))
    index = torch.arange(14).repeat(50)
    batch = split.batch(index, torch.Generator().manual_seed(0))
    first, second = taken(batch)
    assert torch.equal(split.labels["identity"][first], split.labels["identity"][second])
    assert torch.equal(*batch.factors["elevation"])
    assert (batch.factors["azimuth"][0] != batch.factors["azimuth"][1]).all()
    for image in range(14):
        reached = set(second[first == image].tolist())
        low, high = (0, 8) if image < 8 else (8, 14)
        assert reached == {other for other in range(low, high) if other % 2 == image % 2} - {image}


def test_an_image_without_a_partner_is_refused() -> None:
    with pytest.raises(
        InputError, match="chair 3 has a view without another one of the same identity: a pair needs two"
    ):
        make_split([2, 1])
    # The first and the second of three images differ in elevation alone, the first and the third in azimuth alone.
    assert len(make_split([3], vary=("azimuth", "elevation"))) == 3
    with pytest.raises(
        InputError, match=r"chair 0 .* without another one of the same identity\+azimuth: a pair needs two"
    ):
        make_split([3], vary=("elevation",))


def test_batches_are_reproducible_and_stay_on_their_device() -> None:
    split = make_split([4, 4])
    one, two = (split.batch(torch.arange(8), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert all(value.is_meta for value in vars(split.to("meta")).values() if isinstance(value, torch.Tensor))
    assert all(values.is_meta for values in split.factors.values())


def test_embedded_splits_hold_different_chairs_and_all_that_is_known() -> None:
    data = load(EMBEDDED, counts=TINY)
    assert [len(split) for split in all_of(data)] == [124, 62, 62]
    held = [set(split.labels["identity"].tolist()) for split in all_of(data)]
    assert held == [{0, 1}, {2}, {3}]
    assert [factor.name for factor in data.factors] == ["azimuth", "elevation", "zoom"]
    assert data.factors[0].circular
    examples = data.test.examples(seed=0)
    assert examples.images.dtype == torch.uint8 and examples.images.shape == (62, 1, 64, 64)
    assert set(examples.factors) == {"azimuth", "elevation", "zoom"}
    assert all(values.dtype == torch.float32 and values.shape == (62,) for values in examples.factors.values())
    assert set(examples.labels) == {"identity", *chairs.STYLE_NAMES}
    assert all(values.dtype == torch.int64 for values in examples.labels.values())
    batch = data.train.batch(torch.arange(10), torch.Generator())
    assert batch.images.shape == (2, 10, 1, 64, 64) and batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() < 0.5 and batch.images.max() == 1
    shared = masks(batch, "z", "y")
    assert shared["z"].all() and not shared["y"].any()
    assert data.options["counts"] == list(TINY)


@pytest.mark.parametrize("limit", [2, 40, 62, 63, 64, 123, 124, 1000])
def test_limit_counts_training_images(limit: int) -> None:
    data = load(EMBEDDED, counts=TINY, limit=limit)
    assert len(data.train) == min(limit, 124)
    assert len(data.test) == 62
    data.train.batch(torch.arange(len(data.train)), torch.Generator())


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_a_limit_without_a_pair_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match="`limit="):
        load(EMBEDDED, counts=TINY, limit=limit)


@pytest.mark.parametrize("counts", [(1, 1), (0, 1, 1)])
def test_every_split_needs_a_chair(counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="train, validation and test"):
        load(EMBEDDED, counts=counts)


# One factor at a time


LATENTS = ("z", "azimuth", "elevation", "zoom")


@pytest.mark.parametrize(
    "factors", [["azimuth"], ["elevation"], ["zoom"], ["zoom", "azimuth"], ["azimuth", "elevation", "zoom"]]
)
def test_each_pair_changes_one_of_the_named_factors(factors: list[str]) -> None:
    data = load(EMBEDDED, counts=TINY, factors=factors)
    assert [factor.name for factor in data.factors] == ["azimuth", "elevation", "zoom"]
    assert data.options["factors"] == sorted(factors)  # which is the order of `FACTORS`
    for split in all_of(data):
        index = torch.randperm(len(split))[:150].repeat(4)
        batch = split.batch(index, torch.Generator().manual_seed(0))
        changed = {name: values[0] != values[1] for name, values in batch.factors.items()}
        assert (sum(mask.int() for mask in changed.values()) == 1).all()
        counted = {name: int(mask.sum()) for name, mask in changed.items()}
        assert {name for name, count in counted.items() if count} == set(factors)
        if len(factors) > 1:
            assert chisquare([counted[name] for name in factors]).pvalue > 0.001
        shared = masks(batch, *LATENTS)
        assert shared["z"].all() and all(torch.equal(~shared[name][:, 0], changed[name]) for name in changed)


def test_the_second_view_is_the_chair_as_its_factors_say() -> None:
    split = load(EMBEDDED, counts=TINY, factors=["azimuth", "elevation", "zoom"]).train

    def seen(image: int) -> tuple[float, ...]:
        return int(split.labels["identity"][image]), *(values[image].item() for values in split.factors.values())

    places = {seen(image): image for image in range(len(split))}
    assert len(places) == len(split) == 2 * VIEWS * chairs.ZOOMS
    index = torch.arange(0, len(split), 5)
    batch = split.batch(index, torch.Generator().manual_seed(0))
    for image, first, second, *values in zip(
        index.tolist(), *batch.images, *(values[1].tolist() for values in batch.factors.values()), strict=True
    ):
        partner = places[(int(split.labels["identity"][image]), *values)]
        assert torch.equal(first, split.images[image] / 255) and torch.equal(second, split.images[partner] / 255)


def test_zooms_are_rendered_once_into_a_file_of_their_own(own_cache: Path) -> None:
    plain = prepare(EMBEDDED, counts=TINY)
    before = plain.read_bytes()
    at_three = prepare(EMBEDDED, counts=TINY, factors=["zoom"])
    assert prepare(EMBEDDED, counts=TINY, factors=["azimuth", "elevation"]) == at_three  # the same images
    data = load(EMBEDDED, counts=TINY, factors=["zoom"], progress=lambda *done: pytest.fail("rendered again"))
    assert data.source.location == "4 generated chairs at 3 zooms, version 1, seed 0"
    assert data.train.factors["zoom"].unique().tolist() == [0.75, 0.875, 1.0]
    five = load(EMBEDDED, counts=TINY, factors=["zoom"], zooms=5).train
    assert five.factors["zoom"].unique().tolist() == [0.75, 0.8125, 0.875, 0.9375, 1.0]
    assert len(list(own_cache.iterdir())) == 3 and plain.read_bytes() == before
    # Without factors there is a zoom for each image, however many levels there would be.
    drawn = load(EMBEDDED, counts=TINY, zooms=5, progress=lambda *done: pytest.fail("rendered again")).train
    assert len(drawn.factors["zoom"].unique()) == len(drawn)


def test_what_was_loaded_is_loaded_again_by_its_options() -> None:
    data = load(EMBEDDED, counts=TINY, factors=("elevation", "azimuth"), zooms=2, limit=30)
    again = load(EMBEDDED, **data.options)
    assert again.options == data.options and again.source == data.source
    one, two = (each.train.batch(torch.arange(30), torch.Generator().manual_seed(1)) for each in (data, again))
    assert torch.equal(one.images, two.images)


@pytest.mark.parametrize("factors", [["colour"], [], ["zoom", "zoom"], "azimuth", {"azimuth"}, [["azimuth"]], [None]])
def test_other_factors_are_refused_before_anything_is_rendered(own_cache: Path, factors: object) -> None:
    for function in (load, prepare):
        with pytest.raises(InputError, match="one or more of azimuth, elevation, zoom, each named once, not "):
            function(EMBEDDED, counts=TINY, factors=factors)
    assert not own_cache.exists()


@pytest.mark.parametrize("zooms", [1, 0, -2, 2.5, "3", True])
def test_zooms_are_two_or_more(zooms: object) -> None:
    with pytest.raises(InputError, match="zooms of embedded chairs are a number of levels, 2 or more, not "):
        load(EMBEDDED, counts=TINY, factors=["zoom"], zooms=zooms)


@pytest.mark.parametrize("factors", [["elevation"], ["zoom"], ["azimuth", "elevation"], ["azimuth", "zoom"]])
def test_a_limit_keeps_partners_together(factors: list[str]) -> None:
    whole = load(EMBEDDED, counts=TINY, factors=factors).train
    for limit in (2, 3, 5, 32, 187, 371, 372, 1000):
        split = load(EMBEDDED, counts=TINY, factors=factors, limit=limit).train
        assert min(limit, len(whole)) - 1 <= len(split) <= min(limit, len(whole))
        assert len(split) == min(limit, len(whole)) or limit % 2  # pairs of elevations are two
        assert split.labels["identity"].max() == (len(split) > len(whole) / 2)  # of two chairs
        split.batch(torch.arange(len(split)), torch.Generator())


def test_the_quick_cycle_weighs_the_view_s_kl_only_where_there_is_such_a_latent() -> None:
    quick = configure("cycle", "chairs", "quick", {})
    assert quick.beta == {"y": 30.0, "z": 0.3}
    assert configure("vae", "chairs", "quick", {}).beta is None
    assert configure("cycle", "chairs", "paper", {}).beta is None
    assert configure("cycle", "chairs", "quick", {"latents": {"y": {"units": 0}}}).beta == {"z": 0.3}
    assert configure("cycle", "chairs", "quick", {"beta": {"y": 4.0}}).beta == {"y": 4.0, "z": 0.3}
    assert configure("cycle", "chairs", "quick", {"beta": 2.0}).beta == 2.0
    others = {"z": {"units": 0}, "y": {"units": 0}, "identity": {"units": 3}}
    assert configure("cycle", "chairs", "quick", {"latents": others}).beta is None
