"""Values of tables and of Python: numbers are told apart as they are written, and what is missing is missing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_disent import from_arrays
from pyro_disent.data.own.values import MISSING, is_missing
from pyro_disent.errors import InputError
from tests.columns import IDS, PIXELS, Series, read
from tests.tables import folder, images_of, load, shown

# fmt: on


pytestmark = pytest.mark.usefixtures("elsewhere")


# Those of pandas 2's `read_csv`, spelled out again.
# fmt: off
PANDAS = (
    " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)


class NotKnown:
    """As ``pandas.NA``: it says of nothing whether it is equal, and not of itself whether it is true."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self) -> str:
        return "<NA>"


# Numbers as tables have them: of any size, near each other far from zero, and in several spellings.
near = st.builds(
    lambda base, step: base + step, st.sampled_from([0, 1_700_000_000, 10**18, -(10**15)]), st.integers(-99, 99)
)


written = st.one_of(
    near.map(str),
    near.map(lambda number: f"{number}.0"),
    near.filter(lambda number: number >= 0).map(lambda number: f"0{number}"),
    st.decimals(-1000, 1000, allow_nan=False, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150).map(repr),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(written, st.sampled_from(PANDAS)), min_size=1, max_size=30), st.randoms())
def test_numbers_are_equal_and_ordered_in_a_batch_as_they_are_written(cells: list[str], random: Any) -> None:
    numbers = [None if cell.strip() in MISSING else Fraction(cell) for cell in cells]
    found = read(cells)
    values = found.values
    for number, value in zip(numbers, values.tolist(), strict=True):
        assert (number is None) == (value != value)
        for other, another in zip(numbers, values.tolist(), strict=True):
            if number is not None and other is not None:
                assert (number < other, number == other) == (value < another, value == another)
    known = values[~np.isnan(values)].astype(np.float64)
    if found.kind == "number" and len(found.names) > 1:
        assert abs(known.mean()) < 1e-3 and abs(known.std() - 1) < 1e-3
    for cell, number, code in zip(cells, numbers, found.codes, strict=True):
        if number is not None:
            assert Fraction(found.names[code]) == number and len(found.names[code]) <= len(cell)
    order = random.sample(range(len(cells)), len(cells))
    again = read([cells[place] for place in order])
    np.testing.assert_array_equal(again.codes, found.codes[order])
    assert again.names == found.names and (again.levels == found.levels).all()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([np.int64, np.uint64, np.int32, np.uint8, np.float64, np.float32, np.float16]),
    st.lists(st.integers(0, 255), min_size=1, max_size=20),
    st.sampled_from([0, 7, 2**15, 2**31 - 256, 2**60]),
)
def test_numbers_of_numpy_are_those_that_are_written(dtype: Any, offsets: list[int], base: int) -> None:
    limit = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 60_000 if dtype == np.float16 else 2**61
    array = np.array([min(base + offset, int(limit)) for offset in offsets], dtype)
    found, texts = read(array), read([str(int(value)) for value in array])
    np.testing.assert_array_equal(found.codes, texts.codes)
    assert found.levels.tolist() == texts.levels.tolist()
    assert [dtype(int(name) if name.isdecimal() else float(name)) for name in found.names] == sorted(set(array))


@pytest.mark.parametrize("step", [1, 40, 1_000_000])
@pytest.mark.parametrize("start", [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000_000])
def test_times_that_float32_cannot_tell_apart_are_told_apart(start: int, step: int, tmp_path: Path) -> None:
    """As pairs see it: what explains the time is shared where the time is the same one."""
    times = [start + step * (image // 2) for image in range(36)]
    data = load(folder(tmp_path / "photos", {"who": IDS, "time": times}), pair_by="who")
    assert shown(data, "time") == {image: str(time) for image, time in enumerate(times)}
    place = torch.arange(len(data.train))
    batch = data.train.batch(place, torch.Generator().manual_seed(0))
    equal = batch.in_common().equal["time"].tolist()
    first, second = (batch.images[:, :, 0, -1, -1] * 255).round().long().tolist()
    assert equal == [times[a] == times[b] for a, b in zip(first, second, strict=True)] and 0 < sum(equal) < len(place)
    other = load(folder(tmp_path / "later", {"who": IDS, "time": [t + (t == times[5]) for t in times]}), pair_by="who")
    assert other.source.sha256 != data.source.sha256 or times[5] + 1 in times


@pytest.mark.parametrize("marker", PANDAS)
def test_what_pandas_takes_for_missing_is_missing_in_a_table(marker: str, tmp_path: Path) -> None:
    known: list[Any] = [image % 5 for image in range(36)]
    cells, sides = [*known], ["left" if image % 2 else "right" for image in range(36)]
    cells[3] = cells[17] = sides[4] = marker
    root = folder(tmp_path / "photos", {"who": IDS, "pose": cells, "side": sides})
    data = load(root, pair_by="who")
    expected = {image: None if image in (3, 17) else str(pose) for image, pose in enumerate(known)}
    assert shown(data, "pose") == expected and not data.notes
    assert [image for image, side in shown(data, "side").items() if side is None] == [4]
    assert from_arrays(PIXELS, factors={"pose": cells}).factors[0].center == pytest.approx(data.factors[0].center)
    people = [marker if image < 6 else f"P{who}" for image, who in enumerate(IDS)]
    unknown = folder(tmp_path / "unknown", {"who": people, "pose": known})
    with pytest.raises(InputError, match=r"line 2 of metadata.csv has no who.* 000.png cannot be paired"):
        load(unknown, pair_by="who")
    left = load(unknown, pair_by="who", skip_bad=True)
    assert sorted(image for split in (left.train, left.validation, left.test) for image in images_of(split)) == [
        *range(6, 36)
    ]


def test_a_person_may_be_called_na(tmp_path: Path) -> None:
    people = ["NA" if image < 6 else f"P{who}" for image, who in enumerate(IDS)]
    root = folder(tmp_path / "photos", {"who": people})
    data = load(root, pair_by="who", kinds={"who": "text"})
    assert sum(split.identities for split in (data.train, data.validation, data.test)) == 11
    data = from_arrays(PIXELS, identity=people, kinds={"identity": "text"}, factors={"who": people})
    assert sum(split.identities for split in (data.train, data.validation, data.test)) == 11
    assert "NA" not in data.factors[0].categories
    with pytest.raises(InputError, match="image 0 has a blank identity"):
        from_arrays(PIXELS, identity=people)
    with pytest.raises(InputError, match="has no who, so"):
        load(folder(tmp_path / "blank", {"who": ["", *people[1:]]}), pair_by="who", kinds={"who": "text"})


MISSING_OBJECTS = {
    "None": None,
    "NaN": float("nan"),
    "NumPy's NaN": np.float32("nan"),
    "NaT": np.datetime64("NaT", "s"),
    "masked": np.ma.masked,
    "as pandas.NA": NotKnown(),
    "Decimal": Decimal("NaN"),
    "a text": "n/a",
}


@pytest.mark.parametrize("missing", MISSING_OBJECTS.values(), ids=MISSING_OBJECTS)
@pytest.mark.parametrize("wrap", [list, Series])
@pytest.mark.parametrize("known", [[1, 2, 3], [0.5, 1.5, 2.5], ["up", "down", "left"], [True, False, True]], ids=str)
def test_what_stands_for_nothing_in_python_is_missing(missing: Any, wrap: Callable[..., Any], known: list[Any]) -> None:
    assert is_missing(missing)
    values = wrap([missing if image % 9 == 4 else known[image % 3] for image in range(36)])
    data = from_arrays(PIXELS, factors={"pose": values})
    expected = {image: None if image % 9 == 4 else str(known[image % 3]) for image in range(36)}
    assert shown(data, "pose") == expected
    with pytest.raises(InputError, match="image 4 has a blank identity"):
        from_arrays(PIXELS, identity=values, kinds={"identity": "category"})
    with pytest.raises(InputError, match=r"label 'pose': image [04] has"):
        from_arrays(PIXELS, labels={"pose": values})


def test_masked_arrays_are_missing_where_they_are_masked() -> None:
    values = np.ma.masked_array(np.arange(36) % 4, np.arange(36) == 7)
    assert shown(from_arrays(PIXELS, factors={"pose": values}), "pose")[7] is None
    with pytest.raises(InputError, match="image 7 has a blank identity"):
        from_arrays(PIXELS, identity=np.ma.masked_array(IDS, np.arange(36) == 7))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int64])
def test_tensors_of_any_type_are_columns(dtype: torch.dtype) -> None:
    poses = torch.arange(36).to(dtype)
    for values in (poses, list(poses), poses.requires_grad_() if dtype.is_floating_point else poses):
        assert shown(from_arrays(PIXELS, factors={"pose": values}), "pose") == {i: str(i) for i in range(36)}


def test_values_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    poses = [None if image == 4 else image % 3 for image in range(36)]
    sides = [None if image == 4 else "abc"[image % 3] for image in range(36)]
    for series, expected in (
        (pandas.Series(poses), poses),
        (pandas.Series(poses, dtype="Int64"), poses),
        (pandas.array(poses, dtype="Float64"), poses),
        (pandas.Series(sides), sides),
        (pandas.Series(sides, dtype="string"), sides),
        (pandas.Series(sides, dtype="category"), sides),
        (pandas.Series([pandas.NaT if pose is None else pose for pose in poses], dtype=object), poses),
    ):
        found = shown(from_arrays(PIXELS, factors={"pose": series}), "pose")
        assert found == {image: None if value is None else str(value) for image, value in enumerate(expected)}
    people = from_arrays(
        PIXELS, identity=pandas.Series(IDS, dtype="Int64"), labels={"l": pandas.Series(IDS, dtype="Int8")}
    )
    assert people.train.identities == 10 and set(people.train.labels) == {"l", "identity"}
