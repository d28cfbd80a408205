"""Chairs from where they lie to pairs: sources and their order, the files of the real set, the cache, pairing."""

import io
import math
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyro_disent.data import array_cache, chairs, rendered_chairs
from pyro_disent.data.chairs import ChairSplit, describe, load, prepare
from pyro_disent.data.sources import Request
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError

TINY = (2, 1, 1)
EMBEDDED = Request("embedded")
# Out of order on purpose, with file numbers that skip 031 as the real ones do.
VIEWS = ["image_032_p030_t000_r096", "image_000_p020_t000_r096", "image_015_p020_t174_r096", "image_001_p020_t011_r096"]
IDS = ["b10", "a2", "c1", "a10"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    return tmp_path / "cache"


def picture(seed, size=600):
    """Something smooth enough to compress and different everywhere."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def contents():
    return {
        f"rendered_chairs/{chair}/renders/{view}.png": png(picture((i, j)))
        for i, chair in enumerate(IDS)
        for j, view in enumerate(VIEWS)
    }


def write_folder(root, contents):
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(path, contents, mode="w", extra=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


@pytest.fixture
def folder(tmp_path, contents):
    return write_folder(tmp_path / "data", contents)


def expected(contents, chair, view, color=False):
    with Image.open(io.BytesIO(contents[f"rendered_chairs/{chair}/renders/{view}.png"])) as image:
        small = image.crop((60, 60, 540, 540)).resize((64, 64), Image.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(small), -1, 0) if color else np.asarray(small.convert("L"))[None]


def all_of(data):
    return [data.train, data.validation, data.test]


# The real set


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("form", ["folder", "the folder itself", "tar", "tar.gz", "the tar itself"])
def test_the_real_set_becomes_what_pillow_makes_of_it(tmp_path, contents, form, color):
    root = tmp_path / "real"
    if "folder" in form:
        write_folder(root, contents)
        root = root / "rendered_chairs" if "itself" in form else root
    else:
        mode = "w:gz" if form == "tar.gz" else "w"
        shuffled = dict(sorted(contents.items(), key=lambda item: zlib.crc32(item[0].encode())))
        tar = write_tar(root / f"rendered_chairs.{'tar.gz' if mode == 'w:gz' else 'tar'}", shuffled, mode)
        root = tar if "itself" in form else root
    seen = []
    data = load(Request("auto", root), color=color, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 16) for i in range(16)]
    assert data.source.kind == "local" and "rendered_chairs" in data.source.location
    assert data.image_shape == (3 if color else 1, 64, 64)
    ids = sorted(IDS)
    by_angle = sorted(VIEWS, key=lambda view: view[10:])  # elevation, then azimuth
    checked = 0
    for split in all_of(data):
        for position in range(len(split)):
            chair = ids[int(split.labels["identity"][position])]
            view = by_angle[position % 4]
            np.testing.assert_array_equal(split.images[position], expected(contents, chair, view, color))
            code = view[16:19]
            azimuth = {"000": 0, "011": 1, "174": 15}[code] * 2 * math.pi / 31
            assert split.factors["azimuth"][position].item() == pytest.approx(azimuth)
            assert split.factors["elevation"][position].item() == pytest.approx(math.radians(int(view[11:14])))
            checked += 1
    assert checked == 16
    assert [factor.name for factor in data.factors] == ["azimuth", "elevation"]


def test_converted_once_and_then_used_without_the_files(folder, tmp_path):
    path = prepare(Request("auto", folder))
    before = path.stat().st_mtime_ns
    first = load(Request("auto", folder))
    assert prepare(Request("auto", folder)) == path and path.stat().st_mtime_ns == before
    assert "local" in describe(Request("auto", folder))
    found = load(Request())
    assert found.source.kind == "cache" and found.source.location == str(path)
    assert found.source.sha256 == first.source.sha256
    assert torch.equal(found.test.images, first.test.images)
    assert describe(Request()).startswith("cache")
    assert load(EMBEDDED, counts=TINY).source.kind == "embedded"


def test_the_environment_names_a_folder_that_may_hold_other_things(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_DISENT_DATA", str(folder))
    assert load(Request()).source.kind == "local"
    assert load(Request("local")).source.kind == "local"
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "another cache"))
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "other"))
    assert load(Request(), counts=TINY).source.kind == "embedded"
    with pytest.raises(InputError, match="looked for rendered_chairs"):
        load(Request("local"))


def test_changed_files_are_converted_again(folder, contents):
    load(Request("auto", folder))
    name = next(iter(contents))
    (folder / name).write_bytes(png(picture(99)))
    data = load(Request("auto", folder))
    flat = np.concatenate([split.images.numpy() for split in all_of(data)])
    target = expected({name: png(picture(99))}, IDS[0], VIEWS[0])
    assert any((image == target).all() for image in flat)


def test_an_interrupted_conversion_leaves_nothing_behind(folder, own_cache):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Request("auto", folder), progress=interrupt)
    assert not own_cache.exists() or not list(own_cache.iterdir())
    assert prepare(Request("auto", folder)).exists()


def broken(contents, name, content):
    return contents | {name: content}


def header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content[: len(content) // 2], "damaged or truncated"),
        (lambda content: content[:-12], "damaged or truncated"),  # all pixels are there, the end is not
        (lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:], "damaged or truncated"),
        (lambda content: b"", "not a PNG"),
        (lambda content: b"GIF89a" + content, "not a PNG"),
        (lambda content: header(100_000, 100_000), "100000x100000 = 10000000000 pixels"),
        (lambda content: png(picture(0, 100)), "100x100 pixels"),
    ],
)
def test_a_bad_file_is_named(tmp_path, contents, form, spoil, says):
    name = list(contents)[6]
    spoiled = contents | {name: spoil(contents[name])}
    root = tmp_path / "bad"
    if form == "folder":
        write_folder(root, spoiled)
    else:
        write_tar(root / "rendered_chairs.tar", spoiled)
    with pytest.raises(InputError, match=says) as error:
        load(Request("auto", root))
    assert name in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*.npz"))


def test_a_missing_view_is_named(folder, contents):
    name = list(contents)[5]
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"lacks 1 views .*a2/renders/image_\*_p020_t000"):
        load(Request("auto", folder))


def test_a_chair_without_images_is_named(folder):
    renders = folder / "rendered_chairs" / "empty" / "renders"
    renders.mkdir(parents=True)
    with pytest.raises(InputError, match=str(renders)):
        load(Request("auto", folder))


@pytest.mark.parametrize("view", ["image_000_p020_t012_r096.png", "image_0.png"])
def test_a_name_that_says_no_view_is_refused(folder, contents, view):
    (folder / "rendered_chairs" / "a2" / "renders" / view).write_bytes(next(iter(contents.values())))
    with pytest.raises(InputError, match="is not named as"):
        load(Request("auto", folder))


def link(kind):
    member = tarfile.TarInfo("rendered_chairs/link")
    member.type, member.linkname = kind, "/etc/hostname"
    return member


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (tarfile.TarInfo("../escaped.png"), "leaves the folder"),
        (tarfile.TarInfo("rendered_chairs/../../escaped.png"), "leaves the folder"),
        (tarfile.TarInfo("/absolute.png"), "leaves the folder"),
        (link(tarfile.SYMTYPE), "link"),
        (link(tarfile.LNKTYPE), "link"),
    ],
)
def test_a_tar_that_leaves_its_folder_is_refused(tmp_path, contents, member, says):
    tar = write_tar(tmp_path / "rendered_chairs.tar", contents, extra=[member])
    with pytest.raises(InputError, match=says):
        load(Request("auto", tar))


def test_a_tar_cut_short_is_damaged(tmp_path, contents):
    tar = write_tar(tmp_path / "rendered_chairs.tar", contents)
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2 + 700])
    with pytest.raises(InputError, match="damaged"):
        load(Request("auto", tar))
    packed = write_tar(tmp_path / "rendered_chairs.tar.gz", contents, "w:gz")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        load(Request("auto", packed))


def test_places_without_chairs_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load(Request("auto", tmp_path / "nowhere"))
    (tmp_path / "empty" / "rendered_chairs").mkdir(parents=True)
    with pytest.raises(InputError, match="looked for rendered_chairs/<id>/renders"):
        load(Request("auto", tmp_path / "empty"))
    (tmp_path / "file.tar").write_text("no tar")
    with pytest.raises(InputError, match="not a tar"):
        load(Request("auto", tmp_path / "file.tar"))
    write_tar(tmp_path / "other.tar", {"readme": b"hello"})
    with pytest.raises(InputError, match="holds no chairs"):
        load(Request("auto", tmp_path / "other.tar"))
    with pytest.raises(InputError, match=r"no stable address.*--data-root"):
        load(Request("download"))


def test_the_real_split_is_by_chair_and_fixed_by_the_seed(folder):
    one, same = load(Request("auto", folder), seed=1), load(Request("auto", folder), seed=1)
    held = [split.labels["identity"].unique().tolist() for split in all_of(one)]
    assert sorted(chair for part in held for chair in part) == [0, 1, 2, 3] and [len(part) for part in held] == [
        2,
        1,
        1,
    ]
    assert torch.equal(one.test.images, same.test.images)
    tests = {load(Request("auto", folder), seed=seed).test.labels["identity"][0].item() for seed in range(8)}
    assert len(tests) > 1
    arrays = {"labels/identity": np.arange(1393)}
    assert [len(part) for part in chairs._split_real(arrays, 0)] == [1243, 50, 100]


def test_three_splits_need_three_chairs(tmp_path, contents):
    two = {name: content for name, content in contents.items() if "/a" in name}
    with pytest.raises(InputError, match="at least 3"):
        load(Request("auto", write_folder(tmp_path / "two", two)))


def test_real_asymmetry_compares_the_nearest_to_opposite_views():
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[1] = 51  # a fifth of white
    azimuth, elevation = np.array([0, 15, 3, 4]), np.array([20, 20, 20, 20])
    result = rendered_chairs.asymmetry(images, np.array([0, 0, 1, 1]), azimuth, elevation)
    np.testing.assert_allclose(result, [0.2, 0.2, 1, 1], rtol=1e-6)
    wrapped = rendered_chairs.asymmetry(images[:2], np.zeros(2, int), np.array([20, 4]), np.array([30, 30]))
    np.testing.assert_allclose(wrapped, 0.2, rtol=1e-6)


# The cache


def test_embedded_chairs_are_rendered_once(own_cache):
    assert "to be rendered" in describe(EMBEDDED)
    rendered = []
    first = load(EMBEDDED, counts=TINY, progress=lambda *done: rendered.append(done))
    assert len(rendered) == 4
    again = load(EMBEDDED, counts=list(TINY), progress=lambda *done: pytest.fail("rendered again"))
    assert first.source == again.source and torch.equal(first.train.images, again.train.images)
    assert [path.suffix for path in own_cache.iterdir()] == [".npz"]
    assert load(EMBEDDED, counts=TINY, seed=1).source.sha256 != first.source.sha256
    assert load(EMBEDDED, counts=TINY, color=True).image_shape == (3, 64, 64)


def damage(path, how):
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


@pytest.mark.parametrize("how", ["changed", "truncated", "empty", "other"])
def test_a_damaged_cache_is_rendered_again_and_never_trusted(folder, how):
    whole = load(EMBEDDED, counts=TINY)
    damage(prepare(EMBEDDED, counts=TINY), how)
    assert torch.equal(load(EMBEDDED, counts=TINY).train.images, whole.train.images)
    load(EMBEDDED, counts=TINY, progress=lambda *done: pytest.fail("rendered again"))

    path = prepare(Request("auto", folder))
    damage(path, how)
    for request in (Request("auto", folder), Request()):
        with pytest.raises(InputError, match=rf"{path.name}.*(damaged|changed).*prepare"):
            load(request)
    assert prepare(Request("auto", folder)) == path
    assert load(Request()).source.kind == "cache"


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="PYRO_DISENT_CACHE"):
        load(EMBEDDED, counts=(1, 1, 1))


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "arrays.npz"
    sha256 = array_cache.save(path, {"a": np.arange(3)})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        array_cache.save(path, {"a": np.arange(4)})
    monkeypatch.undo()
    arrays, recorded = array_cache.load(path)
    assert recorded == sha256 and arrays["a"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_threads_keep_the_order_and_stop_at_the_first_error():
    assert list(in_threads(lambda x: x * x, iter(range(50)), 50, workers=3)) == [x * x for x in range(50)]
    started = []

    def fail(x):
        started.append(x)
        if x == 3:
            raise ValueError("three")
        return x

    with pytest.raises(ValueError, match="three"):
        list(in_threads(fail, iter(range(10_000)), 10_000, workers=2))
    assert len(started) < 100


# Splits and pairs


def make_split(counts, vary=None):
    """Image ``i`` is a single pixel of brightness ``i``, so that a batch shows which images it took."""
    total = sum(counts)
    identity = torch.repeat_interleave(torch.arange(len(counts)) * 3, torch.tensor(counts))
    factors = {
        "azimuth": torch.cat([torch.arange(count) // 2 for count in counts]).float(),
        "elevation": torch.arange(total).remainder(2).float(),
    }
    images = torch.arange(total, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return ChairSplit(images, {"identity": identity}, factors, torch.zeros(total), vary)


def taken(batch):
    return (batch.images * 255).round().long().flatten(1)


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(2, 9), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_a_pair_is_one_chair_in_two_different_images(counts, seed):
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


def test_every_other_view_is_equally_likely():
    split = make_split([3, 7, 2])
    draws = 7000
    index = torch.full((draws,), 5)  # the third image of the chair of seven
    second = taken(split.batch(index, torch.Generator().manual_seed(0)))[1]
    counted = torch.bincount(second, minlength=12)
    assert counted[[0, 1, 2, 5, 10, 11]].sum() == 0
    expected = draws / 6
    statistic = ((counted[[3, 4, 6, 7, 8, 9]] - expected) ** 2 / expected).sum()
    assert statistic < 20.5  # chi-square, five degrees of freedom: passed by 999 of 1000


def test_vary_holds_the_other_factors_equal():
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


def test_an_image_without_a_partner_is_refused():
    with pytest.raises(InputError, match="chair 3 has a view without another"):
        make_split([2, 1])
    with pytest.raises(InputError, match="differs in nothing but azimuth"):
        load(EMBEDDED, counts=TINY, vary=("azimuth",))
    with pytest.raises(InputError, match="no factor 'colour'"):
        load(EMBEDDED, counts=TINY, vary=("colour",))
    held = load(EMBEDDED, counts=TINY, vary=("azimuth", "zoom")).train
    pair = held.batch(torch.arange(len(held)), torch.Generator())
    assert torch.equal(*pair.factors["elevation"]) and not torch.equal(*pair.factors["azimuth"])


def test_batches_are_reproducible_and_stay_on_their_device():
    split = make_split([4, 4])
    one, two = (split.batch(torch.arange(8), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert all(value.is_meta for value in vars(split.to("meta")).values() if isinstance(value, torch.Tensor))
    assert all(values.is_meta for values in split.factors.values())


def test_embedded_splits_hold_different_chairs_and_all_that_is_known():
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
    shared = batch.sharing({"z": (), "y": ()}).shared
    assert shared["z"].all() and not shared["y"].any()
    assert data.options["counts"] == list(TINY)


@pytest.mark.parametrize("limit", [2, 40, 62, 63, 64, 123, 124, 1000])
def test_limit_counts_training_images(limit):
    data = load(EMBEDDED, counts=TINY, limit=limit)
    assert len(data.train) == min(limit, 124)
    assert len(data.test) == 62
    data.train.batch(torch.arange(len(data.train)), torch.Generator())


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_a_limit_without_a_pair_is_refused(limit):
    with pytest.raises(InputError, match="--limit"):
        load(EMBEDDED, counts=TINY, limit=limit)


@pytest.mark.parametrize("counts", [(1, 1), (0, 1, 1)])
def test_every_split_needs_a_chair(counts):
    with pytest.raises(InputError, match="train, validation and test"):
        load(EMBEDDED, counts=counts)
