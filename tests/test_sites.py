"""What a site means in Pyro is kept: scales, masks, conditioned values, several particles, enumeration."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from pyro_disent.batch import Batch, Pairing
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import InputError
from pyro_disent.evaluation import bounds
from pyro_disent.models.factored_vae import FactoredVAE, GenerativeModel, Guide
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.terms import ReverseCycle, Similarity
from tests.models import SHAPE, linear_vae, pair_batch


class OnSites(poutine.messenger.Messenger):
    """Scale and mask chosen latents, as `poutine.scale` and `poutine.mask` around their statements would."""

    def __init__(self, scales: dict[str, float], masks: dict[str, Tensor]) -> None:
        super().__init__()
        self.scales, self.masks = scales, masks

    def _pyro_sample(self, msg) -> None:
        msg["scale"] = msg["scale"] * self.scales.get(msg["name"], 1.0)
        if (mask := self.masks.get(msg["name"])) is not None:
            msg["mask"] = mask if msg["mask"] is None else msg["mask"] & mask


def handled(program, scales: dict[str, float], masks: dict[str, Tensor]):
    def run(batch):
        with OnSites(scales, masks):
            return program(batch)

    return run


@pytest.mark.parametrize("scales", [{"z": 3.0}, {"z": 0.1, "y": 2.0}, {"x": 0.5}, {}])
@pytest.mark.parametrize("masked", [False, True])
def test_scale_and_mask_are_those_of_trace_mean_field(scales: dict[str, float], masked: bool) -> None:
    vae = linear_vae().double()
    images = torch.rand(1, 6, *SHAPE, dtype=torch.float64)
    masks = {"z": torch.tensor([True, False, True, True, False, False])} if masked else {}
    model, guide = handled(vae.model, scales, masks), handled(vae.guide, scales, masks)
    torch.manual_seed(2)
    expected = TraceMeanField_ELBO().differentiable_loss(model, guide, images) / 6  # ours are means over images
    torch.manual_seed(2)
    ours = DisentanglingELBO().differentiable_loss(model, guide, Batch(images))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-12)
    parameters = list(vae.parameters())
    for one, other in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


def test_a_scale_on_the_whole_guide_scales_every_kl() -> None:
    vae = linear_vae().double()
    batch = Batch(torch.rand(1, 6, *SHAPE, dtype=torch.float64))
    plain, scaled = (
        DisentanglingELBO().record(vae.model, guide, batch) for guide in (vae.guide, poutine.scale(vae.guide, 0.1))
    )
    for name in ("z", "y"):
        assert scaled.kl[name].item() == pytest.approx(0.1 * plain.kl[name].item(), rel=1e-12)


@pytest.mark.parametrize("elbo", [DisentanglingELBO, ForwardCycle])
@pytest.mark.parametrize("guide_draws", [True, False])
def test_a_latent_that_is_observed_costs_its_log_density_once(elbo, guide_draws: bool) -> None:
    vae = linear_vae().double()
    batch = pair_batch(dtype=torch.float64)
    value = torch.randn(2, 6, 2, dtype=torch.float64)
    model = pyro.condition(vae.model, data={"y": value})
    guide = vae.guide if guide_draws else poutine.block(vae.guide, hide=["y"])
    torch.manual_seed(5)
    record = elbo().record(model, guide, batch)
    minus_log_p = (0.5 * value.square() + 0.5 * math.log(2 * math.pi)).sum(-1).mean()
    assert record.kl.keys() == {"z"} and record.observed.keys() == {"y"}
    assert record.observed["y"].item() == pytest.approx(minus_log_p.item(), rel=1e-12)
    expected = record.reconstruction + record.kl["z"] + minus_log_p
    assert record.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    # The decoder saw the value, and what is drawn beside it plays no part.
    torch.manual_seed(5)
    z = poutine.trace(guide).get_trace(batch).nodes["z"]["value"]
    seen = torch.where(torch.tensor(elbo is ForwardCycle), z.flip(0), z)
    log_p = vae.model.x_dist(torch.cat([seen, value], -1)).log_prob(batch.images)
    assert record.reconstruction.item() == pytest.approx(-log_p.mean().item(), rel=1e-12)


def test_svi_trains_a_conditioned_model_and_sums_as_trace_elbo_does() -> None:
    vae = linear_vae()
    images, value = torch.rand(1, 6, *SHAPE), torch.randn(1, 6, 2)
    model, guide = pyro.condition(vae.model, data={"y": value}), poutine.block(vae.guide, hide=["y"])
    torch.manual_seed(0)
    ours = torch.stack([DisentanglingELBO().differentiable_loss(model, guide, images) for _ in range(400)])
    theirs = torch.tensor([Trace_ELBO().loss(model, guide, images) / 6 for _ in range(400)])
    error = (ours.var() / 400 + theirs.var() / 400).sqrt()
    assert abs(ours.mean() - theirs.mean()).item() < 4 * error.item()
    before = vae.guide.heads["z"].weight.detach().clone()
    SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), DisentanglingELBO()).step(images)
    assert not vae.guide.heads["z"].weight.equal(before)


@pytest.mark.parametrize("elbo", [DisentanglingELBO([Similarity()]), ForwardCycle()])
def test_each_image_has_its_own_record_and_their_mean_is_the_record(elbo: DisentanglingELBO) -> None:
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    objective = elbo(vae.model, vae.guide).double()
    torch.manual_seed(3)
    each = objective.per_image(batch)
    torch.manual_seed(3)
    mean = objective.record(batch)
    assert each.loss.shape == each.reconstruction.shape == each.kl["z"].shape == (2, 6)
    assert all(term.shape == (2, 6) for term in each.terms.values())
    assert each.loss.mean().item() == pytest.approx(mean.loss.item(), rel=1e-12)
    total = each.reconstruction + each.kl["z"] + each.kl["y"]
    total = total + sum(objective.weights[name] * term for name, term in each.terms.items())
    torch.testing.assert_close(each.loss, total, rtol=1e-12, atol=0)


def test_particles_are_averaged() -> None:
    vae, batch = linear_vae().double(), pair_batch(dtype=torch.float64)
    torch.manual_seed(1)
    several = DisentanglingELBO(num_particles=3).record(vae.model, vae.guide, batch)
    torch.manual_seed(1)
    one_by_one = [DisentanglingELBO().record(vae.model, vae.guide, batch) for _ in range(3)]
    for field in ("loss", "reconstruction"):
        expected = sum(getattr(record, field).item() for record in one_by_one) / 3
        assert getattr(several, field).item() == pytest.approx(expected, rel=1e-12)
    assert several.kl["z"].item() == pytest.approx(one_by_one[0].kl["z"].item(), rel=1e-12)


def test_a_double_objective_has_its_weights_in_double() -> None:
    vae = linear_vae()
    objective = DisentanglingELBO([Similarity()], weights={"similarity": 0.1}, beta=0.3)(vae.model, vae.guide).double()
    assert objective.weights["similarity"].item() == 0.1 and objective.weights["beta"].item() == 0.3
    objective.float()
    assert objective.weights.values.dtype == torch.float32


def test_an_enumerated_latent_is_broadcast_beside_the_others() -> None:
    class Coin(GenerativeModel):
        def prior_dist(self, latent, earlier, batch):
            if latent.name == "coin":
                return dist.Bernoulli(torch.full((1,), 0.3)).to_event(1).mask(True)
            return super().prior_dist(latent, earlier, batch)

    class CoinVAE(FactoredVAE):
        Model = Coin

    plain = linear_vae([Latent("z", 3), Latent("coin", 1)])
    vae = CoinVAE(plain.latents, plain.guide.encoder, plain.model.decoder)
    z, coin = torch.randn(1, 4, 3), torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    model = pyro.condition(vae.model, data={"z": z, "coin": coin})
    trace = poutine.trace(model).get_trace(torch.rand(1, 4, *SHAPE))
    logits = trace.nodes["x"]["fn"].base_dist.logits
    assert logits.shape == (2, 1, 4, *SHAPE)
    for value in (0, 1):
        code = torch.cat([z, coin[value].expand(1, 4, 1)], -1)
        assert torch.allclose(logits[value], vae.model.outputs(code))


def test_labels_of_the_batch_can_be_parents_of_priors_and_posteriors() -> None:
    class Labelled(GenerativeModel):
        def prior_dist(self, latent, earlier, batch):
            if latent.name == "y" and batch is not None:
                return dist.Normal(batch.factors["angle"].unsqueeze(-1).expand(-1, -1, 2), 1.0).to_event(1)
            return super().prior_dist(latent, earlier, batch)

    class Knows(Guide):
        def posterior_dist(self, latent, parameters, batch):
            q = super().posterior_dist(latent, parameters, batch)
            if latent.name == "y" and batch is not None:
                return dist.Normal(batch.factors["angle"].unsqueeze(-1).expand(-1, -1, 2), 1.0).to_event(1)
            return q

    class LabelledVAE(FactoredVAE):
        Model, Guide = Labelled, Knows

    plain = linear_vae()
    vae = LabelledVAE(plain.latents, plain.guide.encoder, plain.model.decoder)
    record = ForwardCycle()(vae.model, vae.guide).record(pair_batch())
    assert record.kl["y"].item() == 0 and record.kl["z"].item() > 0


class TestWhatCannotWork:
    def test_an_automatic_guide(self) -> None:
        vae = linear_vae()
        batch = pair_batch()
        with pytest.raises(InputError, match=r"the guide draws .*_unconstrained.*automatic guides do not"):
            ForwardCycle().record(vae.model, AutoNormal(poutine.block(vae.model, hide=["x"])), batch)

    @pytest.mark.parametrize("dim", [-1, -2])
    def test_an_outer_plate_in_the_place_of_ours(self, dim: int) -> None:
        vae = linear_vae()

        def model(batch):
            with pyro.plate("outer", 5, dim=dim):
                return vae.model(batch)

        with pytest.raises(InputError, match=r"lies in the place of its own.*outer"):
            poutine.trace(model).get_trace(torch.rand(1, 5, *SHAPE))

    def test_a_name_that_no_latent_has(self) -> None:
        vae = linear_vae()
        with pytest.raises(InputError, match="'zz', but the latents are z, y"):
            ForwardCycle().record(vae.model, vae.guide, pair_batch(zz=True))

    @pytest.mark.parametrize("elbo", [ForwardCycle(), DisentanglingELBO([Similarity()])])
    def test_pairs_of_which_nothing_is_said(self, elbo: DisentanglingELBO) -> None:
        vae = linear_vae()
        with pytest.raises(InputError, match="says nothing of what its pairs share"):
            elbo.record(vae.model, vae.guide, Batch(torch.rand(2, 4, *SHAPE)))

    def test_pairs_of_which_nothing_is_said_are_two_images_to_an_elbo(self) -> None:
        vae = linear_vae()
        assert DisentanglingELBO().record(vae.model, vae.guide, Batch(torch.rand(2, 4, *SHAPE))).loss.isfinite()


def test_a_batch_that_knows_its_factors_needs_no_masks() -> None:
    """The latents say what is shared: the record is that of the masks written out."""
    vae = linear_vae([Latent("z", 3), Latent("y", 2, explains="rest")])
    images, angle = torch.rand(2, 4, *SHAPE), torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 5.0, 6.0]])
    torch.manual_seed(0)
    by_rule = ForwardCycle().record(vae.model, vae.guide, Batch(images, factors={"angle": angle}))
    torch.manual_seed(0)
    mask = torch.tensor([True, True, False, False])
    by_hand = ForwardCycle().record(vae.model, vae.guide, Batch(images, {"z": True, "y": mask}))
    assert by_rule.loss.item() == by_hand.loss.item()


def test_a_model_without_declared_latents_uses_the_masks_of_the_batch() -> None:
    """An ordinary Pyro program of a user's own."""

    class Model(nn.Module):
        def forward(self, batch):
            with pyro.plate("views", batch.views, dim=-2), pyro.plate("images", batch.size, dim=-1):
                a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(a.sum(-1), 1.0), obs=batch.images.mean((-1, -2, -3)))

    class Guiding(nn.Module):
        def forward(self, batch):
            with pyro.plate("views", batch.views, dim=-2), pyro.plate("images", batch.size, dim=-1):
                pyro.sample(
                    "a", dist.Normal(batch.images.mean((-1, -2, -3)).unsqueeze(-1).expand(-1, -1, 2), 1.0).to_event(1)
                )

    record = DisentanglingELBO([Similarity()]).record(Model(), Guiding(), pair_batch(a=True))
    assert record.kl.keys() == {"a"} and record.terms["similarity"] > 0


def test_a_sampled_kl_is_marked() -> None:
    class HeavyTails(GenerativeModel):
        def prior_dist(self, latent, earlier, batch):
            if latent.name == "z":
                return dist.StudentT(4.0, torch.zeros(latent.units), 1.0).to_event(1)
            return super().prior_dist(latent, earlier, batch)

    class HeavyTailedVAE(FactoredVAE):
        Model = HeavyTails

    plain = linear_vae()
    vae = HeavyTailedVAE(plain.latents, plain.guide.encoder, plain.model.decoder)
    images = torch.rand(20, *SHAPE)
    bound = bounds.elbo(vae, images)
    assert bound.sampled == ("z",) and bounds.elbo(plain, images).sampled == ()
    step = DisentanglingELBO()(vae.model, vae.guide).step(images)
    assert not step.kl_is_exact("z") and step.kl_is_exact("y")


def test_masks_that_are_missing_follow_from_the_factors() -> None:
    """Whoever fills them in: the model, or a step."""
    vae = linear_vae([Latent("z", 3), Latent("a", 1, explains=("a",)), Latent("y", 1, explains="rest")])
    factors = {
        "a": torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 5.0]]),
        "b": torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]]),
    }
    own = torch.tensor([[False], [True], [False]])
    batch = Batch(torch.rand(2, 3, *SHAPE), {"z": own}, factors)
    filled = ForwardCycle().step(vae.model, vae.guide, batch).batch.shared
    for masks in (filled, vae.sharing(batch).shared):
        assert masks["z"].equal(own)
        assert masks["a"].squeeze(1).tolist() == [True, True, False]
        assert masks["y"].squeeze(1).tolist() == [True, False, True]


def test_a_compiled_step_knows_what_a_pairing_says() -> None:
    vae = linear_vae([Latent("who", 3, explains=("identity",)), Latent("y", 2, explains="rest")]).double()
    images = torch.rand(2, 6, *SHAPE, dtype=torch.float64)
    batch = Batch(images, pairing=Pairing({"angle": torch.tensor([True, False] * 3)}, ("identity",)))
    objective = ForwardCycle()(vae.model, vae.guide).double()
    losses = []
    for step in (EagerStep(objective), CompiledStep(objective, backend="eager")):
        torch.manual_seed(0)
        losses.append(step(batch).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_reverse_cycle_shows_the_batch_to_priors_and_posteriors() -> None:
    class Labelled(GenerativeModel):
        def prior_dist(self, latent, earlier, batch):
            return dist.Normal(batch.factors["angle"].unsqueeze(-1).expand(-1, -1, latent.units), 1.0).to_event(1)

    class LabelledVAE(FactoredVAE):
        Model = Labelled

    plain = linear_vae()
    vae = LabelledVAE(plain.latents, plain.guide.encoder, plain.model.decoder)
    assert DisentanglingELBO([ReverseCycle()]).record(vae.model, vae.guide, pair_batch()).loss.isfinite()


class TestMore:
    def test_a_name_that_is_no_site_of_a_users_program(self) -> None:
        vae = linear_vae()
        with pytest.raises(InputError, match="zz, which are no sites"):
            ForwardCycle().record(lambda batch: vae.model(batch), lambda batch: vae.guide(batch), pair_batch(zz=True))

    @pytest.mark.parametrize("count", [0, -1, 1.5, True])
    def test_particles(self, count) -> None:
        with pytest.raises(InputError, match="num_particles"):
            DisentanglingELBO(num_particles=count)

    def test_a_mask_of_other_units(self) -> None:
        vae = linear_vae()
        with pytest.raises(InputError, match="names 2 units, but its code has 3"):
            ForwardCycle().record(vae.model, vae.guide, pair_batch(z=torch.ones(6, 2, dtype=torch.bool)))

    def test_similarity_of_a_latent_without_a_posterior(self) -> None:
        vae = linear_vae()
        model = pyro.condition(vae.model, data={"z": torch.randn(2, 6, 3)})
        record = DisentanglingELBO([Similarity()]).record(model, poutine.block(vae.guide, hide=["z"]), pair_batch())
        assert record.terms["similarity"].item() == 0
