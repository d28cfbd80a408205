"""Figures are the same whatever matplotlib's user has set, and the settings are the same after a figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import pytest
import torch

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor
from pyro_disent.figures import backend, grid, save
from pyro_disent.figures.pairs import contact_sheet

SETTINGS: dict[str, Any] = {
    "axes.facecolor": "red",
    "axes.linewidth": 9,
    "figure.autolayout": True,
    "figure.constrained_layout.use": True,
    "figure.dpi": 300,
    "figure.facecolor": "black",
    "font.family": ["serif"],
    "font.sans-serif": ["cmr10"],
    "font.size": 30,
    "font.weight": "bold",
    "image.aspect": "equal",
    "image.cmap": "jet",
    "image.interpolation": "bicubic",
    "image.origin": "lower",
    "image.resample": False,
    "lines.antialiased": False,
    "patch.antialiased": False,
    "path.sketch": (1, 100, 2),
    "pdf.compression": 0,
    "savefig.bbox": "tight",
    "savefig.dpi": 10,
    "savefig.facecolor": "green",
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "theirs",
    "text.antialiased": False,
    "text.color": "white",
    "text.hinting": "none",
    "text.parse_math": False,
    "text.usetex": True,
}


def settings() -> dict[str, Any]:
    """All but the backend, which is chosen where somebody looks at it."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def drawn(folder: Path, suffix: str = "png") -> list[bytes]:
    """The bytes of a grid and of a sheet, made and saved now."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 3, 16, 12, generator=generator)
    values = {"zoom": torch.rand(2, 3, generator=generator)}
    sheet = contact_sheet(Batch(images, factors=values), (Factor("zoom"),), "Pairs for $5")
    rows = grid([list(images[0]), list(images[1])], title="a $ title", row_labels=["one", "two"], header_rows=1)
    return [save(figure, folder / f"{k}.{suffix}").read_bytes() for k, figure in enumerate((rows, sheet))]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        return {suffix: drawn(tmp_path_factory.mktemp("plain"), suffix) for suffix in ("png", "svg", "pdf")}


@pytest.mark.parametrize("first", range(6))
def test_some_settings_change_nothing(first: int, plain: dict[str, list[bytes]], tmp_path: Path) -> None:
    with matplotlib.rc_context(dict(list(SETTINGS.items())[first::6])):
        before = settings()
        assert drawn(tmp_path) == plain["png"]
        assert settings() == before


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_all_settings_and_any_style_change_nothing(suffix: str, plain: dict[str, list[bytes]], tmp_path: Path) -> None:
    with matplotlib.rc_context(SETTINGS):
        assert drawn(tmp_path, suffix) == plain[suffix]
    with matplotlib.style.context("dark_background"):
        assert drawn(tmp_path, suffix) == plain[suffix]


def test_a_failure_leaves_the_settings_as_they_were(tmp_path: Path) -> None:
    figure = grid([[torch.zeros(1, 4, 4)]])
    with matplotlib.rc_context({"font.size": 3}):
        before = settings()
        with pytest.raises(ValueError, match="nonsense"):
            save(figure, tmp_path / "figure.nonsense")
        assert settings() == before


CODE = """
import os, sys, pathlib, json
import numpy, PIL.Image, dateutil, pyparsing, logging, urllib.request, unittest.mock, tempfile  # once for all cases

def of_case(case):
    os.environ.update(case["variables"])
    os.chdir(case["folder"])
    sys.stderr.flush()
    os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 2)
    import runpy
    runpy.run_path(sys.argv[1])
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.text(0, 0, "a")
    figure.savefig("figure.png")
    left = {"backend": str(dict.__getitem__(matplotlib.rcParams, "backend")), "size": matplotlib.rcParams["font.size"]}
    left |= {"variable": os.environ.get("MPLBACKEND"), "windows": "matplotlib.pyplot" in sys.modules}
    pathlib.Path("left.json").write_text(json.dumps(left))

for case in json.loads(sys.argv[2]):
    if not os.fork():
        of_case(case)
        os._exit(0)
    os.wait()
"""
"""Imports matplotlib as figures do, in a process of its own for each case, and writes down what it leaves to others."""

DAMAGED = (b"\xff\xfe\x00font.size: 3", b"nonsense", b"font.size: huge\nno.such.key: 1\n", b"backend: none-such\n")


def test_the_import_survives_whatever_is_set(tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {}

    def case(name: str, content: bytes | None = None, where: str = "", **variables: str) -> None:
        folder = tmp_path / f"{len(cases)}"
        settings = folder / "settings" if where else folder
        settings.mkdir(parents=True)
        (folder / "file").touch()
        if content is not None:
            (settings / "matplotlibrc").write_bytes(content)
        if where:
            variables[where] = str(settings)
        cases[name] = {"folder": str(folder), "variables": {k: v.format(folder=folder) for k, v in variables.items()}}

    named = ("no-such-backend", "module://matplotlib_inline.backend_inline", "module://no_such_module", "SVG")
    for backend_name in named:
        case(backend_name, MPLBACKEND=backend_name)
    for number, content in enumerate(DAMAGED):
        case(f"damaged {number}", content)
    case("damaged elsewhere", DAMAGED[0], "MATPLOTLIBRC")
    for variable in ("MPLCONFIGDIR", "HOME"):
        unset = {"MPLCONFIGDIR": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
        case(f"no folder in {variable}", **unset | {variable: "{folder}/file/below"})
    case("usable", b"font.size: 3")

    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    command = [sys.executable, "-c", CODE, backend.__file__, json.dumps(list(cases.values()))]
    subprocess.run(command, env=environment, check=True, timeout=100)
    for name, each in cases.items():
        folder = Path(each["folder"])
        assert (folder / "said").read_text() == "", name
        left = json.loads((folder / "left.json").read_text())
        assert left["size"] == (3 if name == "usable" else 10), name
        assert left["variable"] == each["variables"].get("MPLBACKEND") and not left["windows"], name
        if name in ("SVG", "module://no_such_module"):  # what matplotlib itself accepts when it is imported
            assert left["backend"].lower() == name.lower()


def test_a_figure_of_another_process_with_everything_wrong_is_the_same(
    plain: dict[str, list[bytes]], tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("\n".join(["text.usetex: True", "font.size: 30", "bad.key: 1"]))
    wrong = {"MPLBACKEND": "no-such-backend", "MPLCONFIGDIR": str(tmp_path / "matplotlibrc"), "OMP_NUM_THREADS": "1"}
    code = "import pathlib, pyro_disent.figures; from tests.test_figure_settings import drawn; drawn(pathlib.Path('.'))"
    environment = {**os.environ, **wrong, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    assert [(tmp_path / f"{k}.png").read_bytes() for k in range(2)] == plain["png"]
