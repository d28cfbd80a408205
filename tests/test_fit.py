"""The loop: every method on every data set, resuming, and everything that can go wrong on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch

from pyro_disent.compiled.adam import Adam
from pyro_disent.compiled.step import why_not_compiled
from pyro_disent.data import registry
from pyro_disent.errors import Diverged, InputError, Interrupted, StorageError
from pyro_disent.objectives.weights import WarmUp
from pyro_disent.runs.presets import configure
from pyro_disent.runs.run import load
from pyro_disent.training import building, datasets, hardware, log, loop
from pyro_disent.training.config import FitConfig
from pyro_disent.training.log import Silent
from pyro_disent.training.record import read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.schedule import learning_rate_factor
from pyro_disent.training.train import train
from pyro_disent.training.validation import validate
from tests.mnist_files import whole_sample
from tests.table import DATA, RECORD, ROWS, tiny


class Interrupting(Silent):
    """Presses Ctrl-C when it is told of this step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def training(self, step: int, steps: int, loss: float, views_per_second: float) -> None:
        if step == self.after:
            os.kill(os.getpid(), signal.SIGINT)


def rows(folder: RunFolder, split: str) -> list[dict[str, str]]:
    return [row for row in folder.metrics() if row["split"] == split]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", ROWS)
def test_every_method_trains_on_every_data_set(method: str, data: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = tiny(method, data)
    torch.manual_seed(config.seed)
    train(config, folder)
    assert len(pyro.get_param_store()) == 0
    run = load(folder.path, "last")
    torch.manual_seed(config.seed)
    _, fresh = building.build(config, run.vae.image_shape, run.record.edges, run.record.build_latents())
    trained = dict(run.objective.named_parameters())
    assert [name for name, start in fresh.named_parameters() if torch.equal(start, trained[name])] == []
    assert all(parameter.isfinite().all() for parameter in trained.values())
    values = [float(value) for row in rows(folder, "train") for name, value in row.items() if value and name != "split"]
    assert values and all(map(torch.isfinite, map(torch.tensor, values)))
    assert run.record.source.kind == "embedded"
    again = load(folder.path, "last")
    images = run.data().test.examples(0).images[:5]
    for name, (mean, scale) in run.vae.encode(images).items():
        assert torch.equal(mean, again.vae.encode(images)[name][0]) and (scale > 0).all()


@pytest.mark.parametrize("method", ["cycle", "cycle+predictor+similarity"])
def test_resumed_training_equals_uninterrupted_training(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LOG_EVERY", 1)
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    rising = {"warmup_steps": 8} if "+" in method else {"beta": WarmUp(1.0, 8)}
    config = tiny(method, max_steps=11, schedule="cosine", **rising)
    train(config, whole)
    with pytest.raises(Interrupted, match="--resume"):  # 4 steps an epoch: both stop inside one
        train(config, parts, reporter=Interrupting(after=6))
    assert 6 <= parts.state("last")["step"] < 11
    train(read_fit(parts.config_file), parts, resume=True)
    for name, tensor in whole.weights("last").items():
        assert torch.equal(tensor, parts.weights("last")[name]), name
    assert rows(whole, "train")[-1]["loss"] != ""
    steps = [int(row["step"]) for row in rows(parts, "train")]
    assert steps == sorted(set(steps)) and steps[-1] == 11


def test_the_same_seed_gives_the_same_run_and_another_gives_another(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / str(k)) for k in range(3)]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        torch.rand(7)  # what the process drew before is no part of a run
        train(tiny(seed=seed), folder)
    first, second, third = (folder.weights("last") for folder in folders)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not all(torch.equal(tensor, third[name]) for name, tensor in first.items())


def test_two_sizes_in_one_process_with_an_empty_store(tmp_path: Path) -> None:
    for k, units in enumerate((2, 5)):
        config = tiny(latents={"z": units})
        train(config, RunFolder(tmp_path / str(k)))
        assert load(tmp_path / str(k)).vae.latent("z").units == units
    assert len(pyro.get_param_store()) == 0


def test_validation_touches_neither_weights_nor_random_state() -> None:
    config = tiny("cycle+similarity+predictor")
    data = datasets.load_data(config)
    _, objective = building.build(config, data.image_shape, {"rotation": [0.0]}, building.latents(config, data))
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    state = torch.get_rng_state()
    first = validate(objective, data.validation, 0, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert validate(objective, data.validation, 0, 2) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    assert objective.training and all(parameter.grad is None for parameter in objective.parameters())
    objective.weights.values.mul_(3)
    moved = validate(objective, data.validation, 0, 2)
    assert moved["objective"] != first["objective"] and moved["elbo"] == first["elbo"]


def test_validation_sees_every_image_once_and_all_weights_warm() -> None:
    config = tiny("similarity", warmup_steps=10)
    data = datasets.load_data(config)
    _, objective = building.build(config, data.image_shape, {}, building.latents(config, data))
    seen: list[torch.Tensor] = []
    batch = data.validation.batch

    def remember(index: torch.Tensor, *arguments: Any) -> Any:
        seen.append(index)
        return batch(index, *arguments)

    data.validation.batch = remember  # type: ignore[method-assign]
    cold = validate(objective, data.validation, 0, 2)
    assert torch.cat(seen).sort().values.equal(torch.arange(len(data.validation)))
    assert not torch.cat(seen).equal(torch.arange(len(data.validation)))
    objective.weights.set_step(10)
    assert validate(objective, data.validation, 0, 2) == cold
    objective.weights.set_step(0)
    assert objective.weights["similarity"] == 0


def test_best_is_the_lowest_held_out_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objectives = iter([5.0, 3.0, 4.0])
    monkeypatch.setattr(loop, "validate", lambda *_: {"objective": next(objectives), "elbo": -1.0})
    folder = RunFolder(tmp_path / "run")
    train(tiny(max_steps=None, epochs=3), folder)
    assert json.loads((folder.checkpoints / "best.json").read_text())["step"] == 8
    assert json.loads((folder.checkpoints / "last.json").read_text())["step"] == 12
    assert len(list(folder.checkpoints.iterdir())) == 4


def test_an_opponents_skill_is_logged_beside_chance(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with whole_sample():  # chance is no half among few
        train(tiny("predictor"), folder)
    (row, *_) = rows(folder, "validation")
    assert 0 <= float(row["accuracy.rotation"]) <= 1
    assert 0.5 <= float(row["chance.rotation"]) < 0.6


def test_init_starts_from_another_runs_best_weights(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    train(tiny(), first)
    train(tiny(max_steps=1, lr=1e-9), second, init=first)
    for name, tensor in first.weights("best").items():
        torch.testing.assert_close(tensor, second.weights("last")[name], rtol=0, atol=1e-6)


def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path) -> None:
    folder, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")
    config = tiny(max_steps=20)
    with pytest.raises(Interrupted, match="--resume"):
        train(config, folder, reporter=Interrupting(after=8))
    assert folder.state("last")["step"] < config.max_steps
    train(config, folder, resume=True)
    train(config, whole)
    assert all(torch.equal(tensor, folder.weights("last")[name]) for name, tensor in whole.weights("last").items())


def test_training_outside_the_main_thread(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    thread = threading.Thread(target=train, args=(tiny(), folder))
    thread.start()
    thread.join()
    assert folder.state("last")["step"] == 6


def test_a_loss_that_is_not_finite_stops_with_its_site_and_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    config = tiny(max_steps=9, lr=1e-3)

    heads: list[torch.Tensor] = []
    build, save = building.build, RunFolder.save

    def remember(*arguments: Any) -> Any:
        vae, objective = build(*arguments)
        heads.extend(objective.guide.heads["y"].parameters())
        return vae, objective

    def spoil(self: RunFolder, which: Any, *arguments: Any) -> None:
        save(self, which, *arguments)
        if which == "last":  # after the first epoch's checkpoint
            with torch.no_grad():
                heads[0].fill_(float("nan"))

    monkeypatch.setattr(building, "build", remember)
    monkeypatch.setattr(RunFolder, "save", spoil)
    with pytest.raises(Diverged, match=r"step 5: .*site y.*last finite values: loss \d"):
        train(config, folder)
    for which in ("last", "best"):
        assert folder.state(which)["step"] == 4
        assert all(tensor.isfinite().all() for tensor in folder.weights(which).values())


def test_weights_spoilt_by_the_last_update_of_an_epoch_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "validate", lambda *_: {"objective": float("nan"), "elbo": 0.0})
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Diverged, match="after step 4: the held-out objective"):
        train(tiny(), folder)
    assert list(folder.checkpoints.iterdir()) == []


@pytest.mark.parametrize("fails", range(1, 12))
def test_a_disk_that_fills_keeps_the_last_good_checkpoint(fails: int, tmp_path: Path) -> None:
    """Whatever system call the disk fails at, the checkpoint before it can be loaded and gone on from."""
    folder, config = RunFolder(tmp_path / "run"), tiny(max_steps=None, epochs=2)
    train(dataclasses.replace(config, epochs=1), folder)
    good = folder.weights("last")
    calls = 0

    def full(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= fails:
            raise OSError(28, "No space left on device")

    folder.config_file.write_text(folder.config_file.read_text().replace('"epochs": 1', '"epochs": 2'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            train(config, folder, resume=True)
    assert folder.state("last")["step"] in (4, 8) and folder.weights("best")
    if folder.state("last")["step"] == 4:
        assert all(torch.equal(tensor, good[name]) for name, tensor in folder.weights("last").items())
    named = {json.loads(path.read_text())["folder"] for path in folder.checkpoints.glob("*.json")}
    assert named <= {path.name for path in folder.checkpoints.iterdir() if path.is_dir()}
    train(config, folder, resume=True)
    assert folder.state("last")["step"] == 8


def test_a_run_that_exists_is_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(tiny(), folder)
    before = folder.weights("last")
    with pytest.raises(InputError, match="exists already"):
        train(tiny(seed=1), folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in folder.weights("last").items())
    train(tiny(seed=1), folder, overwrite=True)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in folder.weights("last").items())


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not a run"):
        train(tiny(), RunFolder(tmp_path), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_is_replaced_once_there_is_another_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    train(tiny(), folder)
    before = folder.weights("last")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", lambda *_: {"objective": float("nan"), "elbo": 0.0})
        with pytest.raises(Diverged):
            train(tiny(seed=1), RunFolder(tmp_path / "run"), overwrite=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in folder.weights("last").items())
    train(tiny(seed=1), RunFolder(tmp_path / "run"), overwrite=True)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in folder.weights("last").items())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    first, second = (RunFolder.named(None, "chairs", "cycle", tmp_path) for _ in range(2))
    assert first.path == second.path
    for folder in (first, second):
        folder.create(RECORD)
    assert [folder.path.name for folder in (first, second)] == ["chairs-cycle-1", "chairs-cycle-2"]


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        train(tiny(), RunFolder(tmp_path / "file" / "run"))


def test_resuming_keeps_what_was_chosen_at_the_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(tiny(precision="bf16-mixed"), folder)
    content = json.loads(folder.config_file.read_text())
    assert (content["device"], content["precision"]) == ("cpu", "bf16-mixed")
    content["fit"] |= {"precision": "auto", "max_steps": 9}
    folder.config_file.write_text(json.dumps(content))
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    train(read_fit(folder.config_file), folder, resume=True, reporter=Listening())
    assert any("bf16-mixed" in line for line in said)
    content["source"]["sha256"] = "0" * 64
    folder.config_file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="000000000000"):
        train(read_fit(folder.config_file), folder, resume=True)


def test_a_compiled_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    if reason := why_not_compiled():
        pytest.skip(reason)
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    config = tiny(max_steps=12, compile=True)
    train(config, whole)
    with pytest.raises(Interrupted):
        train(config, parts, reporter=Interrupting(after=8))
    train(config, parts, resume=True)
    assert json.loads(whole.config_file.read_text())["step"].startswith("compiled in ")
    for name, tensor in whole.weights("last").items():
        assert torch.equal(tensor, parts.weights("last")[name]), name


def test_what_cannot_be_compiled_runs_eager_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no luck today")

    monkeypatch.setattr(torch._inductor, "compile", broken)
    folder = RunFolder(tmp_path / "run")
    train(tiny(compile=True), folder)
    assert json.loads(folder.config_file.read_text())["step"] == "eager (compiling failed: no luck today)"


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "first")
    train(tiny(), first)
    with pytest.raises(InputError, match="another model"):
        train(tiny(latents={"z": 3}), RunFolder(tmp_path / "second"), init=first)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"batch_size": 100}, "a batch of 100 images is larger than the data"),
        ({"latents": {"z": {"units": 3, "family": "sphere"}}}, "'z': there is no family 'sphere'"),
        ({"network": "resnet"}, "choose from mlp"),
        ({"likelihood": "gamma"}, "choose from bernoulli"),
        ({"device": "tpu"}, "not one of auto, cpu"),
        ({"precision": "8"}, "not one of auto, 32"),
        ({"method": "cylce"}, "did you mean cycle"),
        ({"weights": {"similarity": 1.0}}, "no such term"),
        ({"data_root": "/nonexistent"}, "`data_root=/nonexistent`"),
        ({"device": "cpu:"}, "not one of auto, cpu"),
        ({"device": "cuda:99"}, "CUDA devices"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_cannot_run_writes_nothing(said: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    if "data_root" in said:
        said = said | {"source": "auto"}
    config = dataclasses.replace(tiny(**{k: v for k, v in said.items() if k != "method"}), **{
        k: v for k, v in said.items() if k == "method"
    })  # fmt: skip
    with pytest.raises(InputError, match=says):
        train(config, folder)
    assert not folder.path.exists()


@pytest.mark.parametrize(
    "said",
    [
        {"lr": 0.0},
        {"batch_size": 0},
        {"max_steps": -1},
        {"limit": 0},
        {"epochs": 1, "max_steps": 1},
        {"devices": 3},
        {"seed": 2**44},
    ],
    ids=lambda said: "+".join(said),
)
def test_numbers_that_make_no_sense_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"`[a-z_]+(=\d+)?`"):
        tiny(**said)


def test_a_run_on_other_data_than_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(tiny(), folder)
    content = json.loads(folder.config_file.read_text())
    content["source"]["sha256"] = "0" * 64
    folder.config_file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was trained on data of sha256 000000000000"):
        load(folder.path).data()


@pytest.mark.parametrize("damage", ["truncated", "missing", "no pointer"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    train(tiny(), folder)
    weights = folder.checkpoint("best") / "weights.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "missing":
        weights.unlink()
    else:
        (folder.checkpoints / "best.json").unlink()
    with pytest.raises(InputError, match=r"best|weights"):
        load(folder.path)


def units(config: FitConfig) -> dict[str, int]:
    return {name: spec.units for name, spec in config.latents.items()}


def test_presets_are_the_papers_and_cover_every_data_set() -> None:
    for data in (*registry.BUILT_IN, "another's"):
        for preset in ("paper", "quick"):
            config = configure("cycle", data, preset, {})
            assert FitConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    chairs = configure("cycle", "chairs", "paper", {})
    assert (units(chairs), chairs.epochs, chairs.batch_size, chairs.lr) == ({"z": 29, "y": 3}, 120, 96, 1e-4)
    assert (chairs.latents["z"].explains, chairs.latents["y"].explains) == ("common", "rest")
    assert (chairs.network, chairs.likelihood, hardware.precision(chairs)) == ("conv4x4", "normal", "32-true")
    mnist = configure("similarity", "rotated-mnist", "paper", {"latents": {"z": 32}})
    assert (units(mnist), mnist.epochs, mnist.batch_size, mnist.lr) == ({"z": 32, "y": 1}, 50, 96, 1e-4)


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [("constant", 0, 1.0), ("constant", 99, 1.0), ("cosine", 0, 0.2), ("cosine", 4, 1.0), ("cosine", 5, 1.0),
     ("cosine", 52, 0.5), ("cosine", 100, 0.0)],
)  # fmt: skip
def test_learning_rate_factor(schedule: str, step: int, factor: float) -> None:
    assert learning_rate_factor(schedule, step, 100) == pytest.approx(factor, abs=0.01)


def test_gradients_are_clipped_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[list[float]] = []
    step = Adam.step

    def spy(self: Adam, *args: Any, **kwargs: Any) -> Any:
        groups = [[p.grad.norm() for p in group["params"]] for group in self.param_groups]
        norms.append([torch.stack(group).norm().item() for group in groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Adam, "step", spy)
    train(tiny("predictor", clip_norm=0.01), RunFolder(tmp_path / "run"))
    assert len(norms) == 6 and all(len(groups) == 2 for groups in norms)
    assert all(norm <= 0.01 * 1.001 for groups in norms for norm in groups)


def test_bf16_trains_and_stays_close(tmp_path: Path) -> None:
    folders = {precision: RunFolder(tmp_path / precision) for precision in ("32", "bf16-mixed")}
    for precision, folder in folders.items():
        train(tiny(precision=precision), folder)
    full, half = (float(rows(folder, "validation")[-1]["objective"]) for folder in folders.values())
    assert half == pytest.approx(full, rel=0.02)
    assert {tensor.dtype for tensor in folders["bf16-mixed"].weights("last").values()} == {torch.float32}
