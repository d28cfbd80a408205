"""Rotated MNIST: the rotation and the scale themselves, and pairs that differ in one factor or in one of two."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest, kstest
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.mnist import rotated as rotated_mnist
from pyro_disent.data.mnist.rotated import MAX_ANGLE, MIN_SCALE, RotatedMNIST, rotate, rotation_grid
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from tests.models import masks
from tests.syncs import refused_syncs
from tests.test_device import NoReadBack

pytestmark = pytest.mark.usefixtures("whole_sample")
BOTH = ("rotation", "scale")
CHOICES = [("rotation",), ("scale",), BOTH]


def digits(vary: tuple[str, ...] = ("rotation",)) -> RotatedMNIST:
    data = mnist.read(Request("embedded"))
    return RotatedMNIST(data.train.images, {"digit": data.train.labels}, vary)


@pytest.fixture(scope="module")
def sample() -> RotatedMNIST:
    return digits()


@pytest.fixture(scope="module")
def both() -> RotatedMNIST:
    return digits(BOTH)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_affine_grid(images: Tensor, angles: Tensor, scales: Tensor | float = 1.0) -> Tensor:
    cos, sin, zero = angles.cos() / scales, angles.sin() / scales, torch.zeros_like(angles)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], -1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(-3.125, 3.125, width=32), st.floats(0.25, 2, width=32)), min_size=1, max_size=8),
)
def test_it_is_affine_grid_and_grid_sample(seed: int, values: list[tuple[float, float]]) -> None:
    images = torch.rand(len(values), 1, 28, 28, generator=generator(seed))
    angles, scales = torch.tensor(values).T
    ours = rotate(images, angles.unsqueeze(0), rotation_grid(28))[0]
    torch.testing.assert_close(ours, by_affine_grid(images, angles), atol=1e-5, rtol=0)
    ours = rotate(images, angles.unsqueeze(0), rotation_grid(28), scales.unsqueeze(0))[0]
    torch.testing.assert_close(ours, by_affine_grid(images, angles, scales), atol=3e-5, rtol=0)


@pytest.mark.parametrize("degrees", [-60, -37.5, -5, 12, 45, 60, 90])
def test_positive_angles_turn_as_in_pillow(sample: RotatedMNIST, degrees: float) -> None:
    images = sample.images[:64]
    angles = torch.full((1, 64), math.radians(degrees))
    ours = rotate(images.float(), angles, sample.grid)[0, :, 0].numpy()
    for image, turned in zip(images[:, 0].numpy(), ours, strict=True):
        theirs = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR), np.float32)
        # Pillow's own pixels are rounded, and it samples the outermost ring of pixels differently.
        np.testing.assert_allclose(turned[1:-1, 1:-1], theirs[1:-1, 1:-1], atol=1.01)


def test_upright_stays_bit_by_bit(sample: RotatedMNIST) -> None:
    images = sample.images[:500].float() / 255
    for scales in (None, torch.ones(2, 500)):
        seen = rotate(images, torch.zeros(2, 500), sample.grid, scales)
        assert torch.equal(seen, images.expand(2, -1, -1, -1, -1))


def test_shrinking_comes_close_to_the_mean_over_the_area(sample: RotatedMNIST) -> None:
    images = sample.images[:1_000].float() / 255
    # Row by row, the share that each of 18 pixels covers of each of 28.
    covered = torch.eye(28).repeat_interleave(18, 0).reshape(18, 28, 28).mean(1)
    exact = functional.pad(covered @ images @ covered.T, [5] * 4)
    ours = rotate(images, torch.zeros(1, 1_000), sample.grid, torch.full((1, 1_000), 18 / 28))[0]
    assert (ours - exact).square().mean().sqrt() < 0.03
    ink = ours.sum((1, 2, 3)) / exact.sum((1, 2, 3))
    assert abs(ink.mean() - 1) < 0.002 and ink.std() < 0.025


def test_views_are_turned_by_their_own_angles(sample: RotatedMNIST) -> None:
    images, angles = sample.images[:3].float(), torch.tensor([[0.1, 0.2, 0.3], [-0.5, 0.0, 0.5]])
    both = rotate(images, angles, sample.grid)
    assert both.shape == (2, 3, 1, 28, 28)
    for view in range(2):
        for image in range(3):
            alone = rotate(images[image : image + 1], angles[view : view + 1, image : image + 1], sample.grid)
            assert torch.equal(both[view, image], alone[0, 0])


def test_white_images_stay_within_one() -> None:
    white = RotatedMNIST(torch.full((2_000, 1, 28, 28), 255, dtype=torch.uint8), {})
    images = white.batch(torch.arange(2_000), generator()).images
    assert images.max() <= 1 and images.min() >= 0


def test_a_pair_is_one_digit_under_two_angles(sample: RotatedMNIST) -> None:
    index = torch.randperm(len(sample), generator=generator())[:128]
    batch = sample.batch(index, generator())
    angles = batch.factors["rotation"]
    assert batch.images.shape == (2, 128, 1, 28, 28) and angles.shape == (2, 128)
    assert batch.images.dtype == torch.float32 and batch.images.is_contiguous()
    assert not torch.equal(batch.images[0], batch.images[1]) and (angles[0] != angles[1]).all()
    for view in range(2):
        expected = by_affine_grid(sample.images[index].float() / 255, angles[view])
        torch.testing.assert_close(batch.images[view], expected, atol=1e-5, rtol=0)


def test_one_view_is_turned_too(sample: RotatedMNIST) -> None:
    batch = sample.batch(torch.arange(16), generator(), views=1)
    assert batch.images.shape == (1, 16, 1, 28, 28) and (batch.factors["rotation"] != 0).all()


def test_a_pair_shares_z_and_not_y(sample: RotatedMNIST) -> None:
    shared = masks(sample.batch(torch.arange(16), generator()), "z", "y")
    assert shared["z"].all() and not shared["y"].any()


def test_angles_are_uniform_within_sixty_degrees(sample: RotatedMNIST) -> None:
    drawn = sample.batch(torch.arange(len(sample)), generator(1)).factors["rotation"]
    angles = drawn.flatten()
    assert math.degrees(MAX_ANGLE) == pytest.approx(60)
    for values in (angles.numpy(), sample.examples(1).factors["rotation"].numpy()):
        assert np.abs(values).max() <= MAX_ANGLE
        assert kstest(values, "uniform", (-MAX_ANGLE, 2 * MAX_ANGLE)).pvalue > 0.01
    assert abs(torch.corrcoef(drawn)[0, 1]) < 0.05


def test_batches_follow_their_generator(sample: RotatedMNIST) -> None:
    index = torch.arange(32)
    once, again, other = (sample.batch(index, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(once.images, again.images) and not torch.equal(once.images, other.images)


def test_examples_are_each_digit_once(sample: RotatedMNIST) -> None:
    once, again, other = (sample.examples(seed) for seed in (0, 0, 1))
    assert once.images.dtype == torch.uint8 and once.images.shape == sample.images.shape
    assert torch.equal(once.labels["digit"], sample.labels["digit"])
    assert torch.equal(once.images, again.images) and not torch.equal(once.images, other.images)
    index = torch.tensor([0, 4_095, 4_096, len(sample) - 1])  # on both sides of a chunk's end
    expected = by_affine_grid(sample.images[index].float(), once.factors["rotation"][index])
    torch.testing.assert_close(once.images[index].float(), expected, atol=0.51, rtol=0)


@pytest.mark.parametrize("vary", CHOICES)
def test_a_batch_holds_what_varies_and_shows_it(vary: tuple[str, ...]) -> None:
    split = digits(vary)
    index = torch.arange(0, 7_000, 100)
    for views in (1, 2):
        batch = split.batch(index, generator(), views)
        assert batch.images.shape == (views, 70, 1, 28, 28) and tuple(batch.factors) == vary
        neutral = {"rotation": torch.zeros(views, 70), "scale": torch.ones(views, 70)}
        angles, scales = (neutral | dict(batch.factors)).values()
        for view in range(views):
            expected = by_affine_grid(split.images[index].float() / 255, angles[view], scales[view])
            torch.testing.assert_close(batch.images[view], expected, atol=3e-5, rtol=0)
    examples = split.examples(0)
    assert tuple(examples.factors) == vary
    angles, scales = ({"rotation": torch.zeros(7_200), "scale": torch.ones(7_200)} | examples.factors).values()
    expected = by_affine_grid(split.images[index].float(), angles[index], scales[index])
    torch.testing.assert_close(examples.images[index].float(), expected, atol=0.51, rtol=0)


def test_a_pair_differs_in_one_of_two_factors_either_equally_likely(both: RotatedMNIST) -> None:
    batch = both.batch(torch.arange(len(both)), generator(5))
    differs = {name: values[0] != values[1] for name, values in batch.factors.items()}
    assert torch.equal(differs["rotation"], ~differs["scale"])
    assert binomtest(int(differs["scale"].sum()), len(both)).pvalue > 0.01
    for name, values in batch.factors.items():
        changed = values[:, differs[name]]
        low, high = {"rotation": (-MAX_ANGLE, MAX_ANGLE), "scale": (MIN_SCALE, 1.0)}[name]
        for view in values:
            assert kstest(view.numpy(), "uniform", (low, high - low)).pvalue > 0.01
        assert abs(torch.corrcoef(changed)[0, 1]) < 0.05
    other = both.batch(torch.arange(len(both)), generator(6))
    assert not torch.equal(other.factors["scale"][0] != other.factors["scale"][1], differs["scale"])


def test_a_pair_shares_the_latent_of_the_factor_that_is_equal(both: RotatedMNIST) -> None:
    batch = both.batch(torch.arange(256), generator())
    shared = masks(batch, "z", "rotation", "scale")
    assert shared["z"].all() and torch.equal(shared["rotation"], ~shared["scale"])
    assert 0 < shared["scale"].sum() < 256
    assert not masks(batch, "z", "y")["y"].any()  # y stands for both, of which one always differs


def test_both_factors_vary_freely_in_one_view(both: RotatedMNIST) -> None:
    drawn = both.batch(torch.arange(len(both)), generator(1), views=1).factors
    examples = both.examples(1).factors
    for factors in ({name: values[0] for name, values in drawn.items()}, examples):
        assert kstest(factors["scale"].numpy(), "uniform", (MIN_SCALE, 1 - MIN_SCALE)).pvalue > 0.01
        assert kstest(factors["rotation"].numpy(), "uniform", (-MAX_ANGLE, 2 * MAX_ANGLE)).pvalue > 0.01
        assert abs(torch.corrcoef(torch.stack(list(factors.values())))[0, 1]) < 0.05


@pytest.mark.parametrize("vary", CHOICES)
def test_nothing_is_made_on_the_default_device(vary: tuple[str, ...]) -> None:
    images = digits().images[:8]
    index, source = torch.arange(8), generator()
    expected = RotatedMNIST(images, {}, vary).batch(index, generator()).images
    with torch.device("meta"):
        split = RotatedMNIST(images, {}, vary)
        assert torch.equal(split.batch(index, source).images, expected)
        assert split.examples(0).images.device.type == "cpu"


@pytest.mark.parametrize("vary", CHOICES)
@pytest.mark.parametrize("views", [1, 2])
def test_a_batch_stays_on_its_device_and_reads_nothing_back(vary: tuple[str, ...], views: int) -> None:
    index = torch.arange(8)
    with NoReadBack():
        digits(vary).batch(index, generator(), views)
    source = generator()  # of a CPU: no generator can be had of a device that is only simulated
    with FakeTensorMode(allow_non_fake_inputs=False):
        split = RotatedMNIST(torch.zeros(8, 1, 28, 28, dtype=torch.uint8), {}, vary).to("cuda")
        batch = split.batch(torch.arange(8, device="cuda"), source, views)
        assert {tensor.device.type for tensor in (batch.images, *batch.factors.values())} == {"cuda"}


def test_autocast_leaves_the_rotation_exact(sample: RotatedMNIST) -> None:
    expected = sample.batch(torch.arange(8), generator()).images
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample.batch(torch.arange(8), generator()).images, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_cuda_without_a_sync(sample: RotatedMNIST) -> None:
    split = RotatedMNIST(sample.images[:256], {"digit": sample.labels["digit"][:256]}).to("cuda")
    index, source = torch.arange(256, device="cuda"), torch.Generator("cuda").manual_seed(0)
    split.batch(index, source)
    with refused_syncs():
        batch = split.batch(index, source)
    angles = batch.factors["rotation"].cpu()
    expected = rotate(sample.images[:256].float() / 255, angles, sample.grid)
    torch.testing.assert_close(batch.images.cpu(), expected, atol=1e-5, rtol=0)
    there, here = split.examples(0), RotatedMNIST(sample.images[:256], {}).examples(0)
    assert torch.equal(there.factors["rotation"].cpu(), here.factors["rotation"])
    assert (there.images.cpu().int() - here.images.int()).abs().max() <= 1


# Loading.


@pytest.mark.parametrize("vary", CHOICES)
def test_what_is_loaded_is_said_and_loads_again(vary: tuple[str, ...]) -> None:
    data = rotated_mnist.load(Request("embedded"), limit=50, factors=vary)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [50, 800, 2_000]
    assert data.name == "rotated-mnist" and data.image_shape == (1, 28, 28)
    assert tuple(factor.name for factor in data.factors) == vary
    again = rotated_mnist.load(Request("embedded"), **json.loads(json.dumps(data.options)))
    assert again.options == data.options and again.factors == data.factors
    index = torch.arange(8)
    for one, other in ((data.train, again.train), (data.validation, again.validation), (data.test, again.test)):
        assert torch.equal(one.batch(index, generator()).images, other.batch(index, generator()).images)
        assert tuple(one.batch(index, generator()).factors) == vary


def test_the_order_in_which_factors_are_named_changes_nothing(both: RotatedMNIST) -> None:
    other = RotatedMNIST(both.images, both.labels, ["scale", "rotation"])
    index = torch.arange(32)
    assert torch.equal(both.batch(index, generator()).images, other.batch(index, generator()).images)


def test_bins_are_left_and_right_small_and_large() -> None:
    data = rotated_mnist.load(Request("embedded"), limit=2, factors=BOTH)
    assert [factor.edges for factor in data.factors] == [(0.0,), (pytest.approx(0.8),)]


@pytest.mark.parametrize(
    "wrong", [(), [], ["size"], ["rotation", "size"], ["rotation", "rotation"], "rotation", [1], [["scale"]], None, 3]
)
def test_factors_that_do_not_exist_are_refused(wrong: object) -> None:
    with pytest.raises(InputError, match=r"one or more of rotation, scale, each named once, not ") as caught:
        rotated_mnist.load(Request("embedded"), factors=wrong)  # type: ignore[arg-type]
    assert repr(wrong) in str(caught.value) and "\n" not in str(caught.value)


def test_no_digit_is_in_two_splits() -> None:
    data = rotated_mnist.load(Request("embedded"))
    splits = [{image.tobytes() for image in split.images.numpy()} for split in (data.train, data.validation, data.test)]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 10_000
