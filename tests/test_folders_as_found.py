"""Folders and tables as other programs leave them: told apart rightly, or spoken of."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyro_disent import from_arrays
from pyro_disent.data.own.columns import column
from pyro_disent.data.own.contents import contents
from pyro_disent.data.own.layout import SPLITS
from pyro_disent.data.own.metadata import read_metadata
from pyro_disent.data.own.values import is_missing
from pyro_disent.errors import InputError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))


def folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 200).save(path, "PNG")
    return root


def below(*folders: str) -> list[str]:
    return [f"{name}/{number}.png" for name in folders for number in range(2)]


@pytest.mark.parametrize(
    "folders",
    [
        ("trainA", "trainB", "testA", "testB"),
        ("train1", "train2"),
        ("Train_old", "Train_new", "val"),
        ("bounding_box_train", "query", "gallery"),
    ],
)
def test_several_parts_of_one_split_are_no_people(folders: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are called after one split"):
        contents(folder(tmp_path / "set", *below(*folders)), None)


@pytest.mark.parametrize("part", ["trainA", "testB", "test_old", "train-7", "gallery", "holdout"])
def test_a_part_of_a_split_beside_people_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"called as splits are \({part}\), and beside them anna, ben"):
        contents(folder(tmp_path / "set", *below("anna", "ben", part)), None)


@pytest.mark.parametrize("name", ["Val_Kilmer", "Dev_Patel", "Testa", "Trainor", "te", "Valentine"])
def test_people_whose_names_begin_as_splits_do_stay_people(name: str, tmp_path: Path) -> None:
    found = contents(folder(tmp_path / "set", *below("anna", "ben", name)), None)
    assert {image.identity for image in found.images} == {"anna", "ben", name}


@pytest.mark.parametrize("names", [("tr", "va", "te"), ("TR", "TE"), ("train", "validate", "holdout")])
def test_short_and_other_names_of_splits(names: tuple[str, ...], tmp_path: Path) -> None:
    people = [f"{split}/{who}" for split in names for who in ("anna", "ben", "cleo")]
    found = contents(folder(tmp_path / "set", *below(*people)), None)
    assert {image.identity for image in found.images} == {"anna", "ben", "cleo"}
    meant = {"r": "train", "a": "validation", "e": "test"}
    for image in found.images:
        split = image.name.split("/")[0]
        expected = meant.get(split[1].lower()) if len(split) == 2 else {"validate": "validation", "holdout": "test"}
        assert SPLITS[image.split or 0] == (expected.get(split, split) if isinstance(expected, dict) else expected)


def test_folders_that_recur_below_identities_are_spoken_of(tmp_path: Path) -> None:
    found = contents(folder(tmp_path / "set", *below("alpha/anna", "alpha/ben", "beta/anna", "beta/ben")), None)
    assert any("folders of one name lie below several identities (anna, ben)" in note for note in found.notes)
    found = contents(folder(tmp_path / "other", *below("alpha/anna", "beta/ben", "gamma")), None)
    assert not any("of one name" in note for note in found.notes)


def test_only_a_run_that_has_checkpoints_is_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", *below("anna", "ben", "cleo"))
    record = {"fit": {"method": "vae", "data": "mnist"}}
    (root / "anna/config.json").write_text(json.dumps(record))
    assert {image.identity for image in contents(root, None).images} == {"anna", "ben", "cleo"}
    (root / "anna/checkpoints").mkdir()
    assert {image.identity for image in contents(root, None).images} == {"ben", "cleo"}


@pytest.mark.parametrize("name", ["metadata.xlsx", "METADATA.XLS", "metadata.parquet", "metadata.jsonl"])
def test_tables_of_other_kinds_are_refused_by_name(name: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", *below("anna", "ben", "cleo"))
    (root / name).write_bytes(b"PK\3\4")
    with pytest.raises(InputError, match=rf"{name} is not read: write it as metadata.csv"):
        contents(root, None)


@pytest.mark.parametrize(
    "header", ["", "Unnamed: 0", ",Unnamed: 0", "Unnamed: 0.1,Unnamed: 0", ",Unnamed: 0.2,Unnamed: 0.1,Unnamed: 0"]
)
def test_indices_of_every_save_are_left_out(header: str, tmp_path: Path) -> None:
    count = header.count(",") + 1
    rows = [",".join([*[str(row)] * count, f"{row}.png", "anna"]) for row in range(3)]
    (path := tmp_path / "metadata.csv").write_text("\n".join([f"{header},file_name,who", *rows]))
    table = read_metadata(path)
    assert table.columns == ["file_name", "who"]
    assert table.rows == [(row + 2, [f"{row}.png", "anna"]) for row in range(3)]


@pytest.mark.parametrize(
    ("height", "price", "heights", "prices"),
    [
        (["1,50", "1,75"], ["1.250", "12.000"], ["1.50", "1.75"], ["1250", "12000"]),
        (["1,50", "1,75"], ["1.250", "999"], ["1.50", "1.75"], ["1250", "999"]),
        (["1.000,5", "2,5"], ["1.000.000", ""], ["1000.5", "2.5"], ["1000000", ""]),
        (["1,50", "1.250"], ["a", "b"], ["1.50", "1250"], ["a", "b"]),
        (["1,50", "2,5"], ["1.25", "1.250"], ["1.50", "2.5"], ["1.25", "1.250"]),
        (["1", "2"], ["1.250", "2.500"], ["1", "2"], ["1.250", "2.500"]),
    ],
)
def test_thousands_are_grouped_where_commas_are_decimal(
    height: list[str], price: list[str], heights: list[str], prices: list[str], tmp_path: Path
) -> None:
    rows = [f"{row}.png;{height[row]};{price[row]}" for row in range(2)]
    (path := tmp_path / "metadata.csv").write_text("\n".join(["file_name;height;price", *rows]))
    table = read_metadata(path)
    assert [cells[1:] for _, cells in table.rows] == [list(pair) for pair in zip(heights, prices, strict=True)]
    assert any("thousands in price" in note for note in table.notes) == (price != prices)


@pytest.mark.parametrize(
    "texts", [["1.000,5", "2.000,5", "x"], ["1,000.5", "20,000", "x"], ["?"] * 12 + list("12345678")]
)
def test_columns_that_are_almost_numbers_are_spoken_of(texts: list[str]) -> None:
    found = column(texts, "price", "column price", lambda row: f"image {row}")
    assert found.kind == "category" and "is taken for text" in found.notes[0]


@pytest.mark.parametrize("texts", [["1.2.2020", "2.2.2020", "x"], ["12.05.2020", "13.05.2020"], ["a", "b", "1"]])
def test_texts_are_not(texts: list[str]) -> None:
    assert not column(texts, "price", "column price", lambda row: f"image {row}").notes


@pytest.mark.parametrize(
    ("table", "written"),
    [("meta/metadata.csv", "anna/{}.png"), ("metadata.csv", "anna/{}.png"), ("metadata.csv", "anna/ {}.png")],
)
def test_names_that_a_table_means(table: str, written: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", "anna/ 0.png", "anna/ 1.png", "anna/ 2.png")
    (root / table).parent.mkdir(exist_ok=True)
    (root / table).write_text("\n".join(["file_name,who", *(f"{written.format(row)},a" for row in range(3))]))
    found = contents(root, "who")
    assert [image.name for image in found.images] == [f"anna/ {row}.png" for row in range(3)] and not found.bad


@pytest.mark.parametrize(("rows", "files", "bad"), [(4, 4, 4), (2, 5, 5), (5, 2, 5)])
def test_a_row_and_its_file_are_counted_once(rows: int, files: int, bad: int, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", *(f"{number:02}.png" for number in range(files)))
    lines = [f"other-{number}-name.png,a" for number in range(rows)]
    (root / "metadata.csv").write_text("\n".join(["file_name,who", *lines]))
    assert len(contents(root, "who").bad) == bad


class Frame(dict[str, Any]):
    """As pandas' frames, neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")


def test_tables_from_python_need_no_truth_value() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), np.uint8)
    light, who = np.arange(12) % 3, np.arange(12) // 2
    data = from_arrays(
        images, identity=who, factors=Frame(light=light), labels=Frame(digit=light), kinds=Frame(light="category")
    )
    plain = from_arrays(
        images, identity=who, factors={"light": light}, labels={"digit": light}, kinds={"light": "category"}
    )
    assert data.source.sha256 == plain.source.sha256 and [factor.name for factor in data.factors] == ["light"]


@pytest.mark.parametrize("text", ["NaN", "-NaN", "sNaN", "-sNaN", "sNaN12"])
def test_every_nan_of_decimal_is_missing(text: str) -> None:
    assert is_missing(Decimal(text)) and not is_missing(Decimal(1))
    assert column([Decimal(1), Decimal(text), Decimal(2)], "a", "a", str).missing == 1
