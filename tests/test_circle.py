"""A latent on a circle goes everywhere: methods, the compiled step, evaluation, figures, checkpoints, resumption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_disent.compiled.step import CompiledStep, EagerStep
from pyro_disent.errors import InputError
from pyro_disent.figures.traversal import traversed
from pyro_disent.runs.run import load
from pyro_disent.training import building, datasets
from pyro_disent.training.record import read_fit
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import ROWS, tiny

LATENTS = {"z": 3, "rotation": {"units": 1, "family": "circle"}, "y": {"units": 0}}


def circular(method: str, **said: Any) -> Any:
    return tiny(method, "rotated-mnist", latents=LATENTS, **said)


@pytest.mark.parametrize("method", ROWS)
def test_every_method_trains_every_parameter(method: str, tmp_path: Path) -> None:
    config = circular(method)
    folder = RunFolder(tmp_path / "run")
    train(config, folder)
    run = load(folder.path, "last")
    assert run.vae.latent("rotation").family.name == "circle" and run.vae.latent("rotation").explains == ("rotation",)
    data = run.data()
    with torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        _, fresh = building.build(config, data.image_shape, run.record.edges, run.record.build_latents())
    before = dict(fresh.named_parameters())
    same = [name for name, parameter in run.objective.named_parameters() if parameter.equal(before[name])]
    assert same == []
    kl = [row for row in folder.metrics() if row["split"] == "train"][-1]["kl.rotation"]
    assert float(kl) >= 0


@pytest.mark.parametrize("method", ROWS)
def test_a_compiled_step_is_the_eager_one(method: str) -> None:
    config = circular(method)
    data = datasets.load_data(config)
    made, edges = building.latents(config, data), building.factor_edges(data, config)
    vae, objective = building.build(config, data.image_shape, edges, made)
    objective.double()
    batch = vae.sharing(data.train.batch(torch.arange(8), torch.Generator().manual_seed(0)).to(torch.float64))
    assert batch.shared["rotation"].sum() == 0 and batch.shared["z"].all()
    records, gradients = [], []
    for step in (EagerStep(objective), CompiledStep(objective, backend="eager")):
        torch.manual_seed(3)
        records.append(step(batch))
        gradients.append([parameter.grad.clone() for parameter in objective.parameters()])
    assert records[0].loss.item() == pytest.approx(records[1].loss.item(), rel=1e-10)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_a_code_of_circles_alone_has_no_covariance() -> None:
    config = tiny("dip", "rotated-mnist", latents={"rotation": {"units": 1, "family": "circle"}})
    config = config.__class__(**{**vars(config), "latents": {"rotation": {"units": 1, "family": "circle"}}})
    data = datasets.load_data(config)
    with pytest.raises(InputError, match="no latent is of a family that has one"):
        building.build(config, data.image_shape, {}, building.latents(config, data))


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("circle") / "run"
    train(circular("cycle", max_steps=4), RunFolder(path))
    return path


def test_it_is_measured_and_drawn(run_path: Path) -> None:
    run = load(run_path)
    data = run.data()
    numbers = run.evaluate(data).numbers
    assert {"kl/rotation", "use/rotation", "leak/rotation/rotation", "leak/rotation/z"} <= numbers.keys()
    assert all(math.isfinite(number.value) for number in numbers.values())
    names = [path.name for path in run.draw(data)]
    assert names == ["reconstructions.png", "swap.png", "traverse-rotation.png", "samples.png"]
    image = data.test.examples(0).images[0]
    moved = traversed(run.vae, image, "rotation", 8)
    code = run.vae.codes(image[None])
    angle = torch.arange(8) * (2 * torch.pi / 8)
    around = torch.stack([angle.cos(), angle.sin()], -1)
    expected = run.vae.decode({"z": code["z"].expand(8, -1), "rotation": around})
    assert moved.shape[0] == 1 and torch.allclose(moved[0], expected, atol=1e-6)


def test_resumed_equals_uninterrupted(tmp_path: Path, run_path: Path) -> None:
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(circular("cycle+similarity", max_steps=8), whole)
    train(circular("cycle+similarity", max_steps=4), parts)
    config = json.loads(parts.config_file.read_text())
    config["fit"]["max_steps"] = 8
    parts.config_file.write_text(json.dumps(config))
    train(read_fit(parts.config_file), parts, resume=True)
    for name, weight in whole.weights("last").items():
        assert weight.equal(parts.weights("last")[name])


def test_from_the_command_line(tmp_path: Path, call: Any) -> None:
    said = ["fit", "--method", "cycle+predictor", "--data", "rotated-mnist", "--source", "embedded", "--limit", "64"]
    said += ["--batch-size", "16", "--max-steps", "2", "--out", "run", "--factors", "rotation,scale"]
    said += ["--latent", "z=4", "--latent", "angle=1:circle", "--explains", "angle=rotation", "--latent", "y=0"]
    said += ["--latent", "size=2:conditional,parents=z,hidden=5", "--explains", "size=scale", "--guard", "z"]
    result = call(*said)
    assert result.returncode == 0, result.stderr
    assert "z=4 (common), angle=1 circle (rotation), size=2 conditional (scale)" in result.stdout
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["format"] == 2 and record["latents"] == {
        "z": {"units": 4, "explains": "common"},
        "angle": {"units": 1, "family": "circle", "settings": {}, "explains": ["rotation"]},
        "size": {
            "units": 2,
            "family": "conditional",
            "settings": {"parents": "z", "hidden": 5, "labels": {}},
            "explains": ["scale"],
        },
    }
    for command in (["traverse", "run", "--latent", "angle"], ["traverse", "run"], ["swap", "run", "0", "1"],
                    ["sample", "run", "--latent", "angle"]):  # fmt: skip
        result = call(*command)
        assert result.returncode == 0 and Path(result.stdout.splitlines()[-1]).is_file(), result.stderr


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["--latent", "angle=1:circel"], "no family 'circel'; choose from normal, conditional, circle"),
        (["--latent", "angle=1:circle,hidden=3"], "circle has no option hidden"),
        (["--latent", "rotatoin=1"], "did you mean rotation"),
        (["--explains", "w=rest"], "no latent 'w' to say anything of; the latents are z, y"),
        (["--explains", "z=azimuth"], "'azimuth', which is no factor of this data: there are rotation, identity"),
        (["--latent", "y=2:conditional,parents=w"], "conditioned on w, which must be declared before it"),
        (["--method", "predictor", "--guard", "w"], "no latent w to hide factors from"),
        (["--method", "predictor", "--guard", "y"], "nothing to hide from y"),
    ],
)
def test_refused(said: list[str], says: str, tmp_path: Path, call: Any) -> None:
    method = [] if "--method" in said else ["--method", "vae"]
    result = call("fit", *method, *said, "--data", "rotated-mnist", "--source", "embedded", "--limit", "64",
                  "--batch-size", "16", "--max-steps", "2", "--out", "run")  # fmt: skip
    assert result.returncode == 2 and says in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
