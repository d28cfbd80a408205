"""Pairs of faces share the attributes that are equal."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyro_disent.batch import Batch
from pyro_disent.data.faces import celeba
from pyro_disent.data.faces.celeba import FaceSplit, load
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.models.latents import Latent, each, sharing
from pyro_disent.runs.presets import configure
from pyro_disent.training.feed import Feed
from tests.celeba_files import HAS, NAMES, expected, generator, local, write
from tests.syncs import refused_syncs
from tests.test_device import NoReadBack

LATENTS = (Latent("z", 40, explains=each(*ATTRIBUTES)), Latent("y", 2, explains="rest"))


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data" / "celeba")


def make_split(count: int, seed: int = 0) -> FaceSplit:
    """Face i is a single pixel of brightness i, so that a batch shows which faces it took."""
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 1, 1).contiguous()
    return FaceSplit(images, torch.randint(2, (count, 40), generator=generator(seed)).float())


def taken(batch: Batch) -> Tensor:
    return (batch.images[:, :, 0] * 255).round().long().flatten(1)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 200), seed=st.integers(0, 2**31))
def test_a_pair_shares_the_attributes_that_are_equal(count: int, seed: int) -> None:
    split = make_split(count, seed)
    index = torch.randint(count, (50,), generator=generator(seed))
    batch = split.batch(index, generator(seed))
    first, second = taken(batch)
    assert torch.equal(first, index) and (first != second).all()
    known = split.attributes[torch.stack([first, second])]
    assert list(batch.factors) == list(ATTRIBUTES)
    assert torch.equal(torch.stack(list(batch.factors.values()), -1), known)
    shared = sharing(LATENTS, batch).shared
    assert torch.equal(shared["z"], known[0] == known[1]) and not shared["y"].any()
    again = split.batch(index, generator(seed))
    assert torch.equal(again.images, batch.images)
    single = split.batch(index, generator(seed), views=1)
    assert torch.equal(taken(single)[0], index) and single.factors["Young"].shape == (1, 50)


def test_every_other_face_is_equally_likely() -> None:
    draws, split = 9_000, make_split(10)
    second = taken(split.batch(torch.full((draws,), 3), generator()))[1]
    counted = torch.bincount(second, minlength=10)
    assert counted[3] == 0
    rest, mean = torch.cat([counted[:3], counted[4:]]), draws / 9
    assert ((rest - mean) ** 2 / mean).sum() < 26.1  # chi-square, eight degrees of freedom: passed by 999 of 1000


def test_the_feed_shares_what_the_list_says(folder: Path) -> None:
    data = load(local(folder))
    feed = Feed(data.train, 4, seed=0, views=2, sharing=partial(sharing, LATENTS))
    of = {expected(name).numpy().tobytes(): HAS[row] for row, name in enumerate(NAMES)}
    for _ in range(5):
        batch = feed.next()
        pixels = (batch.images * 255).round().to(torch.uint8)
        first, second = (np.stack([of[image.numpy().tobytes()] for image in view]) for view in pixels)
        assert np.array_equal(batch.shared["z"].numpy(), first == second) and not batch.shared["y"].any()


def test_examples_are_every_face_once() -> None:
    split = make_split(30)
    examples = split.examples(0)
    assert torch.equal(examples.images[:], split.images[:]) and examples.labels == {}
    assert torch.equal(torch.stack(list(examples.factors.values()), -1), split.attributes)
    assert examples.factors["Bald"].dtype == torch.float32


def test_batches_stay_on_their_device_and_wait_for_nobody() -> None:
    with NoReadBack() as mode:
        sharing(LATENTS, make_split(5).batch(torch.arange(5), generator()))
    assert "randint" in mode.names
    moved = make_split(5).to("meta")
    assert moved.images.is_meta and moved.attributes.is_meta  # type: ignore[union-attr]
    with FakeTensorMode():
        images = torch.zeros(9, 3, 4, 4, dtype=torch.uint8, device="cuda")
        split = FaceSplit(images, torch.zeros(9, 40, device="cuda"))
        index = torch.arange(5, device="cuda")
        batch = sharing(LATENTS, split.batch(index, None))  # type: ignore[arg-type]  # no generator can be simulated
        for tensor in (batch.images, *batch.factors.values(), *batch.shared.values()):
            assert tensor.device.type == "cuda"
        assert split.examples(0).factors["Male"].device.type == "cuda"


@pytest.mark.cuda
def test_batches_on_a_real_gpu_without_a_sync() -> None:
    split, index = make_split(50).to("cuda"), torch.arange(50, device="cuda")
    source = torch.Generator("cuda").manual_seed(0)
    sharing(LATENTS, split.batch(index, source))
    with refused_syncs():
        batch = sharing(LATENTS, split.batch(index, source))
    first, second = taken(batch).cpu()
    known = make_split(50).attributes
    assert (first != second).all() and torch.equal(batch.shared["z"].cpu(), known[first] == known[second])


def test_the_papers_weights_are_those_of_its_own_method() -> None:
    for preset in ("paper", "quick"):
        similarity = configure("similarity", "celeba", preset, {})
        assert (similarity.beta, similarity.weights) == (1.1, {"similarity": 5})
        assert {name: spec.units for name, spec in similarity.latents.items()} == {"z": 40, "y": 10}
        assert configure("cycle", "celeba", preset, {}).weights == {}


def test_attributes_are_factors_of_two_bins() -> None:
    for factor in celeba.FACTORS:
        assert factor.edges == (0.5,) and factor.categories == ("no", "yes") and not factor.circular
