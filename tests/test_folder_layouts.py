"""What sub-folders mean: splits by name, wrappers, identities, and tables that lie deeper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_disent.data.own.layout import SPLITS, arranged
from pyro_disent.errors import InputError
from tests.folders import PEOPLE, load, of_people, said, tree, where

NAMES = {
    "train": ["train", "training", "Train", "TRAINING", "train_images", "images-train", "trainset", "train2017"],
    "validation": ["val", "valid", "validation", "dev", "Dev", "VAL", "val_set", "val2017"],
    "test": ["test", "testing", "eval", "evaluation", "Test", "test images", "testset", "faces_test"],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Training", "dev", "Eval"), ("train_set", "VALID", "images-test")],
)
@pytest.mark.parametrize("wrapper", ["", "data/images/"])
def test_folders_called_as_splits_are_splits_and_no_people(
    train: str, validation: str, test: str, wrapper: str, tmp_path: Path
) -> None:
    folders = {"train": train, "validation": validation, "test": test}
    names = tree(tmp_path / "faces", of_people(*(f"{wrapper}{folder}/" for folder in folders.values())))
    data = load(tmp_path / "faces")
    assert where(data, names) == {
        split: sorted(name for name in names if name.startswith(f"{wrapper}{folder}/"))
        for split, folder in folders.items()
    }
    batch = data.train.batch(torch.arange(len(data.train)), torch.Generator().manual_seed(0))
    first, second = (where_in(view, names) for view in batch.images)
    assert [name.split("/")[-2] for name in first] == [name.split("/")[-2] for name in second] and first != second
    assert any("splits by the folders" in note and train in note for note in said(data))
    assert any("5 identities lie in more than one split (anna" in note for note in said(data))


def where_in(images: torch.Tensor, names: list[str]) -> list[str]:
    """The names of images in [0, 1]."""
    places = (images[:, :2, 0, 0] * 255).round().int()
    return [names[int(low) + 250 * int(high)] for low, high in places]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_image_is_in_the_split_that_its_folder_is_called_after(data: st.DataObject) -> None:
    """Whatever the names, wrappers above and below, and people."""
    called = {split: data.draw(st.sampled_from(names), split) for split, names in NAMES.items()}
    left_out = data.draw(st.sampled_from([(), ("validation",), ("test",), ("validation", "test")]))
    above, below = data.draw(st.sampled_from(["", "a/", "a/b/"])), data.draw(st.sampled_from(["", "images/", "x/y/"]))
    people = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=5, unique=True))
    used = {split: folder for split, folder in called.items() if split not in left_out}
    names = {
        f"{above}{folder}/{below}{who}/{view}.png": (split, who)
        for split, folder in used.items()
        for who in people
        for view in range(2)
    }
    layout = arranged(list(names), Path("root"))
    if len(used) == 1:  # a single folder is a wrapper, whatever it is called
        assert layout.splits == {}
    else:
        assert {name: SPLITS[place] for name, place in layout.splits.items()} == {n: s for n, (s, _) in names.items()}
    assert layout.identities == {name: who for name, (_, who) in names.items()}


@pytest.mark.parametrize("missing", [("val",), ("test",)])
def test_a_split_that_is_not_there_is_made_of_training_identities_and_that_is_said(
    missing: tuple[str, ...], tmp_path: Path
) -> None:
    there = [split for split in ("train", "val", "test") if split not in missing]
    names = tree(tmp_path / "faces", of_people(*(f"{split}/" for split in there)))
    data = load(tmp_path / "faces")
    seen = where(data, names)
    made = {"val": "validation", "test": "test"}[missing[0]]
    assert len(seen[made]) == 2 and len(seen["train"]) == 8 and sum(map(len, seen.values())) == len(names)
    assert all(name.startswith("train/") for name in seen[made] + seen["train"])
    assert not {name.split("/")[1] for name in seen[made]} & {name.split("/")[1] for name in seen["train"]}
    assert any(f"{made}, of which there is none, made of training identities" in note for note in said(data))
    assert where(load(tmp_path / "faces", seed=3), names).keys() == seen.keys()


def test_a_share_is_of_a_split_that_nobody_named(tmp_path: Path) -> None:
    tree(tmp_path / "faces", of_people("train/", "val/"))
    assert len(load(tmp_path / "faces", test_share=0.4).test) == 4
    tree(tmp_path / "faces", of_people("test/"))
    with pytest.raises(InputError, match=r"`test_share=0.4`: which images are for testing is named already"):
        load(tmp_path / "faces", test_share=0.4)


def test_splits_below_the_people_are_splits_too(tmp_path: Path) -> None:
    names = tree(
        tmp_path / "faces", [f"{who}/{split}/{i}.png" for who in PEOPLE for split in ("train", "test") for i in (0, 1)]
    )
    seen = where(load(tmp_path / "faces"), names)
    assert all("/test/" in name for name in seen["test"]) and len(seen["test"]) == 10
    assert all("/train/" in name for name in seen["train"] + seen["validation"])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([*of_people("train/"), "anna/0.png", "anna/1.png"], r"called as splits are \(train\), and beside them anna"),
        ([*of_people(), "test/0.png", "test/1.png"], r"called as splits are \(test\), and beside them anna, bob"),
        (of_people("val/", "test/"), r"\(test, val\), and beside them none that is for training"),
        (of_people("train/", "test/", "eval/"), "folders eval, test are called after one split, test: join them"),
        (of_people("train1/", "train2/", "val/"), "folders train1, train2 are called after one split"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_what_may_be_splits_or_people_is_refused_in_a_sentence(
    names: list[str], says: str, skip_bad: bool, tmp_path: Path
) -> None:
    tree(tmp_path / "faces", names)
    with pytest.raises(InputError, match=says):
        load(tmp_path / "faces", skip_bad=skip_bad)
    assert not (tmp_path / "cache").exists()


def test_an_only_image_within_its_split_is_named(tmp_path: Path) -> None:
    tree(tmp_path / "faces", [*of_people("train/", "val/", "test/"), "test/zoe/0.png", "train/zoe/1.png"])
    with pytest.raises(InputError, match=r"test/zoe/0.png is the only image of zoe in test, .* 1 more"):
        load(tmp_path / "faces")
    assert len(load(tmp_path / "faces", skip_bad=True).test) == 10


def test_images_of_a_split_that_lie_in_no_identity_are_named(tmp_path: Path) -> None:
    """As public sets have it whose test images are given without their classes."""
    tree(tmp_path / "pets", [*of_people("train/"), "test/0.png", "test/1.png"])
    with pytest.raises(InputError, match=r"test/0.png lies in no sub-folder, each of which is an identity"):
        load(tmp_path / "pets")
    data = load(tmp_path / "pets", skip_bad=True)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 2, 2]
    assert any("validation and test, of which there is none, made of training identities" in n for n in said(data))


def test_a_folder_around_all_images_is_no_identity(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", of_people("faces/images/"))
    bare = tree(tmp_path / "bare", of_people())
    data = load(tmp_path / "faces")
    found = {split: [name.removeprefix("faces/images/") for name in part] for split, part in where(data, names).items()}
    assert found == where(load(tmp_path / "bare"), bare)
    assert "all images lie in faces/images, which says nothing of them" in said(data)
    flat = tree(tmp_path / "flat", [f"images/{i}.png" for i in range(6)])
    data = load(tmp_path / "flat")
    assert sum(map(len, where(data, flat).values())) == 6 and data.train.labels == {}
    assert any(note.startswith("no identities") for note in said(data))


def test_what_was_taken_for_identities_is_said(tmp_path: Path) -> None:
    tree(
        tmp_path / "faces",
        [f"{city}/{who}/{i}.png" for city in ("bern", "oslo", "rome") for who in "ab" for i in (0, 1)],
    )
    note = "3 identities, by folder: bern, oslo, rome; the 6 folders below them are not told apart"
    assert note in said(load(tmp_path / "faces"))


def table(root: Path, *rows: str, name: str = "metadata.csv") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(rows))


def test_a_table_in_each_splits_folder_is_read(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    names = tree(root, [f"{split}/img/{i}.png" for split in SPLITS for i in range(6)])
    for split in SPLITS:
        more = ",light" if split == "train" else ""
        rows = [f"img/{i}.png,{split}-{i // 2},{i}{f',{i}' if more else ''}" for i in range(6)]
        table(root / split, f"file_name,who,age{more}", *rows)
    data = load(root, pair_by="who")
    assert [factor.name for factor in data.factors] == ["age", "light"]
    seen = where(data, names)
    assert seen == {split: sorted(name for name in names if name.startswith(split)) for split in SPLITS}
    order = [int(name.split("/")[-1][0]) for name in where_in(data.test.images[:].float() / 255, names)]
    age = data.factors[0]
    written = [round(age.center + age.scale * value) for value in data.test.factors["age"].tolist()]
    assert written == order and data.test.factors["light"].isnan().all()


def test_a_table_below_a_wrapper_is_read(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", [f"images/{i}.png" for i in range(8)])
    table(tmp_path / "faces/images", "file_name,who", *(f"{i}.png,{i // 2}" for i in range(8)))
    seen = where(load(tmp_path / "faces", pair_by="who"), names)
    assert sorted(map(len, seen.values())) == [2, 2, 4]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (
            ["metadata.csv", "anna/metadata.csv"],
            "both metadata.csv and anna/metadata.csv speak of the images below anna/",
        ),
        (["metadata.csv", "Metadata.TSV"], "both"),
        (["anna/metadata.jsonl"], "anna/metadata.jsonl is not read: write it as metadata.csv"),
        (["test/x/metadata.parquet"], "test/x/metadata.parquet is not read"),
    ],
)
def test_a_table_that_lies_deeper_is_never_ignored(
    tables: list[str], says: str, skip_bad: bool, tmp_path: Path
) -> None:
    names = tree(tmp_path / "faces", of_people())
    for name in tables:
        table(tmp_path / "faces", "file_name,age", *(f"{image},1" for image in names), name=name)
    with pytest.raises(InputError, match=says):
        load(tmp_path / "faces", skip_bad=skip_bad)


def test_images_beside_a_deeper_table_are_not_named_in_it(tmp_path: Path) -> None:
    tree(tmp_path / "faces", of_people())
    table(tmp_path / "faces/anna", "file_name,age", "0.png,1", "1.png,2")
    with pytest.raises(InputError, match=r"bob/0.png is not named in anna/metadata.csv, and 7 more"):
        load(tmp_path / "faces")


@pytest.mark.parametrize("column", ["split", "Split"])
@pytest.mark.parametrize("called", [("train", "validation", "test"), ("Training", "DEV", "eval")])
def test_a_column_of_splits_is_honored(column: str, called: tuple[str, str, str], tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", of_people(views=6))
    rows = [f"{name},{called[int(name[-5]) // 2]}" for name in names]
    table(tmp_path / "faces", f"file_name,{column}", *rows)
    data = load(tmp_path / "faces")
    places = {split: [name for name in names if int(name[-5]) // 2 == i] for i, split in enumerate(SPLITS)}
    assert where(data, names) == places and f"splits by the column {column}" in said(data)
    table(tmp_path / "faces", f"file_name,{column}", *(row.replace("5.png,", "4.png,") for row in rows))
    with pytest.raises(InputError, match=r"names anna/4.png a second time"):
        load(tmp_path / "faces")


def test_a_column_of_splits_is_no_factor_and_its_images_go_where_it_says(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", [f"{i:02}.png" for i in range(18)])
    place = [i // 6 for i in range(18)]
    table(
        tmp_path / "faces",
        "file_name,split,who,light",
        *(f"{n},{SPLITS[p]},{int(n[:2]) // 2},{n[:2]}" for n, p in zip(names, place, strict=True)),
    )
    data = load(tmp_path / "faces", pair_by="who")
    assert [factor.name for factor in data.factors] == ["light"]
    assert where(data, names) == {split: names[6 * i : 6 * i + 6] for i, split in enumerate(SPLITS)}
    table(tmp_path / "faces", "file_name,split", *(f"{n},{'half' if int(n[:2]) % 2 else 'full'}" for n in names))
    assert [factor.name for factor in load(tmp_path / "faces").factors] == ["split"]


SPLIT_CELLS: dict[str, tuple[dict[int, str], str]] = {
    "blank": ({3: ""}, "line 5 of metadata.csv has no split, where other lines have one"),
    "another word": ({3: "left"}, "the column split of metadata.csv names splits, but not everywhere: left is none of"),
    "no training": (dict.fromkeys(range(6), "test"), "too few .*faces: 0 for training"),
}


@pytest.mark.parametrize(("cells", "says"), SPLIT_CELLS.values(), ids=SPLIT_CELLS)
def test_a_column_that_names_splits_only_here_and_there_is_refused(
    cells: dict[int, str], says: str, tmp_path: Path
) -> None:
    names = tree(tmp_path / "faces", [f"{i}.png" for i in range(9)])
    rows = [f"{name},{cells.get(i, SPLITS[i // 3 if i < 6 else 2])}" for i, name in enumerate(names)]
    rows = [row.replace("validation", "train") for row in rows]
    table(tmp_path / "faces", "file_name,split", *rows)
    with pytest.raises(InputError, match=says):
        load(tmp_path / "faces")


def test_a_column_of_splits_and_folders_must_agree(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", of_people("train/", "test/"))
    table(tmp_path / "faces", "file_name,split", *(f"{name},{name.split('/')[0]}" for name in names))
    assert len(load(tmp_path / "faces").test) == 10
    table(tmp_path / "faces", "file_name,split", *(f"{name},train" for name in names))
    with pytest.raises(
        InputError, match=r"test/anna/0.png lies in a folder of one split, and by the column .* in train"
    ):
        load(tmp_path / "faces")


def test_the_hash_is_of_the_splits_too(tmp_path: Path) -> None:
    names = tree(tmp_path / "faces", [f"{i}.png" for i in range(9)])

    def hashed(*splits: str) -> Any:
        table(tmp_path / "faces", "file_name,split", *(f"{n},{s}" for n, s in zip(names, splits, strict=True)))
        return load(tmp_path / "faces").source.sha256

    one = hashed(*["train"] * 5, *["val"] * 2, *["test"] * 2)
    assert hashed(*["train"] * 4, *["val"] * 3, *["test"] * 2) != one
    assert hashed(*["TRAIN"] * 5, *["dev"] * 2, *["eval"] * 2) == one
