"""A run's record: its format, records from before there was one, and runs that go further than they were to go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.models.latents import each
from pyro_disent.runs.run import load
from pyro_disent.training import building, compiling
from pyro_disent.training.log import Silent
from pyro_disent.training.record import FORMAT, RunRecord, read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import RECORD, tiny

BEFORE: dict[str, Any] = {
    "fit": {
        "method": "cycle", "data": "rotated-mnist", "latents": {"z": 10, "rotation": 2, "y": 1}, "network": "mlp",
        "likelihood": "bernoulli", "lr": 0.001, "batch_size": 16, "preset": "paper", "epochs": None, "max_steps": 6,
        "beta": None, "weights": {}, "predictor_side": "entropy", "predictor_on": "sample", "bins": None,
        "bins_by": "range", "opponent_lr": None, "warmup_steps": 0, "schedule": "constant", "clip_norm": 10000.0,
        "seed": 0, "limit": 64, "source": "embedded", "data_root": None, "options": {}, "device": "auto", "devices": 1,
        "precision": "auto", "compile": None, "compile_mode": "default",
    },
    "source": {"kind": "embedded", "location": "", "sha256": "0"},
    "image_shape": [1, 28, 28],
    "factors": ["rotation"],
    "edges": {"rotation": [0.0]},
    "unit_names": {},
    "init": None,
    "device": "cpu",
    "precision": "32-true",
    "step": "compiled in 12 s",
    "versions": {"pyro-disent": "0.1.0"},
}  # fmt: skip
"""As written before a record had a format."""


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def test_a_record_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(RECORD.to_json()))
    assert json.loads(path.read_text())["format"] == FORMAT == 2
    assert RunRecord.read(path) == RECORD and read_fit(path) == RECORD.fit


class TestBefore:
    def test_roles_follow_the_rule_of_then(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(BEFORE))
        record = RunRecord.read(tmp_path / "config.json")
        roles = {latent.name: latent.explains for latent in record.build_latents()}
        assert roles == {"z": "common", "rotation": ("rotation",), "y": "rest"}
        assert record.compiled and record.fit.precision == "32"
        assert {name: spec.units for name, spec in record.fit.latents.items()} == BEFORE["fit"]["latents"]

    def test_units_named_after_factors(self, tmp_path: Path) -> None:
        fit = BEFORE["fit"] | {"latents": {"z": 2, "y": 1}}
        before = BEFORE | {"fit": fit, "unit_names": {"z": ["hat", "male"]}, "factors": ["hat", "male"]}
        record = RunRecord.from_json(before | {"step": "eager (--no-compile)"}, tmp_path)
        assert [latent.explains for latent in record.build_latents()] == [each("hat", "male"), "rest"]
        assert not record.compiled and record.pairs.rest_differs

    @pytest.mark.parametrize("named", [False, True])
    def test_a_predictor_of_then_saw_z_and_every_factor(self, named: bool, tmp_path: Path) -> None:
        fit = BEFORE["fit"] | {"method": "cycle+predictor", "latents": {"z": 2, "w": 3, "y": 1}}
        before = BEFORE | {"fit": fit, "edges": {"hat": [0.5], "male": [0.5]}, "factors": ["hat", "male"]}
        before |= {"unit_names": {"z": ["hat", "male"]}} if named else {}
        record = RunRecord.from_json(before, tmp_path)
        _, objective = building.build(record.fit, record.image_shape, record.edges, record.build_latents())
        term = objective.terms["predictor"]
        assert term.latents == ("z",) and term.factors == ("hat", "male")
        assert term.predictor.network[0].in_features == 2

    def test_a_run_from_then_is_loaded_and_goes_on(self, tmp_path: Path) -> None:
        """The whole of today's run, with its record put back into what it was then."""
        folder = RunFolder(tmp_path / "run")
        train(tiny(max_steps=4, latents={"z": 3, "y": 1}), folder)
        before = load(folder.path, "last").vae.state_dict()
        now = json.loads(folder.config_file.read_text())
        then = {key: value for key, value in now.items() if key in BEFORE}
        then |= {"unit_names": {}, "step": "eager (fewer than 2000 steps)"}
        then["fit"] = {key: value for key, value in now["fit"].items() if key in BEFORE["fit"]}
        then["fit"] |= {"latents": {"z": 3, "y": 1}, "max_steps": 6}
        folder.config_file.write_text(json.dumps(then))
        run = load(folder.path, "last")
        assert all(torch.equal(value, before[name]) for name, value in run.vae.state_dict().items())
        assert run.shared == ("z",)
        train(read_fit(folder.config_file), folder, resume=True)
        assert folder.state("last")["step"] == 6


def test_options_of_a_predictor_were_settings_of_their_own(tmp_path: Path) -> None:
    content = RECORD.to_json() | {"format": 1}
    of_then = {"predictor_side": "cross-entropy", "predictor_on": "mean", "guards": ["z"], "hides": None}
    content["fit"] = {name: value for name, value in content["fit"].items() if name != "terms"} | of_then
    assert RunRecord.from_json(content, tmp_path / "config.json").fit.terms == {}  # cycle has no such term
    content["fit"]["method"] = "cycle+predictor"
    read = RunRecord.from_json(content, tmp_path / "config.json")
    assert read.fit.terms == {"predictor": {"side": "cross-entropy", "on": "mean", "guard": ["z"]}}
    assert read.to_json()["format"] == FORMAT


@pytest.mark.parametrize("written", [3, 99, "1", None, -1])
def test_another_format_is_refused_with_the_way_forward(written: Any, tmp_path: Path) -> None:
    content = RECORD.to_json() | {"format": written, "versions": {"pyro-disent": "3.1"}}
    with pytest.raises(InputError, match=r"reads up to 2: use the version of pyro-disent that wrote it \(3\.1\)"):
        RunRecord.from_json(content, tmp_path / "config.json")


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(sorted(RECORD.to_json().keys() - {"format"})),
    value=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=2),
                    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
)  # fmt: skip
def test_what_is_no_record_is_a_sentence_or_a_record(key: str, value: Any) -> None:
    content = json.loads(json.dumps(RECORD.to_json()))
    try:
        RunRecord.from_json(content | {key: value}, Path("config.json"))
    except InputError as error:
        assert "\n" not in str(error)
    try:
        RunRecord.from_json({name: each for name, each in content.items() if name != key}, Path("config.json"))
    except InputError as error:
        assert key in str(error)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("finished") / "run"
    train(tiny(max_steps=4, schedule="cosine"), RunFolder(path))
    yield path


ANEW = "; from here on the learning rate is the new total's"


class TestLonger:
    def test_a_finished_run_says_so_before_it_compiles(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compiling, "make_step", lambda *_: pytest.fail("compiled for nothing"))
        folder, heard = RunFolder(finished), Listening()
        before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
        train(folder.read_record().fit, folder, resume=True, reporter=heard)
        assert heard.said == [f"{finished} is finished: it has taken all of its 4 steps"]
        assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}

    @pytest.mark.parametrize(("schedule", "said"), [("cosine", ANEW), ("constant", "")])
    def test_further_is_what_a_longer_run_would_have_been(self, schedule: str, said: str, tmp_path: Path) -> None:
        """Under a constant rate bit by bit; under cosine with the rates of the new total from there on."""
        whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
        train(tiny(max_steps=8, schedule=schedule), whole)
        train(tiny(max_steps=4, schedule=schedule), parts)
        heard = Listening()
        pyro_disent.fit(resume=parts.path, max_steps=8, reporter=heard)
        assert any(line == f"longer   to 8 steps, of which 4 are taken{said}" for line in heard.said)
        assert parts.read_record().fit.max_steps == 8 and parts.state("last")["step"] == 8
        same = all(torch.equal(value, whole.weights("last")[name]) for name, value in parts.weights("last").items())
        assert same == (schedule == "constant")
        rates = [group["lr"] for group in parts.state("last")["optimizer"]["param_groups"]]
        assert rates == [group["lr"] for group in whole.state("last")["optimizer"]["param_groups"]]

    def test_by_epochs(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "run")
        train(tiny(max_steps=4), folder)  # an epoch
        pyro_disent.fit(resume=folder.path, epochs=2)
        assert (folder.read_record().fit.epochs, folder.read_record().fit.max_steps) == (2, None)
        assert folder.state("last")["step"] == 8

    def test_not_to_less_than_it_has_taken(self, finished: Path) -> None:
        with pytest.raises(InputError, match="has taken 4 steps already, more than the 3"):
            pyro_disent.fit(resume=finished, max_steps=3)
