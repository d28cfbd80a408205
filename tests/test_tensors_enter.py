"""What a user hands over as images, masks, factors and codes: converted, or refused in a sentence, at every door."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from PIL import Image
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pyro_disent
from pyro_disent.batch import Batch
from pyro_disent.compiled.step import EagerStep
from pyro_disent.errors import InputError
from pyro_disent.evaluation import bounds
from pyro_disent.figures.swap import swap_images
from pyro_disent.figures.traversal import traversed
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import conv3x3
from pyro_disent.models.use import use
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.methods import build_objective
from pyro_disent.pixels import as_pixels
from tests.models import SHAPE, linear_vae, masks, pair_batch
from tests.test_device import NoReadBack
from tests.test_frozen import TINY, data
from tests.test_terms import SETTING

BYTES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
FLOATS = BYTES.astype(np.float32) / 255

SAME: dict[str, Any] = {
    "floats": torch.from_numpy(FLOATS),
    "uint8": torch.from_numpy(BYTES),
    "float64": torch.from_numpy(FLOATS).double(),
    "channels last in memory": torch.from_numpy(FLOATS).to(memory_format=torch.channels_last),
    "NumPy floats": FLOATS,
    "NumPy float64": FLOATS.astype(np.float64),
    "NumPy uint8": BYTES,
    "NumPy that is read only": np.frombuffer(BYTES.tobytes(), np.uint8).reshape(BYTES.shape),
    "NumPy backwards": BYTES[::-1].copy()[::-1],
    "NumPy of another byte order": FLOATS.astype(">f4"),
    "lists": FLOATS.tolist(),
    "a list of tensors": list(torch.from_numpy(FLOATS)),
    "a list of arrays": list(BYTES),
    "Pillow's": [Image.fromarray(image[0]) for image in BYTES],
    "with a gradient": torch.from_numpy(FLOATS).requires_grad_(),
    "a parameter": nn.Parameter(torch.from_numpy(FLOATS)),
}
DOORS: dict[str, Callable[[FactoredVAE, Any], Any]] = {
    "encode": lambda vae, images: vae.encode(images)["z"][0],
    "codes": lambda vae, images: vae.codes(images)["z"],
    "Batch.of": lambda vae, images: vae.guide.posteriors(vae.guide.batch_of(Batch.of(images)).images.float())["z"].mean[
        0
    ],
    "the guide": lambda vae, images: pyro.poutine.trace(vae.guide).get_trace(images).nodes["z"]["fn"].mean[0],
    "an objective": lambda vae, images: DisentanglingELBO()(vae.model, vae.guide)(images),
    "SVI": lambda vae, images: torch.tensor(
        SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 0.0}), loss=DisentanglingELBO()).step(images)
    ),
    "Trace_ELBO": lambda vae, images: torch.tensor(
        SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 0.0}), loss=Trace_ELBO()).step(images)
    ),
    "a step": lambda vae, images: EagerStep(DisentanglingELBO()(vae.model, vae.guide))(Batch.of(images)).loss,
}


def through(door: str, vae: FactoredVAE, images: Any) -> Tensor:
    torch.manual_seed(1)
    return DOORS[door](vae, images).detach()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", SAME)
def test_images_of_any_kind_are_the_same_images(kind: str, door: str) -> None:
    vae = linear_vae()
    torch.testing.assert_close(
        through(door, vae, SAME[kind]).double(), through(door, vae, torch.from_numpy(FLOATS)).double()
    )


@pytest.mark.parametrize("door", DOORS)
def test_black_and_white_and_one_image_alone(door: str) -> None:
    vae, one = linear_vae(), torch.from_numpy(BYTES[0])
    torch.testing.assert_close(through(door, vae, one), through(door, vae, one[None]))
    torch.testing.assert_close(through(door, vae, one > 100), through(door, vae, (one[None] > 100).float()))


def wrong(low: float, high: float) -> Tensor:
    return low + (high - low) * torch.linspace(0, 1, 80).reshape(4, *SHAPE)


BAD: dict[str, tuple[Any, str]] = {
    "0 to 255": (torch.from_numpy(BYTES).float(), "divide what goes to 255 by 255"),
    "0 to 255 in float64": (BYTES.astype(np.float64), "divide what goes to 255 by 255"),
    "0 to 65535": (wrong(0, 65535), "divide them by the largest value"),
    "-1 to 1": (wrong(-1, 1), r"\(x \+ 1\) / 2"),
    "standardized": (wrong(-2.1, 2.6), "undo how they were standardized"),
    "overshoot": (wrong(-0.04, 1.06), r"clip them to"),
    "NaN": (torch.full((4, *SHAPE), torch.nan), "not finite"),
    "infinite": (torch.full((4, *SHAPE), torch.inf), "not finite"),
    "int64": (torch.from_numpy(BYTES).long(), "int64, whose range nothing says: pixels are uint8"),
    "NumPy int32": (BYTES.astype(np.int32), "int32"),
    "complex": (torch.zeros(4, *SHAPE, dtype=torch.complex64), "complex64"),
    "other channels": (torch.zeros(4, 3, 4, 5), "takes images of 1 x 4 x 5"),
    "other size": (torch.zeros(4, 1, 5, 5), "takes images of 1 x 4 x 5"),
    "channels last": (torch.zeros(4, 4, 5, 1), r"takes images of 1 x 4 x 5.*permute\(0, 3, 1, 2\)"),
    "without the channel": (torch.zeros(7, 4, 5), r"takes images of 1 x 4 x 5.*unsqueeze"),
    "flat": (torch.zeros(4, 20), r"\(4, 20\)"),
    "one number": (torch.tensor(0.5), r"\(\)"),
    "a text": ("photo.png", "got str"),
    "nothing": ({}, "got dict"),
    "uneven lists": ([[1.0, 2.0], [3.0]], "one length"),
    "uneven tensors": ([torch.zeros(1, 4, 5), torch.zeros(1, 5, 5)], "one shape"),
    "Pillow's palette": (Image.new("P", (5, 4)), "convert"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", BAD)
def test_what_are_no_images_is_refused_in_a_sentence(kind: str, door: str) -> None:
    given, says = BAD[kind]
    with pytest.raises(InputError, match=says) as refused:
        through(door, linear_vae(), given)
    assert "\n" not in str(refused.value).strip()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_take_the_type_of_the_model(dtype: torch.dtype) -> None:
    vae = linear_vae().to(dtype)
    exact = {name: mean for name, (mean, _) in vae.encode(torch.from_numpy(BYTES).to(dtype) / 255).items()}
    for images in (BYTES, torch.from_numpy(BYTES), torch.from_numpy(BYTES).double() / 255):
        for name, (mean, scale) in vae.encode(images).items():
            assert mean.dtype == scale.dtype == dtype
            torch.testing.assert_close(mean, exact[name], rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=1e-14)
    for images in (torch.rand(2, 3, *SHAPE), torch.rand(2, 3, *SHAPE, dtype=torch.float64)):
        objective = build_objective("cycle+similarity+predictor", SETTING)(vae.model, vae.guide).to(dtype)
        batch = Batch(images, {"z": True, "y": False}, {"angle": torch.randn(2, 3)})
        assert EagerStep(objective)(batch).reconstruction.dtype == dtype
        assert {parameter.grad.dtype for parameter in objective.parameters()} == {dtype}


def test_a_model_in_half_precision_takes_images_too() -> None:
    vae = linear_vae().bfloat16()
    mean, _ = vae.encode(BYTES)["z"]
    expected, _ = linear_vae().encode(BYTES)["z"]
    assert mean.shape == expected.shape and mean.isfinite().all()
    assert vae.decode(vae.codes(FLOATS)).isfinite().all()


SHARED: dict[str, Any] = {
    "bool": True,
    "NumPy's bool": np.bool_(True),
    "list": [True, False, True],
    "array": np.array([True, False, True]),
    "column": torch.tensor([[True], [False], [True]]),
}


@pytest.mark.parametrize("kind", SHARED)
def test_masks_of_any_kind(kind: str) -> None:
    mask = Batch(torch.zeros(2, 3, *SHAPE), {"z": SHARED[kind]}).shared["z"]
    assert mask.dtype == torch.bool and mask.shape == (3, 1)
    assert mask.squeeze(1).tolist() == ([True] * 3 if "bool" in kind else [True, False, True])


@pytest.mark.parametrize("mask", [[1, 0, 1], np.ones(3), "all", [True, False], None, torch.ones(3)], ids=str)
def test_masks_that_are_none_are_refused(mask: Any) -> None:
    with pytest.raises(InputError, match="what is shared of 'z'"):
        Batch(torch.zeros(2, 3, *SHAPE), {"z": mask})


@pytest.mark.parametrize(
    "values", [[[0, 1, 2], [0, 2, 2]], np.array([[0, 1, 2], [0, 2, 2]]), torch.tensor([[0, 1, 2], [0, 2, 2]]),
               np.array([[0, 1, 2], [0, 2, 2]], np.int8), torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 2.0]])],
    ids=["list", "NumPy", "int64", "int8", "float32"],
)  # fmt: skip
def test_factors_of_any_kind(values: Any) -> None:
    batch = Batch(torch.rand(2, 3, *SHAPE), {"z": True, "y": False}, {"angle": values})
    assert batch.factors["angle"].is_floating_point()
    assert masks(batch, "z", "y", "angle")["angle"].squeeze(1).tolist() == [True, False, True]
    objective = build_objective("predictor", SETTING)(linear_vae().model, linear_vae().guide)
    assert objective(batch).isfinite()


def test_whole_numbers_that_differ_stay_so() -> None:
    times = torch.tensor([[1_700_000_000], [1_700_000_001]])
    batch = Batch(torch.rand(2, 1, *SHAPE), factors={"time": times})
    assert masks(batch, "time")["time"].tolist() == [[False]]


@pytest.mark.parametrize(
    "values", [[["a", "b", "c"]] * 2, [[0, 1], [2, 3]], 3.0, torch.zeros(2, 3, dtype=torch.complex64)], ids=str
)
def test_factors_that_are_none_are_refused(values: Any) -> None:
    with pytest.raises(InputError, match="factor 'angle'"):
        Batch(torch.rand(2, 3, *SHAPE), factors={"angle": values})


CODES: dict[str, tuple[dict[str, Any], str]] = {
    "none of y": ({"z": torch.zeros(2, 3)}, "no code of the latent 'y'"),
    "wrong width": ({"z": torch.zeros(2, 3), "y": torch.zeros(2, 3)}, r"must be \(N, 2\)"),
    "one alone": ({"z": torch.zeros(3), "y": torch.zeros(2)}, r"must be \(N, 3\)"),
    "a text": ({"z": "z", "y": torch.zeros(2, 2)}, "the code of 'z'"),
    "uneven": ({"z": torch.zeros(2, 3), "y": torch.zeros(1, 2)}, "as many"),
}


@pytest.mark.parametrize("kind", CODES)
def test_codes_that_are_none_are_refused(kind: str) -> None:
    codes, says = CODES[kind]
    with pytest.raises(InputError, match=says):
        linear_vae().decode(codes)


def test_codes_of_any_kind_decode_the_same() -> None:
    vae, code = linear_vae(), {"z": torch.randn(2, 3), "y": torch.randn(2, 2)}
    for kind in (Tensor.double, Tensor.numpy, Tensor.tolist):
        torch.testing.assert_close(vae.decode({name: kind(each) for name, each in code.items()}), vae.decode(code))


def test_to_moves_all_and_changes_the_type_of_images() -> None:
    batch = pair_batch()
    double = batch.to(dtype=torch.float64)
    assert double.images.dtype == torch.float64 and double.factors["angle"].dtype == torch.float32
    assert batch.to(torch.float64).images.dtype == torch.float64
    assert batch.to("cpu") is batch
    moved = batch.to("meta", torch.float64)
    assert {each.device.type for each in (moved.images, *moved.shared.values(), *moved.factors.values())} == {"meta"}
    assert moved.images.dtype == torch.float64 and moved.views == 2
    with pytest.raises(InputError, match="cannot hold"):
        batch.to(dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert batch.to("cuda").shared["z"].device.type == "cuda"


def test_a_model_elsewhere_says_how_the_batch_gets_there() -> None:
    vae = linear_vae().to("meta")
    with pytest.raises(InputError, match=r"lie on cpu and the model on meta: use batch\.to"):
        vae.guide(pair_batch())


def test_masks_and_factors_follow_the_images() -> None:
    with FakeTensorMode():
        images = torch.rand(2, 3, *SHAPE, device="cuda")
        batch = Batch(images, {"z": torch.ones(3, dtype=torch.bool)}, {"angle": torch.zeros(2, 3)})
        assert batch.shared["z"].device == batch.factors["angle"].device == images.device


def test_pixels_elsewhere_are_not_waited_for_and_own_batches_not_looked_at() -> None:
    with FakeTensorMode():
        assert Batch(torch.rand(2, 3, *SHAPE, device="cuda") * 255).size == 3
        assert as_pixels(torch.zeros(3, dtype=torch.uint8, device="cuda")).dtype == torch.float32
    with pyro.validation_enabled(False), NoReadBack():
        Batch.unchecked(torch.rand(2, 3, *SHAPE))
        linear_vae().guide(Batch.unchecked(torch.rand(2, 3, *SHAPE)))
    with NoReadBack(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        Batch(torch.rand(2, 3, *SHAPE))


@contextlib.contextmanager
def defaults(case: str) -> Iterator[None]:
    torch.set_default_dtype(torch.float32 if case == "meta" else torch.float64)
    torch.set_default_device(None if case == "float64" else "meta")
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


EVERY_TERM = "cycle+similarity+reverse-cycle+dip+info-nce+predictor+total-correlation"
CASES = ["float64", "meta", "float64 on meta"]


def answers(vae: FactoredVAE, elbo: DisentanglingELBO, batch: Batch) -> dict[str, Any]:
    """Numbers of every kind that a model gives."""
    objective = elbo(vae.model, vae.guide)
    codes = vae.codes(BYTES)
    torch.manual_seed(0)
    found = {
        "encode": vae.encode(FLOATS)["z"][0],
        "codes": codes["y"],
        "decode": vae.decode(codes),
        "prior": vae.prior_sample(2, torch.Generator("cpu").manual_seed(1))["z"],
        "prior by the process's state": vae.prior_sample(2)["z"],
        "traversal": traversed(vae, torch.from_numpy(BYTES[0]), "z", 3),
        "swap": swap_images(vae, torch.from_numpy(BYTES), torch.from_numpy(BYTES), ["z"]),
        "use": use(vae, torch.from_numpy(BYTES))["z"],
        "bound": bounds.elbo(vae, torch.from_numpy(FLOATS)).elbo,
        "objective": objective(batch),
        "step": EagerStep(objective)(batch).loss,
        "SVI": SVI(vae.model, vae.guide, pyro.optim.SGD({"lr": 0.0}), loss=DisentanglingELBO(beta=2.0)).step(batch),
        "made anew": Batch(FLOATS.reshape(2, 2, *SHAPE), {"z": True}, {"angle": [[1, 2], [3, 4]]}).images,
    }
    return {
        name: each.detach() if isinstance(each, Tensor) else torch.tensor(each, device="cpu")
        for name, each in found.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_numbers_do_not_depend_on_the_defaults(case: str) -> None:
    vae, elbo, batch = linear_vae(), build_objective(EVERY_TERM, SETTING), pair_batch()
    expected = answers(vae, elbo, batch)
    with defaults(case):
        found = answers(vae, elbo, batch)
    for name, right in expected.items():
        assert found[name].device.type == "cpu", name
        torch.testing.assert_close(found[name].float(), right.float(), msg=name)


def test_what_is_built_in_float64_trains_in_float64_on_images_of_any_type() -> None:
    with defaults("float64"):
        vae, elbo = linear_vae(), build_objective(EVERY_TERM, SETTING)
        assert {parameter.dtype for parameter in vae.parameters()} == {torch.float64}
        for dtype in (torch.float32, torch.float64):
            found = answers(vae, elbo, pair_batch(dtype=dtype))
            assert found["objective"].dtype == torch.float64 and all(each.isfinite().all() for each in found.values())


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_same_whatever_the_defaults(case: str, tmp_path: Path) -> None:
    weights, said = [], TINY | {"max_steps": 2, "network": "mlp"}
    for name in ("usual", case):
        given = data()
        with contextlib.nullcontext() if name == "usual" else defaults(name):
            before = torch.get_default_dtype(), torch.get_default_device()
            run = pyro_disent.fit("cycle+similarity", given, out=tmp_path / name, **said)
            assert (torch.get_default_dtype(), torch.get_default_device()) == before
            weights.append(pyro_disent.load(run.path).objective.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_networks_handed_over_decide_type_and_device_of_the_rest() -> None:
    encoder, decoder = (network.double() for network in conv3x3((1, 16, 16), 5))
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], encoder, decoder)
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float64}
    assert ForwardCycle()(vae.model, vae.guide)(Batch(torch.rand(2, 3, 1, 16, 16), {"z": True})).isfinite()
    with torch.device("meta"):
        networks = conv3x3((1, 16, 16), 5)
    vae = FactoredVAE([Latent("z", 3), Latent("y", 2)], *networks)
    assert {parameter.device.type for parameter in vae.parameters()} == {"meta"}
