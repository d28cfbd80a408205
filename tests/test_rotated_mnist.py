"""Rotated MNIST: the rotation itself, pairs, splits, and reading MNIST from every place it may lie in."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import kstest
from torch import Tensor
from torch.nn import functional

from pyro_disent.data import mnist, rotated_mnist
from pyro_disent.data.rotated_mnist import MAX_ANGLE, RotatedMNIST, rotate, rotation_grid
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError

REAL = os.environ.get("PYRO_DISENT_DATA")
TINY = {"train": 40, "t10k": 10}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of whoever runs it, or the network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def sample() -> RotatedMNIST:
    data = mnist.read(Request("embedded"))
    return RotatedMNIST(data.train.images, {"digit": data.train.labels})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def write_mnist(raw: Path, packed: bool = False, seed: int = 0) -> Path:
    """A tiny data set in MNIST's own format, noise for digits."""
    rng = np.random.default_rng(seed)
    raw.mkdir(parents=True)
    for split, size in TINY.items():
        for kind, values in (
            ("images-idx3", rng.integers(0, 256, (size, 28, 28))),
            ("labels-idx1", np.arange(size) % 10),
        ):
            content = idx(values)
            path = raw / f"{split}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return raw


# The rotation.


def by_affine_grid(images: Tensor, angles: Tensor) -> Tensor:
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], -1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.lists(st.floats(-3.125, 3.125, width=32), min_size=1, max_size=8))
def test_rotation_is_affine_grid_and_grid_sample(seed: int, values: list[float]) -> None:
    images = torch.rand(len(values), 1, 28, 28, generator=generator(seed))
    angles = torch.tensor(values)
    ours = rotate(images, angles.unsqueeze(0), rotation_grid(28))[0]
    torch.testing.assert_close(ours, by_affine_grid(images, angles), atol=1e-5, rtol=0)


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
    assert torch.equal(rotate(images, torch.zeros(2, 500), sample.grid), images.expand(2, -1, -1, -1, -1))


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


# Batches and examples.


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
    shared = sample.batch(torch.arange(16), generator()).sharing({"z": (), "y": ()}).shared
    assert shared["z"].all() and not shared["y"].any()


def test_angles_are_uniform_within_sixty_degrees(sample: RotatedMNIST) -> None:
    drawn = sample.batch(torch.arange(len(sample)), generator(1)).factors["rotation"]
    angles = drawn.flatten()
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


def test_nothing_is_made_on_the_default_device(sample: RotatedMNIST) -> None:
    expected = sample.batch(torch.arange(8), generator()).images
    index, source = torch.arange(8), generator()
    with torch.device("meta"):
        split = RotatedMNIST(sample.images[:8], {})
        assert torch.equal(split.batch(index, source).images, expected)
        assert split.examples(0).images.device.type == "cpu"


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
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = split.batch(index, source)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    angles = batch.factors["rotation"].cpu()
    expected = rotate(sample.images[:256].float() / 255, angles, sample.grid)
    torch.testing.assert_close(batch.images.cpu(), expected, atol=1e-5, rtol=0)
    there, here = split.examples(0), RotatedMNIST(sample.images[:256], {}).examples(0)
    assert torch.equal(there.factors["rotation"].cpu(), here.factors["rotation"])
    assert (there.images.cpu().int() - here.images.int()).abs().max() <= 1


# Reading MNIST.


def test_the_packaged_sample() -> None:
    assert mnist.SAMPLE.stat().st_size < 2.2e6
    data = rotated_mnist.load(Request("embedded"))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [7_200, 800, 2_000]
    for split in (data.train, data.validation, data.test):
        counts = torch.bincount(split.labels["digit"], minlength=10)
        assert (counts == len(split) // 10).all()
    assert data.source.kind == "embedded" and len(data.source.sha256) == 64
    assert data.image_shape == (1, 28, 28) and [factor.name for factor in data.factors] == ["rotation"]
    with np.load(mnist.SAMPLE) as content:
        assert "LeCun" in str(content["attribution"]) and "Share Alike 3.0" in str(content["attribution"])


@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_files_in_torchvisions_layout_or_deeper(tmp_path: Path, place: str, packed: bool) -> None:
    raw = write_mnist(tmp_path / "data" / place, packed)
    request = Request.of("auto", tmp_path / "data")
    assert rotated_mnist.describe(request) == ("local", raw, "")
    data = rotated_mnist.load(request)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [36, 4, 10]
    assert data.source.kind == "local" and data.source.location == str(raw)
    rng = np.random.default_rng(0)
    expected = torch.from_numpy(rng.integers(0, 256, (40, 28, 28))).to(torch.uint8)
    assert torch.equal(torch.cat([data.train.images, data.validation.images])[:, 0], expected)
    assert data.validation.labels["digit"].tolist() == [6, 7, 8, 9]


def test_unpacked_files_go_first_and_sets_may_mix(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", packed=True)
    plain = write_mnist(tmp_path / "other", seed=1)
    shutil.copy(plain / mnist.TRAIN_IMAGES, tmp_path / "raw")
    request = Request.of("local", tmp_path / "raw")
    expected = mnist.read_idx(plain / mnist.TRAIN_IMAGES)[:36]
    assert np.array_equal(rotated_mnist.load(request).train.images[:, 0].numpy(), expected)


def test_the_environment_then_the_cache_then_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rotated_mnist.load(Request()).source.kind == "embedded"
    write_mnist(tmp_path / "cache" / "MNIST" / "raw")
    assert rotated_mnist.load(Request()).source.kind == "cache"
    named = write_mnist(tmp_path / "named" / "MNIST" / "raw", seed=1)
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "named"))
    data = rotated_mnist.load(Request())
    assert data.source.kind == "local" and data.source.location == str(named)
    assert rotated_mnist.load(Request("embedded")).source.kind == "embedded"


def test_the_hash_is_of_the_files_read(tmp_path: Path) -> None:
    one, same, other = (write_mnist(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    hashes = [rotated_mnist.load(Request.of("local", raw)).source.sha256 for raw in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_root_without_mnist_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no MNIST: looked for train-images-idx3-ubyte \(or .gz\)"):
        rotated_mnist.load(Request.of("auto", tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="holds no MNIST"):
        rotated_mnist.load(Request.of("auto", tmp_path / "file"))


def test_limit_cuts_training_only() -> None:
    data = rotated_mnist.load(Request("embedded"), limit=100)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [100, 800, 2_000]
    assert data.options == {"limit": 100}
    assert len(rotated_mnist.load(Request("embedded"), limit=10**9).train) == 7_200
    with pytest.raises(InputError, match="--limit 0"):
        rotated_mnist.load(Request("embedded"), limit=0)


Damage = Callable[[Path], object]


@pytest.mark.parametrize("name", mnist.FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "cannot be read|no IDX file|bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "cannot be read|bytes"),
        (lambda path: path.write_bytes(b"\x89PNG" + path.read_bytes()[4:]), "cannot be read|no IDX file"),
    ],
    ids=["missing", "empty", "truncated", "foreign"],
)
def test_a_damaged_file_is_named_in_one_sentence(
    tmp_path: Path, name: str, packed: bool, damage: Damage, says: str
) -> None:
    raw = write_mnist(tmp_path / "raw", packed)
    damage(raw / f"{name}{'.gz' if packed else ''}")
    with pytest.raises(InputError, match=says) as caught:
        rotated_mnist.load(Request.of("auto", tmp_path))
    assert str(raw / name) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_swapped_or_disagree(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "raw")
    labels = raw / mnist.TRAIN_LABELS
    labels.write_bytes(idx(np.zeros(39)))
    with pytest.raises(InputError, match="39 labels for 40 images"):
        rotated_mnist.load(Request.of("local", raw))
    labels.write_bytes(idx(np.full(40, 11)))
    with pytest.raises(InputError, match="label 11"):
        rotated_mnist.load(Request.of("local", raw))
    labels.write_bytes((raw / mnist.TRAIN_IMAGES).read_bytes())
    with pytest.raises(InputError, match="no IDX file of labels"):
        rotated_mnist.load(Request.of("local", raw))
    (raw / mnist.TRAIN_IMAGES).write_bytes(idx(np.zeros((40, 32, 32))))
    with pytest.raises(InputError, match="32 x 32 pixels"):
        rotated_mnist.load(Request.of("local", raw))


def test_too_few_digits(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "raw")
    (raw / mnist.TEST_IMAGES).write_bytes(idx(np.zeros((0, 28, 28))))
    (raw / mnist.TEST_LABELS).write_bytes(idx(np.zeros(0)))
    with pytest.raises(InputError, match="40 training and 0 test digits"):
        rotated_mnist.load(Request.of("local", raw))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40), start=st.integers(0, 24), packed=st.booleans())
def test_whatever_bytes_lie_there(tmp_path: Path, content: bytes, start: int, packed: bool) -> None:
    whole = idx(np.arange(16) % 10)
    changed = whole[:start] + content
    raw = gzip.compress(whole)[:start] + content if packed else changed
    path = tmp_path / f"x-labels-idx1-ubyte{'.gz' if packed else ''}"
    path.write_bytes(raw)
    try:
        values = mnist.read_idx(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert values.ndim == 1 and values.dtype == np.uint8


# Downloads and the cache.


class Mirror:
    """Stands in for torchvision's download: leaves what torchvision leaves, or fails half-way."""

    def __init__(self, fails: bool = False) -> None:
        self.calls, self.fails = 0, fails

    def __call__(self, data: object) -> None:
        self.calls += 1
        raw = Path(data.raw_folder)  # type: ignore[attr-defined]
        write_mnist(raw)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(b"what it was unpacked from")
        if self.fails:
            (raw / mnist.TEST_LABELS).unlink()
            raise RuntimeError("Error downloading t10k-labels-idx1-ubyte.gz:\nTried a mirror, got:\nnothing")


def mirrored(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> Mirror:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "download", lambda data: mirror(data))
    return mirror


def test_a_download_is_cached_and_used_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(monkeypatch, Mirror())
    assert rotated_mnist.describe(Request("download")).path is None and mirror.calls == 0
    assert rotated_mnist.load(Request("download")).source.kind == "download"
    raw = tmp_path / "cache" / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(mnist.FILES)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["MNIST"]
    assert rotated_mnist.load(Request()).source.kind == "cache" and mirror.calls == 1


def test_a_cached_copy_serves_a_download_only_if_it_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(monkeypatch, Mirror())
    rotated_mnist.prepare(Request("download"))
    rotated_mnist.prepare(Request("download"))
    assert mirror.calls == 2  # the stand-in's digits do not have MNIST's hash
    monkeypatch.setattr(mnist, "SHA256", mnist.read(Request()).source.sha256)
    assert rotated_mnist.prepare(Request("download")).name == "raw" and mirror.calls == 2


def test_a_failed_download_leaves_the_cache_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored(monkeypatch, Mirror(fails=True))
    with pytest.raises(InputError, match=r"could not be downloaded \(Error downloading .*: name its folder") as caught:
        rotated_mnist.load(Request("download"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_a_download_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(monkeypatch, Mirror())
    raw = write_mnist(tmp_path / "raw")
    for request in (Request(), Request("embedded"), Request("local", raw), Request("auto", raw)):
        rotated_mnist.describe(request)
        rotated_mnist.load(request)
        rotated_mnist.prepare(request)
    with pytest.raises(InputError):
        rotated_mnist.load(Request("local"))
    assert mirror.calls == 0


@pytest.mark.parametrize("packed", [False, True])
def test_prepare_puts_local_files_unpacked_into_the_cache(tmp_path: Path, packed: bool) -> None:
    raw = write_mnist(tmp_path / "data", packed)
    for _ in range(2):  # again, over what is there
        assert rotated_mnist.prepare(Request("local", raw)) == tmp_path / "cache" / "MNIST" / "raw"
    cached, local = mnist.read(Request()), mnist.read(Request("local", raw))
    assert cached.source.kind == "cache" and torch.equal(cached.train.images, local.train.images)
    assert rotated_mnist.prepare(Request()) == tmp_path / "cache" / "MNIST" / "raw"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["MNIST"]


def test_prepare_checks_before_it_touches_the_cache(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "data")
    (raw / mnist.TEST_LABELS).write_bytes(b"")
    with pytest.raises(InputError, match="t10k-labels"):
        rotated_mnist.prepare(Request("local", raw))
    assert not (tmp_path / "cache").exists()


def test_prepare_has_nothing_to_do_for_the_sample() -> None:
    assert rotated_mnist.prepare(Request("embedded")) == mnist.SAMPLE


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_mnist(tmp_path / "data")
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write to the cache .*\$PYRO_DISENT_CACHE names another"):
        rotated_mnist.prepare(Request("local", raw))


# MNIST itself.


@pytest.mark.skipif(not REAL, reason="MNIST's files are looked for in $PYRO_DISENT_DATA, which is not set")
def test_mnist_itself() -> None:
    root = Path(str(REAL))
    if mnist.locate(root) is None:
        pytest.skip("$PYRO_DISENT_DATA holds no MNIST")
    data = rotated_mnist.load(Request("local", root))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    digits = torch.cat([data.train.labels["digit"], data.validation.labels["digit"]])
    assert torch.bincount(digits).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.test.labels["digit"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train.images.sum() + data.validation.images.sum() == 1_567_298_545
    assert data.train.labels["digit"][:5].tolist() == [5, 0, 4, 1, 9]
    if all((Path(data.source.location) / name).exists() for name in mnist.FILES):
        assert data.source.sha256 == mnist.SHA256
    with np.load(mnist.SAMPLE) as content:
        train = {image.tobytes() for image in data.train.images.numpy()}
        assert all(image.tobytes() in train for image in content["train_images"])
