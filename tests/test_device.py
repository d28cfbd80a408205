"""A step never mixes devices, never makes a tensor on a default one, never waits for the host.

Without a GPU this is checked in two ways that see different things: fake tensors on a simulated CUDA device raise on
mixed devices and on any read-back, but cannot run a backward; the meta device runs the backward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import Categorical, Circle
from pyro_disent.models.latents import Latent
from pyro_disent.models.networks import NETWORKS
from pyro_disent.objectives import methods
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from pyro_disent.training import building, datasets, schedule
from pyro_disent.training.feed import Feed
from pyro_disent.training.log import Log, Silent
from pyro_disent.training.observed import Observed, observations
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.schedule import make_optimizer
from tests.syncs import refused_syncs
from tests.table import DATA, RECORD, ROWS, batch_of, case, objective_of, tiny


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", ROWS)
def test_forward_and_optimizer_under_simulated_cuda(method: str, data: str) -> None:
    case(data)  # loaded before nothing may be real
    with FakeTensorMode(allow_non_fake_inputs=False), pyro.validation_enabled(False):
        with torch.device("cuda"):
            objective = objective_of(method, data)
        loss = objective(batch_of(data, "cuda"))
        assert loss.device.type == "cuda"
        for parameter in objective.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer = make_optimizer(objective, 1e-3)
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        objective.weights.set_step(3)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", ROWS)
def test_backward_on_the_meta_device(method: str, data: str) -> None:
    with pyro.validation_enabled(False):
        objective = objective_of(method, data).to("meta")
        objective(batch_of(data, "meta")).backward()
        assert [name for name, p in objective.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("method", ["vae", "cycle+similarity+predictor"])
def test_a_value_that_is_observed_lies_where_the_images_do(method: str) -> None:
    case("chairs")
    values = {"azimuth": (2, 4, 1), "elevation": (2, 4, 1), "kind": (2, 4, 1)}

    def made() -> Objective:
        latents = [
            *case("chairs").latents,
            Latent("azimuth", 1, Circle(), explains=("azimuth",)),
            Latent("elevation", 1, explains=("elevation",)),
            Latent("kind", 1, Categorical(3), explains=("kind",)),
        ]
        setting = methods.Setting(
            case("chairs").latents, {name: torch.tensor(e) for name, e in case("chairs").edges.items()}
        )
        vae = FactoredVAE(latents, *NETWORKS["mlp"](case("chairs").image_shape, sum(each.width for each in latents)))
        return methods.build_objective(method, setting, known={"azimuth": [0.1], "kind": [0.5]})(vae.model, vae.guide)

    with FakeTensorMode(allow_non_fake_inputs=False), pyro.validation_enabled(False):
        with torch.device("cuda"):
            objective = made()
            observed = {name: torch.rand(shape) for name, shape in values.items()}
        assert objective(batch_of("chairs", "cuda").observing(observed)).device.type == "cuda"
    with pyro.validation_enabled(False):
        objective = made().to("meta")
        observed = {name: torch.rand(shape, device="meta") for name, shape in values.items()}
        objective(batch_of("chairs", "meta").observing(observed)).backward()


class NoReadBack(TorchDispatchMode):
    """Raises at any operation that hands a value to the host, in a backward as well; takes note of all others."""

    READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not name.startswith(self.READS), name
        self.names.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", [*ROWS, "observed"])
def test_nothing_is_read_back_from_batch_to_update(method: str, data: str, tmp_path: Path) -> None:
    """Batch, forward, backward, clipping, optimizer and log, as the loop has them."""
    is_observed, method = method == "observed", "cycle" if method == "observed" else method
    config = tiny(method, data, warmup_steps=0 if is_observed else 5)
    loaded = datasets.load_data(config)
    if is_observed:
        config = dataclasses.replace(config, observe={factor.name: 0.5 for factor in loaded.factors[:2]})
    edges, latents = building.factor_edges(loaded, config), building.latents(config, loaded)
    found = observations(config.observe, 0, latents, loaded)
    vae, objective = building.build(config, loaded.image_shape, edges, latents, observed=found)
    values = Observed(found, latents, loaded.train)
    feed = Feed(loaded.train, config.batch_size, 0, 2, lambda batch: vae.sharing(values(batch)))
    optimizer, step = schedule.make_optimizer(objective, config.lr), EagerStep(objective)
    folder = RunFolder(tmp_path / "run")
    folder.create(RECORD)
    with pyro.validation_enabled(False), Log(folder, Silent(), feed, 3, 0) as log, NoReadBack() as mode:
        for done in range(3):
            objective.weights.set_step(done)
            record = step(feed.next())
            norms = [torch.nn.utils.clip_grad_norm_(group["params"], 1.0) for group in optimizer.param_groups]
            optimizer.step()
            log.add(done, record, torch.stack(norms).norm())
    assert any("adam" in name for name in mode.names) and any("backward" in name for name in mode.names)


def sync(batch: Batch) -> None:
    batch.images.sum().item()


def mix(batch: Batch) -> None:
    batch.images + torch.zeros(28)


@pytest.mark.parametrize("fault", [sync, mix])
def test_the_check_finds_what_it_is_for(fault: Callable[[Batch], None]) -> None:
    with FakeTensorMode():
        batch = batch_of("rotated-mnist", "cuda")
        with pytest.raises(Exception, match=r"(?i)device|data.dependent|item|_local_scalar_dense"):
            fault(batch)


def test_no_read_back_finds_one() -> None:
    with NoReadBack(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).item()


@pytest.mark.cuda
@pytest.mark.parametrize("method", ROWS)
def test_a_step_on_a_real_gpu(method: str) -> None:
    objective = objective_of(method, "chairs").to("cuda")
    batch = batch_of("chairs", "cuda")
    EagerStep(objective)(batch)
    with pyro.validation_enabled(False), refused_syncs():
        record = EagerStep(objective)(batch)
    assert record.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


@pytest.mark.cuda
def test_a_compiled_step_on_a_real_gpu() -> None:
    objective = objective_of("cycle", "chairs").to("cuda")
    step = CompiledStep(objective, mode="reduce-overhead")
    losses = [step(batch_of("chairs", "cuda")).loss.item() for _ in range(4)]
    assert all(loss > 0 for loss in losses)


def test_a_latent_alone_is_enough() -> None:
    vae = FactoredVAE([Latent("code", 4)], *NETWORKS["mlp"]((1, 28, 28), 4))
    assert DisentanglingELBO()(vae.model, vae.guide)(torch.rand(3, 1, 28, 28)).isfinite()
