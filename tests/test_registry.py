"""Data sets by name, and ``pyro-disent data``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pyro_disent import from_arrays, plugins
from pyro_disent.cli import data as command
from pyro_disent.data import registry
from pyro_disent.data.dataset import Factor
from pyro_disent.data.sources import Progress, Request
from pyro_disent.errors import InputError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def plugin(monkeypatch: pytest.MonkeyPatch, name: str, module: Any) -> None:
    """Make an installed package bring a data set."""
    monkeypatch.setitem(sys.modules, "somebodys_data", module)
    points = [EntryPoint(name, "somebodys_data", registry.GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == registry.GROUP else [])


def module(**members: Any) -> ModuleType:
    made = ModuleType("somebodys_data")
    vars(made).update(members)
    return made


def told(request: Request, *, seed: int = 0, limit: int | None = None, progress: Any = None, size: int = 3) -> Any:
    """A data set whose options say what it was told."""
    made = from_arrays(np.arange(9 * 16, dtype=np.uint8).reshape(9, 4, 4))
    return replace(made, options={"request": request, "seed": seed, "limit": limit, "size": size})


def test_names_are_listed_without_anything_heavy() -> None:
    script = (
        "import sys; from pyro_disent.data import registry; import pyro_disent.cli.data; registry.names();"
        "print([name for name in ('torch', 'numpy', 'pyro', 'matplotlib', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_there_is() -> None:
    assert {"chairs", "rotated-mnist"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


def test_load_hands_everything_on() -> None:
    data = registry.load("rotated-mnist", source="embedded", limit=20, seed=1)
    assert data.name == "rotated-mnist" and len(data.train) == 20 and data.source.kind == "embedded"


@pytest.mark.parametrize("name", ["rotatedmnist", "rotated_mnist", "Rotated-MNIST "])
def test_an_unknown_name_is_answered_with_what_there_is(name: str) -> None:
    with pytest.raises(
        InputError, match=r"there is no data set and no folder .*: there are .*chairs, .*rotated-mnist"
    ) as caught:
        registry.load(name)
    if name != "Rotated-MNIST ":
        assert "did you mean rotated-mnist?" in str(caught.value)


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=20).filter(lambda name: not (name in registry.names() or registry.is_folder(name))))
def test_no_name_raises_anything_else(name: str) -> None:
    with pytest.raises(InputError):
        registry.describe(name)


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`source=disk` is none of"):
        registry.load("rotated-mnist", source="disk")
    with pytest.raises(InputError, match="`limit=-1`"):
        registry.load("rotated-mnist", limit=-1)
    with pytest.raises(InputError, match="holds no MNIST"):
        registry.describe("rotated-mnist", root=tmp_path)


def test_an_unknown_option_is_answered_with_the_accepted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="rotated-mnist has no option color: its options are factors"):
        registry.load("rotated-mnist", color=True)
    plugin(monkeypatch, "plain", module(load=lambda request, seed, limit, progress: None))
    with pytest.raises(InputError, match="plain has no option color: it has no options of its own"):
        registry.load("plain", color=True)
    plugin(monkeypatch, "toys", module(load=told))
    with pytest.raises(InputError, match="toys has no option color: its options are size"):
        registry.load("toys", color=True)
    assert registry.load("toys", size=5).options["size"] == 5


def test_other_packages_bring_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin(monkeypatch, "toys", module(load=told, FACTORS=(Factor("size"),), describe=lambda request: "a shop"))
    assert "toys" in registry.names()
    data = registry.load("toys", root=tmp_path, seed=4, limit=2)
    told_of = data.options
    assert told_of["request"] == Request("auto", tmp_path) and (told_of["seed"], told_of["limit"]) == (4, 2)
    described = registry.describe("toys")
    assert described[:3] == ("toys", (Factor("size"),), "a shop") and list(map(str, described.options)) == ["size"]
    with pytest.raises(InputError, match="toys has nothing to prepare"):
        registry.prepare("toys")


def test_a_name_of_ours_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "rotated-mnist", module(load=told))
    assert registry.load("rotated-mnist", source="embedded", limit=1).name == "rotated-mnist"


def test_a_folder_stands_in_place_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, registry.FOLDER, module(load=told))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my images").mkdir()
    (tmp_path / "chairs").mkdir()
    assert registry.load("my images").options["request"] == Request("local", Path("my images"))
    assert registry.absolute_name("my images") == str(tmp_path / "my images")
    assert registry.absolute_name("chairs") == "chairs"  # a data set's name before a folder's
    assert registry.absolute_name("./chairs") == str(tmp_path / "chairs")
    for name in ("", "no such folder", "null\0character"):
        with pytest.raises(InputError, match="no data set and no folder"):
            registry.load(name)
    for said in ({"source": "embedded"}, {"root": tmp_path}):
        with pytest.raises(InputError, match="is its own source"):
            registry.load("my images", **said)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command.app, list(arguments), catch_exceptions=False)


def test_list_says_where_each_would_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Request) -> str:
        raise InputError("the shop is closed")

    plugin(monkeypatch, "toys", module(load=told, describe=broken))
    lines = run("list").stdout.splitlines()
    assert any("rotated-mnist" in line and "rotation" in line and "embedded" in line for line in lines)
    assert any("toys" in line and "the shop is closed" in line for line in lines)
    with pytest.raises(InputError, match="`source=disk`"):
        run("list", "--source", "disk")


def test_show_writes_a_contact_sheet_and_prints_its_path_last(tmp_path: Path) -> None:
    done = run("show", "rotated-mnist", "--source", "embedded", "--pairs", "3")
    *_, source, path = done.stdout.splitlines()
    assert path == "rotated-mnist-pairs.png" and "embedded" in source
    first = (tmp_path / path).read_bytes()
    assert first.startswith(b"\x89PNG")
    deep = tmp_path / ("long" * 30) / "sheet.png"
    deep.parent.mkdir()
    done = run("show", "rotated-mnist", "--source", "embedded", "--pairs", "3", "--seed", "1", "--out", str(deep))
    assert done.stdout.splitlines()[-1] == str(deep)
    assert deep.read_bytes() != first


def test_show_refuses_a_path_it_cannot_write(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "sheet.png"):
        with pytest.raises(InputError, match="--out"):
            run("show", "rotated-mnist", "--source", "embedded", "--out", str(path))


def test_prepare_prints_where_it_lies_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("prepare", "rotated-mnist", "--source", "embedded")
    assert Path(done.stdout.strip()).exists() and done.stderr == ""

    def slow(request: Request, *, seed: int = 0, progress: Progress | None = None) -> Path:
        assert progress is not None
        for number in range(1, 101):
            progress(number, 100)
        return Path("here")

    plugin(monkeypatch, "toys", module(load=told, prepare=slow))
    done = run("prepare", "toys")
    assert done.stdout == "here\n"
    assert done.stderr == ""  # off a terminal, what is done in a few seconds says nothing
    monkeypatch.setattr("pyro_disent.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    assert run("prepare", "toys").stderr.splitlines()[0] == "preparing toys: 1 of 100"
