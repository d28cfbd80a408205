"""The library from Python: `pyro_disent.fit`, `pyro_disent.load`, and what other packages bring."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pyro
import pytest
import torch
from torch import nn

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.models import networks
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


def test_networks_of_my_own_are_trained_and_asked_for_again(tmp_path: Path) -> None:
    encoder, decoder = mine()
    run = pyro_disent.fit("cycle", "rotated-mnist", out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    with pytest.raises(InputError, match="encoder="):
        pyro_disent.load(tmp_path / "run")
    encoder, decoder = mine()
    again = pyro_disent.load(tmp_path / "run", encoder=encoder, decoder=decoder)
    images = run.data().test.examples(0).images[:4]
    assert torch.equal(run.vae.encode(images)["z"][0], again.vae.encode(images)["z"][0])


def test_networks_for_other_images_are_refused(tmp_path: Path) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
    decoder = nn.Sequential(nn.Linear(11, 64), nn.Unflatten(1, (1, 8, 8)))
    with pytest.raises(InputError, match="decoder gives images"):
        pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "run", encoder=encoder, decoder=decoder, **TINY)
    assert not (tmp_path / "run").exists()


THEIRS = methods.Method("theirs", "a term from elsewhere", "nobody 2026", "|Cov - I|^2", term=DIP)


def test_other_packages_bring_methods_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(group: str) -> list[EntryPoint]:
        name = {"pyro_disent.methods": "THEIRS", "pyro_disent.networks": "mine_for"}[group]
        return [EntryPoint("theirs", f"{__name__}:{name}", group)]

    for module in (methods, networks):
        monkeypatch.setattr(module, "entry_points", found)
    assert methods.parse("cycle+theirs")[1] is THEIRS
    assert list(methods.build("theirs", SETTING).terms) == ["dip"]
    assert networks.networks("theirs") is mine_for
    with pytest.raises(InputError, match="theirs"):
        networks.networks("nobodys")


def mine_for(image_shape: tuple[int, int, int], code_width: int) -> networks.Networks:
    return networks.mlp(image_shape, code_width)
