"""Images handed over from Python: what is accepted, what is refused, and whole runs on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_disent
from pyro_disent import from_arrays
from pyro_disent.data.images.store import ImagesOnDisk
from pyro_disent.errors import InputError
from tests.arrays import IDS, found, images, in_order, splits
from tests.models import masks


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 12),
    st.tuples(st.integers(4, 12), st.integers(4, 12)),
    st.sampled_from(["NHW", "NCHW", "NHWC"]),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "float16", "float32", "float64", "bool"]),
    st.booleans(),
)
def test_every_layout_and_type_gives_the_same_bytes(
    count: int, size: tuple[int, int], layout: str, channels: int, kind: str, as_tensor: bool
) -> None:
    pixels = images(count, *size, 1 if layout == "NHW" else channels)
    expected = pixels
    if kind == "bool":
        expected = np.where(pixels > 99, 255, 0).astype(np.uint8)
        expected[:, :, 0, 0] = 0
        given: Any = expected == 255
    elif kind == "uint8":
        given = pixels
    else:
        given = (pixels / 255).astype(kind)
    given = {"NHW": lambda a: a[:, 0], "NCHW": lambda a: a, "NHWC": lambda a: np.moveaxis(a, 1, -1)}[layout](given)
    data = from_arrays(torch.from_numpy(np.ascontiguousarray(given)) if as_tensor else given)
    assert data.image_shape == expected.shape[1:]
    assert all(split.images[:].is_contiguous() for split in splits(data).values())
    together = torch.cat([split.images[:] for split in splits(data).values()])
    assert together.dtype == torch.uint8
    assert sorted(image.tobytes() for image in together.numpy()) == sorted(image.tobytes() for image in expected)


def test_tensors_of_any_device_or_history_are_read() -> None:
    floats = torch.from_numpy(images() / 255).to(torch.bfloat16)
    data = from_arrays(floats.requires_grad_())
    assert len(data.train) == 28 and not data.train.images[:].requires_grad
    read_only = images()
    read_only.flags.writeable = False
    data = from_arrays(read_only[::-1])
    assert torch.equal(in_order(data), torch.from_numpy(images()))
    data.train.images[:].zero_()
    assert (read_only == images()).all()


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "list": ([[0.0]], "a NumPy array or a tensor, not list"),
    "counts": (images().astype(np.int64), "of type int64: pixels are uint8 in 0 to 255, floats"),
    "int8": (torch.zeros(9, 1, 8, 8, dtype=torch.int8), "of type int8"),
    "objects": (np.full((9, 8, 8), None), "of type object"),
    "complex": (np.zeros((9, 8, 8), np.complex64), "of type complex64"),
    "to 255": (images().astype(np.float32), r"image \d+ has a pixel of \d+.0: floats must be in \[0, 1\].*by 255"),
    "negative": (np.full((5000, 8, 8), -1e-3, np.float32), r"image 0 has a pixel of -0.001"),
    "NaN": (np.where(np.arange(5000) == 4999, np.nan, 0.5)[:, None, None] * np.ones((8, 8)), "image 4999 has .* nan"),
    "infinite": (np.full((5, 8, 8), np.inf), "image 0 has a pixel of inf"),
    "flat": (np.zeros((9, 64), np.uint8), r"images of shape \(9, 64\)"),
    "RGBA": (np.zeros((9, 8, 8, 4), np.uint8), r"images of shape \(9, 8, 8, 4\).*1 or 3 channels"),
    "video": (np.zeros((9, 3, 3, 8, 8), np.uint8), r"images of shape \(9, 3, 3, 8, 8\)"),
    "either way": (np.zeros((9, 3, 8, 3), np.uint8), "the channels may be one axis or the other"),
    "no pixel": (np.zeros((9, 0, 8), np.uint8), r"\(9, 0, 8\): there is not a single pixel"),
    "no image": (np.zeros((0, 8, 8), np.uint8), "not a single pixel"),
    "two images": (np.zeros((2, 8, 8), np.uint8), "too few images: 2, where training, validation and test"),
}


@pytest.mark.parametrize(("given", "says"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_images_that_are_none_are_refused(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_arrays(given)


@pytest.mark.parametrize(
    "identity",
    [IDS, IDS.tolist(), torch.from_numpy(IDS), 1000 - IDS.astype(np.uint16), [f"person {i}" for i in IDS]],
    ids=["array", "list", "tensor", "falling", "texts"],
)
def test_pairs_are_of_one_identity_and_no_identity_is_in_two_splits(identity: Any) -> None:
    data = from_arrays(images(), identity=identity)
    assert {name: len(split) for name, split in splits(data).items()} == {"train": 30, "validation": 3, "test": 3}
    seen = [set(IDS[found(split)]) for split in splits(data).values()]
    assert set.union(*seen) == set(range(12)) and sum(map(len, seen)) == 12
    for split in splits(data).values():
        batch = split.batch(torch.arange(len(split)), torch.Generator().manual_seed(0))
        first, second = (batch.images[:, :, 0, 0, 0] * 255).round().long()
        assert (first != second).all() and (IDS[first] == IDS[second]).all()
        shared = masks(batch, "z", "y")
        assert shared["z"].all() and not shared["y"].any()
        assert len(split.labels["identity"].unique()) == len(set(IDS[first]))


def test_the_split_follows_from_the_seed_and_not_from_the_order() -> None:
    order = np.random.default_rng(1).permutation(36)
    one = from_arrays(images(), identity=IDS)
    other = from_arrays(images()[order], identity=[f"{i:02}" for i in IDS[order]])
    for name, split in splits(one).items():
        assert set(found(split)) == set(found(splits(other)[name]))
    assert found(from_arrays(images(), identity=IDS, seed=1).test) != found(one.test)
    assert one.source.sha256 == from_arrays(images(), identity=IDS).source.sha256
    assert one.source.kind == "given" and "36 images" in one.source.location and one.options == {}
    for changed in ({"identity": IDS[::-1].copy()}, {"identity": IDS, "labels": {"a": IDS}}, {"identity": None}):
        assert from_arrays(images(), **changed).source.sha256 != one.source.sha256


def test_numbers_and_texts_become_factors() -> None:
    angle = np.arange(36) % 20 - 0.5
    angle[:3] = np.nan
    texts = np.array([["left", "right", "up"][i % 3] for i in range(36)], object)
    texts[4] = None
    texts[5] = ""
    data = from_arrays(
        images(),
        identity=IDS,
        factors={"angle": angle, "side": texts, "on": IDS % 2 == 0, "same": np.ones(36), "count": [1, None, 3] * 12},
    )
    angle_factor, side, on, count = data.factors
    assert [factor.name for factor in data.factors] == ["angle", "side", "on", "count"]
    assert "no factors: same (the same everywhere)" in data.source.location
    assert side.categories == ("left", "right", "up") and side.edges == (0.5, 1.5)
    assert on.categories == ("False", "True") and on.edges == (0.5,) and count.edges == (0.0,)
    known = angle[found(data.train)]
    (edge,) = angle_factor.edges
    assert angle_factor.center + angle_factor.scale * edge == pytest.approx(np.median(known[~np.isnan(known)]))
    for split in splits(data).values():
        place = found(split)
        given = angle_factor.center + angle_factor.scale * split.factors["angle"]
        np.testing.assert_allclose(given, angle[place], atol=1e-5)
        unknown = split.factors["side"].isnan()
        assert unknown.tolist() == [i in (4, 5) for i in place]
        assert [texts[i] for i in place if i not in (4, 5)] == [
            side.categories[int(value)] for value in split.factors["side"][~unknown]
        ]


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0, 1], (0.5,)),
        ([5, 1, 2], (1.5, 3.5)),
        (range(10), tuple(i + 0.5 for i in range(9))),
        ([*range(11)], (5.0,)),
        ([0] * 20 + [*range(1, 11)], (0.5,)),  # nothing is below the median
        ([10] * 20 + [*range(10)], (10.0,)),
    ],
)
def test_edges_leave_no_bin_empty(values: Any, edges: tuple[float, ...]) -> None:
    """Every identity shows every value, so that those of training are known."""
    values = [*values]
    identity = np.repeat(np.arange(3), len(values))
    data = from_arrays(images(3 * len(values)), identity=identity, factors={"value": values * 3})
    factor = data.factors[0]
    assert [factor.center + factor.scale * edge for edge in factor.edges] == pytest.approx(edges, abs=1e-6)
    bins = torch.bucketize(data.train.factors["value"], torch.tensor(factor.edges), right=True)
    assert len(bins.unique()) == len(edges) + 1


@pytest.mark.parametrize("name", ["side", "y"])
def test_a_latent_named_after_a_factor_is_shared_where_it_is_equal(name: str) -> None:
    """``y`` stands for what nobody recorded as well: a recorded factor that is equal makes no pair share it."""
    side = np.arange(36) % 2
    data = from_arrays(images(), identity=IDS, factors={"side": side, "group": IDS})
    batch = data.train.batch(torch.arange(30), torch.Generator().manual_seed(0))
    shared = masks(batch, "z", name)
    first, second = (batch.images[:, :, 0, 0, 0] * 255).round().long()
    expected = side[first] == side[second] if name == "side" else np.zeros(30, bool)
    assert (shared[name][:, 0].numpy() == expected).all() and shared["z"].all()
    assert set(side[first] == side[second]) == {True, False}


BAD_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "identity too short": ({"identity": IDS[:-1]}, r"identity has shape \(35,\): one value for each of 36 images"),
    "identity in two axes": ({"identity": IDS[:, None]}, r"identity has shape \(36, 1\)"),
    "identity a number": ({"identity": 3}, r"identity has shape \(\)"),
    "identity ragged": ({"identity": [[1], [2, 3]] * 18}, "identity: image 0 has a list"),
    "identity a measure": ({"identity": IDS / 2}, "identity holds 0.5: whole numbers or texts"),
    "identity of kinds": (
        {"identity": np.array([1, "a"] * 18, object)},
        "identity mixes kinds of values: image 1 has 'a'",
    ),
    "identity blank": ({"identity": ["a", ""] * 18}, "image 1 has a blank identity"),
    "identity alone": ({"identity": [*IDS[:-1], 99]}, r"identity 99 has image 35 only, and a pair needs two: leave"),
    "all alone": ({"identity": range(36)}, r"identity 0 has image 0 only, .* and 35 more likewise"),
    "two identities": ({"identity": IDS % 2}, "too few identities: 2"),
    "factor too long": ({"factors": {"angle": [0] * 37}}, r"factor 'angle' has shape \(37,\)"),
    "factor of kinds": ({"factors": {"angle": np.array([1, "a"] * 18, object)}}, "factor 'angle' mixes kinds"),
    "factor a date": ({"factors": {"day": np.zeros(36, "datetime64[D]")}}, r"factor 'day' is of type datetime64\[D\]"),
    "factor infinite": ({"factors": {"angle": [np.inf] + [0] * 35}}, "factor 'angle' holds inf"),
    "factor too large": ({"factors": {"angle": [10**400] + [0] * 35}}, r"factor 'angle' holds 10000"),
    "factor called identity": ({"factors": {"identity": IDS}}, "cannot be called 'identity'"),
    "label a measure": ({"labels": {"age": IDS / 2}}, "label 'age' is of type float64: whole numbers"),
    "label identity": ({"labels": {"identity": IDS}}, "give it as that"),
    "name a path": ({"name": "a/b"}, "name='a/b' cannot be part of a file's name"),
}


@pytest.mark.parametrize(("given", "says"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_what_is_not_one_value_an_image_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        from_arrays(images(), **given)


def test_without_identities_there_are_images_and_no_pairs() -> None:
    data = from_arrays(images(), labels={"digit": IDS % 10})
    assert {name: len(split) for name, split in splits(data).items()} == {"train": 28, "validation": 4, "test": 4}
    assert torch.equal(in_order(data), torch.from_numpy(images()))
    assert data.train.labels.keys() == {"digit"}
    assert data.train.labels["digit"].tolist() == [i // 3 % 10 for i in found(data.train)]
    generator = torch.Generator().manual_seed(0)
    assert data.train.batch(torch.arange(3), generator, views=1).images.shape == (1, 3, 3, 9, 8)
    with pytest.raises(InputError, match=r"no pairs.*sub-folder of their own.*`pair_by`.*give arrays an identity"):
        data.train.batch(torch.arange(3), generator, views=2)


TINY: dict[str, Any] = {"max_steps": 4, "batch_size": 8, "network": "mlp", "latents": {"z": 3, "y": 2}}


def test_a_vae_is_trained_on_an_array_and_measured(tmp_path: Path) -> None:
    run = pyro_disent.fit("vae", images(40, 8, 8), out=tmp_path / "run", **TINY)
    with pytest.raises(InputError, match=r"handed over from Python.*again, as `data=`"):
        pyro_disent.load(tmp_path / "run").data()
    numbers = run.evaluate(from_arrays(images(40, 8, 8))).numbers
    assert numbers["elbo"].value < 0 and not any(key.startswith(("recall", "pair")) for key in numbers)
    with pytest.raises(InputError, match="no pairs"):
        pyro_disent.fit("cycle", images(40, 8, 8), out=tmp_path / "other", **TINY)
    assert not (tmp_path / "other").exists()


def test_pairs_and_factors_from_python_are_trained_on_and_measured(tmp_path: Path) -> None:
    ids = np.repeat(np.arange(30), 3)
    angle = np.random.default_rng(0).normal(size=90)
    data = from_arrays(images(90, 8, 8), identity=ids, factors={"angle": angle}, labels={"group": ids % 2}, name="mine")
    assert (len(data.train), len(data.test)) == (72, 9)
    run = pyro_disent.fit("cycle+predictor", data, out=tmp_path / "run", **TINY)
    assert run.factors == ("angle",) and run.record.source.kind == "given"
    result = run.evaluate(data)
    assert result.data == "mine" and result.images == {"train": 72, "validation": 9, "test": 9}
    assert {"recall_at_1/z", "leak/angle/z", "pair/angle/y", "linear_probe/group/z"} <= result.numbers.keys()


@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "on the disk"])
def test_images_on_the_disk_make_the_same_batches(mapped: bool, tmp_path: Path) -> None:
    """What `from_arrays` gives with its images in a file: the trainer sees a tensor either way."""
    data = from_arrays(images(), identity=IDS)
    split = data.train
    if mapped:
        path = tmp_path / "pixels"
        path.write_bytes(split.images[:].numpy().tobytes())
        split = from_arrays(images(), identity=IDS).train
        split.images = ImagesOnDisk(path, data.image_shape, torch.arange(len(split)))
    batch = split.batch(torch.arange(6), torch.Generator().manual_seed(0))
    assert (batch.images[0, :, 0, 0, 0] * 255).round().tolist() == found(data.train)[:6]
    assert dataclasses.replace(data, train=split).image_shape == (3, 9, 8)
