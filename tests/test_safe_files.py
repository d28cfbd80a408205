"""What a stranger's checkpoint may hold is refused in one sentence, and nothing in it is executed."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pyro_disent.errors import InputError
from pyro_disent.training import checkpoints


class Harmful:
    """A pickle of it makes a folder in the working folder when it is executed."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("whole", [False, True])
def test_a_crafted_pickle_is_refused_and_not_executed(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / checkpoints.STATE
    if whole:
        torch.save({"step": Harmful()}, path)
    else:
        path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(InputError, match=r"state\.pt cannot be read as a training state") as refused:
        checkpoints.state(tmp_path)
    assert "weights_only" not in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a.bias": torch.tensor([0.0, value])}, tmp_path / checkpoints.WEIGHTS)
    with pytest.raises(InputError, match=r"weights\.safetensors .*a\.bias has values that are not finite"):
        checkpoints.weights(tmp_path)


@pytest.mark.parametrize("length", [2**30, 2**62])
def test_a_header_longer_than_its_file_is_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / checkpoints.WEIGHTS).write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read as a checkpoint"):
        checkpoints.weights(tmp_path)


@pytest.mark.parametrize("read", [checkpoints.weights, checkpoints.state])
@pytest.mark.parametrize("odd", ["pipe", "device"])
def test_pipes_and_devices_are_not_opened(read: Callable[[Path], object], odd: str, tmp_path: Path) -> None:
    for name in (checkpoints.WEIGHTS, checkpoints.STATE):
        if odd == "pipe":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is no regular file"):
        read(tmp_path)


@pytest.mark.parametrize("folder", ["../last-000000001", "/tmp", "last-000000001/..", 3, None, ["last-000000001"]])
def test_a_pointer_does_not_leave_its_folder(folder: object, tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text(json.dumps({"folder": folder, "step": 1}))
    assert checkpoints.named(tmp_path, "last") is None


def test_a_pointer_that_is_a_pipe_names_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.json")
    assert checkpoints.named(tmp_path, "last") is None


@pytest.mark.parametrize("content", ["[]", "[" * 100_000, "3", "null", '{"folder": NaN}'])
def test_a_pointer_that_is_no_object_names_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text(content)
    assert checkpoints.named(tmp_path, "last") is None
