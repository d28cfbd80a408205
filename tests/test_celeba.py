"""CelebA from where it lies to pairs: its authors' files and what can be wrong with them, the cache, drawn faces."""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, Pairs
from pyro_disent.data.faces import celeba
from pyro_disent.data.faces import files as celeba_files
from pyro_disent.data.faces.celeba import FaceSplit, describe, load, prepare
from pyro_disent.data.faces.drawn import faces
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.store import ImagesOnDisk
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent, each, sharing
from pyro_disent.runs.presets import configure
from pyro_disent.training.feed import Feed
from tests.syncs import refused_syncs
from tests.test_device import NoReadBack

NAMES = tuple(f"{number:06d}.jpg" for number in (1, 2, 3, 5, 7, 8, 9, 11, 12, 20))
PARTITION = (0, 0, 1, 0, 2, 1, 0, 2, 0, 2)
HAS = np.random.default_rng(0).random((len(NAMES), 40)) < 0.4
EMBEDDED = Request("embedded")
TINY = (4, 3, 3)
LATENTS = (Latent("z", 40, explains=each(*ATTRIBUTES)), Latent("y", 2, explains="rest"))


pytestmark = pytest.mark.usefixtures("elsewhere")


def jpg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def picture(seed: Any, size: tuple[int, int] = (178, 218)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


PICTURES = {name: jpg(picture(place)) for place, name in enumerate(NAMES)}


def attribute_list(names: tuple[str, ...] = NAMES, has: NDArray[np.bool_] = HAS) -> str:
    signs = np.where(has, " 1", "-1")  # aligned in columns, as the authors' list is
    rows = (f"{name} {' '.join(row)}\n" for name, row in zip(names, signs, strict=True))
    return f"{len(names)}\n{' '.join(ATTRIBUTES)} \n{''.join(rows)}"


def partition_list() -> str:
    return "".join(f"{name} {place}\n" for name, place in zip(NAMES, PARTITION, strict=True))


def write_zip(path: Path, contents: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("img_align_celeba/", b"")
        for name, content in contents.items():
            archive.writestr(f"img_align_celeba/{name}", content)


def write(folder: Path, packed: bool = False, contents: dict[str, bytes] = PICTURES) -> Path:
    """A tiny CelebA in its authors' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list_attr_celeba.txt").write_text(attribute_list())
    (folder / "list_eval_partition.txt").write_text(partition_list())
    if packed:
        write_zip(folder / "img_align_celeba.zip", contents)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in contents.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data" / "celeba")


def local(folder: Path) -> Request:
    return Request("auto", folder)


def splits(data: DataSet) -> list[FaceSplit]:
    return [data.train, data.validation, data.test]  # type: ignore[list-item]


def expected(name: str) -> Tensor:
    """What torchvision's transforms make of a file."""
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    with Image.open(io.BytesIO(PICTURES[name])) as image:
        return Compose([CenterCrop(148), Resize(64), PILToTensor()])(image.convert("RGB"))


def members(place: int) -> list[int]:
    return [row for row, split in enumerate(PARTITION) if split == place]


def check_is_the_tiny_set(data: DataSet) -> None:
    for place, split in enumerate(splits(data)):
        rows = members(place)
        assert torch.equal(split.images[:], torch.stack([expected(NAMES[row]) for row in rows]))
        assert np.array_equal(split.attributes.numpy(), HAS[rows])


# The authors' files.


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["celeba", "."])
def test_the_files_become_what_torchvision_makes_of_them(tmp_path: Path, place: str, packed: bool) -> None:
    folder, seen = write(tmp_path / "data" / place, packed), []
    data = load(local(tmp_path / "data"), progress=lambda *done: seen.append(done))
    assert seen == [(done + 1, len(NAMES)) for done in range(len(NAMES))]
    check_is_the_tiny_set(data)
    assert data.source.kind == "local" and data.source.location == str(folder)
    assert data.image_shape == (3, 64, 64) and [factor.name for factor in data.factors] == list(ATTRIBUTES)
    assert data.pairs == Pairs(rest_differs=True) and len(ATTRIBUTES) == 40


def test_folder_and_zip_are_one_set(tmp_path: Path) -> None:
    one, other = (load(local(write(tmp_path / str(packed), packed))) for packed in (False, True))
    assert one.source.sha256 == other.source.sha256
    assert all(torch.equal(a.images[:], b.images[:]) for a, b in zip(splits(one), splits(other), strict=True))
    third = write(tmp_path / "third")
    (third / "list_attr_celeba.txt").write_text(attribute_list(has=~HAS))
    assert load(local(third)).source.sha256 != one.source.sha256


def test_the_central_square_is_kept(tmp_path: Path) -> None:
    """Red counts columns and green rows, and blue is full where the crop must not reach."""
    row, column = np.mgrid[:218, :178]
    outside = (column < 15) | (column >= 163) | (row < 35) | (row >= 183)
    pattern = np.stack([column, row, 255 * outside], -1).astype(np.uint8)
    contents = PICTURES | {NAMES[0]: jpg(Image.fromarray(pattern), 100)}
    red, green, blue = load(local(write(tmp_path, contents=contents))).train.images[0].double()
    scale = 148 / 64
    centers = (torch.arange(64) + 0.5) * scale - 0.5
    inner = slice(1, -1)  # JPEG's blocks spread the border's color a little
    assert (red[inner, inner] - 15 - centers[inner]).abs().max() < 2.5
    assert (green[inner, inner] - 35 - centers[inner, None]).abs().max() < 2.5
    assert blue[3:-3, 3:-3].max() < 10 and blue.max() < 100


def test_lists_may_differ_in_their_order_and_images_in_excess_are_left_out(folder: Path) -> None:
    lines = partition_list().splitlines()
    (folder / "list_eval_partition.txt").write_text("\r\n".join([*lines[::-1], ""]))
    (folder / "img_align_celeba" / "000099.jpg").write_bytes(b"nothing is known of it")
    (folder / "img_align_celeba" / "readme.txt").write_text("hello")
    check_is_the_tiny_set(load(local(folder)))


def edited(line: int, change: Callable[[str], str]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        lines = text.splitlines()
        lines[line - 1] = change(lines[line - 1])
        return "\n".join(lines)

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (edited(1, lambda _: "11"), "line 1: it says 11 images, but lists 10"),
        (edited(1, lambda _: "ten"), "line 1: expected is the number of images, not 'ten'"),
        (lambda text: "", "line 1: expected is the number"),
        (edited(2, lambda line: line.replace("Bald", "Hairless")), "line 2: .*Hairless where Bald belongs"),
        (edited(2, lambda line: line.rsplit(maxsplit=1)[0]), "line 2: .*39 names where 40 belongs"),
        (edited(2, lambda line: line + " Tall"), "line 2: .*41 names where 40 belongs"),
        (lambda text: text.split("\n")[0], "line 2: .*0 names where 40 belongs"),
        (edited(4, lambda line: line.rsplit(maxsplit=1)[0]), "line 4: 000002.jpg has 39 values for 40 attributes"),
        (edited(4, lambda line: line + " 1"), "line 4: 000002.jpg has 41 values"),
        (edited(5, lambda line: f"000003.jpg 0{line[13:]}"), "line 5: 5_o_Clock_Shadow of 000003.jpg is '0'"),
        (edited(6, lambda line: line[:-2] + "x1"), "line 6: Young of 000005.jpg is 'x1'; accepted are 1 and -1"),
        (edited(7, lambda line: "000005.jpg" + line[10:]), "line 7: 000005.jpg is listed again, after line 6"),
        (edited(7, lambda line: "../../7.jpg" + line[10:]), "line 7: '../../7.jpg' is not named as CelebA's"),
        (lambda text: text.replace("000020.jpg", "000021.jpg"), "does not say which split 000021.jpg"),
        (edited(12, lambda _: ""), "line 1: it says 10 images, but lists 9"),
    ],
)
def test_a_wrong_list_of_attributes_is_named(folder: Path, edit: Callable[[str], str], says: str) -> None:
    path = folder / "list_attr_celeba.txt"
    path.write_text(edit(path.read_text()))
    with pytest.raises(InputError, match=says) as caught:
        load(local(folder))
    assert "celeba/list_" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (edited(2, lambda _: "000002.jpg 3"), "line 2: 000002.jpg is in '3'; accepted are 0"),
        (edited(2, lambda _: "000002.jpg"), "line 2: 000002.jpg is in ''"),
        (edited(2, lambda _: "000002.jpg 0 1"), "line 2: 000002.jpg is in '0 1'"),
        (edited(2, lambda _: "000001.jpg 0"), "line 2: 000001.jpg is listed again, after line 1"),
        (edited(2, lambda _: ""), "does not say which split 000002.jpg"),
        (lambda text: text + "000021.jpg 0\n", "line 11: 000021.jpg is not in list_attr_celeba.txt"),
        (lambda text: text.replace(" 1\n", " 0\n"), r"puts 0 images into 1 \(validation\): each split needs two"),
        (lambda text: text.replace(" 2\n", " 1\n"), r"puts 0 images into 2 \(test\)"),
        (edited(3, lambda _: "000003.jpg 0"), r"puts 1 images into 1 \(validation\)"),
    ],
)
def test_a_wrong_list_of_splits_is_named(folder: Path, edit: Callable[[str], str], says: str) -> None:
    path = folder / "list_eval_partition.txt"
    path.write_text(edit(path.read_text()))
    with pytest.raises(InputError, match=says) as caught:
        load(local(folder))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_a_list_that_is_missing_or_no_text(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(InputError, match=f"{path} cannot be read as a list"):
        load(local(folder))
    path.unlink()
    for use in (load, describe, prepare):
        with pytest.raises(InputError, match=f"{path} is missing: CelebA is img_align_celeba/NNNNNN.jpg"):
            use(local(folder))


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: None, "lacks 1 of the 10 images that list_attr_celeba.txt names, the first is 000003.jpg"),
        (damaged, "000003.jpg.* is damaged or truncated"),
        (lambda _: b"", "000003.jpg.* is (empty|no image)"),
        (lambda _: b"GIF89a" + bytes(100), "000003.jpg.* is no image of a kind that is read .JPEG"),
        (lambda _: jpg(picture(0, (178, 219))), "000003.jpg.* has 178x219 pixels: CelebA's .* have 178x218"),
        (lambda _: jpg(picture(0, (100, 80))), "000003.jpg.* has 100x80 pixels: CelebA's"),
        (lambda _: jpg(picture(0)).replace(b"\x00\xda\x00\xb2", b"\xff\xff\xff\xff"), "000003.jpg.*pixels"),
    ],
    ids=["missing", "truncated", "empty", "foreign", "taller", "smaller", "bomb"],
)
def test_a_wrong_image_is_named(
    tmp_path: Path, packed: bool, spoil: Callable[[bytes], bytes | None], says: str
) -> None:
    spoiled = spoil(PICTURES["000003.jpg"])
    rest = {name: content for name, content in PICTURES.items() if name != "000003.jpg"}
    folder = write(tmp_path / "data", packed, rest if spoiled is None else rest | {"000003.jpg": spoiled})
    with pytest.raises(InputError, match=says) as caught:
        load(local(folder))
    assert "img_align_celeba" in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*.bin"))


def test_images_that_are_not_there_at_all(folder: Path) -> None:
    shutil.rmtree(folder / "img_align_celeba")
    with pytest.raises(InputError, match=r"img_align_celeba and img_align_celeba.zip are missing"):
        load(local(folder))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[: len(content) // 2], "is damaged or not a zip file"),
        (lambda content: b"", "is damaged or not a zip file"),
        (
            lambda content: content.replace(PICTURES[NAMES[4]], PICTURES[NAMES[4]][:-9] + bytes(9)),
            "is damaged or cannot",
        ),
        (lambda content: content.replace(b"img_align_celeba/000001", b"img_align_celeba/000002"), "000002.jpg twice"),
    ],
    ids=["truncated", "empty", "another byte", "twice"],
)
def test_a_damaged_zip_is_named(folder: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    shutil.rmtree(folder / "img_align_celeba")
    path = folder / "img_align_celeba.zip"
    write_zip(path, PICTURES, zipfile.ZIP_STORED)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(InputError, match=says) as caught:
        load(local(folder))
    assert str(path) in str(caught.value)


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("img_align_celeba/000099.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("/etc/000001.jpg", "leaves the folder"),
        ("../000001.jpg", "leaves the folder"),
        ("img_align_celeba/../../000001.jpg", "leaves the folder"),
        ("..\\000001.jpg", "leaves the folder"),
        ("C:/000001.jpg", "leaves the folder"),
        ("/", "leaves the folder"),
        (link(), "is a link"),
    ],
    ids=str,
)
def test_a_zip_that_leaves_its_folder_is_refused(folder: Path, member: str | zipfile.ZipInfo, says: str) -> None:
    shutil.rmtree(folder / "img_align_celeba")
    write_zip(folder / "img_align_celeba.zip", PICTURES)
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "a") as archive:
        archive.writestr(member, b"/etc/hostname")
    with pytest.raises(InputError, match=f"img_align_celeba.zip is refused: its member .* {says}"):
        load(local(folder))


def test_a_member_that_would_unpack_to_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "img_align_celeba")
    write_zip(folder / "img_align_celeba.zip", PICTURES | {NAMES[1]: bytes(100_000)})
    monkeypatch.setattr(celeba_files, "MAX_BYTES", 99_999)
    with pytest.raises(InputError, match=f"{NAMES[1]} in .*zip has 100,000 bytes: at most 99,999"):
        load(local(folder))


# Places and the cache.


def test_the_environment_then_the_cache_then_drawn_faces(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(Request(), counts=TINY).source.kind == "embedded"
    with pytest.raises(InputError, match=r"holds no CelebA: looked for img_align_celeba/NNNNNN.jpg"):
        load(local(tmp_path))
    monkeypatch.setenv("PYRO_DISENT_DATA", str(folder.parent))
    assert describe(Request()) == f"local: {folder}, to be converted once"
    first = load(Request())
    assert first.source.kind == "local" and describe(Request()) == f"local: {folder}"
    assert load(Request("embedded"), counts=TINY).source.kind == "embedded"
    monkeypatch.delenv("PYRO_DISENT_DATA")
    shutil.rmtree(folder)
    cached = load(Request())
    check_is_the_tiny_set(cached)
    assert cached.source.kind == "cache" and cached.source.sha256 == first.source.sha256
    assert describe(Request()) == f"cache: {cached.source.location}" and prepare(Request()) == Path(
        cached.source.location
    )


def test_converted_once_and_again_where_a_file_changed(folder: Path) -> None:
    path = prepare(local(folder))
    before = path.stat().st_mtime_ns
    load(local(folder), progress=lambda *done: pytest.fail("converted again"))
    assert prepare(local(folder)) == path and path.stat().st_mtime_ns == before
    (folder / "img_align_celeba" / NAMES[0]).write_bytes(PICTURES[NAMES[1]])
    assert torch.equal(load(local(folder)).train.images[0], expected(NAMES[1]))


def test_an_interrupted_conversion_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(local(folder), progress=interrupt)
    assert describe(Request()).startswith("embedded")  # what is not whole serves nobody
    seen: list[int] = []
    check_is_the_tiny_set(load(local(folder), progress=lambda done, total: seen.append(done)))
    assert seen == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("suffix", [".bin", ".npz"])
def test_a_damaged_cache_is_never_trusted(folder: Path, suffix: str) -> None:
    path = prepare(local(folder)).with_suffix(suffix)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for request in (local(folder), Request()):
        with pytest.raises(InputError, match=rf"{path.name} (is damaged|has changed).*prepare celeba --data-root"):
            load(request)
    with pytest.raises(InputError, match=rf"{path.name} (is damaged|has changed)"):
        prepare(Request())
    assert path.read_bytes() == content
    prepare(local(folder))
    check_is_the_tiny_set(load(Request()))


def test_images_are_read_from_the_disk_where_they_are_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = load(local(folder))
    monkeypatch.setattr(image_store, "LARGE_BYTES", 0)
    large = load(local(folder), limit=3)
    check_is_the_tiny_set(load(local(folder)))
    index = torch.tensor([2, 0, 1, 1])
    for few, many in zip(splits(small), splits(large), strict=True):
        assert isinstance(few.images, Tensor) and isinstance(many.images, ImagesOnDisk)
        batches = [
            FaceSplit(split.images[:2], split.attributes[:2]).batch(index % 2, generator()) for split in (few, many)
        ]
        assert torch.equal(batches[0].images, batches[1].images)
        assert torch.equal(many.batch(index[1:3], generator()).images[0], few.images[:2].float() / 255)
    assert len(large.train) == 3 and len(large.test) == 3


# A download, as far as it goes without a network.


def served(monkeypatch: pytest.MonkeyPatch, folder: Path, download: Callable[..., None]) -> None:
    """Let torchvision expect our files, and gdown fetch them in a way of its own."""
    from torchvision.datasets import CelebA

    names = ("img_align_celeba.zip", "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt")
    (folder / "identity_CelebA.txt").touch()
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names}
    monkeypatch.setattr(CelebA, "file_list", [(name, md5[name], name) for name in names])
    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))  # type: ignore[arg-type]


def test_a_download_is_checked_converted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, asked = write(tmp_path / "origin", packed=True), []

    def download(*, id: str, output: str, **_: Any) -> None:
        asked.append(id)
        shutil.copy(origin / id, output)

    served(monkeypatch, origin, download)
    request = Request("download")
    assert describe(request).startswith("download: torchvision's address") and asked == []
    data = load(request)
    check_is_the_tiny_set(data)
    assert sorted(asked) == ["img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt"]
    assert data.source.kind == "download" and data.source.location == str(tmp_path / "cache" / "celeba")
    assert load(request).source == data.source and prepare(request).exists() and len(asked) == 3
    assert load(Request()).source.kind == "cache"


def failing(error: Exception) -> Callable[..., None]:
    def download(**_: Any) -> None:
        raise error

    return download


def other_bytes(*, output: str, **_: Any) -> None:
    Path(output).write_text("<html>Too many users have viewed or downloaded this file recently</html>")


@pytest.mark.parametrize(
    ("download", "says"),
    [
        (other_bytes, "corrupted"),
        (failing(ConnectionError("no route\nto host")), "no route to host"),
        (failing(Exception("too many users")), "too many users"),
    ],
    ids=["other bytes", "no network", "quota"],
)
def test_a_download_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: Callable[..., None], says: str
) -> None:
    served(monkeypatch, write(tmp_path / "origin", packed=True), download)
    with pytest.raises(InputError, match=rf"CelebA could not be downloaded .*{says}.*`data_root`") as caught:
        load(Request("download"))
    assert "\n" not in str(caught.value)


def test_a_download_without_gdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"could not be downloaded .*pip install gdown"):
        prepare(Request("download"))


# Drawn faces.


def test_drawn_faces_are_drawn_once_and_follow_their_seed(tmp_path: Path) -> None:
    assert "15000 drawn faces" in describe(EMBEDDED) and describe(EMBEDDED).endswith("to be drawn once")
    drawn: list[int] = []
    data = load(EMBEDDED, counts=TINY, progress=lambda done, total: drawn.append(total))
    assert drawn == [10] * 10
    again = load(EMBEDDED, counts=list(TINY), progress=lambda *done: pytest.fail("drawn again"))
    assert data.source == again.source and data.options == again.options == {
        "seed": 0,
        "limit": None,
        "counts": [4, 3, 3],
    }
    images, attributes = faces.render_faces(0, 0, 10)
    assert torch.equal(torch.cat([split.images for split in splits(data)]), torch.from_numpy(images))  # type: ignore[misc]
    assert np.array_equal(torch.cat([split.attributes for split in splits(data)]).numpy(), attributes)
    assert [len(split) for split in splits(data)] == list(TINY)
    assert len({image.numpy().tobytes() for split in splits(data) for image in split.images[:]}) == 10  # all differ
    other = load(EMBEDDED, counts=TINY, seed=1)
    assert other.source.sha256 != data.source.sha256 and not torch.equal(other.train.images[:], data.train.images[:])


def test_a_damaged_cache_of_drawn_faces_is_drawn_again() -> None:
    whole, path = load(EMBEDDED, counts=TINY), prepare(EMBEDDED, counts=TINY)
    for use in (load, prepare):
        path.write_bytes(path.read_bytes()[:-100])
        use(EMBEDDED, counts=TINY)
        again = load(EMBEDDED, counts=TINY, progress=lambda *done: pytest.fail("drawn again"))
        assert torch.equal(again.train.images[:], whole.train.images[:])


@pytest.mark.parametrize("counts", [(4, 4), (4, 4, 1), (0, 4, 4)])
def test_every_split_needs_a_pair(counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="2 or more each to be paired"):
        load(EMBEDDED, counts=counts)


def test_limit_counts_training_images(folder: Path) -> None:
    for request in (EMBEDDED, local(folder)):
        whole = load(request, counts=TINY)
        for limit in (2, 3, 4, 5, 99):
            data = load(request, counts=TINY, limit=limit)
            kept = min(limit, len(whole.train))
            assert [len(split) for split in splits(data)] == [kept, *(len(split) for split in splits(whole)[1:])]
            assert torch.equal(data.train.images[:], whole.train.images[:kept])
            assert len(data.train.attributes) == kept and data.source == whole.source  # type: ignore[attr-defined]
        for limit in (1, 0, -3):
            with pytest.raises(InputError, match=f"`limit={limit}` is too few"):
                load(request, counts=TINY, limit=limit)


# Pairs.


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
