"""Reading MNIST from every place it may lie in, damaged or whole."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyro_disent.data.mnist import files as mnist
from pyro_disent.data.sources import Origin, Request
from pyro_disent.errors import InputError
from tests.mnist_files import idx, write_mnist

REAL = os.environ.get("PYRO_DISENT_DATA")


pytestmark = pytest.mark.usefixtures("elsewhere", "whole_sample")


def sizes(data: mnist.MNIST) -> list[int]:
    return [len(digits.images) for digits in (data.train, data.validation, data.test)]


def test_the_packaged_sample() -> None:
    assert mnist.SAMPLE.stat().st_size < 2.2e6
    data = mnist.read(Request("embedded"))
    assert sizes(data) == [7_200, 800, 2_000]
    for digits in (data.train, data.validation, data.test):
        assert digits.images.shape[1:] == (1, 28, 28) and digits.images.dtype == torch.uint8
        assert (torch.bincount(digits.labels, minlength=10) == len(digits.labels) // 10).all()
    assert data.source.kind == "embedded" and len(data.source.sha256) == 64
    with np.load(mnist.SAMPLE) as content:
        assert "LeCun" in str(content["attribution"]) and "Share Alike 3.0" in str(content["attribution"])


@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_files_in_torchvisions_layout_or_deeper(tmp_path: Path, place: str, packed: bool) -> None:
    raw = write_mnist(tmp_path / "data" / place, packed)
    request = Request.of("auto", tmp_path / "data")
    assert mnist.describe(request) == Origin("local", raw)
    data = mnist.read(request)
    assert sizes(data) == [36, 4, 10]
    assert data.source.kind == "local" and data.source.location == str(raw)
    rng = np.random.default_rng(0)
    expected = torch.from_numpy(rng.integers(0, 256, (40, 28, 28))).to(torch.uint8)
    assert torch.equal(torch.cat([data.train.images, data.validation.images])[:, 0], expected)
    assert data.validation.labels.tolist() == [6, 7, 8, 9]


def test_unpacked_files_go_first_and_sets_may_mix(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", packed=True)
    plain = write_mnist(tmp_path / "other", seed=1)
    shutil.copy(plain / mnist.TRAIN_IMAGES, tmp_path / "raw")
    request = Request.of("local", tmp_path / "raw")
    expected = mnist.read_idx(plain / mnist.TRAIN_IMAGES)[:36]
    assert np.array_equal(mnist.read(request).train.images[:, 0].numpy(), expected)


def test_the_environment_then_the_cache_then_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mnist.read(Request()).source.kind == "embedded"
    write_mnist(tmp_path / "cache" / "MNIST" / "raw")
    assert mnist.read(Request()).source.kind == "cache"
    named = write_mnist(tmp_path / "named" / "MNIST" / "raw", seed=1)
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "named"))
    data = mnist.read(Request())
    assert data.source.kind == "local" and data.source.location == str(named)
    assert mnist.read(Request("embedded")).source.kind == "embedded"


def test_the_hash_is_of_the_files_read(tmp_path: Path) -> None:
    one, same, other = (write_mnist(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    hashes = [mnist.read(Request.of("local", raw)).source.sha256 for raw in (one, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_root_without_mnist_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no MNIST: looked for train-images-idx3-ubyte \(or .gz\)"):
        mnist.read(Request.of("auto", tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="holds no MNIST"):
        mnist.read(Request.of("auto", tmp_path / "file"))


def test_limit_cuts_training_only() -> None:
    data = mnist.read(Request("embedded"), limit=100)
    assert sizes(data) == [100, 800, 2_000]
    assert sizes(mnist.read(Request("embedded"), limit=10**9))[0] == 7_200
    with pytest.raises(InputError, match="`limit=0`"):
        mnist.read(Request("embedded"), limit=0)


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
        mnist.read(Request.of("auto", tmp_path))
    assert str(raw / name) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_swapped_or_disagree(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "raw")
    labels = raw / mnist.TRAIN_LABELS
    labels.write_bytes(idx(np.zeros(39)))
    with pytest.raises(InputError, match="39 labels for 40 images"):
        mnist.read(Request.of("local", raw))
    labels.write_bytes(idx(np.full(40, 11)))
    with pytest.raises(InputError, match="label 11"):
        mnist.read(Request.of("local", raw))
    labels.write_bytes((raw / mnist.TRAIN_IMAGES).read_bytes())
    with pytest.raises(InputError, match="no IDX file of labels"):
        mnist.read(Request.of("local", raw))
    (raw / mnist.TRAIN_IMAGES).write_bytes(idx(np.zeros((40, 32, 32))))
    with pytest.raises(InputError, match="32 x 32 pixels"):
        mnist.read(Request.of("local", raw))


def test_too_few_digits(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "raw")
    (raw / mnist.TEST_IMAGES).write_bytes(idx(np.zeros((0, 28, 28))))
    (raw / mnist.TEST_LABELS).write_bytes(idx(np.zeros(0)))
    with pytest.raises(InputError, match="40 training and 0 test digits"):
        mnist.read(Request.of("local", raw))


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
    assert mnist.describe(Request("download")).path is None and mirror.calls == 0
    assert mnist.read(Request("download")).source.kind == "download"
    raw = tmp_path / "cache" / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(mnist.FILES)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["MNIST"]
    assert mnist.read(Request()).source.kind == "cache" and mirror.calls == 1


def test_a_cached_copy_serves_a_download_only_if_it_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(monkeypatch, Mirror())
    mnist.prepare(Request("download"))
    mnist.prepare(Request("download"))
    assert mirror.calls == 2  # the stand-in's digits do not have MNIST's hash
    monkeypatch.setattr(mnist, "SHA256", mnist.read(Request()).source.sha256)
    assert mnist.prepare(Request("download")).name == "raw" and mirror.calls == 2


def test_a_failed_download_leaves_the_cache_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored(monkeypatch, Mirror(fails=True))
    with pytest.raises(InputError, match=r"could not be downloaded \(Error downloading .*: name its folder") as caught:
        mnist.read(Request("download"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_a_download_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = mirrored(monkeypatch, Mirror())
    raw = write_mnist(tmp_path / "raw")
    for request in (Request(), Request("embedded"), Request("local", raw), Request("auto", raw)):
        mnist.describe(request)
        mnist.read(request)
        mnist.prepare(request)
    with pytest.raises(InputError):
        mnist.read(Request("local"))
    assert mirror.calls == 0


@pytest.mark.parametrize("packed", [False, True])
def test_prepare_puts_local_files_unpacked_into_the_cache(tmp_path: Path, packed: bool) -> None:
    raw = write_mnist(tmp_path / "data", packed)
    for _ in range(2):  # again, over what is there
        assert mnist.prepare(Request("local", raw)) == tmp_path / "cache" / "MNIST" / "raw"
    cached, local = mnist.read(Request()), mnist.read(Request("local", raw))
    assert cached.source.kind == "cache" and torch.equal(cached.train.images, local.train.images)
    assert mnist.prepare(Request()) == tmp_path / "cache" / "MNIST" / "raw"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["MNIST"]


def test_prepare_checks_before_it_touches_the_cache(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path / "data")
    (raw / mnist.TEST_LABELS).write_bytes(b"")
    with pytest.raises(InputError, match="t10k-labels"):
        mnist.prepare(Request("local", raw))
    assert not (tmp_path / "cache").exists()


def test_prepare_has_nothing_to_do_for_the_sample() -> None:
    assert mnist.prepare(Request("embedded")) == mnist.SAMPLE


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_mnist(tmp_path / "data")
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write to the cache .*\$PYRO_DISENT_CACHE names another"):
        mnist.prepare(Request("local", raw))


# MNIST itself.


@pytest.mark.skipif(not REAL, reason="MNIST's files are looked for in $PYRO_DISENT_DATA, which is not set")
def test_mnist_itself() -> None:
    root = Path(str(REAL))
    if mnist.locate(root) is None:
        pytest.skip("$PYRO_DISENT_DATA holds no MNIST")
    data = mnist.read(Request("local", root))
    assert sizes(data) == [55_000, 5_000, 10_000]
    digits = torch.cat([data.train.labels, data.validation.labels])
    assert torch.bincount(digits).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train.images.sum() + data.validation.images.sum() == 1_567_298_545
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    if all((Path(data.source.location) / name).exists() for name in mnist.FILES):
        assert data.source.sha256 == mnist.SHA256
    with np.load(mnist.SAMPLE) as content:
        train = {image.tobytes() for image in data.train.images.numpy()}
        assert all(image.tobytes() in train for image in content["train_images"])
