"""Figures name images by their files and factors, and are drawn again of a run that was killed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Examples, Factor, Source, Split
from pyro_disent.data.own.arrays import from_arrays
from pyro_disent.figures import of_run
from pyro_disent.figures.grids import grid
from pyro_disent.figures.inputs import images_at, images_named
from pyro_disent.figures.naming import image_name
from pyro_disent.runs.presets import configure
from pyro_disent.runs.run import load
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.table import TINY

DRAWN = ["reconstructions.png", "swap.png", "traverse-y.png", "samples.png"]


def photos(root: Path, extra: str = "") -> Path:
    """Six people with two images each, one a folder, and what is known of them where ``extra`` names a column."""
    random = np.random.default_rng(0)
    rows = [f"file_name,{extra}"]
    for person in "abcdef":
        (root / f"$who_{person}").mkdir(parents=True)
        for number in range(2):
            name = f"$who_{person}/{number}.png"
            Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(root / name)
            rows.append(f"{name},{number}")
    if extra:
        (root / "metadata.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of images, without figures, as one that was killed while they were drawn."""
    root = photos(tmp_path_factory.mktemp("data") / "photos", "light")
    options = {"image_size": 8, "channels": 1}
    settings = {"max_steps": 2, "batch_size": 4, "latents": {"z": 3, "y": 2}, "network": "mlp", "options": options}
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "photos-cycle-1")
    train(configure("cycle", str(root), "quick", settings), folder)
    return folder.path


class TestNames:
    @pytest.mark.parametrize("extra", ["", "light"])
    def test_a_folders_image_is_called_by_its_file_in_every_split(self, tmp_path: Path, extra: str) -> None:
        root = photos(tmp_path / "photos", extra)
        data = registry.load(str(root), image_size=8, channels=1)
        for split in (data.train, data.validation, data.test):
            examples = split.examples(0)
            for index in range(len(split)):
                name, *rest = image_name(data, split, examples, index)
                with Image.open(root / name) as image:
                    assert np.array_equal(np.asarray(image), examples.images[index][0].numpy())
                assert rest == ([f"light {name[-5]}"] if extra else [])

    def test_an_image_that_is_left_out_shifts_no_name(self, tmp_path: Path) -> None:
        root = photos(tmp_path / "photos")
        (root / "$who_a" / "0.png").write_text("no image")
        (root / "$who_b" / "0.png").unlink()
        data = registry.load(str(root), image_size=8, channels=1, skip_bad=True)
        seen = []
        for split in (data.train, data.validation, data.test):
            for image, name in zip(split.images, split.names, strict=True):
                with Image.open(root / name) as file:
                    assert np.array_equal(np.asarray(file), image[0].numpy())
                seen.append(name)
        assert len(seen) == 8 == len(set(seen))

    @pytest.mark.parametrize("limit", [None, 5])
    def test_given_images_are_called_by_their_place_in_what_was_given(self, limit: int | None) -> None:
        images = np.arange(40, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
        light = [("low", "high", None)[number % 3] for number in range(40)]
        data = from_arrays(
            images, identity=np.arange(40) // 4, factors={"light": light}, labels={"kind": images[:, 0, 0]}
        )
        examples = data.test.examples(0)
        for index in range(len(data.test)):
            place = int(examples.images[index, 0, 0, 0])
            known = [] if light[place] is None else [f"light {light[place]}"]
            assert image_name(data, data.test, examples, index) == (f"image {place}", f"kind {place}", *known)

    @pytest.mark.parametrize("name", registry.BUILT_IN)
    def test_the_built_in_sets_say_what_an_image_is(self, name: str) -> None:
        data = registry.load(name, source="embedded", **TINY.get(name, {}))
        examples = data.test.examples(3)
        for index in (0, 5):
            label = {key: int(values[index]) for key, values in examples.labels.items()}
            factor = {key: float(values[index]) for key, values in examples.factors.items()}
            parts = image_name(data, data.test, examples, index)
            if name == "rotated-mnist":
                degrees = round(math.degrees(factor["rotation"]))
                assert parts == (f"digit {label['digit']}", f"{degrees:+d}°".replace("-", "\N{MINUS SIGN}"))
            elif name == "colored-mnist":
                assert parts[0] == f"digit {label['digit']}" and parts[1] == f"red {factor['red']:.2f}"
            elif name == "chairs":
                assert parts[:2] == (
                    f"chair {label['identity']}",
                    f"azimuth {round(math.degrees(factor['azimuth']))}°",
                )
            else:
                assert parts == (f"face {sum(TINY[name]['counts'][:2]) + index + 1}",)

    def test_an_image_of_which_nothing_is_known_has_a_number(self) -> None:
        images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        split = Split(images)
        data = DataSet("x", split, split, split, (Factor("zoom"),), Source("given", "", ""), {})
        assert image_name(data, split, Examples(images, {}, {}), 1) == ("image 1",)
        unknown = {"zoom": torch.tensor([1.0, math.nan])}
        assert image_name(data, split, Examples(images, unknown, {}), 0) == ("zoom 1",)
        assert image_name(data, split, Examples(images, unknown, {}), 1) == ("image 1",)

    def test_files_and_indices_keep_their_order_and_names(self, tmp_path: Path) -> None:
        root = photos(tmp_path / "photos")
        data = registry.load(str(root), image_size=8, channels=1)
        file = root / "$who_c" / "1.png"
        chosen = images_named(["1", str(file), "0"], (1, 8, 8), lambda: data)
        assert chosen.names == [(data.test.names[1],), ("1.png",), (data.test.names[0],)]
        assert torch.equal(chosen.images[[0, 2]], data.test.images[[1, 0]])
        with Image.open(file) as image:
            assert np.array_equal(chosen.images[1, 0].numpy(), np.asarray(image))
        assert torch.equal(images_at(data, [1]).images[0], data.test.images[1])

    def test_parts_stand_on_as_few_lines_as_hold_them(self) -> None:
        cell = torch.zeros(1, 28, 28)
        labels = [("chair 12", "90°"), ("a/long/path/to/an/image/of/somebody.jpg", "light 3", "left"), "one, line"]
        texts = [text.get_text() for text in grid([[cell] * 3], column_labels=labels).texts]
        assert texts[0] == "chair 12, 90°" and texts[2] == "one, line"
        path, factors = texts[1].split("\n")
        assert path.startswith("a/long") and "…" in path and path.endswith("body.jpg") and factors == "light 3, left"


class TestFigures:
    def test_draws_what_fit_leaves_and_prints_the_folder_last(
        self, trained: Path, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained, run)
        result = call("figures", run, "--device", "cpu")
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == [*(str(run / "figures" / name) for name in DRAWN), str(run / "figures")]
        first = {name: (run / "figures" / name).read_bytes() for name in DRAWN}
        again = json.loads(call("figures", run, "--device", "cpu", "--json").stdout)
        assert again == {"figures": [str(run / "figures" / name) for name in DRAWN], "path": str(run / "figures")}
        assert {name: (run / "figures" / name).read_bytes() for name in DRAWN} == first
        load(run).draw()  # as fit itself does
        assert {name: (run / "figures" / name).read_bytes() for name in DRAWN} == first

    def test_a_run_without_a_checkpoint_and_what_is_no_run_are_refused(
        self, trained: Path, call: Any, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained, run)
        shutil.rmtree(run / "checkpoints")
        for path, says in ((run, "has no best checkpoint"), (tmp_path / "none", "there is no run at")):
            result = call("figures", path)
            assert result.returncode == 2 and says in result.stderr and len(result.stderr.splitlines()) == 1
        assert not (run / "figures").exists()

    def test_a_run_on_data_from_python_is_refused_in_a_sentence(self, trained: Path, call: Any, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained, run)
        config = json.loads((run / "config.json").read_text())
        config["source"]["kind"] = "given"
        (run / "config.json").write_text(json.dumps(config))
        result = call("figures", run)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and result.stdout == ""
        assert "handed over from Python" in result.stderr and ").draw(data)" in result.stderr

    def test_a_disk_that_fails_is_one_sentence(self, trained: Path, call: Any, tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(trained, run)
        (run / "figures").write_text("in the way")
        result = call("figures", run)
        assert (
            result.returncode == 2
            and "figures is not a folder of this run" in result.stderr
            and "Traceback" not in result.stderr
        )

    @pytest.mark.parametrize("count", [1, 2, 3, 14, 30])
    def test_few_test_images_are_swapped_all_the_same(
        self, count: int, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: dict[str, Any] = {}
        real = of_run.swap_matrix

        def watched(vae: Any, rows: torch.Tensor, columns: torch.Tensor, **labels: Any) -> Any:
            seen.update(rows=rows, columns=columns, **labels)
            return real(vae, rows, columns, **labels)

        monkeypatch.setattr(of_run, "swap_matrix", watched)
        monkeypatch.setattr(of_run, "save", lambda figure, path: path)
        images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
        split = Split(images, names=[f"number {number}" for number in range(count)])
        split.examples = lambda seed: Examples(images, {}, {})  # type: ignore[method-assign]
        data = DataSet("x", split, split, split, (), Source("given", "", ""), {})
        load(trained).draw(data)
        assert 1 <= len(seen["rows"]) <= 6 and 1 <= len(seen["columns"]) <= 8
        for images_of, names in (("rows", "row_labels"), ("columns", "column_labels")):
            assert [(f"number {int(image.max())}",) for image in seen[images_of]] == seen[names]
        if count > 1:
            assert not set(seen["row_labels"]) & set(seen["column_labels"])

    def test_swap_traverse_and_sample_show_the_names(
        self, trained: Path, call: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[str] = []

        def look(figure: Any, path: Path) -> Path:
            shown.extend(text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text")))
            return path

        monkeypatch.setattr("pyro_disent.figures.save", look)
        name = load(trained).data().test.names[1]
        label = f"{name}, light {name[-5]}"
        for command in (
            ["swap", trained, 1, 0],
            ["traverse", trained, "--index", 1],
            ["sample", trained, "--latent", "y", "--index", 1],
        ):
            shown.clear()
            assert call(*command).returncode == 0
            assert label in [text.replace("\n", ", ") for text in shown], command
