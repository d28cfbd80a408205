"""Colored MNIST: the distribution of its colors, which color goes with which digit, and pairs that differ in color."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare, ks_2samp, kstest, truncnorm
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyro_disent.batch import as_float
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.mnist.colored import (
    CHANNELS,
    FACTORS,
    MEAN_COLORS,
    VARIANCE,
    ColoredMNIST,
    load,
    rounded,
    within_unit,
)
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from pyro_disent.objectives.terms import quantized
from tests.models import masks
from tests.syncs import refused_syncs
from tests.test_device import NoReadBack

pytestmark = pytest.mark.usefixtures("whole_sample")
SPREAD = VARIANCE**0.5
MEANS = np.array(MEAN_COLORS) / 255
EXACT = 1e-9
"""A variance so small that a color says which mean it has."""


def loaded(**options: float) -> DataSet:
    return load(Request("embedded"), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data() -> DataSet:
    return loaded()


@pytest.fixture(scope="module")
def exact() -> DataSet:
    return loaded(variance=EXACT)


def splits(data: DataSet) -> list[ColoredMNIST]:
    return [split for split in (data.train, data.validation, data.test) if isinstance(split, ColoredMNIST)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truncated(mean: float, spread: float = SPREAD) -> truncnorm:
    return truncnorm(-mean / spread, (1 - mean) / spread, mean, spread)


def by_rejection(mean: NDArray[np.float64], spread: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The published way: draw again until all channels lie in the open interval."""
    colors = rng.normal(mean, spread)
    while (outside := (colors <= 0) | (colors >= 1)).any():
        colors[outside] = rng.normal(mean[outside], spread)
    return colors


def nearest_mean(colors: Tensor) -> NDArray[np.int64]:
    """Which of the ten means these colors ``(3, images)`` are closest to."""
    return np.square(colors.T.numpy()[:, None] - MEANS).sum(-1).argmin(-1)


# The noise.


@settings(deadline=None)
@given(
    st.sampled_from(sorted({value for color in MEAN_COLORS for value in color})),
    st.floats(1e-4, 0.25),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_colors_are_quantiles_of_the_truncated_normal(mean: int, variance: float, uniform: list[float]) -> None:
    shares = torch.tensor(uniform, dtype=torch.float64)
    ours = within_unit(torch.full_like(shares, mean / 255), variance, shares)
    expected = truncated(mean / 255, variance**0.5).ppf(uniform)
    # Beyond eight standard deviations float64 cannot tell a share from 0 or 1.
    within = np.abs(expected - mean / 255) < 7 * variance**0.5
    np.testing.assert_allclose(ours.numpy()[within], expected[within], atol=1e-4 * variance**0.5)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.25, exclude_min=True), st.floats(0, 1, exclude_max=True))
def test_colors_lie_within_one_whatever_their_mean_and_variance(mean: float, variance: float, share: float) -> None:
    double = {"dtype": torch.float64}
    color = within_unit(torch.tensor([mean], **double), variance, torch.tensor([share], **double))  # type: ignore[arg-type]
    assert 0 <= color <= 1 and abs(color - mean) <= 9 * variance**0.5
    assert 1 / 256 < rounded(color) <= 1


@given(st.lists(st.one_of(st.floats(0, 1), st.integers(0, 510).map(lambda half: half / 510)), min_size=1))
def test_colors_are_rounded_as_published(colors: list[float]) -> None:
    expected = np.clip(np.rint(np.array(colors) * 255), 1, 255) / 255
    assert torch.equal(rounded(torch.tensor(colors, dtype=torch.float64)), torch.from_numpy(expected).float())


@pytest.mark.parametrize("mean", [0, 16, 128, 253])
def test_draws_are_truncated_normal(mean: int) -> None:
    uniform = torch.rand(20_000, generator=generator(mean), dtype=torch.float64)
    ours = within_unit(torch.full_like(uniform, mean / 255), VARIANCE, uniform).numpy()
    assert kstest(ours, truncated(mean / 255).cdf).pvalue > 0.01
    redrawn = by_rejection(np.full(20_000, mean / 255), SPREAD, np.random.default_rng(mean))
    assert ks_2samp(ours, redrawn).pvalue > 0.01


@pytest.mark.parametrize("views", [1, 2])
def test_every_class_has_the_mean_and_spread_of_its_truncated_normals(data: DataSet, views: int) -> None:
    """Of the colors that images keep, and of those that the second view of a pair is given."""
    batch = data.train.batch(torch.arange(len(data.train)), generator(1), views)
    digit = data.train.labels["digit"]
    errors = []
    for channel, name in enumerate(CHANNELS):
        for k in range(10):
            values = batch.factors[name][views - 1, digit == k].double()
            law = truncated(MEANS[k, channel])
            errors.append(float(values.mean() - law.mean()) / (law.std() / len(values) ** 0.5))
            assert float(values.std()) == pytest.approx(law.std(), rel=0.1)
    assert np.abs(errors).max() < 4 and 0.5 < np.std(errors) < 1.5


def test_the_mean_of_a_class_is_not_the_mean_before_truncation(data: DataSet) -> None:
    """Maroon has no green: all of its noise lies above."""
    green = data.train.factors["green"][data.train.labels["digit"] == 9]
    assert float(green.mean()) == pytest.approx(SPREAD * (2 / np.pi) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_all_splits_and_both_views_have_the_published_noise(data: DataSet, name: str) -> None:
    """In bytes, against the published way of drawing."""
    split = getattr(data, name)
    rng = np.random.default_rng(3)
    of = split.labels["digit"].numpy() if name != "test" else rng.integers(10, size=len(split))
    published = np.clip(np.rint(by_rejection(MEANS[of], SPREAD, rng) * 255), 1, 255)
    factors = split.batch(torch.arange(len(split)), generator(2)).factors
    for channel, factor in enumerate(CHANNELS):
        for view in factors[factor]:
            assert ks_2samp((view * 255).round().numpy(), published[:, channel]).pvalue > 0.01


# Which color goes with which digit.


def test_training_and_validation_digits_have_the_color_of_their_class(exact: DataSet) -> None:
    for split in (exact.train, exact.validation):
        colors = torch.stack(list(split.batch(torch.arange(len(split)), generator()).factors.values()))
        for view in range(2):
            assert (nearest_mean(colors[:, view]) == split.labels["digit"].numpy()).all()


def test_test_digits_have_any_color_in_both_views(exact: DataSet) -> None:
    factors = exact.test.batch(torch.arange(len(exact.test)), generator()).factors
    first, second = (nearest_mean(torch.stack([values[view] for values in factors.values()])) for view in range(2))
    digit = exact.test.labels["digit"].numpy()
    for colors in (first, second):
        assert chisquare(np.bincount(colors, minlength=10)).pvalue > 0.01
    for one, other in ((first, digit), (second, digit), (first, second)):
        table = np.zeros((10, 10))
        np.add.at(table, (one, other), 1)
        assert chi2_contingency(table).pvalue > 0.01


def test_splits_views_and_channels_have_noise_of_their_own(data: DataSet) -> None:
    """Seen from its class's mean, no color follows from that of another channel, view, or split's image."""
    mean = torch.tensor([[truncated(value).mean() for value in color] for color in MEANS])
    noise, source = [], generator()
    for split in (data.train, data.validation):
        views = torch.stack(list(split.batch(torch.arange(800), source).factors.values()), -1)
        noise += list(views - mean[split.labels["digit"][:800]])
    assert torch.corrcoef(torch.cat(noise, -1).T).fill_diagonal_(0).abs().max() < 0.15


# Images and pairs.


def test_digits_are_flat_on_black(data: DataSet) -> None:
    grey = mnist.read(Request("embedded"))
    for split, digits in zip(splits(data), (grey.train, grey.validation, grey.test), strict=True):
        assert split.image_shape == data.image_shape == (3, 28, 28)
        assert split.images.shape == digits.images.shape  # one channel, whatever is shown
        examples = split.examples(0)
        assert torch.equal(examples.labels["digit"], digits.labels)
        assert examples.images.dtype == torch.uint8 and examples.images.shape == (len(split), 3, 28, 28)
        for channel, name in enumerate(CHANNELS):
            value = (255 * examples.factors[name]).round().to(torch.uint8)
            assert value.min() >= 1
            assert torch.equal(examples.images[:, channel], (digits.images[:, 0] > 128) * value[:, None, None])


def test_a_pair_is_one_digit_in_two_colors(data: DataSet) -> None:
    for split in splits(data):
        index = torch.randperm(len(split), generator=generator())[:200]
        batch = split.batch(index, generator())
        assert batch.images.shape == (2, 200, 3, 28, 28) and batch.images.is_contiguous()
        digit = split.images[index, 0] == 1
        for channel, name in enumerate(CHANNELS):
            for view in range(2):
                flat = digit * batch.factors[name][view][:, None, None]
                assert torch.equal(batch.images[view, :, channel], flat)
            assert (batch.factors[name][0] != batch.factors[name][1]).float().mean() > 0.9
        shared = masks(batch, "z", "y", "red")
        assert shared["z"].all() and not shared["y"].any()
        assert torch.equal(
            shared["red"][:, 0], batch.images[0, :, 0].amax((1, 2)) == batch.images[1, :, 0].amax((1, 2))
        )


def test_the_first_view_has_the_color_that_the_image_keeps(data: DataSet) -> None:
    for split in splits(data):
        index = torch.randperm(len(split), generator=generator())[:200]
        own = as_float(split.examples(seed=7).images[index])
        for views in (1, 2):
            batch = split.batch(index, generator(views), views)
            assert torch.equal(batch.images[0], own)
            for name in CHANNELS:
                assert torch.equal(batch.factors[name][0], split.factors[name][index])


def test_pairs_follow_their_generator_and_own_colors_the_seed() -> None:
    one, again, other = (loaded(seed=seed, limit=500) for seed in (3, 3, 4))
    index = torch.arange(100)
    for first, second, third in zip(splits(one), splits(again), splits(other), strict=True):
        assert torch.equal(first.examples(0).images, second.examples(1).images)
        assert not torch.equal(first.examples(0).images, third.examples(0).images)
        assert torch.equal(first.batch(index, generator(1)).images, second.batch(index, generator(1)).images)
        assert not torch.equal(first.batch(index, generator(1)).images, first.batch(index, generator(2)).images)


def test_no_image_is_in_two_splits(data: DataSet) -> None:
    images = [{image.tobytes() for image in split.examples(0).images.numpy()} for split in splits(data)]
    assert len(set.union(*images)) == sum(map(len, images))


# Bins.


@pytest.mark.parametrize("given", ["bytes", "drawn", "by the inverse"])
def test_bins_are_the_byte_divided_by_64(given: str) -> None:
    """As the predictor sees them, for every byte; a GPU may multiply by the inverse of 255 instead of dividing."""
    byte = torch.arange(256)
    values = {
        "bytes": as_float(byte.to(torch.uint8)),
        "drawn": rounded(byte / 255),
        "by the inverse": byte.double().mul(1 / 255).float(),
    }[given]
    assert [factor.name for factor in FACTORS] == ["red", "green", "blue"]
    for factor in FACTORS:
        assert torch.equal(quantized(values, torch.tensor(factor.edges)), byte // 64)


# Loading.


def test_limit_changes_no_color(data: DataSet) -> None:
    few = loaded(limit=100)
    assert [len(split) for split in splits(few)] == [100, 800, 2_000]
    for part, whole in zip(splits(few), splits(data), strict=True):
        assert torch.equal(part.examples(0).images, whole.examples(0).images[: len(part)])
    assert len(loaded(limit=10**9).train) == 7_200
    with pytest.raises(InputError, match="`limit=0`"):
        loaded(limit=0)


def test_what_is_loaded_is_said_and_loads_again() -> None:
    one = loaded(seed=5, limit=30, variance=0.05)
    assert one.name == "colored-mnist" and one.source.kind == "embedded"
    assert [factor.name for factor in one.factors] == list(CHANNELS)
    again = loaded(**json.loads(json.dumps(one.options)))
    assert again.options == one.options
    for first, second in zip(splits(one), splits(again), strict=True):
        assert torch.equal(first.examples(0).images, second.examples(0).images)
        assert torch.equal(
            first.batch(torch.arange(9), generator()).images, second.batch(torch.arange(9), generator()).images
        )


def test_the_variance_is_that_of_the_colors() -> None:
    for variance in (0.001, 0.02, 0.05):
        split = loaded(variance=variance).train
        green = split.factors["green"][split.labels["digit"] == 1]  # of teal, in the middle: least is cut off
        assert float(green.std()) == pytest.approx(truncated(128 / 255, variance**0.5).std(), rel=0.1)


@pytest.mark.parametrize("variance", [0, 0.0, -0.03, 0.2500001, float("inf"), float("nan"), "0.03", None, True, [0.03]])
def test_variances_that_make_no_sense_are_refused(variance: object) -> None:
    with pytest.raises(InputError, match=r"variance of colored-mnist must be above 0 and at most 0\.25") as caught:
        load(Request("embedded"), variance=variance)  # type: ignore[arg-type]
    assert repr(variance) in str(caught.value) and "\n" not in str(caught.value)


# Devices.


def test_nothing_is_made_on_the_default_device(data: DataSet) -> None:
    index, source = torch.arange(8), generator()
    expected = [split.batch(index, generator()).images for split in splits(data)]
    with torch.device("meta"):
        for split, images in zip(splits(loaded()), expected, strict=True):
            assert torch.equal(split.batch(index, source.manual_seed(0)).images, images)
            assert split.examples(0).images.device.type == "cpu"


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("views", [1, 2])
def test_a_batch_stays_on_its_device_and_reads_nothing_back(biased: bool, views: int, data: DataSet) -> None:
    with NoReadBack():
        (data.train if biased else data.test).batch(torch.arange(8), generator(), views)
    source = generator()  # of a CPU: no generator can be had of a device that is only simulated
    with FakeTensorMode(allow_non_fake_inputs=False):
        masks, digits = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
        split = ColoredMNIST(masks, {"digit": digits}, torch.rand(3, 8), VARIANCE, biased=biased).to("cuda")
        batch = split.batch(torch.arange(8, device="cuda"), source, views)
        examples = split.examples(0)
        made = (batch.images, *batch.factors.values(), examples.images, *examples.factors.values())
        assert {tensor.device.type for tensor in made} == {"cuda"}


def test_autocast_changes_no_color(data: DataSet) -> None:
    expected = data.train.batch(torch.arange(8), generator()).images
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(data.train.batch(torch.arange(8), generator()).images, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["train", "test"])
def test_batches_on_cuda_without_a_sync(name: str) -> None:
    here, there = getattr(loaded(), name), getattr(loaded(), name).to("cuda")
    index, source = torch.arange(256, device="cuda"), torch.Generator("cuda").manual_seed(0)
    there.batch(index, source)
    with refused_syncs():
        batch = there.batch(index, source)
    assert torch.equal(batch.images[0].cpu(), here.batch(index.cpu(), generator(), 1).images[0])
    for values in batch.factors.values():
        assert torch.equal((values.cpu() * 255).round() / 255, values.cpu())
    assert torch.equal(there.examples(0).images.cpu(), here.examples(0).images)
