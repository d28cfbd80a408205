"""Draws for ArviZ: against densities in plain NumPy, and opened by ArviZ itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from pyro.infer import Predictive
from torch import nn

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import Circle, ConditionalNormal
from pyro_disent.models.latents import Latent, each
from pyro_disent.models.likelihoods import NormalPixels
from pyro_disent.queries.draws import arviz_groups, inference_data, write_groups
from tests.models import SHAPE, linear_vae

GROUPS = ["posterior", "posterior_predictive", "log_likelihood", "prior", "prior_predictive", "observed_data"]
IMAGES = torch.rand(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PIXELS = {"channel": SHAPE[0], "height": SHAPE[1], "width": SHAPE[2]}


def a_vae(likelihood: Any = None) -> FactoredVAE:
    latents = [
        Latent("y", 1, explains="rest"),
        Latent("z", 3, ConditionalNormal("y", nn.Linear(1, 6)), explains=each("a", "b", "c")),
        Latent("turn", 2, Circle()),
    ]
    return linear_vae(latents, likelihood).double()


def logits(vae: FactoredVAE, drawn: xarray.Dataset) -> np.ndarray:
    """The decoder's outputs at draws of the latents, in NumPy."""
    turn = np.stack([np.cos(drawn["turn"]), np.sin(drawn["turn"])], -1).reshape(*drawn["turn"].shape[:-1], -1)
    code = np.concatenate([drawn["y"], drawn["z"], turn], -1)
    decoder = vae.model.decoder[0]
    return code @ decoder.weight.detach().numpy().T + decoder.bias.detach().numpy()


def test_dimensions_have_names() -> None:
    vae = a_vae()
    found = arviz_groups(vae, IMAGES, draws=4, names=list("vwxyz"))
    assert list(found) == GROUPS
    of_images = {"chain": 1, "draw": 4, "image": 5}
    for group in ("posterior", "prior"):
        assert {name: dict(values.sizes) for name, values in found[group].items()} == {
            "y": {**of_images, "y_unit": 1}, "z": {**of_images, "z_unit": 3}, "turn": {**of_images, "turn_unit": 2}
        }  # fmt: skip
        assert found[group]["z"].coords["z_unit"].values.tolist() == ["a", "b", "c"]
        assert found[group]["turn"].coords["turn_unit"].values.tolist() == [0, 1]
        assert found[group]["turn"].attrs == {"units": "radians"}
        assert dict(found[f"{group}_predictive"]["x"].sizes) == {**of_images, **PIXELS}
    assert dict(found["log_likelihood"]["x"].sizes) == of_images
    assert dict(found["observed_data"]["x"].sizes) == {"image": 5, **PIXELS}
    assert found["observed_data"]["x"].coords["image"].values.tolist() == list("vwxyz")


def test_the_log_likelihood_is_that_of_the_draws() -> None:
    found = arviz_groups(a_vae(), IMAGES, draws=3)
    vae = a_vae()
    for likelihood in (None, NormalPixels(0.3)):
        vae = a_vae(likelihood)
        found = arviz_groups(vae, IMAGES, draws=3)
        outputs, x = logits(vae, found["posterior"]), IMAGES.flatten(1).numpy()
        if likelihood is None:
            density = x * outputs - np.logaddexp(0, outputs)
        else:
            density = -0.5 * ((x - 0.5 * (np.tanh(outputs) + 1)) / 0.3) ** 2 - math.log(0.3 * math.sqrt(2 * math.pi))
        assert np.allclose(found["log_likelihood"]["x"], density.sum(-1), atol=1e-6)
        assert np.array_equal(found["observed_data"]["x"], IMAGES)


def test_draws_are_of_the_posterior_and_of_the_prior() -> None:
    vae = a_vae()
    draws = 4_000
    found = arviz_groups(vae, IMAGES, draws=draws)
    mean, scale = vae.encode(IMAGES)["y"]
    posterior = found["posterior"]["y"][0]
    assert np.allclose(posterior.mean("draw"), mean, atol=5 * float(scale.max()) / math.sqrt(draws))
    assert np.allclose(posterior.std("draw"), scale, rtol=0.08)
    y, z = found["prior"]["y"].values, found["prior"]["z"].values
    assert abs(y.mean()) < 5 / math.sqrt(y.size) and abs(y.std() - 1) < 0.03
    network = vae.model.priors["z"].network
    loc, log_variance = np.split(y @ network.weight.detach().numpy().T + network.bias.detach().numpy(), 2, -1)
    noise = (z - loc) / np.exp(log_variance / 2)
    assert np.abs(noise.mean((0, 1, 2))).max() < 5 / math.sqrt(y.size) and np.abs(noise.std((0, 1, 2)) - 1).max() < 0.03
    # Black or white by the probabilities of the latents beside them.
    for group in ("posterior", "prior"):
        probability = 1 / (1 + np.exp(-logits(vae, found[group]))).reshape(found[f"{group}_predictive"]["x"].shape)
        x = found[f"{group}_predictive"]["x"].values
        assert set(np.unique(x)) == {0.0, 1.0}
        assert abs((x - probability).mean()) < 5 * 0.5 / math.sqrt(x.size)
        assert ((x - probability) * (probability - probability.mean())).mean() < 5 / math.sqrt(x.size)


def test_arviz_opens_the_file(tmp_path: Path) -> None:
    made = arviz_groups(a_vae(), IMAGES, draws=20)
    data = inference_data(made)
    path = write_groups(made, tmp_path / "posterior.nc")
    import arviz

    opened = arviz.from_netcdf(path)
    for each_of in (data, opened):
        assert set(GROUPS) <= {str(name).strip("/") for name in each_of.groups()}
        assert each_of["posterior"]["z"].dims == ("chain", "draw", "image", "z_unit")
    for group in GROUPS:
        for name, values in made[group].items():
            assert np.array_equal(opened[group][name], values)
    table = arviz.summary(opened, var_names=["turn"], circ_var_names=["turn"], kind="stats", round_to="none")
    assert list(table.index)[:2] == ["turn[0, 0]", "turn[0, 1]"]
    assert np.allclose(table["mean"].iloc[0], _direction(made["posterior"]["turn"].values[0, :, 0, 0]), atol=1e-6)
    with xarray.open_datatree(path) as tree:  # what ArviZ is from version 1 on
        assert sorted(tree.children) == sorted(GROUPS)


def _direction(angles: np.ndarray) -> float:
    return math.atan2(np.sin(angles).mean(), np.cos(angles).mean())


def test_from_pyro_makes_prior_draws_of_several_images() -> None:
    """It squeezes axes of length 1 itself, whatever Pyro gave: that of the views, and of a latent's only unit."""
    inference_data({})  # which imports ArviZ without its notice
    import arviz

    drawn = Predictive(a_vae().model, num_samples=7)(images=5)
    assert drawn["z"].shape == (7, 1, 5, 3) and drawn["y"].shape == (7, 1, 5, 1)
    data = arviz.from_pyro(prior={name: drawn[name] for name in ("y", "z")})
    assert data["prior"]["z"].shape == (1, 7, 5, 3) and data["prior"]["y"].shape == (1, 7, 5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Any:
    tiny: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "device": "cpu"}
    return pyro_disent.fit("vae", "rotated-mnist", out=tmp_path_factory.mktemp("posterior") / "run", **tiny)


class TestTheCommandLineIsTheSame:
    def test_as_from_python(self, run: Any, call: Any, tmp_path: Path) -> None:
        said = ("--images", "3", "--draws", "5", "--seed", "2", "--device", "cpu", "--out", "draws.nc", "--json")
        told = call("posterior", run.path, *said)
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout) == {"path": "draws.nc", "figures": []}
        made = run.posterior(3, 5, seed=2)
        for group in GROUPS:
            with xarray.open_dataset(tmp_path / "draws.nc", group=group) as opened:
                assert opened.identical(made[group])
        images = run.data().test.examples(2).images
        spaced = [0, len(images) // 3, 2 * len(images) // 3]
        assert np.allclose(made["observed_data"]["x"], images[spaced] / 255)
        with pytest.raises(InputError, match="there are no images"):
            run.posterior(-1)
        assert run.posterior([2, 0], 4)["posterior"].sizes["image"] == 2

    def test_its_own_place(self, run: Any, call: Any) -> None:
        told = call("posterior", run.path, "--images", "2", "--draws", "2", "--device", "cpu")
        assert told.returncode == 0, told.stderr
        assert told.stdout == f"{run.path}/posterior.nc\n"
        refused = call("posterior", run.path, "--images", "2", "--draws", "2", "--device", "cpu")
        assert refused.returncode == 2 and "posterior.nc exists already" in refused.stderr

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["--out", "draws.csv"], "draws.csv must end in .nc"),
            (["--out", "no/draws.nc"], "lies in no, which is no folder"),
            (["--draws", "10000000", "--out", "draws.nc"], "at most 2.1 are made: ask for fewer"),
            (["--images", "0", "--out", "draws.nc"], "--images"),
        ],
    )
    def test_bad_input_is_one_sentence_and_writes_nothing(
        self, words: list[str], why: str, run: Any, call: Any, tmp_path: Path
    ) -> None:
        told = call("posterior", run.path, *words, "--device", "cpu")
        assert told.returncode == 2 and told.stdout == "" and why in told.stderr
        assert len(told.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_no_images_and_no_draws() -> None:
    with pytest.raises(InputError, match="1 or more images and draws of each, got 5 and 0"):
        arviz_groups(a_vae(), IMAGES, draws=0)
