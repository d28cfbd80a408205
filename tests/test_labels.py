"""Priors that depend on labels: sites of the model, observed where a batch has them."""

from __future__ import annotations

import math
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from scipy import stats
from torch import Tensor, nn
from typer.testing import CliRunner

from pyro_disent import load
from pyro_disent.batch import Batch
from pyro_disent.cli.main import app
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.data.dataset import Factor
from pyro_disent.data.faces.celeba import ATTRIBUTES, FaceSplit
from pyro_disent.data.faces.drawn.faces import render_changed
from pyro_disent.errors import InputError
from pyro_disent.figures import save
from pyro_disent.figures.counterfactual import do_truth
from pyro_disent.figures.traversal import traversed
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import ConditionalNormal, LabelledNormal
from pyro_disent.models.labels import Label
from pyro_disent.models.latents import Latent, each
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.queries.intervention import do
from pyro_disent.runs.label_values import read_label_values
from pyro_disent.training import building, datasets
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.models import SHAPE, linear_vae
from tests.table import tiny

SIZE = Label("size", (0.5, 1.0, 3.0), (0.2, 0.5, 0.3))
LIT = Label("lit", (0.0, 1.0), (0.6, 0.4))
MEANS = torch.tensor([-40.0, 0.0, 30.0])


def vae_by_table() -> FactoredVAE:
    """y has a unit a label: N(-40, 1), N(0, 1) or N(30, 1) by size, and N(0, 1) whether it is lit or not."""
    family = LabelledNormal("size+lit", {"size": SIZE, "lit": LIT})
    vae = linear_vae([Latent("z", 2), Latent("y", 2, family)])
    with torch.no_grad():
        for table in family.parameters():
            table.zero_()
        next(family.parameters())[:, 0] = MEANS
    return vae


def batch(images: int = 6, **factors: list[float]) -> Batch:
    said = factors or {"size": [0.5, 1, 3, 3, 1, 0.5], "lit": [0, 1, 0, 1, 1, 1]}
    return Batch(torch.rand(1, images, *SHAPE), factors={name: torch.tensor([each]) for name, each in said.items()})


def test_a_labelled_prior_starts_apart_with_the_mean_and_variance_of_a_standard_normal() -> None:
    """Over the labels by their frequencies, exactly; 81 % of the variance lies between them, in the values' order."""
    family = LabelledNormal("size+lit", {"size": SIZE, "lit": LIT})
    linear_vae([Latent("y", 2, family)]).double()
    for table, label in zip(family.parameters(), (SIZE, LIT), strict=True):
        shares = torch.tensor(label.frequencies).double()
        means, variances = table.detach()[:, 0], table.detach()[:, 1].exp()
        between = (shares * means.square()).sum()
        assert (shares * means).sum().item() == pytest.approx(0, abs=1e-6)
        assert between.item() == pytest.approx(0.81, rel=1e-5)
        assert (between + (shares * variances).sum()).item() == pytest.approx(1, rel=1e-5)
        assert means.diff().min() > 0


def test_labels_are_counted() -> None:
    label = Label.count("size", torch.tensor([3.0, 0.5, 3.0, 1.0]))
    assert label == Label("size", (0.5, 1.0, 3.0), (0.25, 0.25, 0.5))
    assert Label.from_json("size", label.to_json()) == label
    for values, says in (
        ([1.0, math.nan], "not known of every"),
        ([1.0, 1.0], "have 1"),
        (list(range(300)), "have 300"),
    ):
        with pytest.raises(InputError, match=says):
            Label.count("size", torch.tensor(values))


def test_the_kl_is_to_the_prior_of_the_images_own_label() -> None:
    vae, data = vae_by_table(), batch()
    step = DisentanglingELBO().step(vae.model, vae.guide, data)
    q = step.posterior("y")
    means = torch.stack([MEANS[[0, 1, 2, 2, 1, 0]], torch.zeros(6)], -1)
    expected = 0.5 * (q.variance + (q.mean - means).square() - 1 - q.variance.log())
    torch.testing.assert_close(step.kl("y"), expected)
    record = DisentanglingELBO().per_image(step)  # the label's own frequency is no part of the objective
    p = step.p.nodes["x"]["fn"]
    torch.testing.assert_close(record.reconstruction, -p.log_prob(data.images))
    assert record.observed == {}


def test_what_is_drawn_has_the_labels_frequencies() -> None:
    vae = vae_by_table()
    torch.manual_seed(0)
    y = vae.prior_sample(20_000, torch.Generator().manual_seed(0))["y"]
    nearest = (y[:, :1] - MEANS).abs().argmin(-1)
    expected = 20_000 * torch.tensor(SIZE.frequencies, dtype=torch.float64)
    assert stats.chisquare(nearest.bincount().numpy(), expected.numpy()).pvalue > 1e-4
    around = (y[:, 0] - MEANS[nearest]).double()
    assert stats.kstest(around.numpy(), "norm").pvalue > 1e-4
    for handler in (pyro.condition, poutine.do):
        held = handler(vae.model, data={"size": torch.full((1, 500), 2)})
        trace = poutine.trace(held).get_trace(images=500)
        assert abs(trace.nodes["y"]["value"][..., 0].mean().item() - 30) < 4.5 / math.sqrt(500)


def test_what_is_drawn_given_a_label_is_from_its_prior() -> None:
    """y[0] is N(-40, 1), N(0, 1) or N(30, 1) by size; the other label keeps its frequencies."""
    vae = vae_by_table()
    with torch.no_grad():
        list(vae.latent("y").family.parameters())[1][:, 0] = torch.tensor([-50.0, 50.0])
    for value, mean in zip(SIZE.values, MEANS.tolist(), strict=True):
        y = vae.prior_sample(4000, torch.Generator().manual_seed(1), given={"size": value})["y"].double()
        assert stats.kstest((y[:, 0] - mean).numpy(), "norm").pvalue > 1e-4
        lit = int((y[:, 1] > 0).sum())
        assert stats.binomtest(lit, 4000, LIT.frequencies[1]).pvalue > 1e-4
    both = vae.prior_sample(50, given={"size": 3, "lit": 0}, held={"z": torch.ones(1, 2)})
    assert (both["z"] == 1).all() and ((both["y"] - torch.tensor([30.0, -50.0])).abs() < 6).all()


@torch.no_grad()
def test_setting_a_label_draws_the_units_anew_whose_prior_depends_on_it_and_no_others() -> None:
    """y[0] is drawn from N(30, 1) for size 3; z and y[1] keep their bits, in the latent's code and for its children."""
    table = LabelledNormal("size+lit", {"size": SIZE, "lit": LIT})
    child = ConditionalNormal("y", nn.Linear(2, 2))
    vae = linear_vae([Latent("z", 2), Latent("y", 2, table), Latent("w", 1, child)])
    next(table.parameters()).zero_()[:, 0] = MEANS
    child.network.weight[:] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # p(w | y) is N(y[0] + y[1], exp(-12))
    child.network.bias[:] = torch.tensor([0.0, -12.0])
    images = torch.rand(2000, *SHAPE)
    before, made = vae.codes(images), do(vae, images, {"size": 3.0}, seed=4)
    assert made.redrawn == ("y", "w")
    assert torch.equal(made.codes["z"], before["z"]) and torch.equal(made.codes["y"][:, 1], before["y"][:, 1])
    assert stats.kstest((made.codes["y"][:, 0].double() - 30).numpy(), "norm").pvalue > 1e-4
    assert (made.codes["w"][:, 0] - made.codes["y"].sum(-1)).abs().max() < 6 * math.exp(-6)
    assert torch.equal(made.image, vae.decode(made.codes))
    both = do(vae, images, {"size": 3.0, "y[1]": 7.0})  # a latent that is set too is not drawn anew
    assert torch.equal(both.codes["y"][:, 0], before["y"][:, 0]) and (both.codes["y"][:, 1] == 7).all()


@torch.no_grad()
def test_a_label_that_cannot_be_set_is_refused() -> None:
    images = torch.rand(2, *SHAPE)
    joint = ConditionalNormal("size+lit", nn.Linear(5, 4), labels={"size": SIZE, "lit": LIT})
    vae = linear_vae([Latent("z", 2), Latent("y", 2, joint)])
    with pytest.raises(InputError, match="y would be drawn given the label 'lit', which the image does not say: set"):
        do(vae, images, {"size": 3.0})
    assert do(vae, images, {"size": 3.0, "lit": 0.0}).redrawn == ("y",)
    with pytest.raises(InputError, match=r"the label 'size' cannot be 2: it was 0\.5, 1, 3$"):
        do(vae, images, {"size": 2})
    with pytest.raises(InputError, match="there is no latent 'hat'"):
        do(vae, images, {"hat": 1})


def test_labels_that_cannot_be_given_are_refused() -> None:
    vae = vae_by_table()
    with pytest.raises(InputError, match=r"no prior of this model depends on 'hat'; there are priors on size, lit$"):
        vae.prior_sample(2, given={"hat": 1})
    with pytest.raises(InputError, match=r"the label 'size' cannot be 2: it was 0\.5, 1, 3$"):
        vae.prior_sample(2, given={"size": 2})
    with pytest.raises(InputError, match="the label 'lit' would change nothing, as y would be held: draw it too"):
        vae.prior_sample(2, given={"lit": 1}, held={"y": torch.zeros(1, 2)})
    with pytest.raises(InputError, match="no prior of this model depends on a label, so 'lit' cannot be given"):
        linear_vae().prior_sample(2, given={"lit": 1})


def test_a_value_is_read_as_people_write_it() -> None:
    """Categories by name before place, angles in degrees or radians, standardized numbers as they were."""
    half = (0.5, 0.5)
    angle = Factor("turn", "radians", written={0.0: "0", math.radians(90): "90"})
    count = Factor("count", center=10.0, scale=4.0)
    named = Factor("kind", categories=("1", "0"))
    for factor, values, said in (
        (angle, (0.0, math.radians(90)), ("90", "90°", "90deg", "+90", 1.5707963)),
        (count, (-1.0, 0.5), ("12", 12, "12.0", 12.0)),
        (named, (0.0, 1.0), ("0", 0)),
        (Factor("smiling", categories=("no", "yes")), (0.0, 1.0), ("yes", 1, "1", 1.0)),
        (Factor("tilt", "radians"), (0.0, math.radians(-20)), ("-20°", "-20deg")),
    ):
        values, place = tuple(sorted(values)), sorted(values).index(values[1])
        label = Label(factor.name, values, half)
        for part in said:
            assert read_label_values({factor.name: part}, {factor.name: label}, [factor])[0] == {
                factor.name: values[place]
            }
    label = Label("count", (-1.0, 0.5), half)
    with pytest.raises(InputError, match=r"^count cannot be 0\.5: it has 6, 12$"):
        read_label_values({"count": "0.5"}, {"count": label}, [count])
    many = Label("n", tuple(map(float, range(20))), (0.05,) * 20)
    with pytest.raises(InputError, match=r"it has 0, .*, 10, \.\.\. 19 \(20 values\)$"):
        read_label_values({"n": "many"}, {"n": many}, [])


def test_a_traversal_goes_over_labels_by_their_frequencies() -> None:
    """The quantiles of 0.2 N(-40, 1) + 0.5 N(0, 1) + 0.3 N(30, 1)."""
    vae = vae_by_table()
    codes = vae.codes(torch.rand(SHAPE))
    quantiles = vae.latent("y").family.quantiles(vae.prior_of("y", codes), torch.tensor([0.1, 0.45, 0.85]))
    expected = [[-40 + stats.norm.ppf(0.5)], [stats.norm.ppf(0.5)], [30 + stats.norm.ppf(0.5)]]
    torch.testing.assert_close(quantiles[:, 0, :1].double(), torch.tensor(expected).double(), atol=1e-4, rtol=0)
    normal = torch.from_numpy(stats.norm.ppf([0.1, 0.45, 0.85]))
    torch.testing.assert_close(quantiles[:, 0, 1].double(), normal, atol=1e-4, rtol=0)
    assert traversed(vae, torch.rand(SHAPE), "y", 4).shape == (2, 4, *SHAPE)


def test_a_batch_without_the_label_is_encoded_and_has_no_kl() -> None:
    vae = vae_by_table()
    images = torch.rand(1, 3, *SHAPE)
    assert vae.encode(images[0])["y"][0].shape == (3, 2)
    with pytest.raises(InputError, match="depends on size, lit, which the batch does not have among its factors"):
        DisentanglingELBO().step(vae.model, vae.guide, Batch(images))
    elbo, data = DisentanglingELBO(), batch(2, size=[2.0, 1.0], lit=[0.0, 0.0])
    with pytest.raises(InputError, match=r"values of it that no training image had: there were 0\.5, 1, 3"):
        elbo.step(vae.model, vae.guide, data)
    with pyro.validation_enabled(False):  # as in a training, where nothing is read back: loud, if not in words
        unseen = elbo.per_image(elbo.step(vae.model, vae.guide, data))
    assert unseen.loss.isnan().tolist() == [[True, False]]


@pytest.mark.parametrize("family", ["table", "network"])
def test_it_trains_compiled_as_eager_and_by_svi(family: str) -> None:
    labels = {"size": SIZE, "lit": LIT}
    made = LabelledNormal("size+lit", labels) if family == "table" else ConditionalNormal("z+size", labels=labels)
    vae = linear_vae([Latent("z", 2), Latent("y", 2, made)]).double()
    objective = DisentanglingELBO()(vae.model, vae.guide)
    data = batch().to(dtype=torch.float64)
    gradients: list[list[Tensor]] = []
    for step in (EagerStep(objective), CompiledStep(objective, backend="eager")):
        torch.manual_seed(6)
        record = step(data)
        grads = [parameter.grad for parameter in objective.parameters()]
        gradients.append([record.loss, *(grad.clone() for grad in grads if grad is not None)])
    assert len(gradients[0]) == len(list(objective.parameters())) + 1
    torch.testing.assert_close(*gradients)
    before = {name: each.detach().clone() for name, each in vae.named_parameters()}
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
    for _ in range(3):
        svi.step(data)
    assert [name for name, each in vae.named_parameters() if each.equal(before[name])] == []


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="one label a unit, 3, and has 1"):
        linear_vae([Latent("y", 3, LabelledNormal("lit", {"lit": LIT}))])
    with pytest.raises(InputError, match="depends on lit, of which no values were counted"):
        linear_vae([Latent("y", 1, LabelledNormal("lit"))])
    other = Label("lit", (0.0, 1.0), (0.5, 0.5))
    two = [Latent(name, 1, LabelledNormal("lit", {"lit": label})) for name, label in (("y", LIT), ("w", other))]
    with pytest.raises(InputError, match="'lit' with different values or frequencies"):
        linear_vae(two)
    with pytest.raises(InputError, match="both a latent and a label"):
        linear_vae([Latent("lit", 1), Latent("y", 1, LabelledNormal("lit", {"lit": LIT}))])


def test_a_training_counts_them_and_a_run_remembers(tmp_path: Path) -> None:
    data = datasets.load_data(tiny("vae", "celeba"))
    factor = "Male"
    settings = {"parents": factor}
    latents = {
        "z": {"units": 4, "explains": "common"},
        "y": {"units": 1, "family": "labelled", "settings": settings, "explains": [factor]},
    }
    path = tmp_path / "run"
    train(tiny("vae", "celeba", max_steps=2, latents=latents), RunFolder(path))
    run = load(path)
    label = run.vae.latent("y").family.labels[factor]
    values = data.train.examples(0).factors[factor].tolist()
    assert label.values == tuple(sorted(set(values)))
    expected = [values.count(value) / len(values) for value in label.values]
    assert list(label.frequencies) == pytest.approx(expected, abs=1e-6)
    assert run.vae.prior_sample(3)["y"].shape == (3, 1)
    folder, images = tmp_path / "images", []
    folder.mkdir()
    for name, given in (("yes", {factor: "yes"}), ("one", {factor: 1}), ("no", {factor: "no"})):
        save(run.sample(4, given=given, seed=3), folder / f"{name}.png")
    for name, text in (("said", "yes"), ("number", "1")):
        out = folder / f"{name}.png"
        done = CliRunner().invoke(
            app, ["sample", str(path), "--n", "4", "--seed", "3", "--given", f"{factor}={text}", "--out", str(out)]
        )
        assert done.exit_code == 0, done.output
        images.append(out.read_bytes())
    assert {*images, (folder / "one.png").read_bytes()} == {(folder / "yes.png").read_bytes()}
    assert (folder / "no.png").read_bytes() not in images
    title = run.sample(1, given={factor: 1}).texts[0].get_text()
    assert title == f"Samples from the prior, given {factor} yes"
    with pytest.raises(InputError, match=f"{factor} cannot be perhaps: it has no, yes$"):
        run.sample(given={factor: "perhaps"})
    with pytest.raises(InputError, match="draw it too"):
        run.sample(latents=["z"], given={factor: "yes"})
    picture = run.do(0, {factor: "yes"}, seed=3)
    assert picture.texts[0].get_text() == f"do({factor} yes); y drawn given that"
    columns = [text.get_text() for text in picture.texts]
    assert {"truth", "difference to it"} <= set(columns)
    save(picture, folder / "do.png")
    done = CliRunner().invoke(
        app, ["do", str(path), "0", f"{factor}=yes", "--seed", "3", "--out", str(folder / "done.png")]
    )
    assert done.exit_code == 0, done.output
    assert (folder / "done.png").read_bytes() == (folder / "do.png").read_bytes()
    with pytest.raises(InputError, match=f"{factor} cannot be perhaps: it has no, yes$"):
        run.do(0, {factor: "perhaps"})
    again = load(path)
    assert again.vae.latent("y").family.settings() == run.vae.latent("y").family.settings()


def test_the_truth_of_an_intervention_is_the_face_with_this_attribute_alone() -> None:
    """Against the generator itself; where nothing can be drawn there is no truth."""
    data = datasets.load_data(tiny("vae", "celeba"))
    assert isinstance(data.test, FaceSplit) and data.test.drawn is not None
    seed, first = data.test.drawn
    male = ATTRIBUTES.index("Male")
    attributes = data.test.attributes[:3] > 0.5
    for place in range(3):
        for value in (0.0, 1.0):
            target = attributes[place : place + 1].clone()
            target[0, male] = bool(value)
            expected = render_changed(seed, [first + place], target.numpy(), data.image_shape[-1])
            truth = do_truth(data, place, {"Male": value})
            assert truth is not None and truth.equal(torch.from_numpy(expected))
    assert do_truth(data, 0, {"hat": 1.0}) is None and do_truth(data, 0, {"Male": 7.0}) is None


def test_a_labelled_latent_depends_by_itself_on_what_its_units_explain() -> None:
    labels = {"lit": LIT, "size": SIZE}
    plain = Latent("z", 2, LabelledNormal(labels=labels), explains=each("size", "lit"))
    named = Latent("z", 2, LabelledNormal("size+lit", labels), explains=each("size", "lit"))
    linear_vae([plain]), linear_vae([named])
    assert plain.family.settings() == named.family.settings()
    assert [plain.family.dependent_units(name, 2) for name in ("size", "lit")] == [[0], [1]]
    with pytest.raises(InputError, match="or a latent that explains one factor a unit"):
        linear_vae([Latent("z", 2, LabelledNormal(labels=labels))])


@pytest.mark.parametrize(
    ("parent", "says"),
    [("rotation", "cannot depend on 'rotation': a label has 2 to 256 values|no training image has"), ("w", "on w, ")],
)
def test_what_is_no_label_is_refused(parent: str, says: str) -> None:
    latents = {"z": {"units": 2}, "y": {"units": 1, "family": "conditional", "settings": {"parents": parent}}}
    config = tiny("vae", "rotated-mnist", limit=1024, latents=latents)
    data = datasets.load_data(config)
    with pytest.raises(InputError, match=says):
        building.build(config, data.image_shape, {}, building.latents(config, data))
