"""CelebA's files as its authors publish them, and what can be wrong with them."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent.data.dataset import Pairs
from pyro_disent.data.faces import files as celeba_files
from pyro_disent.data.faces.celeba import describe, load, prepare
from pyro_disent.data.faces.drawn.faces import ATTRIBUTES
from pyro_disent.errors import InputError
from tests.celeba_files import (
    HAS,
    NAMES,
    PICTURES,
    attribute_list,
    check_is_the_tiny_set,
    jpg,
    local,
    partition_list,
    picture,
    splits,
    write,
    write_zip,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data" / "celeba")


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
