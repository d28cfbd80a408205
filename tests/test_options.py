"""Options that terms and data sets declare by their signatures: read, checked, listed and recorded; so are fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyro_disent
from pyro_disent import plugins, signatures
from pyro_disent.cli.choices import flag
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet
from pyro_disent.data.mnist import rotated as rotated_mnist
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from pyro_disent.objectives.methods import METHODS, check_options
from pyro_disent.runs.presets import configure
from pyro_disent.training import config
from pyro_disent.training.record import read_fit

TINY = ["--source", "embedded", "--limit", "64", "--batch-size", "16", "--max-steps", "2", "--no-compile"]


def takes(
    needed: int,
    plain=3,
    number: float = 0.5,
    whole: int | None = None,
    switch: bool = False,
    side: Literal["left", "right"] = "left",
    names: Sequence[str] | None = None,
    counts: tuple[int, ...] = (1, 2),
    kinds: Mapping[str, str] | None = None,
) -> None: ...


OPTIONS = signatures.options(takes)
assert OPTIONS is not None


def read(name: str, value: Any) -> Any:
    return signatures.checked(OPTIONS, {name: value}, "the function takes")[name]


@given(st.floats(allow_nan=False), st.integers(), st.booleans(), st.lists(st.integers(), min_size=1))
def test_what_is_written_is_read_back(number: float, whole: int, switch: bool, counts: list[int]) -> None:
    assert read("number", str(number)) == number and read("whole", str(whole)) == whole
    assert read("switch", str(switch).lower()) is switch and read("counts", ",".join(map(str, counts))) == counts


FITS = {
    "plain": st.integers(),
    "number": st.one_of(st.floats(allow_nan=False), st.integers()),
    "whole": st.one_of(st.integers(), st.none()),
    "switch": st.booleans(),
    "names": st.one_of(st.lists(st.text()), st.none()),
    "kinds": st.dictionaries(st.text(), st.text()),
}


@given(st.sampled_from(sorted(FITS)).flatmap(lambda name: st.tuples(st.just(name), FITS[name])))
def test_what_is_of_the_kind_is_left_as_it_is(said: tuple[str, Any]) -> None:
    name, value = said
    assert read(name, value) is value and read(name, read(name, value)) is value


def test_a_tuple_is_a_list_as_in_a_record() -> None:
    assert read("names", ("a", "b")) == ["a", "b"] and read("counts", (1, 2)) == [1, 2]


def test_texts_are_read_as_what_they_are_annotated_with() -> None:
    assert read("names", "a, b") == ["a", "b"]
    assert read("kinds", "pose:angle,a:b:text") == {"pose": "angle", "a:b": "text"}
    assert read("side", "right") == "right" and read("plain", "7") == 7  # as its default
    assert read("whole", "none") is None and read("names", "none") is None


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("number", "much", "the function takes: number=much is not a number"),
        ("whole", "1.5", "whole=1.5 is not a whole number"),
        ("switch", "yes", "switch=yes is not true or false"),
        ("side", "top", "side=top is not one of left, right"),
        ("counts", "1,x", r"counts=1,x is not a list A,B,\.\.\."),
        ("number", [1], r"number=\[1\] is not a number"),
        ("number", True, "number=True is not a number"),
        ("whole", 1.0, "whole=1.0 is not a whole number"),
        ("switch", 1, "switch=1 is not true or false"),
        ("number", None, "number=None is not a number"),
        ("kinds", "pose", r"kinds=pose is not a list NAME:VALUE,\.\.\."),
        ("nubmer", "1", r"the function takes has no option nubmer \(did you mean number\?\): its options are needed, "),
    ],
)
def test_what_is_none_is_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read(name, value)


def test_options_are_shown_with_their_defaults() -> None:
    assert OPTIONS is not None
    assert list(map(str, OPTIONS.values())) == [
        "needed=...", "plain=3", "number=0.5", "whole", "switch=false", "side=left|right", "names",
        "counts=1,2", "kinds"
    ]  # fmt: skip
    assert signatures.options(lambda **anything: None) is None

    def of_numbers(mode: Literal[1, 3] = 1, size: Literal["auto"] | int = "auto", later: NotImported = 2): ...  # type: ignore[name-defined]  # noqa: F821

    by_name = signatures.options(of_numbers)
    assert signatures.checked(by_name, {"mode": "3", "size": "5", "later": "7"}, "") == {
        "mode": 3,
        "size": 5,
        "later": 7,
    }
    assert signatures.checked(None, {"whatever": 1}, "") == {"whatever": 1}


def test_options_of_a_term_reach_it(tmp_path: Path, call: Any) -> None:
    said = ["--term", "info-nce.temperature=0.25", "--term", "predictor.side=cross-entropy", "--predictor-on", "mean"]
    method = ["--method", "cycle+info-nce+predictor", "--data", "rotated-mnist"]
    done = call("fit", *method, *TINY, *said, "--hide", "rotation", "--guard", "z", "--out", "run")
    assert done.returncode == 0, done.stderr
    terms = pyro_disent.load("run").objective.terms
    assert terms["info-nce"].temperature == 0.25
    predictor = terms["predictor"]
    assert (predictor.side, predictor.on, predictor.latents) == ("cross-entropy", "mean", ("z",))
    recorded = {"side": "cross-entropy", "on": "mean", "guard": ["z"], "hide": ["rotation"]}
    assert read_fit(tmp_path / "run/config.json").terms == {"info-nce": {"temperature": 0.25}, "predictor": recorded}
    again = call("fit", "--config", "run/config.json", "--out", "again", "--term", "info-nce.temperature=0.5")
    assert again.returncode == 0, again.stderr
    made_again = read_fit(tmp_path / "again/config.json").terms
    assert made_again == {"info-nce": {"temperature": 0.5}, "predictor": recorded}
    refused = call("fit", "--config", "run/config.json", "--out", "third", "--term", "info-nce.heat=0.5")
    assert refused.returncode == 2 and "info-nce has no option heat" in refused.stderr


def test_from_python_they_are_a_table_or_the_older_names() -> None:
    by_table = configure("predictor", "rotated-mnist", "quick", {"terms": {"predictor": {"side": "cross-entropy"}}})
    assert configure("predictor", "rotated-mnist", "quick", {"predictor_side": "cross-entropy"}) == by_table


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["--term", "info-nce.heat=1"], "the term info-nce has no option heat: its options are temperature"),
        (["--term", "info-nce.temperature=hot"], "temperature=hot is not a number"),
        (["--term", "dip.x=1"], "has no such term: its terms are info-nce"),
        (["--term", "temperature=1"], "--term temperature=1: write TERM.OPTION=VALUE"),
        (["--term", "info-nce.temperature"], "write TERM.OPTION=VALUE"),
        (["--predictor-side", "entropy"], "has no such term"),
        (["--data-option", "zooms=1"], "data set rotated-mnist has no option zooms: its options are factors"),
        (["--data-option", "factors"], "--data-option factors: write NAME=VALUE"),
        (["--data-option", "factors=scale", "--factors", "rotation"], "a flag of its own says it already"),
    ],
)
def test_unknown_ones_are_refused_and_nothing_is_written(said: list[str], why: str, tmp_path: Path, call: Any) -> None:
    done = call("fit", "--method", "cycle+info-nce", "--data", "rotated-mnist", *TINY, *said)
    assert done.returncode == 2 and why in done.stderr and done.stdout == ""
    assert not list(tmp_path.rglob("config.json"))


def sizes(
    request: Request, *, seed: int = 0, limit: int | None = None, progress: Any = None, tilt: float = 1.0
) -> DataSet:
    made = rotated_mnist.load(request, seed=seed, limit=limit)
    return dataclasses.replace(made, name="sizes", options={"tilt": tilt})


class Sizes:
    FACTORS = rotated_mnist.FACTORS
    PRESETS = {"quick": {**rotated_mnist.PRESETS["quick"], "batch_size": 8, "network": "conv3x3"}}  # noqa: RUF012
    load = staticmethod(sizes)


def test_another_packages_data_set_has_options_and_presets(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("sizes", f"{__name__}:Sizes", registry.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
    common = ["--method", "cycle", "--data", "sizes", "--source", "embedded", "--limit", "64", "--max-steps", "2"]
    done = call("fit", *common, "--data-option", "tilt=2", "--out", "run")
    assert done.returncode == 0, done.stderr
    made = read_fit(tmp_path / "run/config.json")
    assert (made.options, made.batch_size, made.network) == ({"tilt": 2.0}, 8, "conv3x3")
    assert call("evaluate", "run").returncode == 0  # which loads it again
    assert "tilt=1" in call("data", "list").stdout
    refused = call("fit", *common, "--data-option", "tlit=2", "--out", "other")
    assert refused.returncode == 2 and "no option tlit (did you mean tilt?): its options are tilt" in refused.stderr
    assert configure("cycle", "sizes", "paper", {}).lr == configure("cycle", "anything", "paper", {}).lr
    shown = call("data", "show", "sizes", "--source", "embedded", "--data-option", "tilt=2", "--out", "pairs.png")
    assert shown.returncode == 0, shown.stderr


def test_every_field_of_the_configuration_is_an_option_that_says_what_it_does(call: Any) -> None:
    shown = call("fit", "--help").stdout
    for name, choice in config.choices().items():
        if choice.flag != "":
            assert flag(name, choice).partition("/")[0] in shown
        assert choice.help.endswith(".")


def test_options_of_the_methods_are_listed(call: Any) -> None:
    shown = call("methods").stdout
    assert "--term info-nce.temperature=0.1" in shown and "--term predictor.side=entropy|cross-entropy" in shown
    for method in METHODS.values():
        for name in method.options or {}:
            assert f"--term {method.term_name}.{name}" in shown


def test_an_option_is_said_once() -> None:
    said = {"terms": {"predictor": {"guard": ["z"]}}, "guards": ["y"]}
    with pytest.raises(InputError, match=r"`guards` says what `terms` says of predictor\.guard already"):
        configure("predictor", "rotated-mnist", "quick", said)


def test_a_methods_options_are_read_once() -> None:
    said = check_options("info-nce", {"info-nce": {"temperature": "0.5"}})
    assert check_options("info-nce", said) == said == {"info-nce": {"temperature": 0.5}}


def test_a_configuration_needs_nothing_heavy() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(config.choices()["lr"])))["above"] == 0
