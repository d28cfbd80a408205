"""A folder of the user's images: real trees of files, through the registry and through the command line."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import pyro_disent
from pyro_disent.cli.main import main
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Source, Split
from pyro_disent.data.images import store as image_store
from pyro_disent.data.own import folder
from pyro_disent.data.own.splits import Known, data_set
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import networks
from tests.models import masks

SIZE = 16
PEOPLE = 12
VIEWS = 4
ALL = list(product(range(PEOPLE), range(VIEWS)))
"""Every person in every place: what there are pictures of."""
COLORS = [(20 * person + 20, 255 - 20 * person, (70 * person) % 200) for person in range(PEOPLE)]
"""Each identity's own."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def picture(person: int, place: int) -> Image.Image:
    """An image of one color, black in one of its four columns: who it is and where can be read off it."""
    pixels = np.empty((SIZE, SIZE, 3), np.uint8)
    pixels[:] = COLORS[person]
    pixels[:, 4 * place : 4 * place + 4] = 0
    return Image.fromarray(pixels)


def person_and_place(images: torch.Tensor) -> tuple[list[int], list[int]]:
    """What `picture` was told, of uint8 images ``(images, 3, SIZE, SIZE)``."""
    places = images[:, :, 0, 2::4].int().sum(1).argmin(-1)
    people = [COLORS.index(tuple(image.amax((1, 2)).tolist())) for image in images]
    return people, places.tolist()


def people(root: Path, ending: str = "png") -> Path:
    """Twelve sub-folders of four images, in an order that is no order."""
    for person, place in random.Random(0).sample(ALL, len(ALL)):
        path = root / f"person {person}" / f"view_{place}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(person, place).save(path)
    return root


def flat(root: Path, rows: list[str] | None = None, header: str = "file_name,who,place,side") -> Path:
    """The same images side by side, with a ``metadata.csv`` that says what is in them."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for person, place in ALL:
        name = f"{person:02}-{place}.png"
        picture(person, place).save(root / name)
        lines.append(f"{name},P{person},{place},{'left' if place < 2 else 'right'}")
    (root / "metadata.csv").write_text("\n".join([header, *(lines if rows is None else rows)]) + "\n")
    return root


def load(root: Path, **options: Any) -> DataSet:
    return registry.load(str(root), **{"image_size": SIZE, **options})


def splits(data: DataSet) -> dict[str, Split]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def contents(data: DataSet) -> dict[str, list[tuple[int, int]]]:
    """Which pictures lie in each split."""
    seen = {name: person_and_place(split.images[:]) for name, split in splits(data).items()}
    return {name: list(zip(*both, strict=True)) for name, both in seen.items()}


def everything(data: DataSet) -> list[tuple[int, int]]:
    """The pictures of all splits, sorted."""
    return sorted(chain.from_iterable(contents(data).values()))


def people_of(split: list[tuple[int, int]]) -> set[int]:
    return {person for person, _ in split}


def test_sub_folders_are_identities(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    (root / "notes").mkdir()
    for ignored in (".DS_Store", "Thumbs.db", "README.txt", ".hidden.png", "notes/list.txt", "person 1/._view_0.png"):
        (root / ignored).write_text("nothing")
    data = load(root)
    seen = contents(data)
    assert {name: len(split) for name, split in seen.items()} == {"train": 40, "validation": 4, "test": 4}
    assert everything(data) == ALL
    assert sum(len(people_of(split)) for split in seen.values()) == PEOPLE
    assert data.name == "faces" and data.factors == () and data.image_shape == (3, SIZE, SIZE)
    assert data.source.kind == "local" and data.source.location == str(root)
    for split, pictures in zip(splits(data).values(), seen.values(), strict=True):
        identity = split.labels["identity"].tolist()
        assert len(set(identity)) == len({*zip(identity, (person for person, _ in pictures), strict=True)})
    assert "48 images" in registry.describe(str(root)).found


def test_pairs_share_the_identity_and_never_y(tmp_path: Path) -> None:
    data = load(people(tmp_path / "faces"))
    batch = data.train.batch(torch.arange(40), torch.Generator().manual_seed(0))
    (first, from_), (second, to) = (person_and_place((view * 255).round().byte()) for view in batch.images)
    assert first == second and all(a != b for a, b in zip(from_, to, strict=True))
    shared = masks(batch, "z", "y")
    assert shared["z"].all() and not shared["y"].any()


def test_folders_deeper_down_belong_to_the_first_one(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    (root / "person 3" / "winter" / "late").mkdir(parents=True)
    (root / "person 3" / "view_2.png").rename(root / "person 3" / "winter" / "late" / "view_0.png")
    (root / "person 4").rename(tmp_path / "elsewhere")
    (root / "person 4").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    data = load(root)
    assert everything(data) == ALL
    assert sum(len(people_of(split)) for split in contents(data).values()) == PEOPLE
    (root / "person 3" / "winter" / "again").symlink_to(root / "person 3", target_is_directory=True)
    with pytest.raises(InputError, match="winter/again is a link to a folder that it lies in"):
        load(root)


def test_the_split_is_of_names_and_the_seed_not_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load(people(tmp_path / "faces"))
    scandir = os.scandir

    def backwards(path: Any) -> Any:
        return sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

    copy = shutil.copytree(tmp_path / "faces", tmp_path / "copies" / "faces")
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", backwards)
        again = load(copy)
    assert contents(again) == contents(one) and again.source.sha256 == one.source.sha256
    other = load(tmp_path / "faces", seed=1)
    assert people_of(contents(other)["test"]) != people_of(contents(one)["test"])
    assert other.source.sha256 == one.source.sha256


def test_the_first_training_images_alone_and_no_partner_lost(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    whole = contents(load(root))
    for limit, kept in ((2, 2), (6, 6), (9, 8), (10, 10), (1000, 40)):
        data = load(root, limit=limit)
        assert contents(data) == {**whole, "train": whole["train"][:kept]}
    assert data.options == {
        "seed": 0,
        "limit": 1000,
        "image_size": SIZE,
        "channels": 3,
        "shape": "crop",
        "pair_by": None,
        "factors": None,
        "skip_bad": False,
        "kinds": {},
        "white": None,
        "test_share": None,
    }
    assert contents(load(root, **json.loads(json.dumps(data.options)))) == contents(data)
    with pytest.raises(InputError, match="`limit=1` is too few: a pair needs two"):
        load(root, limit=1)


def test_metadata_names_identities_and_factors(tmp_path: Path) -> None:
    data = load(flat(tmp_path / "faces"), pair_by="who")
    place, side = data.factors
    assert (place.name, place.center, place.categories) == ("place", 1.5, ())
    assert [place.center + place.scale * edge for edge in place.edges] == pytest.approx([0.5, 1.5, 2.5])
    assert (side.name, side.edges, side.categories) == ("side", (0.5,), ("left", "right"))
    for split, pictures in zip(splits(data).values(), contents(data).values(), strict=True):
        assert [place.written[value] for value in split.factors["place"].tolist()] == [str(p) for _, p in pictures]
        assert split.factors["side"].tolist() == [place >= 2 for _, place in pictures]
    assert sum(len(people_of(split)) for split in contents(data).values()) == PEOPLE


def test_columns_can_be_chosen_to_be_factors(tmp_path: Path) -> None:
    root = flat(tmp_path / "faces")
    data = load(root, pair_by="who", factors=["side"])
    assert [factor.name for factor in data.factors] == ["side"]
    assert "place" not in data.train.factors
    with pytest.raises(InputError, match=r"`factors` names who, size; columns of .*metadata.csv .*: place, side"):
        load(root, pair_by="who", factors=["side", "who", "size"])


def test_pairs_share_what_the_mask_says(tmp_path: Path) -> None:
    """A latent named after a column is shared where that is equal; ``y`` never, whatever happens to be recorded."""
    data = load(flat(tmp_path / "faces"), pair_by="who")
    batch = data.train.batch(torch.arange(40), torch.Generator().manual_seed(0))
    shared = masks(batch, "z", "y", "side")
    (first, from_), (second, to) = (person_and_place((view * 255).round().byte()) for view in batch.images)
    assert first == second and shared["z"].all() and not shared["y"].any()
    assert shared["side"][:, 0].tolist() == [(a < 2) == (b < 2) for a, b in zip(from_, to, strict=True)]
    assert shared["side"].any() and not shared["side"].all()


def test_pairs_can_have_anything_in_common(tmp_path: Path) -> None:
    """Here the place, of which there are four: then the people are factors."""
    data = load(flat(tmp_path / "faces"), pair_by="place")
    assert [factor.name for factor in data.factors] == ["who", "side"]
    assert data.factors[0].categories == tuple(sorted(f"P{person}" for person in range(PEOPLE)))
    batch = data.train.batch(torch.arange(24), torch.Generator().manual_seed(0))
    (first, from_), (second, to) = (person_and_place((view * 255).round().byte()) for view in batch.images)
    assert from_ == to and all(a != b for a, b in zip(first, second, strict=True))


def test_without_a_column_to_pair_by_sub_folders_are_identities(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    lines = [f"person {person}/view_{place}.png,{place}" for person, place in reversed(ALL)]
    (root / "metadata.csv").write_text("\n".join(["file_name,place", *lines]))
    data = load(root)
    assert [factor.name for factor in data.factors] == ["place"]
    assert contents(data) == contents(load(people(tmp_path / "bare" / "faces")))


def test_without_anything_there_are_no_pairs(tmp_path: Path) -> None:
    for root in (flat(tmp_path / "described"), flat(tmp_path / "bare")):
        if root.name == "bare":
            (root / "metadata.csv").unlink()
        data = load(root, limit=7)
        assert [factor.name for factor in data.factors] == (["who", "place", "side"] if root.name != "bare" else [])
        assert {name: len(split) for name, split in splits(data).items()} == {"train": 7, "validation": 5, "test": 5}
        assert data.train.labels == {}
        assert data.train.batch(torch.arange(7), torch.Generator(), views=1).images.shape == (1, 7, 3, SIZE, SIZE)
        with pytest.raises(InputError, match=r"no pairs: .*sub-folder of their own, .*metadata.csv by `pair_by`"):
            data.train.batch(torch.arange(7), torch.Generator())


def test_what_is_not_known_and_what_is_no_factor(tmp_path: Path) -> None:
    rows = []
    for person, place in ALL:
        angle = ["", "nan", "NaN", "1"][place] if person else " -2e1 "
        side = ["", "nan", "up", " up"][place] if person else "down"
        caption = f'"said ""{person}, {place}"" here"'
        rows.append(f"{person:02}-{place}.png,{angle},{side},1.5,,{caption},{person + 1e-3 * place},P{person}")
    root = flat(tmp_path / "faces", rows, "file_name,angle,side,camera,empty,caption,height,who")
    data = load(root, pair_by="who")
    angle, side, caption, height = data.factors
    assert (angle.name, angle.categories, side.categories) == ("angle", (), ("down", "up"))
    assert caption.categories[0] == 'said "0, 0" here' and len(caption.categories) == PEOPLE * VIEWS
    assert data.source.location.endswith("no factors: camera (the same everywhere), empty (nowhere known)")
    values = [i + 1e-3 * k for i, k in contents(data)["train"]]
    assert height.center + height.scale * height.edges[0] == pytest.approx(np.median(values), rel=1e-6)
    for split, pictures in zip(splits(data).values(), contents(data).values(), strict=True):
        expected = [-20 if person == 0 else [np.nan, np.nan, np.nan, 1][place] for person, place in pictures]
        np.testing.assert_allclose(angle.center + angle.scale * split.factors["angle"], expected, rtol=1e-6)
        expected = [0 if person == 0 else [np.nan, np.nan, 1, 1][place] for person, place in pictures]
        np.testing.assert_array_equal(split.factors["side"], np.float32(expected))


def test_texts_of_too_many_kinds_describe_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_disent.data.own.columns.MOST_CATEGORIES", PEOPLE - 1)
    data = load(flat(tmp_path / "faces"))
    assert [factor.name for factor in data.factors] == ["place", "side"]
    assert data.source.location.endswith("no factors: who (12 different texts)")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_names_of_any_letters_and_paths_of_any_depth(tmp_path: Path, encoding: str, newline: str) -> None:
    root = tmp_path / "bilder ü"
    rows = ["wer, file_name ,größe"]
    for person, place in ALL[: 3 * VIEWS]:
        name = f"año {person}/ど/été, {place}.PNG"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(person, place).save(root / name)
        written = f' "./{name.replace("/", "//", 1)}"' if place else f'"{name}"'
        rows.append(f"Zoë {person},{written},{place}")
    (root / "metadata.csv").write_bytes(newline.join([*rows, "", ",,", ""]).encode(encoding))
    data = load(root, pair_by="wer")
    assert data.name == "bilder ü" and [factor.name for factor in data.factors] == ["größe"]
    assert everything(data) == ALL[: 3 * VIEWS]


Change = Callable[[Path], object]
"""What a test does to a folder."""


def metadata(*rows: str) -> Change:
    """Puts a ``metadata.csv`` of these lines in place of the one there."""
    return lambda root: (root / "metadata.csv").write_text("\n".join(rows))


def with_row(row: str, new: str | None = None) -> Change:
    """Adds a line to ``metadata.csv``, and an image where one is named."""

    def change(root: Path) -> None:
        with (root / "metadata.csv").open("a") as file:
            file.write(row + "\n")
        if new is not None:
            picture(0, 0).save(root / new)

    return change


def write(name: str, content: bytes) -> Change:
    return lambda root: (root / name).write_bytes(content)


def nothing(root: Path) -> None:
    pass


NEVER: dict[str, tuple[Change, dict[str, Any], str]] = {
    "empty": (metadata(), {}, "metadata.csv is empty: it needs a column file_name"),
    "header only": (metadata("file_name,who"), {}, "metadata.csv names no image"),
    "no file_name": (metadata("filename,who", "a.png,1"), {}, "metadata.csv has no column file_name: .*filename, who"),
    "two columns": (metadata("file_name,a,a", "b,1,2"), {}, "metadata.csv has two columns a"),
    "nameless": (metadata(",file_name", "a,b.png"), {}, "metadata.csv has a column without a name, number 1"),
    "Latin-1": (write("metadata.csv", b"file_name,who\na.png,\xe9\n"), {}, "metadata.csv is not UTF-8"),
    "UTF-16": (write("metadata.csv", "file_name,who".encode("utf-16-le")), {}, "it seems UTF-16 without a byte order"),
    "no CSV": (metadata("file_name,who", 'a.png,"x"y'), {}, "metadata.csv is not CSV after line 1"),
    "unknown column": (
        nothing,
        {"pair_by": "Who"},
        r"`pair_by=Who`: .*metadata.csv has no such column \(did you mean who\?",
    ),
    "far off": (
        nothing,
        {"pair_by": "person"},
        r"`pair_by=person`: .* no such column; its columns are who, place, side",
    ),
    "absolute": (
        with_row("/etc/x.png,P1,1,a"),
        {},
        "line 50 of .*metadata.csv names /etc/x.png, which does not lie in",
    ),
    "upwards": (with_row("a/../../x.png,P1,1,a"), {}, r"names a/../../x.png, which does not lie in this folder"),
    "on Windows": (with_row("C:\\x.png,P1,1,a"), {}, "which does not lie in this folder"),
    "called identity": (
        metadata("file_name,identity", "00-0.png,1"),
        {},
        "a factor or column cannot be called 'identity'",
    ),
    "other metadata": (write("metadata.jsonl", b"{}"), {}, "metadata.jsonl is not read: write it as metadata.csv"),
    "size": (nothing, {"image_size": 7}, "`image_size=7` is not a whole number from 8 to 512"),
    "huge": (nothing, {"image_size": 513}, "`image_size=513`"),
    "size a fraction": (nothing, {"image_size": 16.5}, "image_size=16.5 is not a whole number"),
    "channels": (nothing, {"channels": 4}, r"`channels=4` is neither 1 \(grey\) nor 3 \(RGB\)"),
    "pair by side": (nothing, {"pair_by": "side"}, "too few values of side in .*faces: 2"),
}


@pytest.mark.parametrize(("change", "options", "says"), NEVER.values(), ids=NEVER)
def test_what_is_wrong_with_a_folder_is_one_sentence(
    change: Change, options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    root = flat(tmp_path / "faces")
    change(root)
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=says):
            load(root, skip_bad=skip_bad, **options)
    assert not (tmp_path / "cache").exists()


UNLESS_SKIPPED: dict[str, tuple[Change, str, int]] = {
    "missing": (
        lambda root: (root / "03-1.png").unlink(),
        "line 15 of metadata.csv names 03-1.png, which is not there",
        47,
    ),
    "not named": (lambda root: picture(0, 0).save(root / "new.PNG"), "new.PNG is not named in metadata.csv", 48),
    "named twice": (with_row("03-1.png,P5,1,left"), "line 50 of metadata.csv names 03-1.png a second time", 48),
    "too few cells": (with_row("03-1.png,P5"), "line 50 of metadata.csv has 2 cells instead of 4", 48),
    "too many cells": (with_row("03-1.png,P5,1,left,2"), "line 50 of metadata.csv has 5 cells instead of 4", 48),
    "no name": (with_row(",P5,1,left"), "line 50 of metadata.csv names no file", 48),
    "no identity": (
        with_row("new.png,,1,left", "new.png"),
        "line 50 of metadata.csv has no who, so new.png cannot be paired",
        48,
    ),
    "alone": (
        with_row("new.png,Nobody,1,left", "new.png"),
        "new.png is the only image of Nobody, and a pair needs two",
        48,
    ),
    "text": (write("03-1.png", b"an image"), "03-1.png is no image of a kind that is read", 47),
    "zero bytes": (write("03-1.png", b""), "03-1.png is empty", 47),
}


@pytest.mark.parametrize(("change", "says", "left"), UNLESS_SKIPPED.values(), ids=UNLESS_SKIPPED)
def test_what_is_bad_is_named_or_left_out_and_counted(change: Change, says: str, left: int, tmp_path: Path) -> None:
    root = flat(tmp_path / "faces")
    change(root)
    with pytest.raises(InputError, match=f"^in {root}, {says}.*`skip_bad=True`$"):
        load(root, pair_by="who")
    data = load(root, pair_by="who", skip_bad=True)
    assert everything(data) == [picture for picture in ALL if left == 48 or picture != (3, 1)]
    assert data.source.location.startswith(f"{root}, 1 bad image skipped ({says}")


def test_bad_images_are_skipped_and_nothing_that_was_converted_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = people(tmp_path / "faces")
    (root / "person 0" / "view_0.png").write_bytes(b"")
    (root / "person 0" / "view_4.png").mkdir()
    for view in (1, 2, 3):
        (root / "person 1" / f"view_{view}.png").write_text("no image")
    (root / "person 2" / "view_0.png").unlink()
    (root / "person 2" / "view_0.png").symlink_to("nowhere")
    picture(5, 0).save(root / "stray.png")
    with pytest.raises(InputError, match=r"stray.png lies beside sub-folders, each of which is an identity: mend"):
        load(root)
    (root / "stray.png").unlink()
    with pytest.raises(InputError, match=r"person 0/view_0.png is empty, and 5 more cannot be used either"):
        load(root)

    def converted(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was converted again")

    monkeypatch.setattr(folder, "read_image", converted)
    data = load(root, skip_bad=True)
    seen = contents(data)
    assert "7 bad images skipped (person 0/view_0.png is empty)" in data.source.location
    assert set().union(*map(people_of, seen.values())) == set(range(PEOPLE)) - {1}
    assert everything(data) == [(i, k) for i, k in ALL if i != 1 and (i, k) not in [(0, 0), (2, 0)]]
    batch = data.train.batch(torch.arange(len(data.train)), torch.Generator().manual_seed(0))
    (first, _), (second, _) = (person_and_place((view * 255).round().byte()) for view in batch.images)
    assert first == second
    with pytest.raises(InputError, match=r"person 0/view_0.png is empty"):
        load(root)


def test_identities_of_one_image_are_named_before_anything_is_converted(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    for person in (3, 7):
        for view in (1, 2, 3):
            (root / f"person {person}" / f"view_{view}.png").unlink()
    with pytest.raises(InputError, match=r"person 3/view_0.png is the only image of person 3, .* and 1 more"):
        load(root)
    assert not (tmp_path / "cache").exists()
    data = load(root, skip_bad=True)
    assert set().union(*map(people_of, contents(data).values())) == set(range(PEOPLE)) - {3, 7}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, r"faces holds no images of a kind that Pillow reads"),
        (lambda root: (root / "a.txt").write_text("a"), "faces holds no images"),
        (lambda root: picture(0, 0).save(root / "a.png"), "too few images in .*faces: 1, where training, validation"),
        (lambda root: (root / "a.png").write_text("a"), "too few images in .*faces: 1"),
        (lambda root: [(root / f"{i}.png").write_text("a") for i in range(4)], r"0.png is no image .* and 3 more"),
        (
            lambda root: [shutil.rmtree(path) for path in sorted(people(root).iterdir())[2:]],
            "sub-folders .*faces: 2",
        ),
        (lambda root: (root / "metadata.csv").write_text("file_name,a\nb.png,1"), "names b.png, which is not there"),
    ],
    ids=["empty", "no images", "one image", "one text", "bad ones alone", "two people", "names alone"],
)
def test_folders_that_hold_too_little(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    make(root)
    with pytest.raises(InputError, match=says):
        load(root)
    with pytest.raises(InputError, match=r"holds no images|too few (images|sub-folders)"):
        load(root, skip_bad=True)


def test_a_column_to_pair_by_needs_metadata(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`pair_by=who` is a column of metadata.csv, and .*faces has no such file"):
        load(people(tmp_path / "faces"), pair_by="who")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    (root / "person 3").chmod(0)
    with pytest.raises(InputError, match="person 3 cannot be listed"):
        load(root)
    (root / "person 3").chmod(0o700)


def test_images_of_every_kind_and_size_have_one_shape(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    for place, (ending, mode, size) in enumerate(
        [
            ("png", "RGB", (40, 30)),
            ("jpg", "CMYK", (5, 90)),
            ("gif", "P", (64, 64)),
            ("tif", "I;16", (9, 8)),
            ("png", "RGBA", (1, 1)),
        ]
    ):
        for person in range(3):
            (root / f"{person}").mkdir(parents=True, exist_ok=True)
            Image.new(mode, size, 1).save(root / f"{person}" / f"{place}.{ending}")
    for size, channels in ((8, 1), (28, 3), (128, 1)):
        assert load(root, image_size=size, channels=channels).image_shape == (channels, size, size)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1)])
@pytest.mark.parametrize("network", ["mlp", "conv3x3", "conv4x4"])
def test_the_networks_follow_the_images(size: int, channels: int, network: str) -> None:
    shape = (channels, size, size)
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *networks(network)(shape, 5))
    assert vae.image_shape == shape and vae.encode(torch.rand(2, *shape))["z"][0].shape == (2, 3)
    assert vae.decode({"z": torch.zeros(2, 3), "y": torch.zeros(2, 2)}).shape == (2, *shape)


def test_images_are_converted_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = people(tmp_path / "faces")
    seen: list[int] = []
    prepared = registry.prepare(str(root), image_size=SIZE, progress=lambda done, total: seen.append(done))
    assert prepared.is_file() and seen == list(range(1, 49))
    before = load(root, progress=lambda *_: pytest.fail("converted again"))
    picture(0, 1).save(root / "person 0" / "view_0.png")
    os.utime(root / "person 0" / "view_0.png", ns=(0, 0))
    after = load(root)
    assert after.source.sha256 != before.source.sha256
    assert everything(after)[:2] == [(0, 1), (0, 1)]
    for changed in ({"image_size": 8}, {"channels": 1}):
        assert registry.prepare(str(root), **changed) != prepared
    monkeypatch.setattr(folder, "CONVERTER_VERSION", folder.CONVERTER_VERSION + 1)
    assert registry.prepare(str(root), image_size=SIZE) != prepared


def test_metadata_that_changes_is_other_data_of_the_same_pixels(tmp_path: Path) -> None:
    root = flat(tmp_path / "faces")
    before = load(root, pair_by="who")
    text = (root / "metadata.csv").read_text()
    for changed in (text.replace("-0.png,P5,0,left", "-0.png,P5,7,left"), text.replace("right", "middle")):
        (root / "metadata.csv").write_text(changed)
        after = load(root, pair_by="who", progress=lambda *_: pytest.fail("converted again"))
        assert after.source.sha256 != before.source.sha256
    (root / "metadata.csv").write_text(text.replace("file_name,who,place", "file_name,who, place"))
    assert load(root, pair_by="who").source.sha256 == before.source.sha256


def test_images_that_fill_the_memory_stay_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = people(tmp_path / "faces")
    in_memory = load(root)
    monkeypatch.setattr(image_store, "largest_in_memory", lambda: 0)
    mapped = load(root)
    assert isinstance(mapped.train.images, image_store.ImagesOnDisk) and contents(mapped) == contents(in_memory)
    index = torch.arange(40)
    one, other = (d.train.batch(index, torch.Generator().manual_seed(0)) for d in (in_memory, mapped))
    assert torch.equal(one.images, other.images)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 5), min_size=3, max_size=25),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(2, 40)),
)
def test_every_split_has_whole_identities_and_every_image_a_partner(
    sizes: list[int], seed: int, limit: int | None
) -> None:
    """The rule that folders and arrays have in common, with any number of identities of any sizes."""
    identity = np.repeat(np.arange(len(sizes)), sizes)
    pixels = torch.arange(len(identity)).to(torch.uint8)[:, None, None, None]
    data = data_set(
        "any",
        lambda rows: pixels[torch.from_numpy(rows)],
        Known(len(identity), identity),
        identities="identities",
        seed=seed,
        limit=limit,
        source=Source("given", "", ""),
        options={},
    )
    seen = {name: identity[split.images[:].flatten()] for name, split in splits(data).items()}
    assert sum(len(set(people)) for people in seen.values()) <= len(sizes)
    held_out = max(1, round(len(sizes) / 10))
    assert len(set(seen["test"])) == len(set(seen["validation"])) == held_out
    for name, found in seen.items():
        counts = {who: int((found == who).sum()) for who in set(found)}
        assert min(counts.values()) >= 2
        if name != "train" or limit is None:
            assert all(count == sizes[who] for who, count in counts.items())
    if limit is None:
        assert sum(map(len, seen.values())) == len(identity)
    else:
        assert min(limit, len(seen["train"]) + 1) - 1 <= len(seen["train"]) <= limit


TINY: dict[str, Any] = {
    "batch_size": 8,
    "network": "mlp",
    "latents": {"z": 3, "y": 2},
    "options": {"image_size": SIZE, "skip_bad": True},
}


def test_a_run_on_a_folder_finds_it_again_and_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = people(tmp_path / "faces")
    (root / "person 0" / "view_0.png").write_bytes(b"")
    run = pyro_disent.fit("cycle", Path("faces"), out="run", max_steps=4, **TINY)
    assert run.record.fit.data == str(root) and ", 1 bad image skipped" in run.record.source.location
    monkeypatch.chdir("/")
    assert contents(run.data()) == contents(load(root, skip_bad=True))
    result = run.evaluate(seed=0)
    assert result.data == "faces" and "recall_at_1/z" in result.numbers
    picture(1, 0).save(root / "person 0" / "view_0.png")
    with pytest.raises(InputError, match=r"trained on data of sha256 .*faces has"):
        run.data()
    root.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"no folder .*faces"):
        run.data()


def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command line in this process: its exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["pyro-disent", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


OPTIONS = ["--image-size", str(SIZE), "--network", "mlp", "--batch-size", "8", "--max-steps", "4", "--no-compile"]


def test_the_command_line_trains_resumes_measures_and_shows_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "faces")
    (root / "00-0.png").write_bytes(b"")
    folder_options = ["--pair-by", "who", "--skip-bad"]
    code, out, err = called(
        monkeypatch, capfd, "fit", "--method", "cycle+predictor", "--data", "faces", *OPTIONS, *folder_options
    )
    assert code == 0, err
    assert out.splitlines()[-1] == "runs/faces-cycle+predictor-1" and "1 bad image skipped (00-0.png is empty)" in out
    config = Path("runs/faces-cycle+predictor-1/config.json")
    settings = json.loads(config.read_text())
    assert settings["fit"]["data"] == str(root) and settings["edges"].keys() == {"place", "side"}
    assert settings["fit"]["options"] == {"image_size": SIZE, "pair_by": ["who"], "skip_bad": True}
    config.write_text(config.read_text().replace('"max_steps": 4', '"max_steps": 6'))
    code, out, err = called(monkeypatch, capfd, "fit", "--resume", str(config.parent))
    assert code == 0, err
    assert json.loads((config.parent / "checkpoints/last.json").read_text())["step"] == 6
    code, out, err = called(monkeypatch, capfd, "evaluate", str(config.parent))
    assert code == 0, err
    numbers = json.loads((config.parent / "evaluation.json").read_text())["numbers"]
    assert {"recall_at_1/z", "leak/side/z"} <= numbers.keys()


def test_bad_folders_are_one_sentence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = flat(tmp_path / "faces")
    (root / "00-0.png").write_bytes(b"")
    for arguments, says in (
        (["--data", "faces", "--pair-by", "who"], "00-0.png is empty"),
        (["--data", "faces", "--pair-by", "whom"], "did you mean who?"),
        (["--data", "faces", "--skip-bad"], "no pairs"),
        (["--data", "faces", "--data-root", "."], "its own source"),
        (["--data", "face"], "there is no data set and no folder face"),
    ):
        code, out, err = called(monkeypatch, capfd, "fit", "--method", "cycle", *OPTIONS, *arguments)
        assert code == 2 and out == "" and says in err, err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_installed_program_shows_a_folder(tmp_path: Path) -> None:
    people(tmp_path / "faces", "jpg")
    program = Path(sys.executable).with_name("pyro-disent")
    command = [program, "data", "show", "faces", "--image-size", "32", "--pairs", "6"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    said, path = (result.stdout.splitlines()[line] for line in (0, -1))
    assert "40 training images" in said and path == "faces-pairs.png" and (tmp_path / path).is_file()
