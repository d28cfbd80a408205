"""From one image to another, and images with latents set: against codes and images that are computed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pyro_disent
from pyro_disent.errors import InputError
from pyro_disent.figures import counterfactual, interpolation, save
from pyro_disent.models.factored_vae import FactoredVAE, Guide
from pyro_disent.models.families import Binary, Categorical, Circle, ConditionalNormal
from pyro_disent.models.latents import Latent, each
from pyro_disent.queries.interpolation import interpolate
from pyro_disent.queries.intervention import descendants, do, settings
from pyro_disent.runs.run import Run
from tests.models import SHAPE, linear_vae

IMAGES = torch.rand(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def turning() -> FactoredVAE:
    """v, an angle, two units whose prior depends on v, and one whose prior depends on these."""
    latents = [
        Latent("v", 1),
        Latent("turn", 2, Circle()),
        Latent("z", 2, ConditionalNormal("v", nn.Linear(1, 4))),
        Latent("w", 1, ConditionalNormal("z", nn.Linear(2, 2))),
    ]
    return linear_vae(latents).double()


def heads(vae: FactoredVAE, images: Tensor) -> dict[str, Tensor]:
    """What each head gives, in plain torch."""
    encoder = vae.guide.encoder
    features = torch.tanh(images.flatten(1) @ encoder[1].weight.T + encoder[1].bias)
    return {name: features @ head.weight.T + head.bias for name, head in vae.guide.heads.items()}


def drawn(vae: FactoredVAE, *code: Tensor) -> Tensor:
    """Bernoulli means of a code, in plain torch."""
    decoder = vae.model.decoder[0]
    return torch.sigmoid(torch.cat(code, -1) @ decoder.weight.T + decoder.bias).unflatten(-1, SHAPE)


def centers(vae: FactoredVAE, images: Tensor) -> dict[str, Tensor]:
    given = heads(vae, images)
    found = {name: values.chunk(2, -1)[0] for name, values in given.items() if name != "turn"}
    if "turn" in given:
        found["turn"] = nn.functional.normalize(given["turn"].unflatten(-1, (2, 2)), dim=-1).flatten(-2)
    return found


class TestInterpolation:
    def test_is_straight_in_the_named_latents_and_holds_the_others(self) -> None:
        vae = linear_vae().double()
        codes = centers(vae, IMAGES)
        found = interpolate(vae, IMAGES[0], IMAGES[1], ["y"], 5)
        for step in range(5):
            y = codes["y"][0] + step / 4 * (codes["y"][1] - codes["y"][0])
            assert torch.allclose(found[step], drawn(vae, codes["z"][0], y), atol=1e-12)
        whole = interpolate(vae, IMAGES[0], IMAGES[1], steps=2)
        assert torch.allclose(whole[1], drawn(vae, codes["z"][1], codes["y"][1]), atol=1e-12)

    def test_goes_the_shorter_way_around_a_circle(self) -> None:
        """By the angle, and by slerp, in which no angle is computed."""
        circle, parts = Circle(), torch.linspace(0, 1, 7, dtype=torch.float64)
        for first, last in ((170.0, -150.0), (-170.0, 150.0), (10.0, 100.0), (0.0, 179.0), (30.0, 30.0)):
            a, b = (
                torch.tensor([math.cos(x), math.sin(x)], dtype=torch.float64) for x in map(math.radians, (first, last))
            )
            found = circle.between(a, b, parts)
            angle = torch.acos((a @ b).clamp(-1, 1))
            if angle > 1e-3:
                way = torch.sin((1 - parts) * angle).outer(a) + torch.sin(parts * angle).outer(b)
                assert torch.allclose(found, way / torch.sin(angle), atol=1e-6)
            else:
                assert torch.allclose(found, a.expand(7, 2), atol=1e-6)

    def test_of_what_is_no_line_goes_to_the_nearer_end(self) -> None:
        class Corners(pyro_disent.Family):
            name, euclidean = "corners", False

        a, b = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
        found = Corners().between(a, b, torch.tensor([0.0, 0.4, 0.6, 1.0]))
        assert torch.equal(found, torch.stack([a, a, b, b]))

    @pytest.mark.parametrize(
        ("latents", "steps", "why"), [(["q"], 3, "no latent 'q'"), (["y"], 1, "`steps` of 2 or more")]
    )
    def test_what_cannot_be_is_refused(self, latents: list[str], steps: int, why: str) -> None:
        with pytest.raises(InputError, match=why):
            interpolate(linear_vae(), IMAGES[0].float(), IMAGES[1].float(), latents, steps)


class TestDo:
    def test_sets_what_is_said_and_holds_the_rest_bit_for_bit(self) -> None:
        vae = linear_vae().double()
        codes = vae.codes(IMAGES)
        found = do(vae, IMAGES, {"y[1]": -1.5})
        assert found.redrawn == ()
        assert torch.equal(found.codes["z"], codes["z"]) and torch.equal(found.codes["y"][:, 0], codes["y"][:, 0])
        assert torch.equal(found.codes["y"][:, 1], torch.full((5,), -1.5).double())
        by_hand = centers(vae, IMAGES)
        y = torch.cat([by_hand["y"][:, :1], torch.full((5, 1), -1.5)], -1)
        assert torch.allclose(found.image, drawn(vae, by_hand["z"], y), atol=1e-12)
        assert torch.allclose(found.reconstruction, drawn(vae, by_hand["z"], by_hand["y"]), atol=1e-12)

    def test_draws_descendants_from_their_prior_given_what_is_set(self) -> None:
        vae = turning()
        many = IMAGES[:1].expand(20_000, *SHAPE)
        found, codes = do(vae, many, {"v": 2.0}), vae.codes(many)
        assert found.redrawn == ("z", "w")
        assert torch.equal(found.codes["turn"], codes["turn"])
        network = vae.model.priors["z"].network
        loc, log_variance = (network.weight[:, 0] * 2 + network.bias).chunk(2)
        assert torch.allclose(found.codes["z"].mean(0), loc, atol=5 * float((log_variance / 2).exp().max()) / 141)
        assert torch.allclose(found.codes["z"].std(0), (log_variance / 2).exp(), rtol=0.03)
        network = vae.model.priors["w"].network  # of the draws of z, not of the images' own
        loc, log_variance = (found.codes["z"] @ network.weight.T + network.bias).chunk(2, -1)
        noise = (found.codes["w"] - loc) / (log_variance / 2).exp()
        assert abs(float(noise.mean())) < 5 / 141 and abs(float(noise.std()) - 1) < 0.03
        again, other = do(vae, IMAGES, {"v": 2.0}, seed=1), do(vae, IMAGES, {"v": 2.0}, seed=2)
        assert torch.equal(again.codes["z"], do(vae, IMAGES, {"v": 2.0}, seed=1).codes["z"])
        assert not torch.equal(again.codes["z"], other.codes["z"])

    def test_leaves_what_is_above_alone_and_what_is_set_is_not_drawn(self) -> None:
        vae = turning()
        codes = vae.codes(IMAGES)
        found = do(vae, IMAGES, {"z": [1, 2]})
        assert found.redrawn == ("w",)
        assert torch.equal(found.codes["v"], codes["v"]) and torch.equal(found.codes["turn"], codes["turn"])
        assert do(vae, IMAGES, {"v": 1, "z": 0, "w": [3]}).redrawn == ()
        assert descendants(vae, ["turn"]) == [] and descendants(vae, ["v"]) == ["z", "w"]

    @pytest.mark.parametrize("said", ["90deg", "90°", math.pi / 2, str(math.pi / 2), "-270deg"])
    def test_an_angle(self, said: Any) -> None:
        vae = turning()
        found, codes = do(vae, IMAGES, {"turn[1]": said}), vae.codes(IMAGES)["turn"]
        assert torch.equal(found.codes["turn"][:, :2], codes[:, :2])
        assert torch.allclose(found.codes["turn"][:, 2:], torch.tensor([0.0, 1.0]).double(), atol=1e-6)

    def test_units_by_their_factors(self) -> None:
        vae = linear_vae([Latent("c", 3, explains=each("red", "green", "blue"))])
        assert settings(vae, {"c[green]": 2}).keys() == {"c"}
        assert settings(vae, {"c[green]": 2})["c"].keys() == settings(vae, {"c[1]": 2})["c"].keys() == {1}
        assert [float(part) for part in settings(vae, {"c": "1,2,-3"})["c"].values()] == [1, 2, -3]

    def test_a_value_outside_of_a_family(self) -> None:
        vae = linear_vae([Latent("bit", 2, Binary()), Latent("kind", 2, Categorical(3)), Latent("y", 1)]).double()
        found, codes = do(vae, IMAGES, {"bit[0]": 1, "kind[1]": 2}).codes, vae.codes(IMAGES)
        assert torch.equal(found["bit"], torch.cat([torch.ones(5, 1), codes["bit"][:, 1:]], -1))
        assert torch.equal(found["kind"], torch.cat([codes["kind"][:, :3], torch.tensor([[0.0, 0, 1]] * 5)], -1))
        with pytest.raises(InputError, match=r"a binary latent cannot be bit\[0\]=0.5"):
            do(vae, IMAGES, {"bit[0]": 0.5})
        for value in (3, -1, 0.5, math.nan):
            with pytest.raises(InputError, match=rf"kind cannot be {value}: a choice is a whole number from 0 to 2"):
                do(vae, IMAGES, {"kind": value})

    @pytest.mark.parametrize(
        ("values", "why"),
        [
            ({}, "nothing is to be set"),
            ({"q": 1}, "there is no latent 'q'"),
            ({"turn[2]": 1}, "units of turn run from 0 to 1"),
            ({"turn[": 1}, "write y or y"),
            ({"turn": 90.0}, "degrees are written as 90deg"),
            ({"turn": "400deg"}, "turn cannot be 400deg: an angle is at most once around"),
            ({"turn": math.nan}, "turn cannot be nan"),
            ({"v": "1,2"}, "v has 1 unit, and got 2 values"),
            ({"turn": [1, 2, 3]}, "turn has 2 units, and got 3 values"),
            ({"v": "2deg"}, "v cannot be 2deg: '2deg' is not a number"),
            ({"v": math.inf}, "v cannot be inf: a unit's value must be finite"),
            ({"v": None}, "it takes a number, or one for each unit"),
            ({"z": 1, "z[1]": 2}, r"z\[1\] is set twice"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values: Any, why: str) -> None:
        with pytest.raises(InputError, match=why):
            do(turning(), IMAGES, values)


def test_posteriors_are_distributions_over_all_images() -> None:
    """More than are encoded at once; their parameters in plain torch."""
    vae, images = turning(), torch.rand(1_100, *SHAPE, dtype=torch.float64)
    found, given = vae.posteriors(images), heads(vae, images)
    assert {name: (tuple(q.batch_shape), tuple(q.event_shape)) for name, q in found.items()} == {
        "v": ((1_100,), (1,)), "turn": ((1_100,), (4,)), "z": ((1_100,), (2,)), "w": ((1_100,), (1,))
    }  # fmt: skip
    for name in ("v", "z", "w"):
        loc, log_variance = given[name].chunk(2, -1)
        at = torch.randn_like(loc)
        density = -0.5 * ((at - loc) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi))
        assert torch.allclose(found[name].log_prob(at), density.sum(-1), atol=1e-9)
    assert not any(q.mean.requires_grad for name, q in found.items() if name != "turn")


def test_posteriors_of_a_guide_of_ones_own() -> None:
    class Sure(Guide):
        def posteriors(self, images, batch=None):
            return {name: dist.Delta(q.mean, event_dim=1) for name, q in super().posteriors(images, batch).items()}

    class SureVAE(FactoredVAE):
        Guide = Sure

    plain = linear_vae()
    vae = SureVAE(plain.latents, plain.guide.encoder, plain.model.decoder)
    images = torch.rand(600, *SHAPE)
    found = vae.posteriors(images)["z"]
    assert isinstance(found, dist.Delta) and found.batch_shape == (600,)
    assert torch.allclose(found.v, vae.encode(images)["z"][0], atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Run:
    tiny: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "device": "cpu"}
    out = tmp_path_factory.mktemp("interventions") / "run"
    return pyro_disent.fit("vae", "rotated-mnist", out=out, latents={"z": 4, "y": 1}, **tiny)


class TestTheCommandLineIsTheSame:
    @pytest.mark.parametrize(
        ("words", "name", "drawn"),
        [
            (["interpolate", "0", "5"], "interpolate-0-5", lambda run: run.interpolate(0, 5)),
            (
                ["interpolate", "0", "5", "--latent", "y", "--steps", "4", "--seed", "1"],
                "interpolate-0-5-y",
                lambda run: run.interpolate(0, 5, ["y"], 4, seed=1),
            ),
            (["do", "3", "y=2"], "do-3-y_2", lambda run: run.do(3, {"y": 2})),
            (
                ["do", "3", "y=-1", "z[2]=0.5", "--seed", "1"],
                "do-3-y_-1-z_2_0.5",
                lambda run: run.do(3, {"y": "-1", "z[2]": "0.5"}, seed=1),
            ),
        ],
    )
    def test_a_figure(self, words: list[str], name: str, drawn: Any, run: Run, call: Any, tmp_path: Path) -> None:
        command, *rest = words
        told = call(command, run.path, *rest, "--device", "cpu", "--json")
        assert told.returncode == 0, told.stderr
        path = Path(json.loads(told.stdout)["path"])
        assert path == run.path / f"figures/{name}.png"
        assert save(drawn(run), tmp_path / "made.png").read_bytes() == path.read_bytes()

    def test_images_are_files_too(self, run: Run, call: Any, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (2, 28, 28), np.uint8)
        for place, name in enumerate(("a.png", "b.png")):
            Image.fromarray(pixels[place]).save(tmp_path / name)
        told = call("interpolate", run.path, "a.png", "b.png", "--out", "way.png", "--device", "cpu")
        assert told.returncode == 0, told.stderr
        images = torch.from_numpy(pixels).unsqueeze(1)
        figure = interpolation(run.vae, images[0], images[1], names=[("a.png",), ("b.png",)])
        assert save(figure, tmp_path / "made.png").read_bytes() == (tmp_path / "way.png").read_bytes()
        assert call("do", run.path, "a.png", "y=1", "--out", "do.png", "--device", "cpu").returncode == 0
        figure = counterfactual(run.vae, images[:1], {"y": "1"}, labels=[("a.png",)])
        assert save(figure, tmp_path / "made.png").read_bytes() == (tmp_path / "do.png").read_bytes()

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["interpolate", "0", "5", "--latent", "q"], "there is no latent 'q'; this model has z, y"),
            (["interpolate", "0", "nothing.png"], "nothing.png is missing"),
            (["do", "0", "q=1"], "there is no latent 'q'; this model has z, y"),
            (["do", "0", "y"], "y sets nothing: write NAME=VALUE"),
            (["do", "0", "y=1", "y=2"], "y is set twice, to 1 and to 2"),
            (["do", "0", "y=much"], "y cannot be much: 'much' is not a number"),
            (["do", "0", "z[4]=1"], "there is no unit z[4]: units of z run from 0 to 3"),
            (["do", "99999", "y=1"], "there is no test image 99999"),
        ],
    )
    def test_bad_input_is_one_sentence_and_writes_nothing(
        self, words: list[str], why: str, run: Run, call: Any, tmp_path: Path
    ) -> None:
        told = call(words[0], run.path, *words[1:], "--out", "figure.png", "--device", "cpu")
        assert told.returncode == 2 and told.stdout == ""
        assert why in told.stderr and len(told.stderr.splitlines()) == 1
        assert not list(tmp_path.iterdir())
