"""A package of somebody's own brings one of each by entry points alone, as CONTRIBUTING.md and the guide say.

Everything is used from the command line; the run is then evaluated, swapped, drawn, resumed and loaded again.
"""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyro_disent
from pyro_disent.models.networks import networks
from pyro_disent.plugins import BrokenPackage
from tests import forked

PACKAGE = '''
import dataclasses

import pyro.distributions as dist
import torch
from matplotlib.figure import Figure
from torch import nn

import pyro_disent
from pyro_disent.data.mnist import rotated as rotated_mnist
from pyro_disent.evaluation.evaluate import Measurement, Number
from pyro_disent.models.factored_vae import FactoredVAE, GenerativeModel
from pyro_disent.models.families import Family
from pyro_disent.models.likelihoods import Bernoulli
from pyro_disent.objectives.methods import Method
from pyro_disent.objectives.step import Term


class Laplace(Family):
    name = "laplace"

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def settings(self):
        return {"scale": self.scale}

    def prior(self, units, earlier, like, batch):
        return dist.Laplace(like.new_zeros(units), like.new_full((units,), self.scale)).to_event(1)

    def posterior(self, parameters, batch):
        loc, log_scale = parameters.chunk(2, -1)
        return dist.Laplace(loc, log_scale.clamp(-10, 10).exp()).to_event(1)


class Likelihood(Bernoulli):
    """As the Bernoulli, of half the logits."""

    def forward(self, outputs):
        return super().forward(outputs / 2)

    def mean(self, outputs):
        return super().mean(outputs / 2)


def network(image_shape, code_width):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 24), nn.GELU())
    decoder = nn.Sequential(nn.Linear(code_width, pixels), nn.Unflatten(1, image_shape))
    return encoder, decoder


class Wide(GenerativeModel):
    """The prior of y is twice as wide."""

    def prior_dist(self, latent, earlier, batch):
        p = super().prior_dist(latent, earlier, batch)
        return dist.Normal(p.mean, 2 * p.stddev).to_event(1) if latent.name == "y" else p


class WideVAE(FactoredVAE):
    Model = Wide


def model(latents, image_shape, networks, likelihood):
    return WideVAE(latents, *networks(image_shape, sum(latent.width for latent in latents)), likelihood)


class FreeBits(Term):
    name, default_weight = "free-bits", 1.0

    def __init__(self, target: float = 2.0):
        super().__init__()
        self.target = target

    def forward(self, step):
        return (self.target - step.kl("z").sum(-1)).clamp(min=0)


free_bits = Method("free-bits", "a floor under the KL of z", "theirs", "(target - KL)+", term=FreeBits)


class Digits:
    FACTORS = rotated_mnist.FACTORS
    PRESETS = {"quick": {**rotated_mnist.PRESETS["quick"], "batch_size": 16}}

    @staticmethod
    def load(request, *, seed=0, limit=None, progress=None, digit: int | None = None):
        made = rotated_mnist.load(request, seed=seed, limit=limit)
        return dataclasses.replace(made, name="digits", options={"digit": digit})


class Bars:
    """Made of arrays in memory, with no word of where they come from."""

    @staticmethod
    def load(request, *, seed=0, limit=None, progress=None, people: int = 12):
        who = torch.arange(people).repeat_interleave(4)
        images = torch.zeros(len(who), 1, 28, 28)
        for number, person in enumerate(who.tolist()):
            images[number, 0, person : person + 4, number % 4 :: 4] = 1
        return pyro_disent.from_arrays(images, identity=who, seed=seed)


def nothing(request, *, seed=0, limit=None, progress=None):
    return [1, 2, 3]


Nothing = type("Nothing", (), {"load": staticmethod(nothing)})


def spread_of_z(codes):
    def compute():
        code = codes.test.codes["z"]
        return {"spread/z": Number("spread of codes", "z", float(code.std(0).mean()), "prior's scale")}

    yield Measurement("spread of codes", compute)


def theirs(codes):
    yield Measurement("their ELBO", lambda: {"elbo": Number("their ELBO", "", 0.0, "nats per image")})


def mean_image(subject):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().imshow(subject.images.float().mean(0)[0].numpy())
    return figure
'''
ENTRY_POINTS = """
[pyro_disent.families]
laplace = their_package:Laplace
[pyro_disent.likelihoods]
soft = their_package:Likelihood
[pyro_disent.networks]
small = their_package:network
[pyro_disent.models]
wide = their_package:model
[pyro_disent.methods]
free-bits = their_package:free_bits
[pyro_disent.datasets]
digits = their_package:Digits
bars = their_package:Bars
nothing = their_package:Nothing
[pyro_disent.metrics]
spread = their_package:spread_of_z
[pyro_disent.figures]
mean-image = their_package:mean_image
"""


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package on the path, as pip leaves it there."""
    site = tmp_path_factory.mktemp("site")
    (site / "their_package.py").write_text(PACKAGE)
    info = site / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    yield importlib.import_module("their_package")
    sys.modules.pop("their_package")


def test_all_of_it_is_used_from_the_command_line(installed: Any, tmp_path: Path, call: Any) -> None:
    said = shlex.split(
        "fit --method cycle+free-bits --data digits --source embedded --limit 64 --max-steps 2 --no-compile "
        "--data-option digit=3 --term free-bits.target=3 --model wide --network small --likelihood soft "
        "--latent z=4:laplace,scale=2 --out run"
    )
    done = call(*said)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/figures/mean-image.png").is_file()
    assert "free-bits.target=2" in call("methods").stdout and "digit" in call("data", "list").stdout

    evaluated = call("evaluate", "run")
    assert evaluated.returncode == 0 and "spread of codes" in evaluated.stdout, evaluated.stderr
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["numbers"]["spread/z"]["value"] > 0
    (tmp_path / "run/figures/mean-image.png").unlink()
    for command in (["swap", "run", "0", "1"], ["figures", "run"], ["fit", "--resume", "run", "--max-steps", "3"]):
        again = call(*command)
        assert again.returncode == 0, again.stderr
    assert (tmp_path / "run/figures/mean-image.png").is_file()

    run = pyro_disent.load("run")
    assert type(run.vae) is installed.WideVAE and type(run.vae.model.likelihood) is installed.Likelihood
    assert type(run.vae.latent("z").family) is installed.Laplace and run.vae.latent("z").family.scale == 2.0
    assert run.objective.terms["free-bits"].target == 3.0
    fit = run.record.fit
    assert (fit.model, fit.network, fit.likelihood, fit.options) == ("wide", "small", "soft", {"digit": 3})
    assert run.record.fit.max_steps == 3 and run.vae.guide.encoder[1].out_features == 24


def test_a_data_set_made_of_arrays_is_found_again_by_its_name(installed: Any, tmp_path: Path, call: Any) -> None:
    tiny = "--batch-size 8 --max-steps 2 --no-compile --network mlp --latent z=3 --out run"
    done = call("fit", "--method", "cycle", "--data", "bars", "--data-option", "people=13", *shlex.split(tiny))
    assert done.returncode == 0, done.stderr
    for command in ("evaluate run", "swap run 0 1", "figures run", "fit --resume run --max-steps 3"):
        again = call(*shlex.split(command))
        assert again.returncode == 0, again.stderr
    run = pyro_disent.load("run")
    assert run.record.handed_over == () and run.record.source.kind == "package"
    again = run.data()
    assert (again.name, again.options) == ("bars", {"people": 13})
    assert sum(len(split) for split in (again.train, again.validation, again.test)) == 13 * 4
    assert run.evaluation_path() == run.evaluation_path(again)


def test_a_data_set_from_a_folder_is_found_there_again(installed: Any, tmp_path: Path) -> None:
    source = pyro_disent.load_data("bars", data_root=tmp_path).source
    assert (source.kind, source.location) == ("local", str(tmp_path))


def test_what_is_no_data_set_is_refused_before_a_run_begins(installed: Any, tmp_path: Path, call: Any) -> None:
    refused = call("fit", "--method", "cycle", "--data", "nothing", "--out", "run")
    assert refused.returncode == 2 and "nothing of another package loads a list: its" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_name_or_a_key_that_is_taken_is_said(
    installed: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path_factory.mktemp("other") / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    groups = ("metrics]\nelbo = their_package:theirs", "networks]\nmlp = their_package:network")
    (info / "entry_points.txt").write_text("\n".join(f"[pyro_disent.{group}" for group in groups))
    monkeypatch.syspath_prepend(info.parent)
    data = pyro_disent.load_data("bars")
    with pytest.warns(BrokenPackage, match=r"mlp of another package .* is left out: there is one of this name already"):
        encoder, decoder = networks("mlp")((1, 28, 28), 3)
    vae = pyro_disent.FactoredVAE([pyro_disent.Latent("z", 3)], encoder, decoder)
    with pytest.warns(BrokenPackage, match="the metric elbo of another package measures elbo, as bounds does, whose"):
        found = pyro_disent.evaluate(vae, data)
    assert found.numbers["elbo"].measure == "ELBO" and found.numbers["elbo"].value < 0


def test_what_a_package_is_made_of_comes_from_one_place() -> None:
    code = "import sys, pyro_disent.extend as e; assert 'torch' not in sys.modules; [getattr(e, n) for n in e.__all__]"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_record_calls_handed_over_is_no_name(tmp_path: Path, call: Any) -> None:
    refused = call("fit", "--method", "cycle", "--data", "rotated-mnist", "--network", "given", "--out", "run")
    assert refused.returncode == 2 and "--network given is what was handed over from Python" in refused.stderr
    assert "`" not in refused.stderr.replace("`pyro-disent`", "") and not (tmp_path / "run").exists()


def test_what_is_not_installed_is_named(tmp_path: Path, call: Any) -> None:
    tiny = shlex.split(
        "fit --method cycle --data rotated-mnist --source embedded --limit 64 --max-steps 2 --no-compile"
    )
    for option, what in (("--model", "model"), ("--network", "network"), ("--likelihood", "likelihood")):
        refused = call(*tiny, option, "theirs")
        assert refused.returncode == 2 and f"there is no {what} 'theirs'; choose from" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def broken(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that fails where it is imported, and offers something of every group."""
    site = tmp_path_factory.mktemp("broken")
    (site / "broken_package.py").write_text("raise RuntimeError('no driver')")
    info = site / "broken_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1.0\n")
    groups = [line for line in ENTRY_POINTS.splitlines() if line.startswith("[")]
    (info / "entry_points.txt").write_text("\n".join(f"{group}\nboom = broken_package:boom" for group in groups))
    monkeypatch.syspath_prepend(site)


def test_a_broken_package_hides_nothing_else(installed: Any, broken: None, tmp_path: Path, call: Any) -> None:
    tiny = shlex.split("--source embedded --limit 64 --batch-size 16 --max-steps 2 --no-compile --out run")
    with pytest.warns(BrokenPackage, match=r"boom of another package .*figures\) cannot be imported: RuntimeError: no"):
        done = call("fit", "--method", "cycle", "--data", "rotated-mnist", "--latent", "y=1:laplace", *tiny)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/figures/swap.png").is_file() and (tmp_path / "run/figures/mean-image.png").is_file()
    with pytest.warns(BrokenPackage, match=r"metrics\) cannot be imported"):
        assert "spread of codes" in call("evaluate", "run").stdout
    with pytest.warns(BrokenPackage, match=r"methods\) cannot be imported"):
        assert "free-bits" in call("methods").stdout
    listed = call("data", "list")
    assert listed.returncode == 0 and "digits" in listed.stdout and "no driver" in listed.stdout
    for option in ("--method", "--model", "--network", "--likelihood"):
        refused = call("fit", *shlex.split("--method cycle --data rotated-mnist"), *tiny[:-1], "other", option, "boom")
        assert refused.returncode == 2 and "cannot be imported: RuntimeError: no driver" in refused.stderr


def test_the_command_line_says_what_is_broken_in_a_sentence(broken: None, tmp_path: Path) -> None:
    done = forked.run("methods", cwd=tmp_path)
    assert done.returncode == 0 and "cycle" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("pyro-disent: boom of another package (broken_package:boom, entry-point group")
