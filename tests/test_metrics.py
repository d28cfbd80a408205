"""Metrics on codes whose answer is known: perfect, empty, noisy, permuted, rotated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyro_disent.evaluation.leakage import FIT_IMAGES, fit_regressors, leak, pair_leak
from pyro_disent.evaluation.probes import linear_probe
from pyro_disent.evaluation.viewpoints import angle_error, near_symmetric, recall_at_1
from tests.dials import Dials, generator, noise

pytestmark = pytest.mark.usefixtures("full_protocol")


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
