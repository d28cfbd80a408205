"""Some of the malformed inputs of `tests.malformed`; `make stress` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyro_disent.errors import InputError
from pyro_disent.training.content import check_record, read_json
from tests.malformed.children import run
from tests.malformed.stress import stress
from tests.table import RECORD

EVERY = 13


def test_a_sample_is_answered_in_a_sentence_that_leaves_nothing_behind(tmp_path: Path) -> None:
    counts, wrong = stress(tmp_path, EVERY)
    assert wrong == [] and sum(counts.values()) >= 40


def test_it_never_runs_elsewhere(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, Path("/dev"), tmp_path / ".." / "x"):
        with pytest.raises(ValueError, match="no folder of its own"):
            run(["methods"], folder, tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": {"b": NaN}}', "NaN is no number of JSON"),
        ('{"a": {"b": 1' + "0" * 30 + "}}", "a.b is a number beyond 64 bits"),
        ('{"a": ["' + "x" * 10_001 + '"]}', "a.0 has the length 10,001"),
        ('{"a":' * 30 + "1" + "}" * 30, "nested more than 16 deep"),
    ],
)
def test_json_that_no_run_writes_is_refused_by_its_key(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        read_json(path, "a run's configuration")
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_shape", [1, 10**9, 10**9]),
        ("image_shape", [True, 28, 28]),
        ("compiled", 1),
        ("threads", -1),
        ("edges", {"rotation": [1.0, 0.0]}),
        ("units", {"rotation": [0.0, 0.0]}),
        ("pairs", {"kinds": "identity"}),
        ("handed_over", "data"),
    ],
)
def test_a_value_of_another_type_or_range_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^run/config.json is not a run's configuration: {key} is not "):
        check_record(RECORD.to_json() | {key: value}, Path("run/config.json"))
