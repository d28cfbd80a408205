"""Metrics on codes whose answer is known: perfect, empty, noisy, permuted, rotated."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, Examples, Factor, Source, Split
from pyro_disent.errors import InputError
from pyro_disent.evaluation import report
from pyro_disent.evaluation.bounds import elbo
from pyro_disent.evaluation.codes import blocks
from pyro_disent.evaluation.evaluate import PIXELS, evaluate, identities
from pyro_disent.evaluation.leakage import FIT_IMAGES, fit_regressors, leak, pair_leak
from pyro_disent.evaluation.probes import linear_probe
from pyro_disent.evaluation.result import Evaluation
from pyro_disent.evaluation.viewpoints import angle_error, near_symmetric, recall_at_1
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import ForwardCycle
from pyro_disent.runs.run import Run
from tests.table import RECORD


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


class TestLinearProbe:
    labels = torch.arange(6_000) % 5
    clusters = nn.functional.one_hot(labels, 5).float() * 4

    def test_of_a_perfect_code(self) -> None:
        assert linear_probe(self.clusters, self.labels, self.clusters, self.labels, seed=0) == 1.0

    def test_of_noise_is_chance(self) -> None:
        accuracy = linear_probe(noise(6_000, 5), self.labels, noise(6_000, 5, seed=1), self.labels, seed=0)
        assert accuracy == pytest.approx(0.2, abs=0.03)

    def test_labels_need_not_be_class_indices(self) -> None:
        named = self.labels * 10 - 7
        assert linear_probe(self.clusters, named, self.clusters, named, seed=0) == 1.0

    def test_a_label_never_trained_on_is_wrong(self) -> None:
        unseen = torch.full_like(self.labels, 9)
        assert linear_probe(self.clusters, self.labels, self.clusters, unseen, seed=0) == 0.0

    def test_raw_pixels_are_probed_in_the_unit_interval(self) -> None:
        pixels = ((self.clusters / 8 + 0.2 * noise(6_000, 5)).clamp(0, 1) * 255).to(torch.uint8)
        one, other = (linear_probe(x, self.labels, x, self.labels, seed=0) for x in (pixels, pixels / 255))
        assert one == other
        assert 0.5 < one < 1

    def test_without_bias_cannot_move_the_origin(self) -> None:
        """Two classes on one ray from the origin: a linear layer tells them apart only with its bias."""
        labels = torch.arange(9_600) % 2
        code = torch.where(labels == 0, 1.0, 3.0).unsqueeze(-1)
        assert linear_probe(code, labels, code, labels, seed=0, bias=False) == 0.5

    @pytest.mark.parametrize("bias", [True, False])
    def test_is_the_protocol_written_out(self, bias: bool) -> None:
        """The same protocol with nothing of torch's layers or optimizers: Adam by its equations, gradients by hand."""
        code = self.clusters / 4 + noise(6_000, 5)
        test = self.clusters / 4 + noise(6_000, 5, seed=1)
        random = generator(3)
        bound = 1 / math.sqrt(5)
        weight = torch.empty(5, 5).uniform_(-bound, bound, generator=random)
        parameters = [weight]
        if bias:
            parameters.append(torch.empty(5).uniform_(-bound, bound, generator=random))
        first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        step = 0
        for _ in range(3):
            order = torch.randperm(6_000, generator=random)
            for start in range(0, 6_000, 96):
                index, step = order[start : start + 96], step + 1
                x, y = code[index], self.labels[index]
                logits = x @ parameters[0].T + (parameters[1] if bias else 0)
                error = (logits.softmax(-1) - nn.functional.one_hot(y, 5)) / len(index)
                gradients = [error.T @ x, error.sum(0)]
                for p, gradient, m, v in zip(parameters, gradients, first, second, strict=False):
                    m.mul_(0.9).add_(0.1 * gradient)
                    v.mul_(0.999).add_(0.001 * gradient**2)
                    p -= 5e-3 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        logits = test @ parameters[0].T + (parameters[1] if bias else 0)
        expected = (logits.argmax(-1) == self.labels).float().mean().item()
        measured = linear_probe(code, self.labels, test, self.labels, seed=3, bias=bias)
        assert 0.3 < expected < 0.9
        assert measured == pytest.approx(expected, abs=5e-4)

    def test_depends_on_its_seed_alone(self) -> None:
        code, test = self.clusters / 4 + noise(6_000, 5), self.clusters / 4 + noise(6_000, 5, seed=1)
        state = torch.get_rng_state()
        first = linear_probe(code, self.labels, test, self.labels, seed=0)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(5)
        with torch.no_grad():
            assert linear_probe(code, self.labels, test, self.labels, seed=0) == first
        assert linear_probe(code, self.labels, test, self.labels, seed=1) != first


class TestLeak:
    angle = torch.rand(1_500, generator=generator()) * 2 * math.pi - math.pi
    test_angle = torch.rand(500, generator=generator(1)) * 2 * math.pi - math.pi

    def code(self, angle: Tensor) -> Tensor:
        return torch.stack([angle.cos(), angle.sin()], -1)

    @pytest.mark.parametrize("circular", [True, False])
    def test_of_a_perfect_code(self, circular: bool) -> None:
        inputs = (self.code(self.angle), self.angle, self.code(self.test_angle), self.test_angle)
        assert leak(*inputs, circular) > 0.97

    def test_of_noise(self) -> None:
        assert -0.3 < leak(noise(1_500, 4), self.angle, noise(500, 4, seed=1), self.test_angle, True) <= 0.05

    def test_of_a_constant_code(self) -> None:
        measured = leak(torch.zeros(1_500, 3), self.angle, torch.zeros(500, 3), self.test_angle, True)
        assert measured == pytest.approx(0, abs=0.01)

    def test_an_angle_beyond_a_turn_is_the_same_angle(self) -> None:
        code, test = self.code(self.angle), self.code(self.test_angle)
        turned = self.angle + 2 * math.pi
        assert leak(code, turned.double(), test, self.test_angle, True) == pytest.approx(
            leak(code, self.angle, test, self.test_angle, True), abs=1e-3
        )

    def test_is_the_same_for_permuted_units(self) -> None:
        code, test = torch.cat([self.code(self.angle), noise(1_500, 2)], -1), noise(500, 4, seed=2)
        test[:, :2] = self.code(self.test_angle)
        order = [2, 0, 3, 1]
        one = leak(code, self.angle, test, self.test_angle, False)
        assert leak(code[:, order], self.angle, test[:, order], self.test_angle, False) == pytest.approx(one, abs=0.01)

    def test_unknown_values_are_left_out(self) -> None:
        angle, test_angle = self.angle.clone(), self.test_angle.clone()
        angle[::3], test_angle[::3] = math.nan, math.nan
        assert leak(self.code(self.angle), angle, self.code(self.test_angle), test_angle, True) > 0.95

    def test_is_fitted_on_a_seeded_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyro_disent.evaluation.leakage.FIT_IMAGES", 200)
        code, test = self.code(self.angle) + noise(1_500, 2), self.code(self.test_angle)
        first, again, other = (leak(code, self.angle, test, self.test_angle, False, seed=seed) for seed in (0, 0, 1))
        assert first == again != other
        assert FIT_IMAGES == 20_000

    def test_pairs_see_what_an_offset_of_each_image_hides(self) -> None:
        """A code that moves as the factor does, from a zero of each image's own."""
        factor, test_factor = torch.rand(2, 1_500, generator=generator()), torch.rand(2, 500, generator=generator(1))
        code, test = ((values + 3 * noise(values.shape[1], seed=7)).unsqueeze(-1) for values in (factor, test_factor))
        assert leak(code[0], factor[0], test[0], test_factor[0], False) < 0.3
        assert pair_leak(code, factor, test, test_factor, False) > 0.97


class TestRecall:
    """Twenty identities, twelve views each, in random order."""

    order = torch.randperm(240, generator=generator())
    identity = (torch.arange(240) // 12)[order]
    view = (torch.arange(240) % 12)[order].float()
    known = noise(20, 6)

    def test_of_the_identity_itself(self) -> None:
        assert recall_at_1(self.known[self.identity], self.identity, self.view) == 1.0

    def test_of_noise_is_chance(self) -> None:
        assert recall_at_1(noise(240, 6), self.identity, self.view) == pytest.approx(1 / 20, abs=0.05)

    def test_of_a_constant_code_is_chance(self) -> None:
        assert recall_at_1(torch.zeros(240, 6), self.identity, self.view) == pytest.approx(1 / 20)

    def test_of_the_view_alone_is_near_chance(self) -> None:
        """The query's own view is in nobody's gallery, so a code of the view says nothing of who has it."""
        found = recall_at_1(self.view.unsqueeze(-1), self.identity, self.view)
        assert found == pytest.approx(1 / 20, abs=0.05)

    def test_a_view_that_all_share_is_never_its_own_answer(self) -> None:
        with pytest.raises(ValueError, match="two views"):
            recall_at_1(noise(20, 3), torch.arange(20), torch.zeros(20))

    def test_is_the_same_permuted_rotated_scaled_and_moved(self) -> None:
        code = self.known[self.identity] + 0.8 * noise(240, 6)
        rotation = torch.linalg.qr(noise(6, 6, seed=3)).Q
        expected = recall_at_1(code, self.identity, self.view)
        assert 0.2 < expected < 0.95
        for same in (code[:, [3, 1, 5, 0, 4, 2]], code @ rotation, 7 * code, code + 5):
            assert recall_at_1(same, self.identity, self.view) == expected

    def test_depends_on_its_seed_alone(self) -> None:
        code = self.known[self.identity] + noise(240, 6)
        first = recall_at_1(code, self.identity, self.view, seed=0)
        assert recall_at_1(code, self.identity + 100, self.view, seed=0) == first
        assert recall_at_1(code, self.identity, self.view, seed=1) != first

    def test_is_the_mean_over_queries_and_galleries(self) -> None:
        """Against its expectation: a query of identity i, one view of each identity, neither of the query's azimuth."""
        code = self.known[self.identity] + noise(240, 6)
        expected = []
        for q in range(240):
            other = self.view != self.view[q]
            distance = (code - code[q]).norm(dim=1)
            own = distance[other & (self.identity == self.identity[q])]
            rivals = [distance[other & (self.identity == i)] for i in range(20) if i != self.identity[q]]
            expected.append(
                torch.stack([(rival[:, None] > own).float().mean(0) for rival in rivals]).prod(0).mean().item()
            )
        measured = recall_at_1(code, self.identity, self.view, draws=200)
        assert measured == pytest.approx(sum(expected) / len(expected), abs=0.02)


class TestView:
    def test_a_perfect_code_has_no_error(self) -> None:
        angle, test = (torch.rand(n, generator=generator(n)) * 2 * math.pi for n in (1_500, 300))
        fitted = fit_regressors(torch.stack([angle.cos(), angle.sin()], -1), angle, circular=True)
        error = angle_error(fitted(torch.stack([test.cos(), test.sin()], -1)), test)
        assert error.shape == (300,)
        assert np.median(error) < 2

    def test_errors_wrap_around(self) -> None:
        predicted = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.5, -0.5]])
        angle = torch.tensor([math.radians(350), -math.pi, -math.pi / 2, math.radians(315)])
        assert angle_error(predicted, angle) == pytest.approx([10, 0, 180, 0], abs=1e-4)

    def test_a_code_that_knows_nothing_errs_by_a_quarter_turn(self) -> None:
        angle, test = (torch.rand(n, generator=generator(n)) * 2 * math.pi for n in (1_500, 500))
        error = angle_error(fit_regressors(noise(1_500, 3), angle, circular=True)(noise(500, 3, seed=1)), test)
        assert np.median(error) == pytest.approx(90, abs=15)

    def test_near_symmetric_is_below_the_training_images_quantile(self) -> None:
        train, test = Dials(100, seed=0), Dials(3, seed=1)
        train.asymmetry = (torch.arange(100) / 100).repeat_interleave(Dials.views)
        test.asymmetry = torch.tensor([0.01, 0.06, 0.9]).repeat_interleave(Dials.views)
        assert near_symmetric(test, train).view(3, -1).all(1).tolist() == [True, False, False]
        assert near_symmetric(test, train).sum() == Dials.views

    def test_without_asymmetry_none_is_symmetric(self) -> None:
        assert not near_symmetric(Dials(3, seed=0), Dials(3, seed=1)).any()


class Dials(Split):
    """Images whose pixels say everything: four of the identity, cosine and sine of an angle, a height, and a kind."""

    views = 24

    def __init__(self, identities: int, seed: int) -> None:
        random = generator(seed)
        who = torch.arange(identities).repeat_interleave(self.views)
        angle = (torch.arange(self.views) * (2 * math.pi / self.views)).repeat(identities)
        height = torch.rand(len(who), generator=random)
        kind = torch.randint(2, (identities,), generator=random)[who]
        looks = torch.rand(identities, 4, generator=random)[who]
        looks[:, 0] = (looks[:, 0] + kind) / 2
        dial = torch.stack([angle.cos() / 2 + 0.5, angle.sin() / 2 + 0.5, height, torch.zeros_like(height)], -1)
        images = (torch.cat([looks, dial], -1) * 255).round().byte().view(-1, 1, 2, 4)
        super().__init__(images, {"identity": who + 1_000 * seed, "kind": kind}, {"azimuth": angle, "height": height})

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        start = index - index % self.views
        step = torch.randint(1, self.views, index.shape, generator=generator)
        chosen = torch.stack([index, start + (index - start + step) % self.views][:views])
        return Batch(self.images[chosen] / 255, factors={name: f[chosen] for name, f in self.factors.items()})

    def examples(self, seed: int) -> Examples:
        return Examples(self.images, self.factors, self.labels)


def dials(identities: tuple[int, int, int] = (60, 30, 20)) -> DataSet:
    train, validation, test = (Dials(count, seed) for seed, count in enumerate(identities))
    factors = (Factor("azimuth", "radians", circular=True), Factor("height"))
    return DataSet("dials", train, validation, test, factors, Source("embedded", "dials", "0" * 64), {})


def reading_vae(**latents: list[int]) -> FactoredVAE:
    """A VAE whose encoder reads each latent's posterior means off these pixels, at a tenth of a standard deviation."""
    width = sum(map(len, latents.values()))
    decoder = nn.Sequential(nn.Linear(width, 8), nn.Unflatten(1, (1, 2, 4)))
    vae = FactoredVAE(
        [Latent(name, len(pixels), explains="rest" if name == "y" else "common") for name, pixels in latents.items()],
        nn.Flatten(),
        decoder,
    )
    with torch.no_grad():
        for name, pixels in latents.items():
            head = vae.guide.heads[name]
            head.weight.zero_()
            head.bias.zero_()
            for unit, pixel in enumerate(pixels):
                head.weight[unit, pixel] = 4
                head.bias[unit] = -2
            head.bias[len(pixels) :] = 2 * math.log(0.1)
    return vae


@dataclass(frozen=True)
class RunInMemory(Run):
    """A run whose data set needs not be loaded again."""

    given: DataSet | None = None

    def data(self, progress: object = None) -> DataSet:
        assert self.given is not None
        return self.given


def a_run(vae: FactoredVAE, data: DataSet, path: Path = Path("dials-cycle-1")) -> Run:
    record = replace(RECORD, fit=replace(RECORD.fit, data=data.name), source=data.source)
    objective = ForwardCycle()(vae.model, vae.guide)
    return RunInMemory(path, record, vae, objective, given=data)


class TestBlocks:
    def test_every_latent_and_all(self) -> None:
        assert blocks(["z", "y"], ["z"]) == {"z": ("z",), "y": ("y",), "all": ("z", "y")}

    def test_one_latent_is_all_there_is(self) -> None:
        assert blocks(["z"], ["z"]) == {"z": ("z",)}

    def test_latents_that_pairs_do_not_share_stand_together(self) -> None:
        assert list(blocks(["z", "w", "azimuth", "y"], ["z", "w"])) == [
            "z+w",
            "z",
            "w",
            "azimuth+y",
            "azimuth",
            "y",
            "all",
        ]

    def test_no_factors_and_several_latents(self) -> None:
        assert blocks(["z", "w"], ["z", "w"]) == {"z": ("z",), "w": ("w",), "all": ("z", "w")}


class TestBound:
    def test_is_the_mean_over_images_whatever_the_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vae, images = reading_vae(z=[0, 1, 2, 3], y=[4, 5]), Dials(10, seed=0).images
        bound = elbo(vae, images)
        assert bound.elbo == pytest.approx(bound.log_likelihood - sum(bound.kl.values()))
        means, scale = (images.flatten(1)[:, [4, 5]] / 255 * 4 - 2), 0.1
        kl = (0.5 * (means**2 + scale**2 - 1) - math.log(scale)).sum(-1).mean().item()
        assert bound.kl["y"] == pytest.approx(kl, rel=1e-4)
        monkeypatch.setattr("pyro_disent.evaluation.bounds._CHUNK", 7)
        in_parts = elbo(vae, images)
        assert in_parts.kl == pytest.approx(bound.kl, rel=1e-5)
        assert in_parts.log_likelihood == pytest.approx(bound.log_likelihood, rel=0.05)

    def test_leaves_model_and_random_state_alone(self) -> None:
        vae, images = reading_vae(z=[0, 1], y=[4]), Dials(4, seed=0).images
        vae.train()
        before = {name: value.clone() for name, value in vae.state_dict().items()}
        state = torch.get_rng_state()
        assert elbo(vae, images, seed=1) == elbo(vae, images, seed=1) != elbo(vae, images, seed=2)
        assert vae.training
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
        assert all(parameter.grad is None for parameter in vae.parameters())


@pytest.fixture(scope="module")
def evaluation() -> dict:
    told: list[tuple[int, int, str]] = []
    run = a_run(reading_vae(z=[0, 1, 2, 3], y=[4, 5, 6]), dials())
    result = run.evaluate(progress=lambda *step: told.append(step)).to_json()
    assert told[-1][0] == told[-1][1] == len(told) - 2
    return result


class TestEvaluate:
    def value(self, evaluation: dict, key: str) -> float:
        return evaluation["numbers"][key]["value"]

    def test_is_plain_json(self, evaluation: dict) -> None:
        assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
        assert evaluation["protocol"] == 1
        assert evaluation["blocks"] == {"z": ["z"], "y": ["y"], "all": ["z", "y"]}

    def test_measures_every_block(self, evaluation: dict) -> None:
        for kind in ("leak/azimuth", "leak/height", "pair/height", "view/azimuth", "view_error/azimuth"):
            assert {key for key in evaluation["numbers"] if key.startswith(f"{kind}/")} == {
                f"{kind}/{block}" for block in ("z", "y", "all")
            }

    def test_z_is_the_identity(self, evaluation: dict) -> None:
        assert self.value(evaluation, "recall_at_1/z") == 1.0
        assert self.value(evaluation, "recall_at_1/y") < 0.2
        assert self.value(evaluation, "recall_at_1/z") > self.value(evaluation, f"recall_at_1/{PIXELS}")
        for factor in ("azimuth", "height"):
            assert self.value(evaluation, f"leak/{factor}/z") <= 0.05
            assert self.value(evaluation, f"view/{factor}/z") <= 0.05
        assert self.value(evaluation, "pair/height/z") <= 0.05

    def test_y_is_the_view(self, evaluation: dict) -> None:
        for factor in ("azimuth", "height"):
            assert self.value(evaluation, f"leak/{factor}/y") > 0.95
            assert self.value(evaluation, f"view/{factor}/y") > 0.95
        assert self.value(evaluation, "pair/height/y") > 0.95
        assert self.value(evaluation, "view_error/azimuth/y") < 5
        assert self.value(evaluation, "near_symmetric") == 0

    def test_labels_of_training_are_probed_and_identities_are_not(self, evaluation: dict) -> None:
        vae, data = reading_vae(z=[0, 1, 2, 3], y=[4, 5, 6]), dials()
        code, test = vae.codes(data.train.images), vae.codes(data.test.images)
        known, asked = data.train.labels["kind"], data.test.labels["kind"]
        whole = torch.cat([code["z"], code["y"]], -1)
        assert self.value(evaluation, "linear_probe/kind/z") == linear_probe(code["z"], known, test["z"], asked, seed=0)
        assert self.value(evaluation, "linear_probe_published/kind") == linear_probe(
            whole, known, whole, known, seed=0, bias=False
        )
        assert not any("identity" in key for key in evaluation["numbers"])

    def test_bound(self, evaluation: dict) -> None:
        parts = [self.value(evaluation, key) for key in ("log_likelihood", "kl/z", "kl/y")]
        assert self.value(evaluation, "elbo") == pytest.approx(parts[0] - parts[1] - parts[2])

    def test_is_the_same_again(self) -> None:
        first, again, other = (
            a_run(reading_vae(z=[0, 6]), dials((4, 3, 4))).evaluate(seed=seed).numbers for seed in (0, 0, 1)
        )
        # The decoder's first weights are drawn anew each time; nothing else may differ.
        same = {key for key in first if key not in ("elbo", "log_likelihood")}
        assert {key: first[key] for key in same} == {key: again[key] for key in same}
        assert {key: first[key] for key in same} != {key: other[key] for key in same}

    def test_near_symmetric_identities_are_counted_and_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyro_disent.evaluation.evaluate.METRICS", (identities,))
        data = dials((8, 4, 4))
        opposite = 3 * Dials.views  # images of identities that are told the wrong way round
        data.test.factors["azimuth"][:opposite] += math.pi
        run = a_run(reading_vae(y=[4, 5]), data)
        assert run.evaluate().numbers["view_error/azimuth/y"].value > 170
        data.train.asymmetry, data.test.asymmetry = torch.ones(len(data.train)), torch.ones(len(data.test))
        data.test.asymmetry[:opposite] = 0.01
        numbers = run.evaluate().numbers
        assert numbers["view_error/azimuth/y"].value < 15
        assert numbers["near_symmetric"].value == 3

    def test_a_data_set_without_labels_factors_or_pairs(self) -> None:
        class Plain(Dials):
            def __init__(self, identities: int, seed: int) -> None:
                super().__init__(identities, seed)
                self.labels, self.factors = {}, {}

            has_pairs = False

        data = DataSet("plain", Plain(2, 0), Plain(2, 1), Plain(2, 2), (), Source("local", "here", "0"), {})
        numbers = evaluate(reading_vae(z=[0, 1]), data).numbers
        assert set(numbers) == {"elbo", "log_likelihood", "kl/z", "use/z", "aggregate_kl/z"}

    def test_factors_without_pairs_are_read_all_the_same(self) -> None:
        class Single(Dials):
            has_pairs = False

        data = dials((4, 3, 3))
        splits = [Single(count, seed) for seed, count in enumerate((4, 3, 3))]
        for split in splits:
            del split.labels["identity"]
        data = DataSet("single", *splits, data.factors, data.source, {})
        kinds = {key.partition("/")[0] for key in evaluate(reading_vae(z=[0]), data).numbers}
        assert "leak" in kinds
        assert kinds.isdisjoint({"pair", "recall_at_1", "view"})

    def test_images_of_another_shape_are_refused(self) -> None:
        data = dials((2, 2, 2))
        data.train.images = data.train.images.repeat(1, 3, 1, 1)
        with pytest.raises(InputError, match="2x4 with 1 channel, but those of dials are 2x4 with 3 channels"):
            a_run(reading_vae(z=[0]), data).evaluate()


class TestReport:
    def text(self, *evaluations: dict) -> str:
        written = io.StringIO()
        Console(width=140, file=written).print(report.table([Evaluation.from_json(each) for each in evaluations]))
        return written.getvalue()

    def test_table_has_a_column_for_each_run(self, evaluation: dict) -> None:
        text = self.text(evaluation, evaluation | {"run": "another-1"})
        assert "dials, test split" in text
        header = next(line for line in text.splitlines() if "measure" in line)
        assert all(name in header for name in ("dials-cycle-1", "another-1", PIXELS))
        assert next(line for line in text.splitlines() if "recall@1" in line).count("100.0 %") == 2

    def test_raw_pixels_stand_in_their_own_column_once(self, evaluation: dict) -> None:
        pixels = evaluation["numbers"][f"recall_at_1/{PIXELS}"]["value"]
        rows = [line.split("│") for line in self.text(evaluation).splitlines() if line.startswith("│")]
        assert [row[1].strip() for row in rows if row[-2].strip() == f"{100 * pixels:.1f} %"] == [
            "recall@1 of identity in another view"
        ]
        assert PIXELS not in self.text(evaluation).split("measure")[1].split("\n", 1)[1]

    def test_raw_pixels_of_several_data_sets_are_not_one_column(self, evaluation: dict) -> None:
        other = json.loads(json.dumps(evaluation)) | {"data": "others"}
        other["numbers"][f"recall_at_1/{PIXELS}"]["value"] = 0.4567
        text = self.text(evaluation, other)
        assert "several data sets" in text
        assert "45.7 %" not in text

    def test_a_measure_that_one_run_lacks(self, evaluation: dict) -> None:
        other = evaluation | {"run": "less", "numbers": {"elbo": evaluation["numbers"]["elbo"]}}
        assert "leak of height" in self.text(other, evaluation)

    def test_not_finite_is_said(self, evaluation: dict) -> None:
        number = {"measure": "ELBO", "block": "", "value": None, "unit": "nats per image"}
        assert "not finite" in self.text(evaluation | {"numbers": {"elbo": number}})

    def test_file_is_replaced_whole_or_not_at_all(
        self, evaluation: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = a_run(reading_vae(z=[0]), dials((2, 2, 2)), tmp_path)
        path = run.write(Evaluation.from_json(evaluation))
        assert path == tmp_path / "evaluation.json"
        assert json.loads(path.read_text()) == evaluation
        with pytest.raises(ValueError, match="JSON"):
            run.write(Evaluation.from_json(evaluation | {"seed": math.nan}))
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run.write(Evaluation.from_json(evaluation | {"seed": 3}))
        assert json.loads(path.read_text()) == evaluation

    def test_another_data_set_gets_a_file_of_its_own(self, evaluation: dict, tmp_path: Path) -> None:
        run = a_run(reading_vae(z=[0]), dials((2, 2, 2)), tmp_path)
        assert run.write(Evaluation.from_json(evaluation | {"data": "others"})).name == "evaluation-others.json"
        source = evaluation["source"] | {"sha256": "1" * 64}  # another folder of the same name
        assert run.write(Evaluation.from_json(evaluation | {"source": source})).name == "evaluation-dials.json"
