"""Runs that are a folder and one weight, what else may lie at a path, and all of a folder, to compare."""

from __future__ import annotations

from pathlib import Path

import torch

from pyro_disent.training.run_folder import RunFolder
from tests.table import RECORD


def saved(folder: RunFolder, value: float, step: int = 1) -> None:
    for which in ("best", "last"):
        folder.save(which, step, {"w": torch.full((2,), value)}, {"step": step})  # type: ignore[arg-type]


def a_run(path: Path, value: float = 1.0) -> RunFolder:
    """A run whose only weight has this value."""
    folder = RunFolder(path)
    with folder:
        folder.create(RECORD)
        saved(folder, value)
    return folder


def value_of(path: Path) -> float:
    """The weight of a run, which both checkpoints have."""
    values = [RunFolder(path).weights(which)["w"] for which in ("best", "last")]  # type: ignore[arg-type]
    assert torch.equal(*values)
    return values[0][0].item()


def contents(root: Path) -> dict[str, bytes | str | None]:
    """Every path below a folder: a file's bytes, where a link leads, None for a folder."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(root.rglob("*"))
    }


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def an_empty_folder(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_to_a_run(path: Path) -> None:
    a_run(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def another_run(path: Path) -> None:
    a_run(path)


APPEARING = [a_file, a_folder, an_empty_folder, a_dangling_link, a_link_to_a_run]
