"""What a newcomer runs into: nothing of theirs is overwritten, and each sentence names a way out that works."""

from __future__ import annotations

import logging
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import typer
from PIL import Image

from pyro_disent.cli.main import app
from pyro_disent.data.dataset import Source
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.data.own.columns import column, identity_column
from pyro_disent.errors import InputError
from pyro_disent.evaluation import report
from pyro_disent.evaluation.result import Evaluation, Number
from pyro_disent.figures.inputs import _file_names
from pyro_disent.files import file_name
from pyro_disent.models.use import Usage
from pyro_disent.runs.run import load
from pyro_disent.threads import choose
from pyro_disent.training.feed import Feed
from pyro_disent.training.hardware import launched_fabric, resolve_device
from pyro_disent.training.metrics import last_step
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import tiny
from tests.test_cli import TINY, assert_refused
from tests.test_early_stopping import EPOCH, few_held_out_images, held_out, step_of  # noqa: F401
from tests.test_empty_latents import Listening


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "mine")
    train(tiny(max_steps=2), folder)
    return folder.path


class TestNamesOfFigures:
    def test_a_chosen_figure_is_another_file_than_fits(self, run: Path, call: Any) -> None:
        (run / "figures").mkdir()
        drawn = {name: run / "figures" / name for name in ("swap.png", "traverse-y.png")}
        for path in drawn.values():
            path.write_text("fit's")
        assert call("swap", run, "0", "1").stdout == f"{run / 'figures/swap-0-1.png'}\n"
        assert call("traverse", run, "--index", "0", "--steps", "2").stdout == f"{run / 'figures/traverse-y-0.png'}\n"
        assert all(path.read_text() == "fit's" for path in drawn.values())

    def test_long_names_that_differ_at_their_end_are_different_files(self) -> None:
        first, second = (file_name("swap", *map(str, range(100)), last) for last in "ab")
        assert first != second and len(first) == len(second) == 64


class TestPatience:
    def test_a_run_that_ended_by_it_says_how_to_go_on_and_does(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: Any,
    ) -> None:
        folder, heard = RunFolder(tmp_path / "run"), Listening()
        held_out(monkeypatch, [5, 6, 7, 8, 9])
        train(tiny(max_steps=None, epochs=5, patience=2), folder, reporter=heard)
        assert step_of(folder) == 3 * EPOCH
        (ended,) = (line for line in heard.said if "training ends" in line)
        assert ended.endswith(f"pyro-disent fit --resume {folder.path} --patience 3")

        held_out(monkeypatch, [8, 9])
        longer = call("fit", "--resume", "run", "--epochs", "6")  # by steps alone it does nothing, and says why
        assert "--resume run --patience 3" in longer.stdout and step_of(folder) == 3 * EPOCH
        assert call("fit", "--resume", "run", "--patience", "3").returncode == 0
        assert step_of(folder) == 4 * EPOCH
        assert folder.read_record().fit.patience == 3 and folder.read_record().fit.epochs == 6

    def test_what_may_be_said_beside_resume_is_listed(self, run: Path, call: Any) -> None:
        refused = call("fit", "--resume", run, "--lr", "1")
        assert_refused(refused, "but --device, --threads, --epochs, --max-steps, --patience, --devices, ")


class TestFolders:
    def test_a_wrong_folder_is_said_and_the_runs_in_it(self, run: Path, call: Any) -> None:
        assert_refused(call("evaluate", run.parent), "is not a run's folder: it has no config.json; runs in it: mine")
        assert_refused(call("swap", run / "checkpoints", "0", "1"), "has no config.json\n")
        assert_refused(call("swap", run / "config.json", "0", "1"), "is not a run's folder: it is a file")
        assert_refused(call("fit", "--config", run), "is a folder: name the config.json of a run")

    @pytest.mark.parametrize(
        ("kind", "way_out"),
        [
            ("run", "exists already: choose another --out, or --overwrite it, or --resume it\n"),
            ("begun", "exists already: choose another --out, or --overwrite it, or --resume it\n"),
            ("photos", "exists already and is not a run's folder: choose another --out\n"),
        ],
    )
    def test_only_what_works_is_advised(
        self,
        kind: str,
        way_out: str,
        run: Path,
        tmp_path: Path,
        call: Any,
    ) -> None:
        place = run if kind == "run" else tmp_path / kind
        if kind != "run":
            (place / "checkpoints").mkdir(parents=True)
        if kind == "begun":
            (place / "config.json").write_bytes((run / "config.json").read_bytes())
        assert_refused(call("fit", "--method", "cycle", *TINY, "--out", place), way_out)


def test_a_batch_that_is_too_large_says_what_would_do_but_pairs_come_first() -> None:
    images = np.zeros((40, 1, 32, 32), np.uint8)
    paired = from_arrays(images, identity=np.arange(40) // 4).train
    with pytest.raises(InputError, match=f"has {len(paired)} to train on: say `batch_size={len(paired)}` or less"):
        Feed(paired, 1000, 0, 2, lambda batch: batch)
    unpaired = from_arrays(images).train
    with pytest.raises(InputError, match="these images have no pairs"):
        Feed(unpaired, 1000, 0, 2, lambda batch: batch)


def test_one_test_identity_measures_nothing_and_says_so() -> None:
    data = from_arrays(np.zeros((40, 1, 32, 32), np.uint8), identity=np.arange(40) // 8)
    assert data.test.identities == 1
    split = str(data.identities_split())
    assert "measures nothing: `test_share=0.3`" in split and "100" not in split


def test_threads_that_torch_was_told_are_not_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    torch.set_num_threads(1)
    assert str(choose(8)) == "1 (of 2 cores, as OMP_NUM_THREADS or torch.set_num_threads has it)"
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    assert str(choose(8)) == "1 (all there are)"


def test_a_run_that_goes_on_is_eager_as_recorded(tmp_path: Path) -> None:
    folder, heard = RunFolder(tmp_path / "run"), Listening()
    train(tiny(max_steps=1), folder)
    train(tiny(max_steps=2), folder, resume=True, reporter=heard)
    assert any("eager (as recorded)" in line for line in heard.said if line.startswith("step "))


def test_lightning_says_nothing_of_precision(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning_fabric.utilities.rank_zero"):
        launched_fabric(tiny(precision="bf16-mixed"))
    assert caplog.records == []


def test_without_cuda_there_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="no CUDA devices: use `device=cpu`"):
        resolve_device("cuda")


def test_a_run_shows_itself_in_a_line(run: Path) -> None:
    assert re.fullmatch(r"<Run \S+mine: cycle on rotated-mnist, z=\d+, y=\d+>", repr(load(run)))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["--method", "cycle", "--data", "chairs", "--epochs", "ten"], "'--epochs': a whole number is needed\n"),
        (["--method", "cycle", "--data", "chairs", "--lr", "low"], "'--lr': a number is needed\n"),
        (["--method", "cycle", "--data", "chairs", "--latent", "z"], "--latent z: write NAME=UNITS\n"),
        (["--method", "cycle", "--data", "phtos"], "(did you mean photos?)"),
        (["--method", "cycle", "--data", "photos/1.png"], "is a file, and a data set is a folder: name its folder, ph"),
        (["--method", "cycle", "--data", "photos", "--factors", "tlt"], "--factors names tlt (did you mean tilt?)"),
        (["--method", "cycle", "--data", "photos", "--kind", "tilt=degree"], "tilt=degree (did you mean degrees?)"),
        (["--method", "cycle", "--data", "photos", "--kind", "tlit=angle"], "tlit=angle (did you mean tilt?)"),
        (["--method", "cycle", "--data", "chairs", "--source", "embedded", "--factors", "azimut,zoom"],
         "not azimut, zoom (did you mean azimuth?)"),
    ],
)  # fmt: skip
def test_a_slip_of_the_keyboard(command: list[str], says: str, tmp_path: Path, call: Any) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(1, 4):
        Image.new("L", (8, 8), 60 * number).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/metadata.csv").write_text("file_name,tilt\n1.png,3\n2.png,4\n3.png,5\n")
    assert_refused(call("fit", *command), says)


def test_weights_of_other_images_are_refused_in_words(run: Path, call: Any) -> None:
    refused = call("fit", "--method", "cycle", *TINY, "--init", run, "--latent", "z=3", "--network", "mlp")
    assert_refused(refused, "another model or method: ")
    assert "latents: z=" in refused.stderr and "there, z=3, y=" in refused.stderr
    assert_refused(call("fit", "--method", "cycle", *TINY, "--init", run.parent), "runs in it: mine")


@pytest.mark.parametrize(
    ("name", "values", "kind", "hinted"),
    [
        ("angle", [0, 90, 270], None, True),
        ("head_yaw", ["-90", "0", "180"], None, True),
        ("Rotation (deg)", [0, 360, 5], None, True),
        ("angle", [0, 1, 6], None, False),  # which may be radians
        ("angle", [0, 90, 361], None, False),
        ("angle", [0, 90, 270], "number", False),
        ("angle", [0, 90, 270], "degrees", False),
        ("triangle", [0, 90, 270], None, False),
        ("light", [0, 90, 270], None, False),
    ],
)
def test_a_column_that_may_be_an_angle(name: str, values: list[Any], kind: str | None, hinted: bool) -> None:
    notes = column(values, name, f"column {name}", str, kind).notes
    assert any(f"if it is an angle, say `kinds={{{name!r}: 'degrees'}}`" in note for note in notes) == hinted
    assert identity_column(values, name, name, str)[0].notes == ()  # of which no angle is made


def test_training_for_longer_comes_first_where_little_was_learned() -> None:
    usage = Usage({"z": 0.03, "y": 9.0}, {"z": 0.0, "y": 1.0})
    assert "; try training for longer, a weight" in usage.advice({}, {}, steps=40)[0]
    assert "longer" not in usage.advice({}, {}, steps=40_000)[0] + usage.advice({}, {})[0]
    nearly = Usage({"z": 0.03, "y": 0.5}, {"z": 0.0, "y": 1.0})
    assert "; try training for longer, " in nearly.advice({}, {}, steps=40_000)[0]


def test_the_closing_line_says_whose_weights_it_is_about(tmp_path: Path) -> None:
    heard = Listening()
    train(tiny(max_steps=2, beta=1e6), RunFolder(tmp_path / "run"), reporter=heard)
    advice = [line for line in heard.said if "says nothing (" in line]
    assert advice and all(line.startswith("best weights, of step 2: ") for line in advice)
    assert last_step(tmp_path / "run/metrics.csv") == 2 and last_step(tmp_path / "none.csv") is None


def test_the_table_says_how_its_numbers_are_read() -> None:
    numbers = {
        "leak": {"measure": "leak of pose", "block": "z", "unit": "R2", "value": -0.1},
        "use": {"measure": "use by the decoder", "block": "z", "unit": "share", "value": 0.5},
    }

    def caption(*shown: str) -> str:
        asked = {name: Number.from_json(numbers[name]) for name in shown}
        one = Evaluation(1, "mine", "cycle", "photos", Source("local", "", ""), {}, 0, {}, asked)
        return str(report.table([one]).caption)

    assert "below 0 is worse" in caption("leak") and "fitted on training images" in caption("leak")
    assert "may be tiny" in caption("use") and "R2" not in caption("use")


def test_every_option_of_fit_says_what_it_is_and_stands_in_a_group() -> None:
    group = typer.main.get_command(app)
    options = [option for option in group.commands["fit"].params if option.name != "help"]  # type: ignore[attr-defined]
    panels = {"Method", "Data", "Model", "Training", "Machine", "Run"}
    assert {option.rich_help_panel for option in options} == panels
    assert all(option.help and option.help[0].isupper() and option.help.endswith(".") for option in options)


def test_pairs_show_the_names_of_their_files(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("pyro_disent.figures.save", lambda figure, path: shown.append(figure))
    for who in "abcdefghij":
        (tmp_path / "photos" / who).mkdir(parents=True)
        for k in range(2):
            Image.new("L", (8, 8), 20 * ord(who) % 200 + k).save(tmp_path / f"photos/{who}/{k}.png")
    assert call("data", "show", "photos", "--image-size", "8", "--pairs", "3").returncode == 0
    captions = [text.get_text() for text in shown[0].texts if re.fullmatch(r"[a-j]/[01]\.png", text.get_text())]
    assert len(captions) == 6
    for first, second in zip(captions[::2], captions[1::2], strict=True):
        assert first[0] == second[0] and {first[2], second[2]} == {"0", "1"}


def test_files_of_one_name_are_called_by_their_folders() -> None:
    assert _file_names({Path("a/1.png"), Path("x/b/1.png"), Path("a/2.png")}) == {
        "a/1.png": "a/1.png", "x/b/1.png": "b/1.png", "a/2.png": "2.png",
    }  # fmt: skip


def test_the_version_is_told(call: Any) -> None:
    told = call("--version")
    assert (told.returncode, told.stdout) == (0, metadata.version("pyro-disent") + "\n")
    assert call().stderr == ""


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_trained_or_written(tmp_path: Path, off: Any) -> None:
    with off(), pytest.raises(InputError, match="gradients are switched off"):
        train(tiny(max_steps=2), RunFolder(tmp_path / "run"))
    assert not list(tmp_path.iterdir())
