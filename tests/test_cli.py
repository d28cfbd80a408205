"""The command line through its real entry point: the installed program, or its `main` in this process."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pyro_disent.cli.sentences import as_flags
from pyro_disent.objectives.methods import METHODS
from pyro_disent.training.compiling import WORTH_COMPILING
from tests import forked

PROGRAM = Path(sys.executable).with_name("pyro-disent")
TINY = ["--data", "rotated-mnist", "--source", "embedded", "--limit", "64", "--batch-size", "16", "--no-compile"]


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["MPLBACKEND"] = "not-installed-here"  # as a notebook's is for every program it starts
    environment.pop("PYRO_DISENT_DATA", None)
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def assert_refused(result: subprocess.CompletedProcess[str], says: str) -> None:
    """Exit 2, one sentence, no traceback, nothing on stdout."""
    assert result.returncode == 2, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny run in it, made by the command."""
    folder = tmp_path_factory.mktemp("cli")
    words = ["fit", "--method", "cycle", *TINY, "--max-steps", "8", "--latent", "z=4"]
    result = forked.run(*words, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "runs/rotated-mnist-cycle-1"
    assert "embedded:" in result.stdout and "precision" in result.stdout and "eager (--no-compile)" in result.stdout
    return folder


def test_fit_leaves_a_run_folder(trained: Path) -> None:
    folder = trained / "runs/rotated-mnist-cycle-1"
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "reconstructions.png",
        "samples.png",
        "swap.png",
        "traverse-y.png",
    }
    config = json.loads((folder / "config.json").read_text())
    assert (
        config["fit"]["latents"] == {"z": {"units": 4, "explains": "common"}, "y": {"units": 1, "explains": "rest"}}
        and config["source"]["kind"] == "embedded"
    )
    assert set(config["versions"]) >= {"torch", "pyro-ppl", "python"}
    with (folder / "metrics.csv").open() as file:
        splits = {row["split"] for row in csv.DictReader(file)}
    assert splits == {"train", "validation"}
    assert list(folder.glob("events.*")) and (folder / "checkpoints/best.json").exists()


@pytest.mark.parametrize(
    ("command", "writes"),
    [
        (["swap", "RUN", "0", "1", "2"], "figures/swap-0-1-2.png"),
        (["traverse", "RUN", "--latent", "y"], "figures/traverse-y.png"),
        (["sample", "RUN", "--n", "6"], "figures/sample.png"),
        (["sample", "RUN", "--latent", "y", "--n", "6", "--out", "y.png"], "y.png"),
        (["evaluate", "RUN"], "evaluation.json"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_commands_on_a_run_print_the_path_they_wrote_last(
    trained: Path, command: list[str], writes: str, call: Any
) -> None:
    name = "runs/rotated-mnist-cycle-1"
    result = call(*[name if word == "RUN" else word for word in command], cwd=trained)
    assert result.returncode == 0, result.stderr
    written = Path(result.stdout.splitlines()[-1])
    assert str(written).endswith(writes) and (trained / written).is_file()


def test_the_second_run_gets_the_next_number_and_json_is_one_object(trained: Path, call: Any) -> None:
    result = call("fit", "--method", "vae", *TINY, "--max-steps", "4", "--json", cwd=trained)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["path"] == "runs/rotated-mnist-vae-1" and said["step"] == 4 and said["elbo"] < 0
    config = Path("runs/rotated-mnist-vae-1/config.json")
    other = call("fit", "--config", config, "--quiet", "--latent", "z=3", "--epochs", "1", "--out", "o", cwd=trained)
    assert other.returncode == 0, other.stderr
    settings = json.loads((trained / "o/config.json").read_text())["fit"]
    assert settings["latents"] == {"z": {"units": 3, "explains": "common"}, "y": {"units": 1, "explains": "rest"}}
    assert (settings["epochs"], settings["max_steps"]) == (1, None)
    again = call("fit", "--config", config, "--quiet", cwd=trained)
    assert again.stdout == "runs/rotated-mnist-vae-2\n", again.stderr
    both = [json.loads((trained / f"runs/rotated-mnist-vae-{k}/config.json").read_text()) for k in (1, 2)]
    assert both[0] == both[1]


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path, call: Any) -> None:
    words = ["fit", "--method", "cycle", *TINY, "--max-steps", "2000", "--out", "run"]
    with forked.started(*words, cwd=tmp_path, streams=tmp_path / "streams") as process:
        while not (tmp_path / "run/checkpoints/last.json").exists():
            assert process.exitcode is None
            time.sleep(0.05)
        os.kill(process.pid or 0, signal.SIGINT)
        code = forked.ended(process)
    out, err = ((tmp_path / "streams" / name).read_text() for name in (forked.OUT, forked.ERR))
    assert code == 130, err
    assert "pyro-disent fit --resume run" in err and "Traceback" not in err and out
    config = tmp_path / "run/config.json"
    step = json.loads((tmp_path / "run/checkpoints/last.json").read_text())["step"]
    config.write_text(config.read_text().replace('"max_steps": 2000', f'"max_steps": {step + 3}'))
    result = call("fit", "--resume", "run")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run/checkpoints/last.json").read_text())["step"] == step + 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "cylce", "--data", "chairs"], "did you mean cycle?"),
        (["--method", "cycle", "--data", "stools"], "chairs"),
        (["--method", "cycle"], "--data"),
        (["--method", "cycle", "--data", "chairs", "--data-root", "nowhere"], "nowhere"),
        (["--method", "cycle", "--data", "chairs", "--data-root", "."], "rendered_chairs"),
        (["--method", "cycle", "--data", "rotated-mnist", "--source", "local"], "PYRO_DISENT_DATA"),
        (["--method", "cycle", *TINY, "--latent", "z=-1"], "0 leaves the latent out"),
        (["--method", "cycle", *TINY, "--latent", "z=0", "--latent", "y=0"], "at least one latent"),
        (["--method", "cycle", *TINY, "--latent", "z"], "NAME=UNITS"),
        (["--method", "cycle", *TINY, "--latent", "z=many"], "whole number"),
        (["--method", "cycle", *TINY, "--batch-size", "65"], "a batch of 65 images is larger"),
        (["--method", "cycle", *TINY, "--weight", "dip=1"], "no such term"),
        (["--method", "cycle", *TINY, "--warmup-steps", "3"], "the method 'cycle' has none"),
        (["--method", "cycle", *TINY, "--preset", "slow"], "choose from paper, quick"),
        (["--method", "cycle", *TINY, "--out", "here"], "exists already"),
        (["--method", "cycle", *TINY, "--color"], "color"),
        (["--resume", "nowhere"], "there is no run at nowhere"),
        (["--resume", "here", "--lr", "1"], "say nothing else"),
        (["--method", "cycle", *TINY, "--speed", "9"], "--speed"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value[-2:]),
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: list[str], says: str, tmp_path: Path, call: Any
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/note.txt").write_text("mine")
    assert_refused(call("fit", *arguments), says)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "note.txt"]


def test_bad_input_to_the_installed_program(tmp_path: Path) -> None:
    assert_refused(run("fit", "--method", "cylce", "--data", "chairs", cwd=tmp_path), "did you mean cycle?")
    assert list(tmp_path.iterdir()) == []


def test_the_real_layout_goes_through_prepare_and_fit(chairs: Path, call: Any) -> None:
    prepared = call("data", "prepare", "chairs", "--data-root", "files")
    assert prepared.returncode == 0, prepared.stderr
    assert Path(prepared.stdout.splitlines()[-1]).is_file()
    common = ["--data", "chairs", "--batch-size", "2", "--max-steps", "2", "--no-compile", "--out", "run"]
    result = call("fit", "--method", "cycle", "--data-root", "files", *common)
    assert result.returncode == 0, result.stderr
    assert "local: " in result.stdout
    shown = call("data", "show", "chairs", "--data-root", "files", "--out", "pairs.png", "--pairs", "2")
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1] == "pairs.png"
    assert call("swap", "run", "0", "1").returncode == 0  # the data again, from where the run found it


def test_damaged_chairs_are_named(chairs: Path, call: Any) -> None:
    image = chairs / "rendered_chairs/b2/renders/image_001_p020_t011_r096.png"
    image.write_bytes(image.read_bytes()[:200])
    common = ["--method", "cycle", "--data", "chairs", "--batch-size", "2", "--out", "run"]
    assert_refused(call("fit", *common, "--data-root", "files"), "image_001_p020_t011_r096.png")
    Path("rendered_chairs.tar").write_text("not a tar")
    assert_refused(call("fit", *common, "--data-root", "rendered_chairs.tar"), "rendered_chairs.tar")
    assert not Path("run").exists()


def test_two_processes_make_one_run(tmp_path: Path, call: Any) -> None:
    """The first starts the second; where the run goes on, they are forks."""
    chairs = ["--data", "chairs", "--source", "embedded", "--data-option", "counts=2,1,1"]
    options = ["--batch-size", "8", "--no-compile", "--max-steps", "4", "--device", "cpu", "--devices", "2", "--json"]
    result = run("fit", "--method", "cycle+predictor", *chairs, *options, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["path"] == "run"
    assert json.loads((tmp_path / "run/checkpoints/last.json").read_text())["step"] == 4
    for resumed in forked.run_together("fit", "--resume", "run", "--max-steps", "6", cwd=tmp_path):
        assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "run/checkpoints/last.json").read_text())["step"] == 6
    assert call("fit", "--resume", "run", "--max-steps", "8", "--devices", "1").returncode == 0
    assert json.loads((tmp_path / "run/checkpoints/last.json").read_text())["step"] == 8
    assert json.loads((tmp_path / "run/config.json").read_text())["fit"]["devices"] == 1


def on_a_small_disk() -> None:
    """The program under the system's own limit on file sizes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    forked.program()


def test_a_full_disk_is_exit_4_and_keeps_the_last_good_checkpoint(tmp_path: Path, call: Any) -> None:
    """The limit is so small that a checkpoint does not fit."""
    common = ["fit", "--method", "cycle", *TINY, "--out", "run"]
    assert call(*common, "--epochs", "1").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run/checkpoints").rglob("*") if path.is_file()}
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"epochs": 1', '"epochs": 3'))
    result = forked.run("fit", "--resume", "run", cwd=tmp_path, work=on_a_small_disk)
    assert result.returncode == 4, result.stderr
    assert "Traceback" not in result.stderr and "could not be written" in result.stderr
    after = {path: path.read_bytes() for path in (tmp_path / "run/checkpoints").rglob("*") if path.is_file()}
    assert after == before
    assert call("fit", "--resume", "run").returncode == 0


def test_divergence_is_exit_3(call: Any) -> None:
    result = call("fit", "--method", "cycle", *TINY, "--max-steps", "60", "--lr", "1e30", "--out", "run")
    assert result.returncode == 3, result.stderr
    assert "diverged" in result.stderr and "Traceback" not in result.stderr


def test_methods_and_data_are_listed(call: Any) -> None:
    methods = call("methods")
    assert methods.returncode == 0
    for name, method in METHODS.items():
        row = next(line for line in methods.stdout.splitlines() if line.startswith(f"│ {name} "))
        assert method.source in row and ("pairs" in row) == method.pair and ("labels" in row) == method.factors
        assert as_flags(method.equation) in methods.stdout
    data = call("data", "list")
    assert data.returncode == 0 and "rotated-mnist" in data.stdout and "azimuth" in data.stdout


def test_the_help_says_from_how_many_steps_on_a_step_is_compiled(call: Any) -> None:
    assert f"from {WORTH_COMPILING} steps on" in " ".join(call("fit", "--help").stdout.replace("│", " ").split())


@pytest.mark.parametrize("command", [["--help"], ["fit", "--help"], ["data", "--help"]])
def test_help_imports_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv[1:] = {command!r}\n"
        "from pyro_disent.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pyro', 'numpy', 'matplotlib', 'sklearn', 'lightning_fabric'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_importing_the_package_imports_nothing_heavy_and_every_name_resolves() -> None:
    code = (
        "import sys, pyro_disent\n"
        "assert not {'torch', 'pyro', 'numpy'} & set(sys.modules)\n"
        "assert all(getattr(pyro_disent, name) is not None for name in pyro_disent.__all__)\n"
        "assert set(pyro_disent.__all__) <= set(dir(pyro_disent))\n"
        "assert not {'torch._dynamo', 'lightning_fabric'} & set(sys.modules), 'who compiles or trains imports these'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
