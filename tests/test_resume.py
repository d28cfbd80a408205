"""Going on with a run: from a state that is whole, on another device, and on what was handed over from Python."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pyro_disent
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError, Interrupted
from pyro_disent.runs.run import load
from pyro_disent.training import building, datasets, log, loop, schedule, state
from pyro_disent.training.feed import Feed
from pyro_disent.training.log import Silent
from pyro_disent.training.record import read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from pyro_disent.training.validation import Progress
from tests.table import tiny
from tests.test_fit import Interrupting


@functools.cache
def half_a_run() -> Path:
    """A run of 6 steps that was interrupted after some, with an opponent; with a state for every test to damage."""
    root = Path(tempfile.mkdtemp())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "LOG_EVERY", 1)
        with pytest.raises(Interrupted):
            train(tiny("cycle+predictor"), RunFolder(root / "run"), reporter=Interrupting(after=5))
    return root / "run"


@functools.cache
def saved_state() -> dict[str, Any]:
    return RunFolder(half_a_run()).state("last")


def a_copy(tmp_path: Path) -> RunFolder:
    shutil.copytree(half_a_run(), tmp_path / "run")
    return RunFolder(tmp_path / "run")


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


# Pointers


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize(
    "pointer",
    [
        "ABSOLUTE",
        "../other/checkpoints/NAME",
        "../checkpoints/NAME",
        "./NAME",
        "NAME/",
        "NAME/.",
        "NAME\n",
        "..",
        "",
        "best-of-my-photos",
        "OTHER",
        ["NAME"],
        7,
        None,
    ],
    ids=repr,
)
def test_a_pointer_to_anything_but_a_checkpoint_of_the_run_is_refused(which: Any, pointer: Any, tmp_path: Path) -> None:
    folder = a_copy(tmp_path)
    shutil.copytree(folder.path, tmp_path / "other")
    name = folder.checkpoint(which).name
    shutil.copytree(folder.checkpoint(which), folder.checkpoints / "best-of-my-photos")
    other = f"{'last' if which == 'best' else 'best'}-000000001"
    shutil.copytree(folder.checkpoint(which), folder.checkpoints / other)
    if isinstance(pointer, str):
        absolute = str(tmp_path / "other/checkpoints" / name)
        pointer = pointer.replace("NAME", name).replace("ABSOLUTE", absolute).replace("OTHER", other)
    (folder.checkpoints / f"{which}.json").write_text(json.dumps({"folder": pointer, "step": 1}))
    with pytest.raises(InputError, match=f"no {which} checkpoint that can be read"):
        load(folder.path, which)


@pytest.mark.parametrize("text", ["", "[]", '"best-000000001"', "7", "{}", '{"folder": {}}', "\x00", "[" * 100_000])
def test_a_pointer_that_is_no_pointer_is_refused(text: str, tmp_path: Path) -> None:
    folder = a_copy(tmp_path)
    (folder.checkpoints / "last.json").write_text(text)
    with pytest.raises(InputError, match="no last checkpoint that can be read"):
        train(tiny(), folder, resume=True)


# States

Restore = Callable[[RunFolder], Any]
Damage = Callable[[dict[str, Any], int], None]


def moment(name: str, change: Callable[[torch.Tensor], Any]) -> Damage:
    def damage(state: dict[str, Any], which: int) -> None:
        states = state["optimizer"]["state"]
        chosen = states[list(states)[which % len(states)]]
        chosen[name] = change(chosen[name])

    return damage


def optimizer(change: Callable[[dict[str, Any], int], None]) -> Damage:
    return lambda state, which: change(state["optimizer"], which)


def group(**values: Any) -> Damage:
    def damage(state: dict[str, Any], which: int) -> None:
        groups = state["optimizer"]["param_groups"]
        groups[which % len(groups)] |= values

    return damage


def part(name: str, value: Any) -> Damage:
    def damage(state: dict[str, Any], _: int) -> None:
        *path, last = name.split(".")
        holder = functools.reduce(lambda found, key: found[key], path, state)
        if value is KeyError:
            del holder[last]
        else:
            holder[last] = value(holder[last]) if callable(value) else value

    return damage


def nth(states: dict[int, Any], which: int) -> int:
    return list(states)[which % len(states)]


WRONG_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "cut": lambda tensor: tensor.flatten()[:-1] if tensor.dim() else tensor.new_zeros(2),
    "empty": lambda tensor: tensor.new_zeros(0),
    "an axis more": lambda tensor: tensor[None],
    "double": lambda tensor: tensor.double(),
    "whole numbers": lambda tensor: tensor.long(),
    "half": lambda tensor: tensor.half(),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "NaN": lambda tensor: torch.full_like(tensor, math.nan),
    "infinite": lambda tensor: torch.full_like(tensor, math.inf),
    "sparse": lambda tensor: tensor.to_sparse(),
    "on no device": lambda tensor: tensor.to("meta"),
    "a parameter": lambda tensor: nn.Parameter(tensor),
    "a number": lambda tensor: 1.0,
    "none": lambda tensor: None,
    "a list": lambda tensor: tensor.tolist(),
}
DAMAGES: dict[str, Damage] = {
    **{
        f"{name} {how}": moment(name, change)
        for name in ("exp_avg", "exp_avg_sq", "step")
        for how, change in WRONG_TENSORS.items()
    },
    "step negative": moment("step", lambda tensor: tensor - 100),
    "step later than the run": moment("step", lambda tensor: tensor + 100),
    "step between": moment("step", lambda tensor: tensor - 0.5),
    "exp_avg_sq negative": moment("exp_avg_sq", lambda tensor: -1 - tensor),
    "a parameter missing": optimizer(lambda found, which: found["state"].pop(nth(found["state"], which))),
    "a parameter too many": optimizer(lambda found, which: found["state"].update({10_000 + which: found["state"][0]})),
    "a parameter by name": optimizer(lambda found, which: found["state"].update({"w": found["state"][0]})),
    "parameters exchanged": optimizer(
        lambda found, _: found["state"].update({0: found["state"][1], 1: found["state"][0]})
    ),
    "a moment missing": optimizer(lambda found, which: found["state"][nth(found["state"], which)].pop("exp_avg")),
    "a moment too many": optimizer(
        lambda found, which: found["state"][nth(found["state"], which)].update(max_exp_avg_sq=torch.zeros(1))
    ),
    "a state of none": optimizer(lambda found, which: found["state"].update({nth(found["state"], which): None})),
    "a group missing": optimizer(lambda found, _: found["param_groups"].pop()),
    "a group too many": optimizer(lambda found, _: found["param_groups"].append(found["param_groups"][0])),
    "groups exchanged": optimizer(lambda found, _: found["param_groups"].reverse()),
    "no groups": optimizer(lambda found, _: found.pop("param_groups")),
    "groups of none": optimizer(lambda found, _: found.update(param_groups=[None, None])),
    "no state": optimizer(lambda found, _: found.pop("state")),
    **{
        f"a group's {name} {value}": group(**{name: value})
        for name, values in {
            "lr": [math.nan, -1.0, math.inf, "fast", None, torch.tensor(1.0)],
            "initial_lr": [math.nan, -1.0],
            "betas": [(0.9, 2.0), (0.9,), None, [0.9, 0.999]],
            "eps": [math.nan, "small"],
            "params": [[0], [], None, ["w"]],
            "amsgrad": [True],
            "more": [1],
        }.items()
        for value in values
    },
    **{
        f"{name} {value}": part(name, value)
        for name, values in {
            "optimizer": [KeyError, None, []],
            "step": [KeyError, None, -1, 1.5, True, "5", 10**9],
            "best": [KeyError, None, math.nan, -math.inf, 1, torch.tensor(1.0)],
            "feed": [KeyError, None, []],
            "feed.epoch": [KeyError, -1, 0.5, True, 7],
            "feed.position": [KeyError, -1, 99, None],
            "pending": [[], {}, torch.zeros(1, 1)],
            "pending.names": [KeyError, None, ["loss", 7], []],
            "pending.values": [KeyError, None, torch.zeros(3), torch.zeros(1, 99), [[1.0]]],
        }.items()
        for value in values
    },
    "losses NaN": part("pending.values", lambda values: values.new_full((1, values.shape[1]), math.nan)),
    "losses of more steps": part("pending.values", lambda values: values.new_zeros(99, values.shape[1])),
    "losses as whole numbers": part("pending.values", lambda values: values.long()),
}  # fmt: skip


def write_state(folder: RunFolder, state: Any) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (folder.checkpoint("last") / "state.pt").write_bytes(buffer.getvalue())


@pytest.fixture(scope="module")
def restored() -> Restore:
    """`state.restore` into a fresh training of the half run, without its data being loaded each time."""
    config = read_fit(half_a_run() / "config.json")
    recorded = RunFolder(half_a_run()).read_record()
    data = datasets.load_data(config)
    latents = recorded.build_latents()
    vae, objective = building.build(config, data.image_shape, recorded.edges, latents)
    objective.to(memory_format=torch.channels_last)
    feed = Feed(data.train, config.batch_size, config.seed, 2, vae.sharing)

    def restore(folder: RunFolder) -> Any:
        adam = schedule.make_optimizer(objective, config.lr)
        before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
        rng, position = torch.get_rng_state(), feed.state_dict()
        try:
            return state.restore(folder, objective, Progress(), adam, feed).step
        except InputError:
            assert not adam.state and torch.equal(rng, torch.get_rng_state())  # nothing of it is used
            assert feed.state_dict() == position
            assert all(torch.equal(before[name], tensor) for name, tensor in objective.state_dict().items())
            raise

    return restore


def assert_refused(restored: Restore, damage: str, which: int) -> None:
    state = copy.deepcopy(saved_state())
    DAMAGES[damage](state, which)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match=r"state\.pt"):
        patch.setattr(RunFolder, "state", lambda *_: state)
        restored(RunFolder(half_a_run()))


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused_before_any_of_it_is_used(restored: Restore, damage: str) -> None:
    assert_refused(restored, damage, 0)


@pytest.mark.filterwarnings("ignore:Casting complex values")
@settings(max_examples=30, deadline=None)
@given(damage=st.sampled_from(sorted(DAMAGES)), which=st.integers(1, 200))
def test_a_state_is_refused_wherever_it_is_damaged(restored: Restore, damage: str, which: int) -> None:
    assert_refused(restored, damage, which)


@pytest.mark.parametrize("content", [[], None, 7, torch.zeros(3), {}, {"step": 5}])
def test_what_is_no_state_at_all_is_refused(content: Any, tmp_path: Path, restored: Restore) -> None:
    folder = a_copy(tmp_path)
    write_state(folder, content)
    with pytest.raises(InputError, match=r"state\.pt"):
        restored(folder)


def test_a_whole_state_is_restored_whatever_its_layout(tmp_path: Path, restored: Restore) -> None:
    folder, state = a_copy(tmp_path), copy.deepcopy(saved_state())
    assert restored(folder) == state["step"]
    for each in state["optimizer"]["state"].values():
        each["exp_avg"] = each["exp_avg"].contiguous().transpose(0, -1).contiguous().transpose(0, -1)
    write_state(folder, state)
    assert restored(folder) == state["step"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights, name: weights.pop(name),
        lambda weights, name: weights.update(more=torch.zeros(1)),
        lambda weights, name: weights.update({name: weights[name].double()}),
        lambda weights, name: weights.update({name: weights[name].half()}),
        lambda weights, name: weights.update({name: weights[name].long()}),
        lambda weights, name: weights.update({name: weights[name][None]}),
        lambda weights, name: weights.update({name: weights[name].flatten()[:-1]}),
    ],
    ids=["missing", "too many", "double", "half", "whole numbers", "an axis more", "cut"],
)
@pytest.mark.parametrize("number", [0, -1])
def test_weights_of_another_shape_or_type_are_refused(
    damage: Callable[[dict[str, torch.Tensor], str], Any],
    number: int,
    tmp_path: Path,
    restored: Restore,
) -> None:
    folder = a_copy(tmp_path)
    for which in ("best", "last"):
        weights = folder.weights(which)  # type: ignore[arg-type]
        damage(weights, list(weights)[number])
        safetensors.torch.save_file(weights, folder.checkpoint(which) / "weights.safetensors")  # type: ignore[arg-type]
    for read in (lambda: load(folder.path), lambda: restored(folder)):
        with pytest.raises(InputError, match=r"another model or method: \S+ is "):
            read()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["state.pt", "weights.safetensors"]), st.integers(0, 2**32), st.binary(min_size=1, max_size=9))
def test_bytes_that_were_changed_end_in_a_sentence_or_in_a_state_that_is_whole(
    restored: Restore, file: str, at: int, content: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = a_copy(Path(name))
        path = folder.checkpoint("last") / file
        whole = path.read_bytes()
        at = at % (len(whole) if at % 2 else 2_000)  # half of them in the header
        path.write_bytes(whole[:at] + content + whole[at + len(content) :])
        try:
            restored(folder)
        except InputError as error:
            assert file in str(error) or "another model" in str(error)


def test_the_command_refuses_a_damaged_state(tmp_path: Path) -> None:
    folder, state = a_copy(tmp_path), copy.deepcopy(saved_state())
    for each in state["optimizer"]["state"].values():
        each["exp_avg"] = torch.zeros(1)
    write_state(folder, state)
    before = files(tmp_path)
    with pytest.raises(InputError, match="moment exp_avg"):
        train(read_fit(folder.config_file), folder, resume=True)
    assert files(tmp_path) == before


# Stopped anywhere


STOPS: dict[str, Any] = {"max_steps": 11, "schedule": "cosine", "warmup_steps": 8}  # 4 steps an epoch


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "LOG_EVERY", 3)
        train(tiny("cycle+predictor+similarity", **STOPS), folder)
    return folder


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    """Weights, optimizers, positions and metrics, bit for bit; but for how long it took."""
    for which in ("best", "last"):
        weights = other.weights(which)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in one.weights(which).items())
    states, others = one.state("last"), other.state("last")
    moments, theirs = states.pop("optimizer"), others.pop("optimizer")
    assert moments["param_groups"] == theirs["param_groups"]
    for index, each in moments["state"].items():
        assert all(torch.equal(tensor, theirs["state"][index][name]) for name, tensor in each.items())
    pending, rest = states.pop("pending"), others.pop("pending")
    assert pending["names"] == rest["names"] and torch.equal(pending["values"], rest["values"])
    assert states == others

    def rows(folder: RunFolder) -> list[dict[str, str]]:
        return [{name: value for name, value in row.items() if "second" not in name} for row in folder.metrics()]

    assert rows(one) == rows(other)


@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.integers(0, 9), max_size=3, unique=True).map(sorted))
def test_a_run_stopped_at_any_steps_equals_one_that_was_not(stops: list[int], uninterrupted: RunFolder) -> None:
    take, waiting = loop.Loop._gradients, list(stops)

    def stopping(self: loop.Loop, step: int) -> Any:
        if waiting and step == waiting[0]:
            waiting.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, step)

    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "LOG_EVERY", 3)
        patch.setattr(loop.Loop, "_gradients", stopping)
        folder = RunFolder(Path(root) / "run")
        for number in range(len(stops) + 1):
            with contextlib.suppress(Interrupted):
                train(tiny("cycle+predictor+similarity", **STOPS), folder, resume=number > 0)
        assert not waiting
        assert_same_run(uninterrupted, folder)


# What was handed over from Python, and other devices


def images() -> np.ndarray:
    return np.random.default_rng(0).random((40, 1, 12, 12)).astype(np.float32)


def given_data() -> Any:
    return from_arrays(images(), identity=np.repeat(np.arange(10), 4))


def mine() -> dict[str, nn.Module]:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.GELU())
    return {"encoder": encoder, "decoder": nn.Sequential(nn.Linear(5, 144), nn.Unflatten(1, (1, 12, 12)))}


SHORT: dict[str, Any] = {"batch_size": 8, "max_steps": 10, "latents": {"a": 3, "y": 2}, "preset": "quick", "lr": 1e-3}


def test_a_run_on_what_was_handed_over_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LOG_EVERY", 1)
    torch.manual_seed(1)
    pyro_disent.fit("cycle", given_data(), out=tmp_path / "whole", **mine(), **SHORT)
    torch.manual_seed(1)
    run = tmp_path / "parts"
    with pytest.raises(Interrupted) as stopped:
        pyro_disent.fit("cycle", given_data(), out=run, reporter=Interrupting(6), **mine(), **SHORT)
    call = f"pyro_disent.resume({str(run)!r}, data=..., encoder=..., decoder=...)"
    assert str(stopped.value) == f"interrupted; go on with: {call}"
    with pytest.raises(InputError, match=r"from Python: go on with pyro_disent\.resume\(.*, data=\.\.\., enc"):
        train(read_fit(run / "config.json"), RunFolder(run), resume=True)
    before = RunFolder(run).state("last")["step"]
    words = {"data": "given_data()", "encoder": "networks['encoder']", "decoder": "networks['decoder']"}
    for name, value in words.items():  # what was said is taken at its word
        call = call.replace(f"{name}=...", f"{name}={value}")
    resumed = eval(call, {"pyro_disent": pyro_disent, "given_data": given_data, "networks": mine()})
    assert before < RunFolder(run).state("last")["step"] == 10
    whole = RunFolder(tmp_path / "whole").weights("last")
    assert all(torch.equal(tensor, RunFolder(run).weights("last")[name]) for name, tensor in whole.items())
    assert resumed.path == run and list(resumed.record.fit.latents) == ["a", "y"]


@pytest.fixture(scope="module")
def half_given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("given") / "run"
    settings = SHORT | {"max_steps": 4, "network": "mlp"}
    pyro_disent.fit("cycle", given_data(), out=run, **settings)
    return run


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, r"handed over from Python: go on with pyro_disent\.resume\('.*run', data=\.\.\.\)$"),
        ({"data": "DATA", "method": "vae"}, r"method='vae' contradicts .*run, which was begun with 'cycle'"),
        ({"data": "DATA", "lr": 0.5}, r"lr=0\.5 contradicts .* begun with 0\.001"),
        ({"data": "DATA", "latents": {"a": 3}}, r"latents=\{'a': 3\} contradicts"),
        ({"data": "DATA", "preset": "paper"}, "preset='paper' contradicts"),
        ({"data": "DATA", "batch_size": 4}, "batch_size=4 contradicts .* begun with 8"),
        ({"data": "DATA", "learning_rate": 1}, "there is no setting learning_rate"),
        ({"data": "chairs"}, "data='chairs' contradicts .* begun with 'given'"),
        ({"data": "OTHER"}, "was trained on data of sha256"),
        ({"data": "DATA", "overwrite": True}, "goes on in its own folder"),
        ({"data": "DATA", "out": "elsewhere"}, "goes on in its own folder"),
        (
            {"data": "DATA", "NETWORKS": True},
            "trained with no encoder and no decoder handed over: leave `encoder=",
        ),
        ({"data": "DATA", "encoder": nn.Identity()}, "handed over together"),
        ({"data": "DATA", "device": "tpu"}, "not one of auto, cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_contradicts_the_run_is_refused(said: dict[str, Any], says: str, half_given: Path) -> None:
    before = files(half_given)
    values = {"DATA": given_data, "OTHER": lambda: from_arrays(images()[::-1].copy())}
    said = {
        name: values[value]() if isinstance(value, str) and value in values else value for name, value in said.items()
    }
    if said.pop("NETWORKS", False):
        said |= mine()
    with pytest.raises(InputError, match=says):
        pyro_disent.fit(resume=half_given, **said)
    assert files(half_given) == before


def test_what_is_said_again_is_no_contradiction(half_given: Path) -> None:
    settings = SHORT | {"max_steps": 4, "network": "mlp"}
    run = pyro_disent.fit("cycle", given_data(), resume=str(half_given), out=half_given, device="cpu", **settings)
    assert run.path == half_given


def test_neither_method_nor_run_is_a_sentence() -> None:
    with pytest.raises(InputError, match="say what to train"):
        pyro_disent.fit(data=images())


@pytest.mark.parametrize(
    ("said", "made"), [({"a": 3}, {"a": 3}), ({"y": 2, "z": 3}, {"y": 2, "z": 3}), (None, {"z": 10, "y": 1})]
)
def test_latents_from_python_are_those_and_no_others(said: Any, made: dict[str, int], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 32, "max_steps": 1, "preset": "quick"}
    if said is not None:
        settings["latents"] = said
    run = pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "run", **settings)
    assert [(latent.name, latent.units) for latent in run.vae.latents] == list(made.items())


def as_if_from_cuda(folder: RunFolder) -> None:
    """What a run on CUDA of an earlier version left: random states of a CUDA device, and no losses."""
    state = copy.deepcopy(saved_state())
    del state["pending"]
    state["rng"] = torch.get_rng_state()
    state["cuda_rng"] = torch.zeros(16, dtype=torch.uint8)
    state["feed"]["generator"] = torch.zeros(16, dtype=torch.uint8)
    write_state(folder, state)
    folder.config_file.write_text(folder.config_file.read_text().replace('"device": "cpu"', '"device": "cuda"'))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_run_from_cuda_says_how_it_goes_on_without_one_and_does(tmp_path: Path) -> None:
    folder = a_copy(tmp_path)
    as_if_from_cuda(folder)
    config = read_fit(folder.config_file)
    says = rf"{folder.path} was trained on CUDA, .*: go on with pyro-disent fit --resume {folder.path} --device cpu$"
    with pytest.raises(InputError, match=says):
        train(config, folder, resume=True)
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    train(config, folder, resume=True, moved_to="cpu", reporter=Listening())
    assert folder.state("last")["step"] == 6 and not {"rng", "cuda_rng"} & folder.state("last").keys()
    assert "older    state of an earlier version: from here on, what is drawn is drawn by new rules" in said
    assert "moved    from cuda to cpu: what is drawn is drawn anew" in said
    train(config, folder, resume=True)  # it is a run on a CPU from now on
