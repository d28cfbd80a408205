"""Every command that writes a file: what it writes over, and what it never does."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyro_disent import files
from pyro_disent.errors import InputError
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import tiny
from tests.test_cli import assert_refused


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    train(tiny(max_steps=1), folder)
    return folder.path


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # a socket's whole path may have 100 letters only
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(place)


def a_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def a_link_to_a_file(path: Path) -> None:
    path.with_name("theirs.png").write_text("theirs")
    path.symlink_to("theirs.png")


def a_link_to_a_folder(path: Path) -> None:
    path.with_name("theirs").mkdir()
    path.symlink_to("theirs")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def in_no_folder(path: Path) -> None:
    """Its folder is not there."""
    path.parent.rmdir()


OBSTACLES = [
    a_folder,
    a_pipe,
    a_socket,
    a_device,
    a_link_to_a_device,
    a_link_to_a_file,
    a_link_to_a_folder,
    a_dangling_link,
    in_no_folder,
]
COMMANDS: dict[str, list[str]] = {
    "data show": ["data", "show", "rotated-mnist", "--source", "embedded", "--pairs", "1", "--out", "FILE"],
    "swap": ["swap", "RUN", "0", "1", "--out", "FILE"],
    "traverse": ["traverse", "RUN", "--out", "FILE"],
    "sample": ["sample", "RUN", "--n", "1", "--out", "FILE"],
}


def kind(path: Path) -> tuple[int, int] | None:
    return (path.lstat().st_mode, path.lstat().st_ino) if os.path.lexists(path) else None


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_regular_file_is_never_written_over(
    command: str,
    obstacle: Callable[[Path], None],
    run: Path,
    tmp_path: Path,
    call: Any,
) -> None:
    path = tmp_path / "out" / "picture.png"
    path.parent.mkdir()
    obstacle(path)
    before, around = kind(path), sorted(map(str, tmp_path.rglob("*")))
    words = {"FILE": str(path), "RUN": str(run)}
    assert_refused(call(*(words.get(word, word) for word in COMMANDS[command])), f"--out {path}")
    assert kind(path) == before and sorted(map(str, tmp_path.rglob("*"))) == around
    with pytest.raises(OSError):
        files.write_atomically(path, b"")
    assert kind(path) == before


@pytest.mark.parametrize("name", ["picture", "picture.gif", "picture.py", "picture.png.txt", ".png", "config.json"])
@pytest.mark.parametrize("command", COMMANDS)
def test_other_suffixes_are_refused(command: str, name: str, run: Path, tmp_path: Path, call: Any) -> None:
    (tmp_path / name).write_text("mine")
    words = {"FILE": name, "RUN": str(run)}
    assert_refused(call(*(words.get(word, word) for word in COMMANDS[command])), "must end in .png, .pdf or .svg")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["picture.png", "picture.PDF", "picture.svg"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_and_a_new_name_are_written(command: str, name: str, run: Path, tmp_path: Path, call: Any) -> None:
    if name != "picture.svg":
        (tmp_path / name).write_text("old")
    words = {"FILE": name, "RUN": str(run)}
    result = call(*(words.get(word, word) for word in COMMANDS[command]))
    assert result.returncode == 0, result.stderr
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name[-3:].lower()]
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == [name]


@pytest.mark.parametrize("obstacle", [each for each in OBSTACLES if each is not in_no_folder], ids=lambda f: f.__name__)
def test_an_evaluation_is_refused_before_it_is_made(
    obstacle: Callable[[Path], None],
    tmp_path: Path,
    run: Path,
    call: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("it was made")

    monkeypatch.setattr("pyro_disent.evaluation.evaluate.evaluate", measured)
    path = run / "evaluation.json"
    obstacle(path)
    try:
        before = kind(path)
        assert_refused(call("evaluate", str(run)), f"{path} ")
        assert kind(path) == before
    finally:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for theirs in (run / "theirs", run / "theirs.png"):
            if theirs.exists():
                theirs.rmdir() if theirs.is_dir() else theirs.unlink()


def test_figures_that_lead_elsewhere_are_not_written(run: Path, tmp_path: Path, call: Any) -> None:
    (run / "figures").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "swap.png").write_text("mine")
    try:
        on_images = (["swap", str(run), "0", "1"], ["traverse", str(run)])
        for command in (*on_images, ["sample", str(run), "--n", "1"], ["figures", str(run)]):
            assert_refused(call(*command), "figures is not a folder of this run")
    finally:
        (run / "figures").unlink()
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["swap.png"]
    assert (tmp_path / "swap.png").read_text() == "mine"


@pytest.mark.parametrize("obstacle", [each for each in OBSTACLES if each is not in_no_folder], ids=lambda f: f.__name__)
def test_metrics_are_never_added_to_anything_else(obstacle: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    obstacle(path)
    before = kind(path)
    for write in (files.append, files.write_atomically):
        with pytest.raises(OSError, match="only a regular file"):
            write(path, b"1,2\n")
    assert kind(path) == before


def test_a_file_of_the_name_of_a_partial_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".a.json.partial").write_text("mine")
    files.write_atomically(tmp_path / "a.json", b"{}")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {".a.json.partial": "mine", "a.json": "{}"}


def test_notes_of_an_error_are_said(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        error = InputError("no such thing")
        error.add_note("the run that was at run is there again")
        raise error

    monkeypatch.setattr("pyro_disent.runs.job.train", fail)
    result = call("fit", "--method", "vae", "--data", "rotated-mnist", "--out", "run")
    assert_refused(result, "no such thing; the run that was at run is there again")
