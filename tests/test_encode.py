"""Tables of what every image's posterior says: against the parameters in plain torch, read back from each format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from PIL import Image

import pyro_disent
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError
from pyro_disent.models.families import Circle
from pyro_disent.models.latents import Latent, each
from pyro_disent.queries import images as queries_images
from pyro_disent.queries.encoding import Encoded, encode
from pyro_disent.queries.images import Part
from pyro_disent.runs.run import Run
from tests.models import SHAPE, linear_vae

LATENTS = [Latent("turn", 2, Circle()), Latent("color", 3, explains=each("red", "green", "blue"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Run:
    tiny: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "device": "cpu"}
    out = tmp_path_factory.mktemp("encode") / "run"
    return pyro_disent.fit("vae", "rotated-mnist", out=out, latents={"z": 3, "y": 1}, **tiny)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two of the model's size, one larger and in color, a text that is called an image, and what is no image."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos/anna").mkdir(parents=True)
    for name, shape in (("b.png", (28, 28)), ("anna/a.png", (28, 28)), ("anna/ü.png", (40, 60, 3))):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos/notes.txt").write_text("nothing")
    return tmp_path / "photos"


def test_numbers_are_those_of_the_posterior(tmp_path: Path) -> None:
    """The heads in plain torch; the circular spread by the mean of many draws."""
    vae = linear_vae(LATENTS).double()
    images = torch.rand(7, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        encoder, heads = vae.guide.encoder, vae.guide.heads
        features = torch.tanh(images.flatten(1) @ encoder[1].weight.T + encoder[1].bias)
        loc, log_variance = (features @ heads["color"].weight.T + heads["color"].bias).chunk(2, -1)
        vectors = (3 * features @ heads["turn"].weight.T).unflatten(-1, (2, 2))
        heads["turn"].weight.mul_(3)
        heads["turn"].bias.zero_()
    found = encode(vae, [Part(["a", "b", "c"], images[:3]), Part(["d", "e", "f", "g"], images[3:])])
    assert found.names == list("abcdefg") and len(found) == 7
    assert found.units == {"turn": (0, 1), "color": ("red", "green", "blue")}
    assert found.measured_in == {"turn": "radians", "color": ""}
    assert {name: list(of) for name, of in found.numbers.items()} == {
        "turn": ["location", "spread", "concentration"], "color": ["location", "spread"]
    }  # fmt: skip
    assert np.allclose(found.numbers["color"]["location"], loc, atol=1e-12)
    assert np.allclose(found.numbers["color"]["spread"], (log_variance / 2).exp(), atol=1e-12)
    turn = found.numbers["turn"]
    assert np.allclose(turn["location"], torch.atan2(vectors[..., 1], vectors[..., 0]), atol=1e-12)
    assert np.allclose(turn["concentration"], vectors.norm(dim=-1), rtol=1e-3)  # it is bounded far above
    directions = torch.nn.functional.normalize(vectors[0] + torch.randn(200_000, 2, 2, dtype=torch.float64), dim=-1)
    resultant = directions.mean(0).norm(dim=-1)
    assert np.allclose(turn["spread"][0], (-2 * resultant.log()).sqrt(), rtol=0.02)

    found.write(tmp_path / "codes.csv")
    with (tmp_path / "codes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["file_name", "turn[0].location", "turn[1].location", "turn[0].spread"]
    assert [row["file_name"] for row in rows] == found.names
    assert [float(row["color[green].spread"]) for row in rows] == found.numbers["color"]["spread"][:, 1].tolist()
    with np.load(found.write(tmp_path / "codes.npz")) as arrays:
        assert arrays["file_name"].tolist() == found.names
        assert np.array_equal(arrays["turn.concentration"], turn["concentration"])
    with xarray.open_dataset(found.write(tmp_path / "codes.nc")) as table:
        assert table["turn_location"].dims == ("image", "turn_unit")
        assert table["turn_location"].attrs == {"units": "radians"}
        assert table["color_spread"].sel(image="c", color_unit="blue").item() == found.numbers["color"]["spread"][2, 2]


def written(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


class TestTheCommandLineIsTheSame:
    def test_on_a_folder(
        self, run: Run, photos: Path, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pyro_disent.cli.progress.SECONDS_BETWEEN_LINES", 0)
        told = call("encode", run.path, "photos", "--out", "codes.csv", "--device", "cpu")
        assert told.returncode == 0, told.stderr
        assert told.stdout.splitlines() == [
            "3 images",
            "1 of 3 images is not 28x28, which this model takes: resized, cropped about the center, where the shape "
            "differs",
            "1 of 3 images is in color, of which this model sees the grey",
            "codes.csv",
        ]
        assert told.stderr.splitlines()[-1] == "encoding photos: 3 of 3"
        ours = run.encode(photos)
        assert ours.write(tmp_path / "ours.csv").read_bytes() == (tmp_path / "codes.csv").read_bytes()
        assert ours.names == ["anna/a.png", "anna/ü.png", "b.png"]
        pixels = [read_image(photos / name, name, size=(28, 28), channels=1) for name in ours.names]
        mean, scale = run.vae.encode(torch.from_numpy(np.stack(pixels)))["z"]
        assert np.allclose(ours.numbers["z"]["location"], mean, atol=1e-6)
        assert np.allclose(ours.numbers["z"]["spread"], scale, atol=1e-6)

    def test_on_a_data_set(self, run: Run, call: Any, tmp_path: Path) -> None:
        told = call("encode", run.path, "rotated-mnist", "--out", "codes.npz", "--device", "cpu", "--seed", "3")
        assert told.returncode == 0, told.stderr
        data = run.data()
        with np.load(tmp_path / "codes.npz") as arrays:
            names = arrays["file_name"].tolist()
            assert len(names) == len(data.train) + len(data.validation) + len(data.test)
            assert names[0] == "train/0" and names[-1] == f"test/{len(data.test) - 1}"
            mean, _ = run.vae.encode(data.test.examples(3).images[:])["z"]
            assert np.allclose(arrays["z.location"][-len(data.test) :], mean, atol=1e-6)

    def test_on_one_image(self, run: Run, photos: Path, call: Any, tmp_path: Path) -> None:
        told = call("encode", run.path, "photos/b.png", "--out", "b.csv", "--device", "cpu", "--json")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout) == {"images": 1, "skipped": 0, "notes": [], "path": "b.csv"}
        assert [row[0] for row in written(tmp_path / "b.csv")] == ["file_name", "b.png"]

    def test_bad_images_are_refused_or_left_out(self, run: Run, photos: Path, call: Any, tmp_path: Path) -> None:
        (photos / "bad.png").write_bytes((photos / "b.png").read_bytes()[:100])
        (photos / "worse.jpg").write_text("no image")
        refused = call("encode", run.path, "photos", "--out", "codes.csv", "--device", "cpu")
        assert refused.returncode == 2 and "bad.png is damaged" in refused.stderr and "--skip-bad" in refused.stderr
        assert not (tmp_path / "codes.csv").exists()
        told = call("encode", run.path, "photos", "--out", "codes.csv", "--device", "cpu", "--skip-bad")
        assert told.returncode == 0, told.stderr
        assert "2 bad images left out: bad.png is damaged or truncated" in told.stdout
        assert [row[0] for row in written(tmp_path / "codes.csv")][1:] == ["anna/a.png", "anna/ü.png", "b.png"]

    def test_a_file_that_is_there_is_kept(self, run: Run, photos: Path, call: Any, tmp_path: Path) -> None:
        (tmp_path / "codes.csv").write_text("mine")
        refused = call("encode", run.path, "photos", "--out", "codes.csv", "--device", "cpu")
        assert refused.returncode == 2
        assert refused.stderr.endswith("codes.csv exists already: name another file, or replace it by --overwrite\n")
        assert (tmp_path / "codes.csv").read_text() == "mine"
        assert (
            call("encode", run.path, "photos", "--out", "codes.csv", "--device", "cpu", "--overwrite").returncode == 0
        )
        assert len(written(tmp_path / "codes.csv")) == 4

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["photos", "--out", "codes.txt"], "codes.txt must end in .csv, .npz or .nc"),
            (["photos", "--out", "photos"], "photos must end in"),
            (["photos", "--out", "no/codes.csv"], "lies in no, which is no folder"),
            (["nothing", "--out", "codes.csv"], "there is no data set and no folder nothing"),
            (["photos/notes.txt", "--out", "codes.csv"], "notes.txt is no image of a kind that is read"),
            (["empty", "--out", "codes.csv"], "there is no image in empty"),
        ],
    )
    def test_bad_input_is_one_sentence_and_writes_nothing(
        self, words: list[str], why: str, run: Run, photos: Path, call: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        before = sorted(tmp_path.rglob("*"))
        told = call("encode", run.path, *words, "--device", "cpu")
        assert told.returncode == 2 and told.stdout == ""
        assert why in told.stderr and "Traceback" not in told.stderr
        assert sorted(tmp_path.rglob("*")) == before


def test_many_images_are_never_in_memory_together(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_images, "PART", 2)
    sizes = []
    posteriors = run.vae.posteriors
    monkeypatch.setattr(type(run.vae), "posteriors", lambda _, x: sizes.append(len(x)) or posteriors(x))
    done: list[tuple[int, int]] = []
    assert run.encode(photos, progress=lambda *now: done.append(now)).names == ["anna/a.png", "anna/ü.png", "b.png"]
    assert sizes == [2, 1] and done == [(1, 3), (2, 3), (3, 3)]


def test_data_from_python_and_models_of_other_channels(run: Run, photos: Path) -> None:
    data = from_arrays(np.random.default_rng(0).integers(0, 255, (30, 28, 28), np.uint8))
    found: Encoded = run.encode(data)
    assert len(found) == 30
    with pytest.raises(InputError, match="this model takes images of 1 x 28 x 28"):
        run.encode(from_arrays(np.zeros((30, 64, 64), np.uint8)))
    with pytest.raises(InputError, match="a model of images with 2 channels: it needs 1 or 3"):
        queries_images.Files(photos, (2, 8, 8))
