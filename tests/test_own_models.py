"""Models and objectives of a user's own, through all that a run is: fitted, loaded, gone on with, measured, drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import pyro_disent
from pyro_disent import plugins
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import InputError, Interrupted
from pyro_disent.models.factored_vae import FactoredVAE, GenerativeModel, Guide
from pyro_disent.models.families import Circle, ConditionalNormal, Family
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import ContinuousBernoulli
from pyro_disent.models.opponents import Opponent
from pyro_disent.objectives.elbo import DisentanglingELBO, ForwardCycle
from pyro_disent.objectives.step import AdversarialTerm, Step, Term
from pyro_disent.training import log
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.schedule import make_optimizer
from tests.models import pair_batch
from tests.test_compiled import assert_equal_steps
from tests.test_fit import Interrupting

SHAPE = (1, 28, 28)
TINY: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "preset": "quick"}
DATA = "rotated-mnist"


class Wide(Family):
    """A family that no table knows, with a scale that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.5))

    def prior(self, units, earlier, like, batch):
        return dist.Normal(like.new_zeros(units), self.log_scale.exp()).to_event(1)


class LearntPrior(GenerativeModel):
    """p(z) has a mean that is learnt."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.mean = nn.Parameter(torch.full((4,), 0.1))

    def prior_dist(self, latent, earlier, batch):
        if latent.name == "z":
            return dist.Normal(self.mean, 1.0).to_event(1)
        return super().prior_dist(latent, earlier, batch)


class Tempered(Guide):
    """q(z | x) with a temperature that is learnt."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.log_temperature = nn.Parameter(torch.tensor(0.1))

    def posterior_dist(self, latent, parameters, batch):
        loc, log_variance = parameters.chunk(2, -1)
        if latent.name == "z":
            parameters = torch.cat([loc, log_variance + self.log_temperature], -1)
        return super().posterior_dist(latent, parameters, batch)


class Mine(FactoredVAE):
    Model, Guide = LearntPrior, Tempered


def my_vae(shape: tuple[int, int, int] = SHAPE, of: type[FactoredVAE] = Mine, z: int = 4) -> FactoredVAE:
    """An angle, a prior that depends on it by a network of mine, a family of mine; a norm with running statistics."""
    latents = [
        Latent("z", z),
        Latent("rotation", 1, Circle(), explains=("rotation",)),
        Latent("w", 2, ConditionalNormal("rotation", nn.Linear(2, 4))),
        Latent("y", 1, Wide(), explains="rest"),
    ]
    pixels, width = shape[1] * shape[2], sum(latent.width for latent in latents)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), nn.BatchNorm1d(8), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, pixels), nn.Unflatten(1, shape))
    return of(latents, encoder, decoder, ContinuousBernoulli())


class Critic(Opponent):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Linear(width, 1)


class Centered(AdversarialTerm):
    """A critic foretells the first pixels' mean from z, which hides it; the term counts the batches it has seen."""

    name, default_weight = "centered", 0.5
    optimizer: ClassVar[dict[str, Any]] = {"lr": 1e-2}

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.critic = Critic(width)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def _error(self, step: Step, code: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        foretold = nn.functional.linear(code, weight, bias).squeeze(-1)
        return (foretold - step.batch.images.to(code.dtype).mean((-3, -2, -1))) ** 2

    def forward(self, step: Step) -> Tensor:
        self.seen.add_(1)
        line = self.critic.network
        return -self._error(step, step.draw("z"), line.weight.detach(), line.bias.detach())

    def opponent_loss(self, step: Step) -> Tensor:
        line = self.critic.network
        return self._error(step, step.draw("z").detach(), line.weight, line.bias).mean()


class Scaled(Term):
    """A term with a parameter of its own, and no opponent."""

    name, default_weight = "scaled", 0.1

    def __init__(self) -> None:
        super().__init__()
        self.target = nn.Parameter(torch.tensor(1.5))

    def forward(self, step: Step) -> Tensor:
        return (step.kl("z").sum(-1) - self.target) ** 2


class MyELBO(DisentanglingELBO):
    def __init__(self) -> None:
        super().__init__([Centered(), Scaled()], exchange=True, beta={"z": 2.0})


def parts(seed: int = 0) -> tuple[FactoredVAE, MyELBO]:
    torch.manual_seed(seed)
    return my_vae(), MyELBO()


def weights(run: Path, which: Any = "last") -> dict[str, Tensor]:
    return RunFolder(run).weights(which)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> pyro_disent.runs.run.Run:
    """Trained on both; loaded by the tests."""
    vae, elbo = parts()
    return pyro_disent.fit(elbo, DATA, vae=vae, out=tmp_path_factory.mktemp("own") / "run", **TINY)


def test_all_of_it_is_trained_in_place_and_the_store_stays_empty(tmp_path: Path) -> None:
    vae, elbo = parts()
    vae.guide.encoder[2].eval()
    modes = [part.training for part in (*vae.modules(), *elbo.terms.modules())]
    held = {**dict(vae.named_parameters()), **dict(elbo.terms.named_parameters())}
    before = {name: parameter.detach().clone() for name, parameter in held.items()}
    frozen = "model.decoder.0.bias"
    held[frozen].requires_grad_(False)
    run = pyro_disent.fit(elbo, DATA, vae=vae, out=tmp_path / "run", **TINY)
    assert run.vae is vae and run.objective.elbo is elbo
    assert {name for name in held if torch.equal(held[name], before[name])} == {frozen}
    assert [part.training for part in (*vae.modules(), *elbo.terms.modules())] == modes
    assert len(pyro.get_param_store()) == 0
    assert [len(group["params"]) for group in make_optimizer(run.objective, 1e-3).param_groups][1:] == [2]


def test_the_record_says_what_it_is_and_what_has_to_be_handed_over(fitted: Any) -> None:
    content = fitted.record.to_json()
    assert content["handed_over"] == ["vae", "elbo"]
    assert [content["fit"][name] for name in ("network", "likelihood", "model", "method")] == ["given"] * 4
    assert content["latents"] == content["fit"]["latents"] == {
        "z": {"units": 4, "explains": "common"},
        "rotation": {"units": 1, "family": "circle", "settings": {}, "explains": ["rotation"]},
        "w": {"units": 2, "family": "conditional", "settings": {}, "explains": "common"},
        "y": {"units": 1, "family": "Wide", "settings": {}, "explains": "rest"},
    }  # fmt: skip


def test_it_is_loaded_evaluated_and_drawn(fitted: Any) -> None:
    vae, elbo = parts(seed=5)
    run = pyro_disent.load(fitted.path, vae=vae, elbo=elbo)
    images = run.data().test.examples(0).images[:4]
    for name, code in fitted.vae.codes(images).items():
        assert torch.equal(run.vae.codes(images)[name], code), name
    assert elbo.terms["centered"].seen > 0
    numbers = run.evaluate(threads=1).numbers
    assert all(math.isfinite(numbers[key].value) for key in ("elbo", "kl/z", "kl/rotation", "kl/w", "kl/y"))
    assert run.traverse("rotation").axes and run.swap([0, 1]).axes
    assert len(pyro.get_param_store()) == 0


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LOG_EVERY", 1)
    longer = TINY | {"max_steps": 8}
    vae, elbo = parts()
    pyro_disent.fit(elbo, DATA, vae=vae, out=tmp_path / "whole", **longer)
    vae, elbo = parts()
    run = tmp_path / "parts"
    with pytest.raises(Interrupted, match=rf"pyro_disent\.resume\('{run}', vae=\.\.\., elbo=\.\.\.\)"):
        pyro_disent.fit(elbo, DATA, vae=vae, out=run, reporter=Interrupting(3), **longer)
    assert RunFolder(run).state("last")["step"] < 8
    vae, elbo = parts(seed=7)
    resumed = pyro_disent.resume(run, vae=vae, elbo=elbo)
    assert resumed.vae is vae and resumed.record.handed_over == ("vae", "elbo")
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(run)[name]), name
    vae, elbo = parts(seed=8)
    pyro_disent.fit(elbo, resume=run, vae=vae, max_steps=9)  # the same by `fit`
    assert RunFolder(run).state("last")["step"] == 9


class Listening(log.Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


class Forgetful(Guide):
    def posteriors(self, images, batch=None):
        return {"elsewhere": dist.Normal(torch.zeros(1), 1.0).to_event(1)}


class ForgetfulVAE(FactoredVAE):
    Guide = Forgetful


class Beside(Mine):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.beside = nn.Linear(1, 1)


def misspelled() -> FactoredVAE:
    latents = [Latent("z", 4), Latent("y", 2, explains=("rotaton",))]
    return FactoredVAE(latents, *pyro_disent.models.networks.mlp(SHAPE, 6))


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "another ELBO": (lambda: {"method": Trace_ELBO()}, "DisentanglingELBO or an instance .*, not a Trace_ELBO"),
    "an ELBO's class": (lambda: {"method": MyELBO}, "not the class MyELBO"),
    "no FactoredVAE": (lambda: {"vae": nn.Linear(1, 1)}, "`vae=` takes a FactoredVAE .*, not a Linear"),
    "another image shape": (lambda: {"vae": my_vae((1, 8, 8))}, r"vae takes images of \(1, 8, 8\), but the data has"),
    "an encoder alone": (lambda: {"encoder": nn.Flatten()}, "`encoder=` and `decoder=` are handed over together"),
    "a decoder alone": (lambda: {"decoder": nn.Flatten()}, "handed over together"),
    "networks beside a vae": (
        lambda: {"vae": my_vae(), "encoder": nn.Flatten(), "decoder": nn.Flatten()}, "has its own networks"
    ),
    **{
        f"{name} beside a vae": (lambda said={name: value}: {"vae": my_vae(), **said}, f"a vae .* `{name}=` itself")
        for name, value in {"latents": {"z": 2}, "network": "mlp", "likelihood": "normal", "model": "factored"}.items()
    },
    **{
        f"{name} beside an ELBO": (lambda said={name: value}: {"method": MyELBO(), **said}, f"elbo .* `{name}=` itself")
        for name, value in {
            "beta": 2.0, "weights": {"centered": 1.0}, "predictor_side": "entropy", "predictor_on": "mean",
            "guards": ["z"], "hides": ["rotation"], "bins": 3, "bins_by": "range", "warmup_steps": 5,
        }.items()
    },
    "a factor that is not there": (lambda: {"vae": misspelled()}, "'rotaton', which is no factor of this data"),
    "a guide without a posterior": (lambda: {"vae": my_vae(of=ForgetfulVAE)}, "the guide draws elsewhere"),
    "parameters of neither program": (lambda: {"vae": my_vae(of=Beside)}, "beside.weight, beside.bias of the Beside"),
    "a beta of no latent": (
        lambda: {"method": ForwardCycle(beta={"q": 1.0}), "vae": my_vae()}, "beta names q, and there is no such latent"
    ),
    "a model that is not there": (lambda: {"model": "nobodys"}, "there is no model 'nobodys'; choose from factored"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_is_refused_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    said, says = REFUSED[case]
    with pytest.raises(InputError, match=says):
        pyro_disent.fit(**{"method": "cycle", "data": DATA, "out": tmp_path / "run"} | said() | TINY)
    assert not (tmp_path / "run").exists()


def other_roles() -> FactoredVAE:
    vae = my_vae()
    vae.latents = (*vae.latents[:3], Latent("y", 1, vae.latents[3].family))
    return vae


AGAIN: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "nothing": (
        dict, r"run was trained with a vae and an elbo handed over from Python: .*pyro_disent\.FUNCTION\('.*run', "
        r"vae=\.\.\., elbo=\.\.\.\)$"
    ),
    "no elbo": (lambda: {"vae": my_vae()}, "with a vae and an elbo handed over"),
    "no vae": (lambda: {"elbo": MyELBO()}, "with a vae and an elbo handed over"),
    "an encoder alone": (lambda: {"encoder": nn.Flatten()}, "handed over together"),
    "networks": (lambda: {"encoder": nn.Flatten(), "decoder": nn.Flatten()}, "with a vae and an elbo handed over"),
    "another vae": (lambda: {"vae": my_vae(z=5, of=FactoredVAE), "elbo": MyELBO()}, r"vae has the latents z=5 .* z=4"),
    "other roles": (lambda: {"vae": other_roles(), "elbo": MyELBO()}, r"y=1 \(Wide, common\), and .*\(Wide, rest\)"),
    "other weights": (lambda: {"vae": my_vae(of=FactoredVAE), "elbo": MyELBO()}, "temperature is one too many"),
    "another elbo": (lambda: {"vae": my_vae(), "elbo": ForwardCycle()}, "minimized a MyELBO .* now is a ForwardCycle"),
}  # fmt: skip


@pytest.mark.parametrize("function", ["load", "resume"])
@pytest.mark.parametrize("case", AGAIN)
def test_a_run_asks_by_name_for_what_it_was_trained_with(case: str, function: str, fitted: Any) -> None:
    said, says = AGAIN[case]
    call = {"load": pyro_disent.load, "resume": lambda *a, **k: pyro_disent.resume(*a, max_steps=6, **k)}[function]
    before = {path: path.read_bytes() for path in fitted.path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=says.replace("FUNCTION", function)):
        call(fitted.path, **said())
    assert {path: path.read_bytes() for path in fitted.path.rglob("*") if path.is_file()} == before


def test_a_run_of_names_takes_nothing_over(tmp_path: Path) -> None:
    run = pyro_disent.fit("vae", DATA, out=tmp_path / "run", **TINY | {"max_steps": 1})
    assert run.record.handed_over == ()
    for said, name in (({"vae": my_vae()}, "vae"), ({"elbo": MyELBO()}, "elbo")):
        with pytest.raises(InputError, match=f"trained with no {name} handed over: leave `{name}=` away"):
            pyro_disent.load(tmp_path / "run", **said)


def test_an_elbo_alone_and_a_run_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents and networks by name; whether it needs pairs is asked of the ELBO."""
    monkeypatch.chdir(tmp_path)
    run = pyro_disent.fit(DisentanglingELBO(), DATA, latents={"z": 3}, **TINY | {"max_steps": 1})
    assert str(run.path) == "runs/rotated-mnist-disentanglingelbo-1" and run.record.handed_over == ("elbo",)
    assert not run.objective.elbo.needs_pairs and ForwardCycle().needs_pairs and MyELBO().needs_pairs
    for elbo, views in ((DisentanglingELBO(), "one view"), (ForwardCycle(), "2 views")):
        heard = Listening()
        pyro_disent.fit(elbo, DATA, reporter=heard, **TINY | {"max_steps": 1})
        assert any(line.startswith("training given: ") and views in line for line in heard.said)


def mine_for(latents: Any, image_shape: Any, networks: Any, likelihood: Any) -> FactoredVAE:
    return Mine(latents, *networks(image_shape, sum(latent.width for latent in latents)), likelihood)


def others_for(latents: Any, image_shape: Any, networks: Any, likelihood: Any) -> FactoredVAE:
    return FactoredVAE([Latent("q", 2)], *networks(image_shape, 2), likelihood)


def none_for(*_: Any) -> None:
    return None


def larger_for(latents: Any, image_shape: Any, networks: Any, likelihood: Any) -> FactoredVAE:
    return mine_for(latents, (1, 32, 32), networks, likelihood)


@pytest.fixture
def _other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"mine": "mine_for", "others": "others_for", "none": "none_for", "larger": "larger_for"}
    group = "pyro_disent.models"
    points = [EntryPoint(name, f"{__name__}:{function}", group) for name, function in rows.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == points[0].group else [])


@pytest.mark.usefixtures("_other_packages")
def test_a_model_of_another_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = TINY | {"model": "mine", "latents": {"z": 4, "y": 1}}
    run = pyro_disent.fit("cycle", DATA, out=tmp_path / "run", **said)
    assert type(run.vae) is Mine and run.record.fit.model == "mine" and run.record.handed_over == ()
    loaded = pyro_disent.load(tmp_path / "run")
    assert type(loaded.vae) is Mine and torch.equal(loaded.vae.model.mean, run.vae.model.mean)
    resumed = pyro_disent.resume(tmp_path / "run", max_steps=6)
    assert not torch.equal(weights(resumed.path)["model.mean"], loaded.vae.model.mean)
    for name, says in {
        "others": r"model 'others' has the latents q=2 \(common\), not z=4 \(common\), y=1 \(rest\) as asked for",
        "none": "must be a FactoredVAE, and what was made is a NoneType",
        "larger": r"decoder gives images of \(1, 32, 32\), but the data has \(1, 28, 28\)",
    }.items():
        with pytest.raises(InputError, match=says):
            pyro_disent.fit("cycle", DATA, out=tmp_path / name, **said | {"model": name})
        assert not (tmp_path / name).exists()


def test_its_compiled_step_equals_the_eager_one() -> None:
    vae, elbo = my_vae((1, 4, 5)).double(), MyELBO()
    objective = elbo(vae.model, vae.guide).double()
    eager, compiled = EagerStep(objective), CompiledStep(objective, backend="eager")
    batch = pair_batch(dtype=torch.float64, z=True, rotation=False, w=True, y=False)
    assert_equal_steps(eager, compiled, batch)
