"""A folder of the user's images: who and what is in them, and how they are split and paired."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_disent.data import registry
from pyro_disent.errors import InputError
from tests.models import masks
from tests.people import (
    ALL,
    PEOPLE,
    SIZE,
    VIEWS,
    contents,
    everything,
    flat,
    load,
    people,
    people_of,
    person_and_place,
    picture,
    splits,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


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
    assert "48 images" in registry.describe(str(root)).origin


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
