"""The 3D chairs as their authors ship them: what is read, in which forms, what is refused, and how it is split."""

from __future__ import annotations

import io
import math
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent.data.chairs import chairs
from pyro_disent.data.chairs import rendered as rendered_chairs
from pyro_disent.data.chairs.chairs import describe, load, prepare
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from tests.test_chairs import EMBEDDED, TINY, all_of, damage

Contents = Mapping[str, bytes]
"""A file's name in the set -> what it holds."""

# Out of order on purpose, with file numbers that skip 031 as the real ones do.
VIEWS = ["image_032_p030_t000_r096", "image_000_p020_t000_r096", "image_015_p020_t174_r096", "image_001_p020_t011_r096"]
IDS = ["b10", "a2", "c1", "a10"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    return tmp_path / "cache"


def picture(*seed: int, size: int = 600) -> Image.Image:
    """Something smooth enough to compress and different everywhere."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def files(ids: Iterable[str], views: Iterable[str]) -> dict[str, bytes]:
    return {
        f"rendered_chairs/{chair}/renders/{view}.png": png(picture(i, j))
        for i, chair in enumerate(ids)
        for j, view in enumerate(views)
    }


@pytest.fixture(scope="session")
def contents() -> dict[str, bytes]:
    return files(IDS, VIEWS)


def write_folder(root: Path, contents: Contents) -> Path:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(path: Path, contents: Contents, mode: str = "w", extra: Iterable[tarfile.TarInfo] = ()) -> Path:
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
def folder(tmp_path: Path, contents: Contents) -> Path:
    return write_folder(tmp_path / "data", contents)


def expected(content: bytes, color: bool = False) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        small = image.crop((60, 60, 540, 540)).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(small), -1, 0) if color else np.asarray(small.convert("L"))[None]


def name_of(chair: str, view: str) -> str:
    return f"rendered_chairs/{chair}/renders/{view}.png"


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("form", ["folder", "the folder itself", "tar", "tar.gz", "the tar itself"])
def test_the_real_set_becomes_what_pillow_makes_of_it(
    tmp_path: Path, contents: Contents, form: str, color: bool
) -> None:
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
            np.testing.assert_array_equal(split.images[position], expected(contents[name_of(chair, view)], color))
            code = view[16:19]
            azimuth = {"000": 0, "011": 1, "174": 15}[code] * 2 * math.pi / 31
            assert split.factors["azimuth"][position].item() == pytest.approx(azimuth)
            assert split.factors["elevation"][position].item() == pytest.approx(math.radians(int(view[11:14])))
            checked += 1
    assert checked == 16
    assert [factor.name for factor in data.factors] == ["azimuth", "elevation"]


def test_converted_once_and_then_used_without_the_files(folder: Path) -> None:
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


def test_the_environment_names_a_folder_that_may_hold_other_things(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRO_DISENT_DATA", str(folder))
    assert load(Request()).source.kind == "local"
    assert load(Request("local")).source.kind == "local"
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "another cache"))
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("PYRO_DISENT_DATA", str(tmp_path / "other"))
    assert load(Request(), counts=TINY).source.kind == "embedded"
    with pytest.raises(InputError, match="looked for rendered_chairs"):
        load(Request("local"))


def test_changed_files_are_converted_again(folder: Path, contents: Contents) -> None:
    load(Request("auto", folder))
    changed = png(picture(99))
    (folder / next(iter(contents))).write_bytes(changed)
    data = load(Request("auto", folder))
    flat = np.concatenate([split.images.numpy() for split in all_of(data)])
    assert any((image == expected(changed)).all() for image in flat)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA"])
@pytest.mark.parametrize("color", [False, True])
def test_other_kinds_of_png_become_what_pillow_makes_of_them(
    tmp_path: Path, contents: Contents, mode: str, color: bool
) -> None:
    name = name_of(IDS[0], VIEWS[0])
    content = png(picture(3).convert(mode))
    root = write_folder(tmp_path / "real", dict(contents) | {name: content})
    images = rendered_chairs.convert(root / "rendered_chairs", color)["images"]
    chair, view = sorted(IDS).index(IDS[0]), 3  # the only one at 30 degrees is its chair's last
    np.testing.assert_array_equal(images[4 * chair + view], expected(content, color))


def test_an_interrupted_conversion_leaves_nothing_behind(folder: Path, own_cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Request("auto", folder), progress=interrupt)
    assert not own_cache.exists() or not list(own_cache.iterdir())
    assert prepare(Request("auto", folder)).exists()


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A PNG file whose header says another size."""
    chunk = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content[: len(content) // 2], "damaged or truncated"),
        (lambda content: content[:-12], "damaged or truncated"),  # all pixels are there, the end is not
        (lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:], "damaged or truncated"),
        (lambda content: b"", "is empty|is no image"),
        (lambda content: b"GIF89a" + content, r"is no image of a kind that is read \(PNG\)"),
        (lambda content: claiming(content, 100_000, 100_000), "too many pixels: at most 16,777,216"),
        (lambda content: claiming(content, 6_000, 6_000), "6000x6000 pixels: at most 16,777,216"),
        (lambda content: png(picture(0, size=100)), "100x100 pixels, too few to be cropped"),
    ],
)
def test_a_bad_file_is_named(
    tmp_path: Path, contents: Contents, form: str, spoil: Callable[[bytes], bytes], says: str
) -> None:
    name = list(contents)[6]
    spoiled = dict(contents) | {name: spoil(contents[name])}
    root = tmp_path / "bad"
    if form == "folder":
        write_folder(root, spoiled)
    else:
        write_tar(root / "rendered_chairs.tar", spoiled)
    with pytest.raises(InputError, match=says) as error:
        load(Request("auto", root))
    assert name in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*.npz"))


def test_a_huge_file_in_a_tar_is_not_read(tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    name = list(contents)[6]
    tar = write_tar(tmp_path / "rendered_chairs.tar.gz", dict(contents) | {name: bytes(2_000_000)}, "w:gz")
    monkeypatch.setattr(rendered_chairs, "MAX_BYTES", 1_999_999)
    with pytest.raises(InputError, match=rf"{name} in .* has 2,000,000 bytes: at most 1,999,999"):
        load(Request("auto", tar))


def test_a_missing_view_is_named(folder: Path, contents: Contents) -> None:
    name = list(contents)[5]
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"lacks 1 views .*a2/renders/image_\*_p020_t000"):
        load(Request("auto", folder))


def test_a_chair_without_images_is_named(folder: Path) -> None:
    renders = folder / "rendered_chairs" / "empty" / "renders"
    renders.mkdir(parents=True)
    with pytest.raises(InputError, match=str(renders)):
        load(Request("auto", folder))


@pytest.mark.parametrize("view", ["image_000_p020_t012_r096.png", "image_0.png"])
def test_a_name_that_says_no_view_is_refused(folder: Path, contents: Contents, view: str) -> None:
    (folder / "rendered_chairs" / "a2" / "renders" / view).write_bytes(next(iter(contents.values())))
    with pytest.raises(InputError, match="is not named as"):
        load(Request("auto", folder))


def link(kind: bytes) -> tarfile.TarInfo:
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
def test_a_tar_that_leaves_its_folder_is_refused(
    tmp_path: Path, contents: Contents, member: tarfile.TarInfo, says: str
) -> None:
    tar = write_tar(tmp_path / "rendered_chairs.tar", contents, extra=[member])
    with pytest.raises(InputError, match=says):
        load(Request("auto", tar))


def test_a_tar_cut_short_is_damaged(tmp_path: Path, contents: Contents) -> None:
    tar = write_tar(tmp_path / "rendered_chairs.tar", contents)
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2 + 700])
    with pytest.raises(InputError, match="damaged"):
        load(Request("auto", tar))
    packed = write_tar(tmp_path / "rendered_chairs.tar.gz", contents, "w:gz")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        load(Request("auto", packed))


def test_places_without_chairs_are_refused(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match=r"no stable address.*`data_root`"):
        load(Request("download"))


def test_the_real_split_is_by_chair_and_fixed_by_the_seed(folder: Path) -> None:
    one, same = load(Request("auto", folder), seed=1), load(Request("auto", folder), seed=1)
    held = [split.labels["identity"].unique().tolist() for split in all_of(one)]
    assert sorted(chair for part in held for chair in part) == [0, 1, 2, 3]
    assert [len(part) for part in held] == [2, 1, 1]
    assert torch.equal(one.test.images, same.test.images)
    tests = {load(Request("auto", folder), seed=seed).test.labels["identity"][0].item() for seed in range(8)}
    assert len(tests) > 1
    arrays = {"labels/identity": np.arange(1393)}
    assert [len(part) for part in chairs._split_real(arrays, 0)] == [1243, 50, 100]


def test_three_splits_need_three_chairs(tmp_path: Path, contents: Contents) -> None:
    two = {name: content for name, content in contents.items() if "/a" in name}
    with pytest.raises(InputError, match="at least 3"):
        load(Request("auto", write_folder(tmp_path / "two", two)))


def test_real_asymmetry_compares_the_nearest_to_opposite_views() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[1] = 51  # a fifth of white
    azimuth, elevation = np.array([0, 15, 3, 4]), np.array([20, 20, 20, 20])
    result = rendered_chairs.asymmetry(images, np.array([0, 0, 1, 1]), azimuth, elevation)
    np.testing.assert_allclose(result, [0.2, 0.2, 1, 1], rtol=1e-6)
    wrapped = rendered_chairs.asymmetry(images[:2], np.zeros(2, int), np.array([20, 4]), np.array([30, 30]))
    np.testing.assert_allclose(wrapped, 0.2, rtol=1e-6)


@pytest.mark.parametrize("how", ["changed", "truncated", "empty", "other"])
def test_a_damaged_conversion_is_refused_until_it_is_prepared_again(folder: Path, how: str) -> None:
    path = prepare(Request("auto", folder))
    damage(path, how)
    for request in (Request("auto", folder), Request()):
        with pytest.raises(InputError, match=rf"{path.name}.*(damaged|changed).*prepare"):
            load(request)
    assert prepare(Request("auto", folder)) == path
    assert load(Request()).source.kind == "cache"


# One factor at a time


GRID = ["image_000_p020_t000_r096", "image_001_p020_t011_r096", "image_032_p030_t000_r096", "image_033_p030_t011_r096"]


@pytest.fixture(scope="session")
def grid() -> dict[str, bytes]:
    return files(IDS[:3], GRID)


@pytest.mark.parametrize("factors", [["azimuth"], ["elevation"], ["elevation", "azimuth"]])
def test_pairs_of_real_chairs_change_one_of_the_named_factors(
    tmp_path: Path, grid: Contents, factors: list[str]
) -> None:
    root = write_folder(tmp_path / "real", grid)
    path = prepare(Request("auto", root))
    assert prepare(Request("auto", root), factors=factors) == path  # the same images, paired otherwise
    data = load(Request(), factors=factors)
    assert [factor.name for factor in data.factors] == ["azimuth", "elevation"]
    for split in all_of(data):
        batch = split.batch(torch.arange(len(split)).repeat(40), torch.Generator().manual_seed(0))
        changed = {name: values[0] != values[1] for name, values in batch.factors.items()}
        assert (sum(mask.int() for mask in changed.values()) == 1).all()
        assert {name for name, mask in changed.items() if mask.any()} == set(factors)


def test_a_factor_that_no_pair_can_change_is_refused(tmp_path: Path, folder: Path, grid: Contents) -> None:
    with pytest.raises(InputError, match=r"one or more of azimuth, elevation, each .*; zoom is known of embedded"):
        load(Request("auto", folder), factors=["zoom"])
    flat = {name: content for name, content in grid.items() if "_p020_" in name}
    with pytest.raises(InputError, match="holds a single elevation"):
        load(Request("auto", write_folder(tmp_path / "flat", flat)), factors=["azimuth", "elevation"])
    # Of the four views in `VIEWS` one is the only one at its elevation.
    with pytest.raises(
        InputError, match=r"chair \d has a view without another one of the same identity\+elevation: a pair"
    ):
        load(Request("auto", folder), factors=["azimuth"])
