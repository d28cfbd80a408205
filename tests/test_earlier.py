"""Runs of earlier versions, as `tests.earlier.make` left them, are read and go on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

import pyro_disent
from pyro_disent.runs.run import load
from pyro_disent.training.record import FORMAT
from pyro_disent.training.run_folder import RunFolder
from tests.earlier import make
from tests.test_records import Listening

ARCHIVES = {
    "28ed47e": "no format, and latents that are numbers of units",
    "256e751": "no format, and a predictor's side among the settings",
    "7ca3f48": "no format, and latents that say what they explain",
    "c3dec4e": "format 1, with what a predictor hides",
    "03d1446": "format 2, and a state with random states",
    "344407e": "format 2, and a state with losses in no row yet",
    "3885f40": "format 2, with what is observed",
}
"""commit of the version -> what is different in it."""


@pytest.fixture(params=ARCHIVES)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(Path(make.__file__).parent / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_all_formats_are_here() -> None:
    assert {path.name.split(".")[0] for path in Path(make.__file__).parent.glob("*.tar.xz")} == ARCHIVES.keys()


def test_its_model_is_the_same(earlier: Path) -> None:
    run = load(earlier / "run", "last", **make.networks())
    (file,) = (earlier / "run/checkpoints").glob("last-*/weights.safetensors")
    saved, held = safetensors.torch.load_file(file), run.vae.state_dict()
    assert held and all(any(torch.equal(value, each) for each in saved.values()) for value in held.values())
    for name, then in json.loads((earlier / "means.json").read_text()).items():
        assert make.means(run.vae)[name] == pytest.approx(then, rel=1e-4, abs=1e-5)
    assert {each.name: each.explains for each in run.vae.latents} == {"z": "common", "y": "rest"}


@pytest.mark.usefixtures("whole_sample")  # which they were trained on
def test_it_goes_on(earlier: Path) -> None:
    """Bit for bit as it would have without a stop, up to the machine; by new rules, and said so, from older states."""
    folder, heard = RunFolder(earlier / "run"), Listening()
    before, rows = folder.weights("last"), [row["step"] for row in folder.metrics()]
    assert folder.state("last")["step"] == make.STEPS
    pyro_disent.fit(resume=folder.path, max_steps=make.LONGER, reporter=heard, **make.networks())
    assert folder.state("last")["step"] == make.LONGER and "rng" not in folder.state("last")
    after = folder.weights("last")
    assert all(value.isfinite().all() for value in after.values()) and after.keys() == before.keys()
    assert [row["step"] for row in folder.metrics()][: len(rows)] == rows
    assert folder.read_record().fit.max_steps == make.LONGER
    assert json.loads(folder.config_file.read_text())["format"] == FORMAT
    is_older = any(line.startswith("older") for line in heard.said)
    longer = earlier / "longer.safetensors"
    assert is_older != longer.exists()
    if longer.exists():
        for name, value in safetensors.torch.load_file(longer).items():
            torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)
    else:
        assert any(not torch.equal(value, before[name]) for name, value in after.items())
