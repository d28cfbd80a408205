"""The commands that draw a run's figures and measure it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from pyro_disent.cli.evaluate import evaluate
from pyro_disent.cli.sample import sample
from pyro_disent.cli.swap import swap
from pyro_disent.cli.traverse import traverse
from pyro_disent.compiled.step import EagerStep
from pyro_disent.errors import InputError
from tests.painted import size


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with fresh weights, on the embedded digits."""
    from pyro_disent.training.building import build, latents
    from pyro_disent.training.config import FitConfig
    from pyro_disent.training.datasets import load_data
    from pyro_disent.training.record import record_of
    from pyro_disent.training.run_folder import RunFolder

    config = FitConfig(
        method="cycle",
        data="rotated-mnist",
        latents={"z": 4, "y": {"units": 1, "explains": "rest"}},
        network="mlp",
        likelihood="bernoulli",
        lr=1e-3,
        batch_size=50,
        max_steps=1,
        limit=300,
        source="embedded",
    )
    torch.manual_seed(0)
    data = load_data(config)
    made = latents(config, data)
    _, objective = build(config, data.image_shape, {}, made)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "rotated-mnist-cycle-1")
    step = EagerStep(objective)
    folder.create(record_of(config, made, data, {}, torch.device("cpu"), step, "eager", 1, None))
    for which in ("best", "last"):
        folder.save(which, 1, objective.state_dict(), {"step": 1})
    return folder.path


def call(command: object, *arguments: object) -> str:
    """What the command prints on stdout; what it raises, it raises."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


class TestCommands:
    def test_swap_of_test_images_and_a_file(self, run: Path, tmp_path: Path) -> None:
        file = tmp_path / "digit.png"
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(file)
        printed = call(swap, run, 0, 3, file, "--device", "cpu")
        written = run / "figures" / f"swap-0-3-{tmp_path.name}_digit.png"
        assert printed == f"{written}\n"
        assert size(written)[0] > 4 * 112

    def test_swap_of_files_alone_reads_no_data(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "digit.png"
        Image.fromarray(np.full((28, 28), 90, np.uint8)).save(file)
        monkeypatch.setattr("pyro_disent.runs.trained_model.load_data", lambda *_: pytest.fail("data were loaded"))
        out = tmp_path / "figure.png"
        assert json.loads(call(swap, run, file, file, "--out", out, "--json")) == {"path": str(out)}
        assert out.is_file()

    def test_traverse(self, run: Path) -> None:
        assert call(traverse, run) == f"{run / 'figures' / 'traverse-y.png'}\n"
        path = Path(call(traverse, run, "--latent", "z", "--index", 5, "--steps", 3, "--checkpoint", "last").strip())
        assert size(path)[1] > 4 * 112

    def test_sample(self, run: Path, tmp_path: Path) -> None:
        assert call(sample, run, "--n", 4) == f"{run / 'figures' / 'sample.png'}\n"
        with pytest.raises(InputError, match="--index 3 is of the latents that are held: say by --latent"):
            call(sample, run, "--index", 3)
        path = Path(json.loads(call(sample, run, "--latent", "y", "--n", 2, "--json"))["path"])
        assert path == run / "figures" / "sample-y.png"
        paths = [tmp_path / f"{k}.png" for k in range(3)]
        for path, seed in zip(paths, (0, 0, 1), strict=True):
            call(sample, run, "--n", 4, "--seed", seed, "--out", path)
        assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()

    def test_evaluate_several_runs(self, run: Path) -> None:
        printed = call(evaluate, run, run)
        path = run / "evaluation.json"
        assert printed.splitlines()[-1] == str(path)
        for words in ("linear probe of digit", "leak of rotation", "ELBO", "raw pixels", "rotated-mnist"):
            assert words in printed
        assert json.loads(path.read_text())["checkpoint"] == "best"

    def test_evaluate_as_json(self, run: Path) -> None:
        last = json.loads(call(evaluate, run, "--json", "--checkpoint", "last").splitlines()[-1])
        assert last["path"] == str(run / "evaluation.json")
        assert last["evaluations"] == [json.loads((run / "evaluation.json").read_text())]
        assert last["evaluations"][0]["images"]["train"] == 300

    @pytest.mark.parametrize(
        "command, arguments, sentence",
        [
            (swap, ["{run}", "0"], "at least two images"),
            (swap, ["{run}", "0", "99999"], "no test image 99999: indices run from 0 to"),
            (swap, ["{run}", "0", "none.png"], "none.png is missing"),
            (swap, ["{run}", "0", "1", "--out", "{run}"], "is a folder"),
            (swap, ["{run}", "0", "1", "--out", "a.nonsense"], "must end in .png"),
            (swap, ["{run}", "0", "1", "--checkpoint", "first"], "neither best nor last"),
            (swap, ["{run}", "0", "1", "--device", "abacus"], "`device=abacus`"),
            (traverse, ["{run}", "--latent", "v"], "no latent 'v'; this model has z, y"),
            (traverse, ["{run}", "--index", "-1"], "no test image -1"),
            (sample, ["{run}", "--latent", "y", "--latent", "v"], "no latent 'v'; this model has z, y"),
            (sample, ["{run}-2"], "no run at"),
            (traverse, ["{run}/figures"], "figures is not a run's folder: it has no config.json"),
            (evaluate, ["{run}", "{run}-2"], "no run at"),
            (evaluate, ["{run}", "--data", "nonsense"], "no data set and no folder nonsense"),
        ],
    )
    def test_bad_input_is_one_sentence(self, run: Path, command: object, arguments: list[str], sentence: str) -> None:
        (run / "figures").mkdir(exist_ok=True)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        with pytest.raises(InputError) as error:
            call(command, *[argument.format(run=run) for argument in arguments])
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
