"""One table of families: what each promises, checked in float64 against densities, Monte Carlo and quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models import families
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import FAMILIES, Circle, Family, Mixture, Normal, ProjectedNormal
from pyro_disent.models.latents import Latent
from pyro_disent.models.specification import LatentSpec
from pyro_disent.objectives.elbo import DisentanglingELBO
from tests.models import SHAPE, linear_vae

LABEL = {"values": [0.0, 2.0], "frequencies": [0.25, 0.75]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in FAMILIES} | {
    "conditional": ("conditional", {"parents": "parent"}),
    "categorical": ("categorical", {"values": 4}),
    "categorical, learnt": ("categorical", {"values": 4, "learnt": True}),
    "binary": ("binary", {"probability": 0.3}),
    "binary, learnt": ("binary", {"learnt": True}),
    "labelled": ("labelled", {"parents": "a_1+a_2+a_3", "labels": {f"a_{unit}": LABEL for unit in (1, 2, 3)}}),
    "mixture": ("mixture", {"components": 3}),
}
"""Families with what they cannot do without, and with settings that change what they are."""
UNITS = 3


def unbound(name: str) -> Family:
    family, its_settings = CASES[name]
    return families.make(family, its_settings, of="a")


def made(name: str) -> Family:
    """A family, bound to three units and a parent of two numbers, with a prior that is not trivial."""
    family = unbound(name)
    family.bind(UNITS, {"parent": 2} | {name: len(label.values) for name, label in family.labels.items()})
    for parameter in family.parameters():
        nn.init.normal_(parameter, std=0.5)
    return family.double()


def posterior(family: Family, *batch: int, scale: float = 1.0) -> dist.TorchDistribution:
    parameters = scale * torch.randn(*batch, family.posterior_parameters(UNITS), dtype=torch.float64)
    return family.posterior(parameters, None)


def prior(family: Family, *batch: int) -> dist.TorchDistribution:
    return family.prior(UNITS, earlier(family, *batch), torch.zeros((), dtype=torch.float64), None)


def earlier(family: Family, *batch: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A parent of two numbers, and a choice of each label."""
    hot = {
        name: torch.eye(len(label.values), dtype=dtype)[torch.randint(len(label.values), batch)]
        for name, label in family.labels.items()
    }
    return {"parent": torch.randn(*batch, 2, dtype=dtype), **hot}


def images_for(vae: FactoredVAE, images: Tensor) -> Batch:
    """With a value of each label that a prior depends on."""
    labels = vae.latent("a").family.labels
    like = torch.ones(1, len(images), device=images.device)
    return Batch(images.unsqueeze(0), factors={name: label.values[1] * like for name, label in labels.items()})


@pytest.fixture(params=CASES)
def family(request: pytest.FixtureRequest) -> Family:
    return made(request.param)


def test_shapes(family: Family) -> None:
    q, p = posterior(family, 2, 4), prior(family, 2, 4)
    width = family.width(UNITS)
    draw = q.rsample()
    assert width == UNITS * family.numbers
    assert draw.shape == (2, 4, width) and p.expand((2, 4)).sample().shape == (2, 4, width)
    assert family.center(q).shape == (2, 4, width)
    assert q.log_prob(draw).shape == (2, 4)
    assert family.kl(q, p, draw).shape == (2, 4, UNITS if family.kl_is_exact(q, p) else 1)
    for each in (family.location(q), family.spread(q), *family.summary(q), *family.quantities(q).values()):
        assert each.shape == (2, 4, UNITS)
    code = family.center(q)
    # The decoder sees a whole bit, whose location is the probability of a 1.
    assert family.name == "binary" or torch.allclose(family.values_of(code), family.location(q), atol=1e-12)
    assert torch.allclose(family.code_of(family.values_of(code)), code, atol=1e-12)
    way = family.between(code[0, 0], code[1, 3], torch.tensor([0.0, 1.0]))
    assert torch.allclose(way, torch.stack([code[0, 0], code[1, 3]]), atol=1e-12)
    levels = family.levels(5)
    assert torch.broadcast_to(family.quantiles(p.expand((2, 4)), levels), (len(levels), 2, 4, width)).isfinite().all()
    assert all(isinstance(family.level_label(level), str) for level in levels.tolist())


def test_the_kl_is_that_of_draws(family: Family) -> None:
    """Within four standard errors of log q - log p, against the prior and between posteriors."""
    q, other, p = posterior(family), posterior(family), prior(family)
    draws = q.sample((40_000,))
    for target in (p, other):
        difference = q.log_prob(draws) - target.log_prob(draws)
        error = difference.std() / math.sqrt(len(difference))
        assert family.kl_is_exact(q, target) or isinstance(family, Mixture)
        kl = family.kl(q, target, draws).sum(-1).mean()  # of an estimate the very mean, of the exact one itself
        assert abs(kl - difference.mean()) < 4 * error + 1e-9


def test_the_kl_to_itself_is_zero_and_to_others_is_not_negative(family: Family) -> None:
    q, other = posterior(family, 50, scale=3.0), posterior(family, 50, scale=3.0)
    assert family.kl(q, q, q.sample()).abs().max() < 1e-9
    assert family.kl(q, other, q.sample()).min() > -1e-9


def test_gradients_reach_every_parameter_of_the_posterior(family: Family) -> None:
    parameters = torch.randn(6, family.posterior_parameters(UNITS), dtype=torch.float64, requires_grad=True)
    q = family.posterior(parameters, None)
    draw = q.rsample()
    loss = family.kl(q, prior(family, 6), draw).sum() + (draw * torch.randn_like(draw)).sum()
    (gradient,) = torch.autograd.grad(loss, parameters)
    assert gradient.isfinite().all() and (gradient != 0).all()


@pytest.mark.parametrize("name", CASES)
def test_the_kls_gradient_is_that_of_finite_differences(name: str) -> None:
    family = made(name)
    p = prior(family)

    def kl(parameters: Tensor) -> Tensor:
        q = family.posterior(parameters, None)
        return family.kl(q, p, family.center(q))

    parameters = torch.randn(family.posterior_parameters(UNITS), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kl, (parameters,))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40, deadline=None)
@given(exponent=st.floats(-6, 4), seed=st.integers(0, 1000))
def test_extremes_stay_finite_in_float32(name: str, exponent: float, seed: int) -> None:
    torch.manual_seed(seed)
    family = made(name).float()
    parameters = (10**exponent * torch.randn(8, family.posterior_parameters(UNITS))).requires_grad_()
    q = family.posterior(parameters, None)
    draw = q.rsample()
    p = family.prior(UNITS, earlier(family, 8, dtype=torch.float32), torch.zeros(()), None)
    loss = family.kl(q, p, draw).sum() + draw.sum() + q.log_prob(draw).sum()
    (gradient,) = torch.autograd.grad(loss, parameters)
    assert loss.isfinite() and gradient.isfinite().all()


def test_map_flips_and_detaches_every_tensor(family: Family) -> None:
    parameters = torch.randn(2, 5, family.posterior_parameters(UNITS), dtype=torch.float64, requires_grad=True)
    q = family.posterior(parameters, None)
    value = q.sample()
    flipped = family.map(q, lambda tensor: tensor.flip(0))
    assert flipped.log_prob(value.flip(0)).equal(q.log_prob(value).flip(0))
    assert family.center(flipped).equal(family.center(q).flip(0))
    detached = family.map(q, torch.detach)
    assert not detached.log_prob(value).requires_grad and q.log_prob(value).requires_grad
    assert detached.log_prob(value).equal(q.log_prob(value).detach())


def test_what_is_written_down_makes_it_again(family: Family) -> None:
    again = families.make(family.name, family.settings(), of="a")
    assert type(again) is type(family) and again.settings() == family.settings()


def test_a_model_saves_and_loads_it(family: Family) -> None:
    def model() -> FactoredVAE:
        again = families.make(family.name, family.settings(), of="a")
        return linear_vae([Latent("parent", 2), Latent("a", UNITS, again)])

    first, second = model(), model()
    second.load_state_dict(first.state_dict())
    images = torch.rand(5, *SHAPE)
    for one, other in zip(first.encode(images)["a"], second.encode(images)["a"], strict=True):
        assert one.equal(other)
    torch.manual_seed(1)
    one = first.prior_sample(4)["a"]
    torch.manual_seed(1)
    assert one.equal(second.prior_sample(4)["a"])


def test_every_parameter_is_trained(family: Family) -> None:
    vae = linear_vae([Latent("parent", 2), Latent("a", UNITS, families.make(family.name, family.settings(), of="a"))])
    objective = DisentanglingELBO()(vae.model, vae.guide)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    for _ in range(3):  # a network whose last layer starts at 0 moves its first one from the second step on
        optimizer.zero_grad()
        values = [label.values for label in family.labels.values()]
        factors = {name: torch.tensor([list(each) * 2]) for name, each in zip(family.labels, values, strict=True)}
        objective(Batch(torch.rand(1, 4, *SHAPE), factors=factors)).backward()
        optimizer.step()
    assert [name for name, parameter in objective.named_parameters() if parameter.equal(before[name])] == []


def latents_of(name: str) -> list[Latent]:
    return [Latent("parent", 2), Latent("a", UNITS, unbound(name))]


@pytest.mark.parametrize("name", CASES)
def test_it_runs_on_meta_and_on_simulated_cuda(name: str) -> None:
    """Nothing is made on a default device, and nothing is read back."""
    with torch.device("meta"):
        vae = linear_vae(latents_of(name))
    with pyro.validation_enabled(False):
        objective = DisentanglingELBO()(vae.model, vae.guide)
        objective(images_for(vae, torch.rand(4, *SHAPE, device="meta"))).backward()
    with FakeTensorMode(allow_non_fake_inputs=False), pyro.validation_enabled(False):
        with torch.device("cuda"):
            vae = linear_vae(latents_of(name))
            objective = DisentanglingELBO()(vae.model, vae.guide)
        loss = objective(images_for(vae, torch.rand(4, *SHAPE, device="cuda")))
        assert loss.device.type == "cuda"


class TestCircle:
    """Against SciPy's quadrature of the density's definition, which shares no formula with it."""

    @staticmethod
    def density(concentration: float, angle: float) -> float:
        """Of the direction of N((c, 0), I) at an angle: the radius integrated out."""

        def along(radius: float) -> float:
            point = (radius * math.cos(angle) - concentration) ** 2 + (radius * math.sin(angle)) ** 2
            return radius * math.exp(-0.5 * point) / (2 * math.pi)

        peak = max(concentration * math.cos(angle), 0.0)
        return integrate.quad(along, 0, peak + 40, points=[peak], limit=200)[0]

    @pytest.mark.parametrize("concentration", [0.0, 0.3, 2.0, 8.0, 20.0])
    @pytest.mark.parametrize("angle", [0.0, 0.4, 1.5, 2.5, math.pi])
    def test_density(self, concentration: float, angle: float) -> None:
        q = ProjectedNormal(torch.tensor([[concentration, 0.0]], dtype=torch.float64))
        direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        # Opposite a sharp mode quadrature itself loses digits: 60-digit arithmetic has -38.0413 at concentration 8.
        expected = self.density(concentration, angle)
        if expected > 1e-14:
            assert q.log_prob(direction).exp().item() == pytest.approx(expected, rel=1e-6)
        if (concentration, angle) == (8.0, math.pi):
            assert q.log_prob(direction).item() == pytest.approx(-38.0413, abs=1e-4)

    @pytest.mark.parametrize("concentration", [0.1, 1.0, 5.0, 20.0, 39.0])
    def test_kl_to_the_uniform_prior(self, concentration: float) -> None:
        q = ProjectedNormal(torch.tensor([[concentration, 0.0]], dtype=torch.float64))
        uniform = ProjectedNormal(torch.zeros(1, 2, dtype=torch.float64))

        def integrand(angle: float) -> float:
            log_q = q.log_prob(torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)).item()
            return math.exp(log_q) * (log_q + math.log(2 * math.pi))

        expected = integrate.quad(integrand, -math.pi, math.pi, points=[0.0], limit=400, epsabs=1e-12)[0]
        assert Circle().kl(q, uniform, q.sample()).item() == pytest.approx(
            expected, abs=1e-8 if concentration < 30 else 1e-7
        )

    def test_draws_have_the_density(self) -> None:
        """Kolmogorov-Smirnov against the distribution function, by summing the density around the circle."""
        torch.manual_seed(4)
        q = ProjectedNormal(torch.tensor([[0.8, 1.1]], dtype=torch.float64))
        drawn = q.sample((20_000,))
        angles = torch.atan2(drawn[:, 1], drawn[:, 0]).numpy()
        grid = np.linspace(-math.pi, math.pi, 20_001)
        direction = torch.from_numpy(np.stack([np.cos(grid), np.sin(grid)], -1))
        cumulative = integrate.cumulative_trapezoid(q.log_prob(direction).exp().numpy(), grid, initial=0)
        assert cumulative[-1] == pytest.approx(1.0, abs=1e-9)
        assert stats.kstest(angles, lambda x: np.interp(x, grid, cumulative)).pvalue > 0.001

    def test_spread_is_the_circular_standard_deviation_of_draws(self) -> None:
        torch.manual_seed(4)
        for scale in (0.5, 2.0, 10.0):
            q = ProjectedNormal(torch.tensor([[scale, 0.0]], dtype=torch.float64))
            mean = q.sample((200_000,)).mean(0).norm()
            assert Circle().spread(q).item() == pytest.approx((-2 * mean.log()).sqrt().item(), rel=0.01)

    def test_encode_gives_angle_and_concentration(self) -> None:
        family = Circle()
        q = ProjectedNormal(torch.tensor([[[0.0, 3.0], [-5.0, 0.0]]]))
        angle, concentration = family.summary(q)
        assert angle.tolist() == [pytest.approx([math.pi / 2, math.pi])]
        assert concentration.tolist() == [[3.0, 5.0]]

    def test_a_traversal_goes_once_around(self) -> None:
        family = Circle()
        p = ProjectedNormal(torch.zeros(2, 2))
        values = family.quantiles(p, family.levels(4)).reshape(4, 2, 2)
        expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        assert torch.allclose(values, expected[:, None].expand(4, 2, 2), atol=1e-6)
        assert [family.level_label(level) for level in family.levels(4).tolist()] == ["0°", "90°", "180°", "270°"]


class Turn(Normal):
    circular = True


class Length(Normal):
    measured_in = "mm"


@pytest.mark.parametrize(
    ("family", "unit"), [(Normal(), ""), (Circle(), "radians"), (Turn(), "radians"), (Length(), "mm")]
)
def test_an_angle_is_measured_in_radians(family: Family, unit: str) -> None:
    assert family.measured_in == unit


def test_a_density_has_no_kl_to_a_mass() -> None:
    q = dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), logits=torch.zeros(4, 2)).to_event(1)
    p = dist.Bernoulli(logits=torch.zeros(4, 2)).to_event(1)
    relaxed = dist.LogNormal(torch.zeros(4, 2), 1.0).to_event(1)
    with pytest.raises(InputError, match="no KL between a density and a mass"):
        Normal().kl(relaxed, p, relaxed.sample())
    assert Normal().kl(p, p, p.sample()).abs().max() == 0
    with pytest.raises(InputError, match="a density"):
        Normal().kl(dist.RelaxedBernoulli(torch.tensor(0.5), logits=torch.zeros(4, 2)).to_event(1), p, q.sample())


def test_a_declared_point_mass_has_minus_the_log_density() -> None:
    value = torch.randn(4, 2)
    p = dist.Normal(torch.zeros(4, 2), 1.0).to_event(1)
    kl = Normal().kl(dist.Delta(value, event_dim=1), p, value)
    assert torch.allclose(kl.squeeze(-1), -p.log_prob(value))


@pytest.mark.parametrize(
    ("name", "given_settings", "says"),
    [
        ("sphere", {}, "no family 'sphere'; choose from normal, conditional, circle"),
        ("circle", {"parents": "z"}, "circle has no option parents: it has no options"),
        ("conditional", {}, "conditional needs parents=..."),
        ("conditional", {"parents": "z", "hidden": "many"}, "hidden=many is not a whole number"),
        ("conditional", {"parents": "z", "network": "x"}, "no option network: its options are parents, hidden"),
    ],
)
def test_families_that_cannot_be_made(name: str, given_settings: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says.replace("...", r"\.\.\.")):
        families.make(name, given_settings, of="a")


@pytest.mark.parametrize("shared_scale", [False, True])
def test_a_flip_reaches_parameters_that_images_share(shared_scale: bool) -> None:
    """One covariance for all images has no axis of views to flip."""
    scale = torch.eye(3).mul(0.5) if shared_scale else torch.rand(2, 4, 1, 1).add(0.5) * torch.eye(3)
    q = dist.MultivariateNormal(torch.randn(2, 4, 3), scale_tril=scale)
    flipped, value = Normal().map(q, lambda tensor: tensor.flip(0)), q.sample()
    torch.testing.assert_close(flipped.log_prob(value.flip(0)), q.log_prob(value).flip(0))


def test_transforms_are_out_of_reach() -> None:
    with pytest.raises(InputError, match="LogNormal holds transforms"):
        Normal().map(dist.LogNormal(torch.zeros(2, 3), 1.0).to_event(1), torch.detach)


@pytest.mark.parametrize("p", [dist.Bernoulli(0.3 * torch.ones(4, 2)), dist.Normal(torch.zeros(4, 2), 1.0)])
def test_a_point_mass_goes_with_any_prior(p: dist.TorchDistribution) -> None:
    value = torch.ones(4, 2)
    kl = Normal().kl(dist.Delta(value).to_event(1), p.to_event(1), value)
    assert torch.allclose(kl, -p.log_prob(value))


class Wide(Normal):
    """A family without a name of its own."""


class Silent(Normal):
    """Its settings say nothing of what it takes."""

    name = "silent"

    def __init__(self, scale: float = 2.0, deep: bool = False, layers: int | None = None) -> None:
        super().__init__()
        self.scale, self.deep, self.layers = scale, deep, layers


def test_a_family_that_cannot_be_written_down_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="family Wide, which no table knows by a name of its own"):
        LatentSpec.of(Latent("z", 3, Wide()), "z")
    monkeypatch.setitem(FAMILIES, "silent", Silent)
    with pytest.raises(InputError, match=r"settings\(\) of Silent lacks deep, layers, scale"):
        LatentSpec.of(Latent("z", 3, Silent()), "z")


def test_settings_of_a_command_line_have_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "silent", Silent)
    made = families.make("silent", {"scale": "3", "deep": "false", "layers": "4"}, of="z")
    assert isinstance(made, Silent) and (made.scale, made.deep, made.layers) == (3.0, False, 4)
    for wrong in ({"scale": "wide"}, {"deep": "maybe"}, {"layers": "1.5"}):
        with pytest.raises(InputError, match="latent 'z'"):
            families.make("silent", wrong, of="z")


def test_two_latents_have_a_family_each() -> None:
    family = Normal()
    with pytest.raises(InputError, match="one family object"):
        linear_vae([Latent("z", 3, family), Latent("y", 2, family)])
