"""Odd values from Python are answered in one sentence of ours, which says what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pyro_disent
from pyro_disent import Batch, Circle, ConditionalNormal, FactoredVAE, ForwardCycle, Latent, WarmUp
from pyro_disent.errors import InputError
from pyro_disent.models.networks import mlp
from pyro_disent.models.use import Usage
from pyro_disent.threads import using

TINY: dict[str, Any] = {"network": "mlp", "latents": {"z": 3, "y": 2}, "batch_size": 16, "max_steps": 1}


def vae() -> FactoredVAE:
    return FactoredVAE([Latent("z", 3), Latent("y", 2, explains="rest")], *mlp((1, 8, 8), 5))


def batch() -> Batch:
    return Batch(torch.rand(2, 3, 1, 8, 8), {"z": True, "y": False})


def mine() -> pyro_disent.data.dataset.DataSet:
    return pyro_disent.from_arrays(torch.randint(256, (90, 8, 8), dtype=torch.uint8), identity=np.arange(90) // 3)


def masked(*shape: int) -> Any:
    return np.ma.masked_array(np.full(shape, 0.5), np.arange(np.prod(shape)).reshape(shape) < 2)


SENTENCES: dict[str, tuple[Callable[[], Any], str]] = {
    "no samples": (lambda: vae().prior_sample(0), "whole number of codes, 1 or more, not 0"),
    "half a sample": (lambda: vae().prior_sample(2.5), "whole number of codes"),  # type: ignore[arg-type]
    "sparse images": (lambda: vae().encode(torch.rand(2, 1, 8, 8).to_sparse()), "images: .*sparse_coo.*to_dense"),
    "sparse batch": (lambda: Batch(torch.rand(1, 3, 1, 8, 8).to_sparse()), "to_dense"),
    "sparse data": (lambda: pyro_disent.from_arrays(torch.rand(9, 8, 8).to_sparse()), "to_dense"),
    "masked images": (lambda: vae().encode(masked(2, 1, 8, 8)), "2 values are masked"),
    "masked data": (lambda: pyro_disent.from_arrays(masked(9, 8, 8)), "2 values are masked"),
    "no device": (lambda: batch().to("nonsense"), "cpu, cuda or cuda:1, and not to 'nonsense'"),
    "no type": (lambda: batch().to(dtype="float64"), "torch.dtype"),  # type: ignore[arg-type]
    "threads in words": (lambda: using("2").__enter__(), "`threads` is a whole number"),  # type: ignore[arg-type]
    "color for grey": (lambda: vae().encode(Image.new("RGB", (8, 8))), r"image.convert\('L'\)"),
    "a yes for a weight": (lambda: WarmUp(True, 3), "rises to a finite number"),
    "a yes for steps": (lambda: WarmUp(1.0, True), "whole number of steps"),
    "too large a weight": (lambda: WarmUp(10**400, 3), "rises to a finite number"),
    "a text for beta": (lambda: ForwardCycle(beta="4"), "the weight beta is a finite number or a WarmUp"),  # type: ignore[arg-type]
    "no step": (lambda: ForwardCycle(beta=WarmUp(1.0, 3)).weights.set_step(-1), "counted from 0, not -1"),
    "no callback": (lambda: pyro_disent.fit("vae", mine(), on_validation=3), "`on_validation` is a function"),  # type: ignore[arg-type]
    "a function for a name": (
        lambda: pyro_disent.fit("vae", mine(), **TINY | {"network": mlp}),
        "`network=mlp` is not a text: name one, or hand over `encoder=` and `decoder=`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_a_sentence(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd, says = SENTENCES[case]
    with pytest.raises(InputError, match=says):
        odd()
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_warm_up_as_any() -> None:
    assert WarmUp(np.float64(2.0), np.int64(4)) == WarmUp(2.0, 4)
    assert type(WarmUp(np.float32(2.0), np.int64(4)).steps) is int


def test_a_callback_that_returns_an_array_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`on_validation` returned values of shape \(2,\): True ends the training"):
        pyro_disent.fit("vae", mine(), out=tmp_path / "run", on_validation=lambda _: np.ones(2), **TINY)  # type: ignore[arg-type,return-value]


def test_a_warm_up_that_nobody_counts_is_refused() -> None:
    model = vae()
    objective = ForwardCycle(beta=WarmUp(1.0, 3))(model.model, model.guide)
    with pytest.raises(InputError, match=r"call objective\.weights\.set_step"):
        objective(batch())
    with torch.no_grad():
        assert objective(batch()).isfinite()  # a look is no step
    objective.weights.set_step(0)
    objective(batch()).backward()


@pytest.mark.parametrize(("takes", "gives"), [(3, 6), (4, 5)])
def test_a_conditional_prior_of_other_widths_is_refused(takes: int, gives: int) -> None:
    def made(network: torch.nn.Module) -> FactoredVAE:
        z = Latent("z", 3, ConditionalNormal(("y", "w"), network))
        return FactoredVAE([Latent("y", 2), Latent("w", 1, Circle()), z], *mlp((1, 8, 8), 7))

    with pytest.raises(InputError, match=r"latent 'z': .* maps the 4 numbers of y and w .* to 6, .*; this one "):
        made(torch.nn.Linear(takes, gives))
    assert made(torch.nn.Linear(4, 6)).prior_sample(2)["z"].shape == (2, 3)


def test_advice_is_worded_for_what_was_handed_over() -> None:
    usage = Usage({"z": 20.0, "y": -0.02}, {"z": 1.0, "y": 0.0})
    (said,) = usage.advice({"z": 8, "y": 2}, {})
    (handed,) = usage.advice({"z": 8, "y": 2}, {}, handed_over=("vae", "elbo"))
    assert "its KL is -0.02 nats (estimated from draws), less than" in said
    assert "`beta={'z': 30}`" in said and "`latents={'z': N}`" in said
    assert "`DisentanglingELBO(beta={'z': 30})`" in handed and "`Latent('z', N)`" in handed


def test_what_is_printed_is_short() -> None:
    data = mine()
    assert repr(data) == "<DataSet given: 72, 9, 9 images of 1 x 8 x 8 for training, validation, test>"
    assert repr(pyro_disent.evaluate(vae(), data)).startswith("<Evaluation on given: ")


def test_a_command_on_a_model_of_ones_own_says_what_python_does(tmp_path: Path, call: Any) -> None:
    tiny = {name: TINY[name] for name in ("batch_size", "max_steps")}
    pyro_disent.fit("cycle", mine(), vae=vae(), out=tmp_path / "run", **tiny)
    refused = call("evaluate", "run")
    assert refused.returncode == 2
    assert refused.stderr.endswith("pyro_disent.load('run', vae=...).evaluate(data=...)\n")
