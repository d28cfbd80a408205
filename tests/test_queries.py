"""What is asked of a model from Python: the same as on the command line, and what other packages add to it."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from pyro.infer import SVI

import pyro_disent
from pyro_disent import Evaluation, FactoredVAE, Latent, plugins
from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.errors import InputError, StorageError
from pyro_disent.evaluation.codes import Codes
from pyro_disent.evaluation.evaluate import Measurement
from pyro_disent.evaluation.result import Number
from pyro_disent.figures import save
from pyro_disent.figures.of_run import Subject
from pyro_disent.models.networks import mlp
from pyro_disent.runs.run import Run
from pyro_disent.training.feed import Feed

TINY: dict[str, Any] = {
    "source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "preset": "quick", "device": "cpu"
}  # fmt: skip
DRAWN = ["reconstructions.png", "samples.png", "swap.png", "traverse-y.png"]


@pytest.fixture(scope="module")
def data(session_cache: Path) -> DataSet:
    return pyro_disent.load_data("rotated-mnist", source="embedded", limit=64)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Run:
    return pyro_disent.fit("cycle+predictor", "rotated-mnist", out=tmp_path_factory.mktemp("queries") / "run", **TINY)


@pytest.fixture
def few_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyro_disent.evaluation import evaluate

    monkeypatch.setattr(evaluate, "METRICS", (evaluate.bounds, evaluate.uses))


def a_vae(units: int = 1) -> FactoredVAE:
    return FactoredVAE([Latent("z", 3), Latent("y", units, explains="rest")], *mlp((1, 28, 28), 3 + units))


class TestEvaluation:
    def test_has_the_keys_of_its_file(self, run: Run, few_metrics: None) -> None:
        found = run.evaluate().to_json()
        assert list(found) == ["protocol", "run", "method", "data", "source", "images", "seed", "blocks", "numbers",
                               "advice", "checkpoint"]  # fmt: skip
        assert list(found["source"]) == ["kind", "location", "sha256"]
        assert list(found["images"]) == ["train", "validation", "test"]
        assert all(list(number) == ["measure", "block", "value", "unit"] for number in found["numbers"].values())
        assert found["blocks"] == {"z": ["z"], "y": ["y"], "all": ["z", "y"]}
        assert (found["run"], found["method"], found["checkpoint"]) == ("run", "cycle+predictor", "best")

    def test_of_a_model_that_is_no_runs(self, data: DataSet, few_metrics: None) -> None:
        found = pyro_disent.evaluate(a_vae(), data, name="mine", threads=1)
        assert (found.run, found.method, found.checkpoint, found.data) == ("mine", "", "", "rotated-mnist")
        assert set(found.numbers) == {"elbo", "log_likelihood", "kl/z", "kl/y", "use/z", "use/y"}
        other = from_arrays(np.zeros((20, 8, 8), np.uint8), test_share=0.2)
        with pytest.raises(InputError, match="this model takes images of 28x28 with 1 channel, but those of"):
            pyro_disent.evaluate(a_vae(), other)

    def test_of_a_run_is_that_of_its_model(self, run: Run, few_metrics: None) -> None:
        ours = run.evaluate(threads=1)
        bare = pyro_disent.evaluate(run.vae, run.data(), threads=1)
        assert ours.numbers == bare.numbers and ours.blocks == bare.blocks

    @given(st.data())
    def test_comes_back_from_json(self, drawn: st.DataObject) -> None:
        text, count = st.text(max_size=5), st.integers(0, 9)
        interval = st.none() | st.tuples(st.floats(0, 1), st.floats(1, 2))
        numbers = st.builds(Number, text, text, st.floats(), text, interval)
        made = drawn.draw(
            st.builds(
                Evaluation,
                st.just(1), text, text, text,
                st.builds(Source, text, text, text),
                st.dictionaries(text, count),
                count,
                st.dictionaries(text, st.lists(text).map(tuple)),
                st.dictionaries(text, numbers, max_size=3),
                st.lists(text).map(tuple),
                text,
            )
        )  # fmt: skip
        told = json.loads(json.dumps(made.to_json(), allow_nan=False))
        again = Evaluation.from_json(told)
        assert again.to_json() == told == made.to_json()
        for key, number in made.numbers.items():
            found = again.numbers[key]
            assert found == number if math.isfinite(number.value) else math.isnan(found.value)


class TestTheCommandLineIsTheSame:
    def test_evaluate(self, run: Run, call: Any, few_metrics: None) -> None:
        said = json.loads(call("evaluate", run.path, "--json", "--device", "cpu", "--threads", "1").stdout)
        path = run.path / "evaluation.json"
        written = path.read_bytes()
        found = run.evaluate(threads=1)
        assert said["evaluations"] == [found.to_json()] and said["path"] == str(path) == str(run.evaluation_path())
        path.unlink()
        assert run.write(found) == path and path.read_bytes() == written
        assert Evaluation.from_json(json.loads(written)) == found

    @pytest.mark.parametrize(
        ("words", "drawn"),
        [
            (["swap", "0", "5"], lambda run: run.swap([0, 5])),
            (["swap", "0", "5", "3", "--seed", "1"], lambda run: run.swap(torch.tensor([0, 5, 3]), seed=1)),
            (["traverse"], lambda run: run.traverse()),
            (["traverse", "--latent", "z", "--index", "3", "--steps", "5"], lambda run: run.traverse("z", 3, 5)),
            (["sample", "--n", "5", "--seed", "2"], lambda run: run.sample(5, seed=2)),
            (["sample", "--latent", "y", "--index", "2"], lambda run: run.sample(latents=["y"], index=2)),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, list) else "",
    )
    def test_a_figure(self, words: list[str], drawn: Any, run: Run, call: Any, tmp_path: Path) -> None:
        command, *rest = words
        result = call(command, run.path, *rest, "--device", "cpu", "--out", "told.png")
        assert result.returncode == 0, result.stderr
        figure = drawn(run)
        assert isinstance(figure, Figure)
        assert save(figure, tmp_path / "made.png").read_bytes() == (tmp_path / "told.png").read_bytes()

    def test_the_figures_that_fit_leaves(self, run: Run, call: Any, tmp_path: Path) -> None:
        left = {path.name: path.read_bytes() for path in (run.path / "figures").iterdir()}
        assert set(DRAWN) <= left.keys()  # by `pyro_disent.fit`
        assert call("figures", run.path, "--device", "cpu").returncode == 0
        assert {name: (run.path / "figures" / name).read_bytes() for name in DRAWN} == {n: left[n] for n in DRAWN}
        assert sorted(path.name for path in run.draw(run.data())) == DRAWN
        assert {name: (run.path / "figures" / name).read_bytes() for name in DRAWN} == {n: left[n] for n in DRAWN}
        settings = ("--source", "embedded", "--limit", "64", "--batch-size", "16", "--max-steps", "4")
        told = call("fit", "--method", "cycle+predictor", "--data", "rotated-mnist", "--preset", "quick", *settings,
                    "--device", "cpu", "--quiet", "--out", "run")  # fmt: skip
        assert told.returncode == 0, told.stderr
        assert {name: (tmp_path / "run/figures" / name).read_bytes() for name in DRAWN} == {n: left[n] for n in DRAWN}


class TestImages:
    def test_are_indices_files_and_pixels(self, run: Run, data: DataSet, tmp_path: Path) -> None:
        pixels = data.test.examples(0).images[:3]
        expected = save(run.swap([0, 1, 2]), tmp_path / "a.png").read_bytes()
        for several in (("0", "1", "2"), range(3), np.arange(3)):
            assert save(run.swap(several), tmp_path / "b.png").read_bytes() == expected
        Image.fromarray(pixels[0, 0].numpy()).save(tmp_path / "0.png")
        mixed = [tmp_path / "0.png", pixels[1], pixels[2].float().numpy() / 255]
        chosen = run._images(mixed, None, 0)
        assert torch.allclose(chosen.images, pixels.float() / 255)
        assert chosen.names == [("0.png",), ("image 1",), ("image 2",)]
        assert torch.equal(run._images(pixels, None, 0).images, pixels)
        assert run.reconstructions(pixels).axes and run.reconstructions().axes

    @pytest.mark.parametrize(
        ("images", "sentence"),
        [
            ([0], "at least two images"),
            ([0, 99_999], "there is no test image 99999"),
            (torch.rand(2, 28, 28), "the axis of the one channel is missing"),
            (torch.rand(2, 3, 28, 28), "this model takes images of 1 x 28 x 28"),
            (torch.rand(2, 1, 28, 28) * 255, "floats must be in"),
        ],
    )
    def test_that_do_not_fit_are_refused(self, images: Any, sentence: str, run: Run) -> None:
        with pytest.raises(InputError, match=sentence):
            run.swap(images)


def test_a_disk_that_fails_while_figures_are_drawn(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pyro_disent.figures.of_run.save", full)
    with pytest.raises(StorageError, match=r"run is trained, .*\(disk full\); to draw them: pyro-disent figures"):
        pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / "run", **TINY)
    assert (tmp_path / "run/checkpoints/best.json").exists()


def test_data_that_was_handed_over_is_drawn_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    settings: dict[str, Any] = {"batch_size": 8, "network": "mlp", "latents": {"z": 2}, "device": "cpu"}
    run = pyro_disent.fit("vae", images, out=tmp_path / "run", max_steps=2, **settings)
    assert (run.path / "figures/samples.png").exists()
    shutil.rmtree(run.path / "figures")
    pyro_disent.fit(data=images, resume=run.path, max_steps=3)
    assert (run.path / "figures/samples.png").exists()
    data = from_arrays(images)
    assert run.swap([0, 1], data=data).axes and run.traverse(data=data).axes
    with pytest.raises(InputError, match="handed over from Python"):
        run.swap([0, 1])


class TestAPartOfOnesOwnLoop:
    def test_batches_are_those_of_the_feed(self, data: DataSet) -> None:
        vae = a_vae()
        feed = Feed(data.train, 24, 3, 2, vae.sharing)
        ours = list(pyro_disent.batches(data, 24, seed=3, epochs=2))
        assert len(ours) == 2 * feed.batches_per_epoch == 4
        for batch in ours:
            theirs, shared = feed.next(), vae.sharing(batch)
            assert torch.equal(batch.images, theirs.images) and batch.factors.keys() == {"rotation"}
            assert shared.shared.keys() == theirs.shared.keys() == {"z", "y"}
            assert all(torch.equal(shared.shared[name], theirs.shared[name]) for name in ("z", "y"))

    def test_batches_have_one_view_where_there_are_no_pairs(self, data: DataSet) -> None:
        single = from_arrays(np.zeros((40, 8, 8), np.uint8))
        assert not single.train.has_pairs and data.train.has_pairs
        assert next(pyro_disent.batches(single.train, 4)).views == 1
        assert next(pyro_disent.batches(data.test, 4, views=1)).views == 1
        with pytest.raises(InputError, match="no pairs"):
            pyro_disent.batches(single, 4, views=2)
        with pytest.raises(InputError, match="larger than the data"):
            pyro_disent.batches(data, 65)

    def test_plain_svi_trains_every_parameter(self, data: DataSet) -> None:
        vae = a_vae(2)
        objective = pyro_disent.objective("cycle+predictor", vae, data)
        before = {name: value.clone() for name, value in objective.state_dict().items()}
        svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), loss=objective.elbo)
        losses = [svi.step(batch) for batch in pyro_disent.batches(data, 16)]
        assert len(losses) == 4 and all(map(math.isfinite, losses))
        parameters = dict(objective.named_parameters())
        assert parameters and not any(torch.equal(before[name], value) for name, value in parameters.items())

    @pytest.mark.parametrize("method", ["cycle+similarity", "cycle+predictor", "dip", "beta-vae"])
    def test_the_objective_is_the_one_that_fit_builds(
        self, method: str, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Run, "drawn", lambda self, data: self)
        fitted = pyro_disent.fit(method, "rotated-mnist", out=tmp_path / "run", beta=1.5, **TINY)
        ours = pyro_disent.objective(method, fitted.vae, data, beta=1.5)
        ours.load_state_dict(fitted.objective.state_dict())
        batch = fitted.vae.sharing(next(pyro_disent.batches(data, 16)))
        records = []
        for objective in (fitted.objective, ours):
            torch.manual_seed(0)
            records.append(objective.eval().record(batch))
        assert torch.equal(records[0].loss, records[1].loss)
        assert records[0].terms.keys() == records[1].terms.keys()
        assert ours.weights.by_name == fitted.objective.weights.by_name

    def test_labels_that_are_missing_are_refused(self) -> None:
        with pytest.raises(InputError, match="needs labels of factors: hand over `data`"):
            pyro_disent.objective("predictor", a_vae())
        with pytest.raises(InputError, match="this data set has none"):
            pyro_disent.objective("predictor", a_vae(), from_arrays(np.zeros((40, 28, 28), np.uint8)))

    def test_data_may_lie_in_a_folder_named_by_a_text(self, tmp_path: Path) -> None:
        for who, k in itertools.product("abcdefghij", range(2)):
            (tmp_path / "faces" / who).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 20 * k, np.uint8)).save(tmp_path / "faces" / who / f"{k}.png")
        found = pyro_disent.load_data(tmp_path / "faces", image_size=8)
        assert found.image_shape == (1, 8, 8) and found.train.has_pairs
        with pytest.raises(InputError, match="no data set and no folder"):
            pyro_disent.load_data(str(tmp_path / "none"))


def width(codes: Codes) -> Iterator[Measurement]:
    yield Measurement(
        "width", lambda: {"width": Number("width of the code", "all", codes.test.codes["all"].shape[1], "")}
    )


def one(subject: Subject) -> Figure:
    return shown_figure(subject)


def several(subject: Subject) -> dict[str, Figure]:
    return {"first": shown_figure(subject), "second": shown_figure(subject)}


def none(subject: Subject) -> None:
    assert subject.images.shape[1:] == subject.vae.image_shape and len(subject.names) == len(subject.images)


def shown_figure(subject: Subject) -> Figure:
    from pyro_disent.figures import reconstructions

    return reconstructions(subject.vae, subject.images[:2])


def test_other_packages_bring_metrics_and_figures(
    run: Run, call: Any, monkeypatch: pytest.MonkeyPatch, few_metrics: None
) -> None:
    groups = {"pyro_disent.metrics": ["width"], "pyro_disent.figures": ["one", "several", "none"]}
    monkeypatch.setattr(
        plugins, "entry_points",
        lambda group: [EntryPoint(name, f"{__name__}:{name}", group) for name in groups.get(group, ())],
    )  # fmt: skip
    printed = call("evaluate", run.path, "--device", "cpu", "--threads", "1").stdout
    written = json.loads((run.path / "evaluation.json").read_text())
    assert list(written["numbers"])[-1] == "width" and written["numbers"]["width"]["value"] == 11
    assert "width of the code" in printed
    drawn = [path.name for path in run.draw()]
    assert drawn == ["reconstructions.png", "swap.png", "traverse-y.png", "samples.png", "one.png", "first.png",
                     "second.png"]  # fmt: skip
    assert call("figures", run.path, "--device", "cpu").stdout.count(".png") == len(drawn)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (lambda run: run.swap("01"), "at least two images"),
        (lambda run: run.swap(3), "at least two images"),
        (lambda run: run.swap([0]), "at least two images"),
        (lambda run: run.swap(["--5", "1"]), "--5"),
        (lambda run: run.swap([True, 1]), "True is no test index"),
        (lambda run: run.swap([torch.tensor(0.7), 1]), "is no test index"),
        (lambda run: run.traverse(steps=1), "`steps` of 2 or more"),
        (lambda run: run.sample(0), "0 images cannot be drawn"),
        (lambda run: run.reconstructions([]), "no images to reconstruct"),
        (lambda run: next(pyro_disent.batches(run.data(), 0)), "`batch_size=0` must be a whole number"),
        (lambda run: next(pyro_disent.batches(run.data(), 2.5)), "`batch_size=2.5` must be a whole number"),
        (lambda run: next(pyro_disent.batches(run.data(), 4, epochs=0)), "`epochs=0` must be a whole number"),
        (lambda run: next(pyro_disent.batches(run.data(), 4, views=3)), "no batches of 3 views"),
        (lambda _: pyro_disent.Evaluation.from_json({}), "this is not an evaluation"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(asked: Any, why: str, run: Any) -> None:
    with pytest.raises(InputError, match=why):
        asked(run)
