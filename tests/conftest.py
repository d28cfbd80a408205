"""What every test gets: one thread, an empty parameter store, a cache of its own, and a known random state."""

from __future__ import annotations

import functools
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

# Before the first library that reads it: two workers whose scikit-learn takes two cores each wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyro
import pytest
import torch
from PIL import Image
from sklearn import ensemble

from pyro_disent import plugins
from pyro_disent.evaluation import counterfactuals
from pyro_disent.evaluation.counterfactuals import swap_error
from tests.mnist_files import part_of_the_sample, whole_sample


@pytest.fixture(autouse=True)
def _clean_state() -> Iterator[None]:
    torch.set_num_threads(1)
    pyro.clear_param_store()
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


@pytest.fixture(scope="session", autouse=True)
def _few_digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the digits that come with the package, few: every run validates on a tenth of them. See `whole_sample`."""
    with part_of_the_sample(tmp_path_factory.mktemp("sample") / "mnist_sample.npz"):
        yield


@pytest.fixture(scope="module", name="whole_sample")
def _whole_sample() -> Iterator[None]:
    with whole_sample():
        yield


TREES, PAIRS = 25, 60
"""Of an evaluation, where its protocol has 100 and 1,000: enough to read all that a code tells, and far sooner done."""
BOOSTED = ("HistGradientBoostingRegressor", "HistGradientBoostingClassifier")


@pytest.fixture(scope="session", autouse=True)
def _short_evaluations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in BOOSTED:
            patch.setattr(ensemble, name, functools.partial(getattr(ensemble, name), max_iter=TREES))
        patch.setitem(swap_error.__kwdefaults__, "pairs", PAIRS)
        yield


@pytest.fixture(scope="module")
def full_protocol() -> Iterator[None]:
    """Metrics as users have them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in BOOSTED:
            patch.setattr(ensemble, name, getattr(ensemble, name).func)
        patch.setitem(swap_error.__kwdefaults__, "pairs", counterfactuals.PAIRS)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_look_ups() -> Iterator[None]:
    """Other packages' entry points, read again only where a folder of modules has changed.

    A training asks for them 25 times, each time from the files of every package that is installed.
    """
    found: dict[Any, EntryPoints] = {}

    def entry_points(group: str) -> EntryPoints:
        folders = tuple((path, Path(path).stat().st_mtime_ns) for path in sys.path if Path(path).exists())
        if (folders, group) not in found:
            found[folders, group] = read(group=group)
        return found[folders, group]

    read: Callable[..., EntryPoints] = plugins.entry_points
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "entry_points", entry_points)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """A file that is made whole here has to outlive its process, and not the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole session, so that what is rendered is rendered once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(session_cache))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of whoever runs it, or the network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    def refuse_elsewhere(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            refuse()
        connect(self, address)

    connect = socket.socket.connect
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse_elsewhere)


def pytest_collection_finish() -> None:
    """Collect garbage less often: a fifth of the time of a test that compiles went into looking for it.

    Tracing makes millions of short-lived objects, and each collection went through all that torch and the like brought.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """The command line in this process, as a new one takes seconds; in ``tmp_path`` unless ``cwd`` is said."""

    from pyro_disent.cli.main import main

    def in_process(*arguments: str | Path, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
        monkeypatch.setattr(sys, "argv", ["pyro-disent", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(stop.value.code or 0), out, err)

    return in_process


@pytest.fixture
def chairs(tmp_path: Path) -> Path:
    """Three chairs in the layout of the real set, four views each."""
    root = tmp_path / "files"
    rng = np.random.default_rng(0)
    for chair in ("a1", "b2", "c3"):
        renders = root / "rendered_chairs" / chair / "renders"
        renders.mkdir(parents=True)
        for index, azimuth in enumerate((0, 11, 23, 34)):
            pixels = np.full((600, 600, 3), 255, np.uint8)
            pixels[200:400, 150 + 40 * index : 400] = rng.integers(0, 255, 3)
            Image.fromarray(pixels).save(renders / f"image_{index:03d}_p020_t{azimuth:03d}_r096.png")
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
