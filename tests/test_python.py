"""The library from Python: `pyro_disent.fit`, `pyro_disent.load`, and what other packages bring."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_disent
from pyro_disent import plugins
from pyro_disent.errors import InputError
from pyro_disent.models import families, networks
from pyro_disent.models.latents import Latent
from pyro_disent.objectives import methods
from pyro_disent.objectives.terms import DIP
from tests.test_terms import SETTING

TINY = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "preset": "quick"}


def mine() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.GELU())
    decoder = nn.Sequential(nn.Linear(11, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


def test_fit_and_load_predict_the_same(tmp_path: Path) -> None:
    run = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "run", **TINY)
    again = pyro_disent.load(tmp_path / "run")
    images = run.data().test.examples(0).images[:4]
    assert torch.equal(run.vae.encode(images)["z"][0], again.vae.encode(images)["z"][0])
    assert run.factors == ("rotation",) and len(pyro.get_param_store()) == 0


def test_a_run_is_trained_again_by_its_configuration_and_from_anothers_weights(tmp_path: Path) -> None:
    first = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "first", **TINY)
    again = pyro_disent.fit(config=first.path / "config.json", out=tmp_path / "again")
    for name, value in first.vae.state_dict().items():
        assert torch.equal(again.vae.state_dict()[name], value), name
    onwards = pyro_disent.fit(
        config=first.path / "config.json", init=first.path, out=tmp_path / "onwards", max_steps=1, lr=1e-9
    )
    assert onwards.record.init == str(first.path) and onwards.record.fit.max_steps == 1
    for name, value in first.vae.state_dict().items():
        torch.testing.assert_close(onwards.vae.state_dict()[name], value, rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"config": "run/config.json", "method": "cycle"}, "says the method, the data and their settings"),
        ({"config": "run/config.json", "data": "chairs"}, "says the method, the data and their settings"),
        ({"config": "run/config.json", "preset": "paper"}, "says the method, the data and their settings"),
        ({"config": "nowhere.json"}, "there is no file nowhere.json"),
        ({"resume": "run", "init": "other"}, "goes on in its own folder, with its own weights"),
        ({"resume": "run", "config": "run/config.json"}, "goes on in its own folder, with its own weights"),
    ],
)
def test_what_says_one_thing_twice_is_refused(
    said: dict[str, str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=why):
        pyro_disent.fit(**said)
    assert not list(tmp_path.iterdir())


def test_networks_of_my_own_are_trained_and_asked_for_again(tmp_path: Path) -> None:
    encoder, decoder = mine()
    run = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    with pytest.raises(InputError, match="encoder="):
        pyro_disent.load(tmp_path / "run")
    encoder, decoder = mine()
    again = pyro_disent.load(tmp_path / "run", encoder=encoder, decoder=decoder)
    images = run.data().test.examples(0).images[:4]
    assert torch.equal(run.vae.encode(images)["z"][0], again.vae.encode(images)["z"][0])


def test_a_layer_that_stands_in_two_places_is_trained_and_saved(tmp_path: Path) -> None:
    def tied() -> tuple[nn.Module, nn.Module]:
        layer = nn.Linear(16, 16)
        layers = [nn.Linear(11, 16), layer, nn.GELU(), layer, nn.Linear(16, 784), nn.Unflatten(1, (1, 28, 28))]
        return mine()[0], nn.Sequential(*layers)

    encoder, decoder = tied()
    run = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    encoder, decoder = tied()
    again = pyro_disent.load(tmp_path / "run", encoder=encoder, decoder=decoder)
    assert decoder[1] is decoder[3] and torch.equal(decoder[1].weight, run.vae.model.decoder[3].weight)
    assert again.vae.state_dict().keys() == run.vae.state_dict().keys()
    pyro_disent.resume(tmp_path / "run", encoder=encoder, decoder=decoder, max_steps=6)


def test_networks_for_other_images_are_refused(tmp_path: Path) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
    decoder = nn.Sequential(nn.Linear(11, 64), nn.Unflatten(1, (1, 8, 8)))
    with pytest.raises(InputError, match="decoder gives images"):
        pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    assert not (tmp_path / "run").exists()


THEIRS = methods.Method("theirs", "a term from elsewhere", "nobody 2026", "|Cov - I|^2", term=DIP)


def test_other_packages_bring_methods_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(group: str) -> list[EntryPoint]:
        name = {"pyro_disent.methods": "THEIRS", "pyro_disent.networks": "mine_for"}.get(group)
        broken = EntryPoint("broken", "nobodys_package:anything", group)
        return [broken, *([EntryPoint("theirs", f"{__name__}:{name}", group)] if name else [])]

    monkeypatch.setattr(plugins, "entry_points", found)
    assert methods.parse("cycle+theirs")[1] is THEIRS
    assert list(methods.build_objective("theirs", SETTING).terms) == ["dip"]
    assert networks.networks("theirs") is mine_for
    with pytest.raises(InputError, match=r"there is no network 'nobodys'; choose from mlp, .*, broken, theirs"):
        networks.networks("nobodys")
    with pytest.raises(InputError, match=r"broken of another package \(nobodys_package:anything, .*networks\) cannot"):
        networks.networks("broken")


def test_other_packages_bring_families(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Named on a command line, trained, recorded, loaded again."""
    point = EntryPoint("laplace", f"{__name__}:Laplace", "pyro_disent.families")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
    run = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "run", source="embedded", limit=64, batch_size=16,
                          max_steps=2, latents={"z": Latent("z", 3, Laplace(2.0)), "y": 1})  # fmt: skip
    assert run.record.to_json()["latents"]["z"] == {
        "units": 3, "family": "laplace", "settings": {"scale": 2.0}, "explains": "common"
    }  # fmt: skip
    family = pyro_disent.load(tmp_path / "run").vae.latent("z").family
    assert type(family) is Laplace and family.scale == 2.0
    assert families.make("laplace", {"scale": "3"}, of="z").scale == 3.0
    with pytest.raises(
        InputError, match="choose from normal, conditional, circle, categorical, binary, mixture, labelled, laplace"
    ):
        families.make("gamma", {}, of="z")


class Laplace(families.Family):
    name = "laplace"

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def prior(self, units, earlier, like, batch):
        return dist.Laplace(like.new_zeros(units), like.new_full((units,), self.scale)).to_event(1)

    def posterior(self, parameters, batch):
        loc, log_scale = parameters.chunk(2, -1)
        return dist.Laplace(loc, log_scale.clamp(-10, 10).exp()).to_event(1)

    def settings(self):
        return {"scale": self.scale}


def mine_for(image_shape: tuple[int, int, int], code_width: int) -> networks.Networks:
    return networks.mlp(image_shape, code_width)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"foo": 1}, "there is no setting foo"),
        ({"batchsize": 16}, r"there is no setting batchsize \(did you mean batch_size\?\)"),
        ({"batch_size": "16"}, "`batch_size='16'` is not a whole number"),
        ({"batch_size": 16.0}, "`batch_size=16.0` is not a whole number"),
        ({"batch_size": True}, "`batch_size=True` is not a whole number"),
        ({"lr": float("inf")}, "`lr=inf` is not a finite number"),
        ({"lr": "fast"}, "`lr='fast'` is not a number"),
        ({"network": 3}, "`network=3` is not a text"),
        ({"terms": 3}, "`terms=3` is not a table"),
        ({"terms": {"info-nce": 3}}, "a table of its options is needed"),
        ({"terms": {"info-nce": {"temperature": [1]}}}, r"temperature=\[1\] is not a number"),
        ({"terms": {"info-nce": {"temperature": 0}}}, "temperature of InfoNCE must be greater than 0"),
        ({"terms": {"info-nce": {"temperature": float("nan")}}}, "temperature of InfoNCE must be greater than 0"),
        ({"options": 3}, "`options=3` is not a table"),
        ({"weights": 2}, "`weights=2` is not a table"),
    ],
)
def test_settings_of_no_kind_are_refused_in_a_sentence(said: dict[str, object], why: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=why):
        pyro_disent.fit("info-nce", "rotated-mnist", out=tmp_path / "run", **TINY | said)
    assert not (tmp_path / "run").exists()


def test_none_is_not_said(tmp_path: Path) -> None:
    run = pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "run", **TINY, terms=None, weights=None, lr=None)
    assert run.record.fit.terms == {} and run.record.fit.lr == 1e-3


@pytest.mark.parametrize("setting", ["source", "data_root", "limit", "options"])
def test_data_that_is_handed_over_says_itself_what_it_is(setting: str, tmp_path: Path) -> None:
    images = torch.rand(64, 1, 28, 28)
    said = {"source": "local", "data_root": "here", "limit": 8, "options": {"image_size": 8}}[setting]
    with pytest.raises(InputError, match=f"data handed over says `{setting}=` itself"):
        pyro_disent.fit("vae", images, out=tmp_path / "run", preset="quick", **{setting: said})
    assert not (tmp_path / "run").exists()


def test_a_configuration_goes_with_what_is_handed_over(tmp_path: Path) -> None:
    first = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "first", **TINY)
    config = first.path / "config.json"
    encoder, decoder = mine()
    by_networks = pyro_disent.fit(config=config, out=tmp_path / "networks", encoder=encoder, decoder=decoder)
    assert by_networks.record.fit.network == "given" and by_networks.record.handed_over == ("encoder", "decoder")
    of_three = pyro_disent.fit(config=config, out=tmp_path / "three", latents={"a": 3})
    assert list(of_three.record.fit.latents) == ["a"]
    vae = pyro_disent.FactoredVAE([Latent("z", 6), Latent("y", 5, explains="rest")], *mine())
    elbo = pyro_disent.DisentanglingELBO()
    own = pyro_disent.fit(elbo, config=config, vae=vae, out=tmp_path / "own")
    fit = own.record.fit
    assert (fit.method, fit.model, fit.network, fit.likelihood) == ("given", "given", "given", "given")
    assert {name: spec.units for name, spec in fit.latents.items()} == {"z": 6, "y": 5}
    assert own.record.minimized == "DisentanglingELBO with no terms"
    another = pyro_disent.ForwardCycle([DIP()])
    for again in (pyro_disent.load, pyro_disent.resume):
        with pytest.raises(
            InputError, match=r"no terms, and what is handed over now is a ForwardCycle under .* with dip"
        ):
            again(own.path, vae=vae, elbo=another)
    with pytest.raises(InputError, match="minimized an ELBO of its own: hand it over"):
        pyro_disent.fit(config=own.path / "config.json", vae=vae, out=tmp_path / "again")
