"""What a column is taken for: numbers, categories, texts or identities, and what the user says it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_disent import from_arrays, from_dataset
from pyro_disent.data.dataset import DataSet, in_units
from pyro_disent.data.own.columns import KINDS, identity_column
from pyro_disent.data.own.values import MISSING
from pyro_disent.errors import InputError
from pyro_disent.training.building import factor_edges
from pyro_disent.training.config import FitConfig
from tests.columns import IDS, PIXELS, Series, read
from tests.tables import call, folder, images_of, load, shown

# fmt: on


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize(
    ("odd", "comma"),
    [
        ("unknown", False),
        ("?", False),
        ("-", False),
        ("1O", False),
        ("1,5", True),
        ("2024-01-01", False),
        ("inf", False),
    ],
)
def test_a_column_of_almost_all_numbers_is_said_with_the_first_row_that_is_none(
    odd: str, comma: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cells: list[Any] = [image % 7 for image in range(36)]
    cells[11] = cells[20] = odd
    root = folder(tmp_path / "photos", {"who": IDS, "age": cells})
    (note,) = load(root, pair_by="who").notes
    assert f"column age of metadata.csv is taken for text: {36 if comma else 34} of 36 values are numbers" in note
    assert f"{odd!r} of 011.png" in note and ("with a point" in note) == comma and "say `kinds={'age': 'text'}`" in note
    (note,) = from_arrays(PIXELS, factors={"age": [str(cell) for cell in cells]}).notes
    assert f"{odd!r} of image 11" in note
    result = call(monkeypatch, capfd, tmp_path, "data", "show", "photos", "--pair-by", "who", "--image-size", "8")
    assert (
        result.returncode == 0 and f"{odd!r} of 011.png" in result.stdout and "age: category, 8 values" in result.stdout
    )
    with pytest.raises(InputError, match=rf"metadata.csv: 011.png has {re.escape(repr(odd))}, which is no number"):
        load(root, pair_by="who", kinds={"age": "number"})
    assert not load(root, pair_by="who", kinds={"age": "text"}).notes
    cells[11] = cells[20] = ""
    assert not load(folder(tmp_path / "mended", {"who": IDS, "age": cells}), pair_by="who").notes


def test_texts_of_which_few_are_numbers_are_nothing_to_speak_of() -> None:
    assert not read(["a", "b", "1", "2"]).notes and not read(["left", "right"]).notes


def test_numbers_of_an_identity_are_one_however_they_are_spelled(tmp_path: Path) -> None:
    spelled = ["{}", "{}.0", "0{}"]
    people = [spelled[image % 3].format(who + 1) for image, who in enumerate(IDS)]
    root = folder(tmp_path / "photos", {"who": people})
    data = load(root, pair_by="who")
    for split in (data.train, data.validation, data.test):
        assert [IDS[image] for image in images_of(split)] == sorted(IDS[images_of(split)], key=lambda i: str(i + 1))
        assert split.identities == len({IDS[image] for image in images_of(split)})
    (note,) = data.notes
    assert note.startswith("who is compared as numbers: 01, 1.0 is 1 and ") and "`kinds={'who': 'text'}`" in note
    with pytest.raises(InputError, match="is the only image of 01"):
        load(root, pair_by="who", kinds={"who": "text"})
    plain = load(folder(tmp_path / "plain", {"who": IDS + 1}), pair_by="who")
    assert not plain.notes and plain.source.sha256 == data.source.sha256
    for identity in (people, IDS + 1, (IDS + 1).astype(float), Series([*(IDS + 1)])):
        found = from_arrays(PIXELS, identity=identity)
        assert [split.identities for split in (found.train, found.validation, found.test)] == [10, 1, 1]
    assert from_arrays(PIXELS, identity=people).notes == (note.replace("who", "identity"),)


def test_identities_are_numbered_as_their_names_are_sorted() -> None:
    texts, _ = identity_column(["10", "9", "10", "1", "1"], "who", "who", str)
    assert texts.names == ("1", "10", "9") and texts.codes.tolist() == [1, 2, 1, 0, 0]
    numbers, about = identity_column(np.array([10, 9, 10, 1, 1]), "who", "who", str)
    assert numbers.names == ("1", "9", "10") and numbers.codes.tolist() == [2, 1, 2, 0, 0]
    assert about == "who: category, 3 values: 1, 9, 10, none missing, compared as numbers; what pairs have in common"
    with pytest.raises(InputError, match="its kind cannot be degrees"):
        identity_column(["1", "2"], "who", "who", str, "degrees")


def test_whole_numbers_are_numbers_unless_they_are_said_to_be_categories(tmp_path: Path) -> None:
    poses = [7 * (image % 12) for image in range(36)]
    root = folder(tmp_path / "photos", {"who": IDS, "pose": poses})
    number, category = load(root, pair_by="who"), load(root, pair_by="who", kinds={"pose": "category"})
    assert len(number.factors[0].edges) == 1 and not number.factors[0].categories
    assert category.factors[0].categories == tuple(str(7 * pose) for pose in range(12))
    assert len(category.factors[0].edges) == 11 and shown(category, "pose") == shown(number, "pose")
    assert number.details[1] == "pose: number, 12 values from 0 to 77, none missing; a predictor sees 2 bins of it"
    assert category.details[1].startswith("pose: category, 12 values: 0, 7, 14, 21, 28, 35, ..., none missing")
    assert from_arrays(PIXELS, factors={"pose": poses}, kinds={"pose": "category"}).factors == category.factors
    many = [f"caption {image}" for image in range(36)] * 3
    assert read(many[:36] + [f"{i}" for i in range(99)]).why_no_factor() == "135 different texts"
    assert read(many[:36] + [f"{i}" for i in range(99)], "text").why_no_factor() is None


def test_spellings_are_kept_apart_only_by_the_kind_text() -> None:
    cells = ["7", "7.0", "07", "8"]
    assert {kind: len(read(cells, kind).names) for kind in (None, *KINDS)} == {
        None: 2, "number": 2, "category": 2, "angle": 2, "degrees": 2, "text": 4
    }  # fmt: skip


BAD_KINDS: dict[str, tuple[dict[str, str], str]] = {
    "kind": (
        {"pose": "colour"},
        "`kinds={'pose': 'colour'}`: a column's kind is one of number, category",
    ),
    "column": (
        {"pos": "number"},
        r"`kinds={'pos': 'number'}` \(did you mean pose\?\): .* has no such column; it has who, pose, side",
    ),
    "texts": ({"side": "degrees"}, "column side of metadata.csv: 000.png has 'right', which is no number"),
    "identity": ({"who": "angle"}, "column who of metadata.csv says which .* its kind cannot be angle"),
}


@pytest.mark.parametrize(("kinds", "says"), BAD_KINDS.values(), ids=BAD_KINDS)
def test_kinds_that_cannot_be_are_refused(kinds: dict[str, str], says: str, tmp_path: Path) -> None:
    sides = ["left" if image % 2 else "right" for image in range(36)]
    root = folder(tmp_path / "photos", {"who": IDS, "pose": [image % 4 for image in range(36)], "side": sides})
    with pytest.raises(InputError, match=says):
        load(root, pair_by="who", kinds=kinds)


def test_a_kind_is_never_said_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    root = folder(tmp_path / "photos", {"who": IDS, "pose": [image % 4 for image in range(36)]})
    says = r"`kinds={'pose': 'number'}`: what is used of .* has no such column; it has who"
    with pytest.raises(InputError, match=says):
        load(root, pair_by="who", factors=[], kinds={"pose": "number"})
    with pytest.raises(InputError, match=r"`kinds={'size': 'number'}`: what was given has no such column; it has pose"):
        from_arrays(PIXELS, factors={"pose": IDS}, kinds={"size": "number"})
    for said, says in (
        (["--kind", "pose"], "--kind pose: write COLUMN=KIND"),
        (["--kind", "pose=number", "--kind", "pose=text"], "--kind says of pose that it is number and text"),
    ):
        result = call(monkeypatch, capfd, tmp_path, "data", "show", "photos", *said)
        assert result.returncode == 2 and says in result.stderr and "Traceback" not in result.stderr


def test_data_show_says_of_every_column_what_it_was_taken_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    columns = {
        "who": IDS,
        "pose": [image % 12 for image in range(36)],
        "side": ["NA" if image % 9 == 0 else ["up", "down"][image % 2] for image in range(36)],
        "light=x": [5 * (image % 3) for image in range(36)],
        "camera": ["one"] * 36,
    }
    folder(tmp_path / "photos", columns)
    command = ["data", "show", "photos", "--pair-by", "who", "--image-size", "8", "--kind", "light=x=category"]
    result = call(monkeypatch, capfd, tmp_path, *command)
    assert result.returncode == 0, result.stderr
    numbers = ", none missing, compared as numbers; what pairs have in common"
    assert result.stdout.splitlines()[1:-1] == [
        "  identities: 10 for training, 1 for validation, 1 for test (finding the only one of the test split measures "
        "nothing: --test-share 0.3 tests on more of a folder's)",
        f"  who: category, 12 values: 0, 1, 10, 11, 2, 3, ...{numbers}",
        "  pose: number, 12 values from 0 to 11, none missing; a predictor sees 2 bins of it",
        "  side: category, 2 values: down, up, 4 of 36 missing",
        "  light=x: category, 3 values: 0, 5, 10, none missing",
        "  camera: category, 1 value: one, none missing; no factor, as it is the same everywhere",
        "  1 channel, grey, as all images are",
    ]


def by_number(data: DataSet) -> dict[int, float]:
    return {
        image: value
        for split in (data.train, data.validation, data.test)
        for image, value in zip(images_of(split), split.factors["size"].tolist(), strict=True)
    }


def test_bins_of_a_run_are_those_of_its_units_on_other_data() -> None:
    """Another set of images is standardized by itself, and its opponents would see other bins."""
    sizes = np.arange(36) ** 2 + 1000.0
    whole, part = from_arrays(PIXELS, factors={"size": sizes}), from_arrays(PIXELS[:30], factors={"size": sizes[:30]})
    assert whole.units.keys() == {"size"} and whole.units != part.units
    again = in_units(part, whole.units)
    assert by_number(again) == pytest.approx({i: v for i, v in by_number(whole).items() if i < 30}, abs=1e-5)
    assert again.units == whole.units and in_units(whole, whole.units) is whole
    older = in_units(part, {})  # of a run that recorded no units, as numbers were seen as they are
    assert by_number(older) == pytest.approx(dict(enumerate(sizes[:30])), rel=1e-6)
    assert older.factors[0].edges[0] == pytest.approx(
        part.factors[0].center + part.factors[0].scale * part.factors[0].edges[0], rel=1e-5
    )
    config = FitConfig("vae", "given", {"z": 2}, "mlp", "bernoulli", 1e-3, 8, max_steps=1, bins=3)
    assert factor_edges(older, config)["size"] == pytest.approx([1000 + 841 / 3, 1000 + 2 * 841 / 3], rel=0.2)


def test_mixed_values_are_refused_with_their_row() -> None:
    for values, says in (
        ([1, "a"] * 18, "factor 'size' mixes kinds of values: image 1 has 'a'"),
        ([{}] * 36, "factor 'size': image 0 has a dict"),
        ([1j] * 36, "factor 'size': image 0 has a complex"),
        ([1.0] * 35 + [float("inf")], "factor 'size' holds inf, which is no finite number"),
        (["1"] * 35 + ["1e999"], "factor 'size' holds 1e999, which is no finite number"),
        (["1"] * 35 + [f"1e{10**30}"], "factor 'size' holds 1e1000.*, which is no finite number"),
        ([-1e308] * 35 + [1e308], "factor 'size' holds -1e.308 and 1e.308, too far apart"),
    ):
        with pytest.raises(InputError, match=says):
            from_arrays(PIXELS, factors={"size": values})
    assert len(from_arrays(PIXELS, factors={"size": [1, "a"] * 18}, kinds={"size": "text"}).factors[0].categories) == 2
    items = [(image, int(who)) for image, who in zip(PIXELS, IDS, strict=True)]
    given = from_dataset(items, identity="label", factors={"size": ["1", "02"] * 18}, kinds={"size": "text"})
    assert given.factors[0].categories == ("02", "1")


def test_the_table_in_the_readme_has_every_marker() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    assert all(f"`{marker}`" in text for marker in MISSING if marker)
    assert all(f"`{kind}`" in text for kind in KINDS)
