"""Figures: which latents a picture shows, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_disent.batch import as_float
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.figures import grid, reconstructions, sample_latents, samples, save, swap_matrix, traversal
from pyro_disent.figures.grids import GAP, RULE, in_rows
from pyro_disent.figures.inputs import images_named
from pyro_disent.figures.samples import sampled
from pyro_disent.figures.swap import swap_images
from pyro_disent.figures.traversal import traversed
from pyro_disent.models.families import Circle
from pyro_disent.models.latents import Latent, each
from tests.painted import Painter, cells, drawn, pixels


class TestGrid:
    @pytest.mark.parametrize("side, channels", [(28, 1), (64, 3), (128, 1), (200, 3)])
    def test_pixels_are_whole_and_exact(self, side: int, channels: int) -> None:
        images = torch.rand(6, channels, side, side, generator=torch.Generator().manual_seed(0))
        figure = grid(
            in_rows(list(images), 3), title="A title", row_labels=["one", "two"], column_labels=["a", "b", "c"]
        )
        found = cells(figure, images)
        assert found.shape == (2, 3, side, side, 3)
        expected = (images.expand(-1, 3, -1, -1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        assert (found.reshape(6, side, side, 3) == expected).all()

    @pytest.mark.parametrize("side", [28, 64])
    def test_size_on_paper_is_that_of_the_images_and_their_labels(self, side: int) -> None:
        images = torch.zeros(4, 1, side, side)
        enlarged = side * round(112 / side)
        height, width, _ = pixels(grid(in_rows(list(images))).figure).shape
        assert (height, width) == (2 * enlarged + 3 * GAP, 2 * enlarged + 3 * GAP)
        labeled = pixels(grid(in_rows(list(images)), title="title", row_labels=["a", "b"])).shape
        assert labeled[0] > height and labeled[1] > width

    def test_gaps_are_white_and_headers_apart(self) -> None:
        figure = grid([[torch.zeros(1, 28, 28)] * 3] * 2, header_rows=1, header_columns=1)
        white = (pixels(figure) == 255).all(-1)
        side = 4 * 28
        assert white.all(1).sum() == 2 * GAP + RULE
        assert white.all(0).sum() == 3 * GAP + RULE
        assert white.sum() == white.size - 6 * side * side

    def test_long_title_and_labels_stay_on_the_paper(self) -> None:
        figure = grid(
            [[torch.zeros(1, 28, 28)]], title="A title much longer than one image is wide", row_labels=["label"]
        )
        paper = pixels(figure)
        figure.canvas.draw()
        for text in figure.texts:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= paper.shape[1] and box.y0 >= 0 and box.y1 <= paper.shape[0]

    def test_many_images_make_a_figure_of_a_size_that_opens(self) -> None:
        assert max(pixels(grid([[torch.zeros(1, 64, 64)] * 2] * 120)).shape) < 13_000

    @pytest.mark.parametrize("rows", [[], [[None]], [[torch.zeros(1, 2, 2)], []]])
    def test_nothing_to_show_is_an_error(self, rows: list) -> None:
        with pytest.raises(ValueError, match="at least one image"):
            grid(rows)

    def test_rows_are_filled_up(self) -> None:
        image = torch.zeros(1, 2, 2)
        assert [len(row) for row in in_rows([image] * 7)] == [3, 3, 3]
        assert in_rows([image] * 7)[-1][1:] == [None, None]
        assert len(in_rows([image] * 7, 7)) == 1

    def test_no_global_state(self) -> None:
        import matplotlib.pyplot as plt

        grid([[torch.zeros(1, 4, 4)]])
        assert plt.get_fignums() == []


class TestSave:
    figure = grid([[torch.zeros(1, 28, 28)]])

    def test_makes_folders_and_keeps_pixels(self, tmp_path: Path) -> None:
        path = save(self.figure, tmp_path / "figures" / "one.png")
        with Image.open(path) as image:
            assert (np.asarray(image.convert("RGB")) == pixels(self.figure)).all()
        assert [each.name for each in path.parent.iterdir()] == ["one.png"]

    @pytest.mark.parametrize("suffix", ["pdf", "svg"])
    def test_other_formats(self, tmp_path: Path, suffix: str) -> None:
        assert save(self.figure, tmp_path / f"one.{suffix}").stat().st_size > 500

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "one.png"
        path.write_bytes(b"old")

        def full(_: int) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="disk full"):
            save(self.figure, path)
        assert path.read_bytes() == b"old"
        with pytest.raises(ValueError, match="nonsense"):
            save(self.figure, tmp_path / "one.nonsense")
        assert not (tmp_path / "one.nonsense").exists()


class TestSwap:
    vae = Painter()
    rows, columns = vae.images(3), vae.images(4, seed=1)

    @pytest.mark.parametrize(
        "shared, from_row", [(["z", "w"], [0, 1, 2, 3]), (["z"], [0, 1, 2]), (["y", "w"], [3, 4, 5]), ([], [])]
    )
    def test_takes_what_is_shared_from_the_row_and_the_rest_from_the_column(
        self, shared: list[str], from_row: list[int]
    ) -> None:
        figure = swap_matrix(self.vae, self.rows, self.columns, shared=shared)
        found = cells(figure, self.rows, headers=(1, 1))
        assert found.shape[:2] == (4, 5)
        for i in range(3):
            for j in range(4):
                expected = drawn(self.columns[j]).copy()
                expected[:, from_row] = drawn(self.rows[i])[:, from_row]
                assert np.abs(found[i + 1, j + 1].astype(int) - expected).max() <= 1

    def test_originals_stand_left_and_above(self) -> None:
        found = cells(swap_matrix(self.vae, self.rows, self.columns, shared=["z", "w"]), self.rows, headers=(1, 1))
        assert (found[0, 0] == 255).all()
        for i, image in enumerate(self.rows):
            assert (found[i + 1, 0] == drawn(image)).all()
        for j, image in enumerate(self.columns):
            assert (found[0, j + 1] == drawn(image)).all()

    def test_an_image_with_itself_is_its_reconstruction(self) -> None:
        made = swap_images(self.vae, self.rows, self.rows, ["z"])
        for i in range(3):
            assert torch.allclose(made[i, i], as_float(self.rows[i]), atol=1e-5)

    def test_the_truth_and_the_difference_stand_under_each_row(self) -> None:
        truth = torch.stack([self.vae.images(4, seed=2 + row) for row in range(3)])
        figure = swap_matrix(self.vae, self.rows, self.columns, shared=["z"], row_labels=["a", "b", "c"], truth=truth)
        found = cells(figure, self.rows, headers=(1, 1))
        assert found.shape[:2] == (10, 5)
        for i in range(3):
            made, true, wrong = found[1 + 3 * i : 4 + 3 * i]
            assert (made[0] == drawn(self.rows[i])).all() and (true[0] == 255).all() and (wrong[0] == 255).all()
            for j in range(4):
                assert (true[j + 1] == drawn(truth[i, j])).all()
                expected = 255 - np.abs(made[j + 1].astype(int) - true[j + 1])
                assert np.abs(wrong[j + 1] - expected).max() <= 1
        labels = ["a", "truth", "difference", "b", "truth", "difference", "c", "truth", "difference"]
        assert [text.get_text() for text in figure.texts][1:] == labels

    def test_title_says_what_comes_from_where(self) -> None:
        figure = swap_matrix(self.vae, self.rows, self.columns, shared=["z", "w"])
        assert [text.get_text() for text in figure.texts] == ["z, w from the row, y from the column"]

    def test_an_unknown_latent_is_refused(self) -> None:
        with pytest.raises(InputError, match="no latent 'v'"):
            swap_matrix(self.vae, self.rows, self.columns, shared=["v"])


class TestTraversal:
    vae = Painter()
    image = vae.images(1)[0]

    def test_moves_one_unit_through_its_quantiles_and_nothing_else(self) -> None:
        moved = traversed(self.vae, self.image, "z", 5)
        assert moved.shape == (3, 5, 1, 8, 6)
        for unit in range(3):
            others = [column for column in range(6) if column != unit]
            assert torch.allclose(
                moved[unit][..., others], as_float(self.image)[..., others].expand(5, 1, 8, 5), atol=1e-5
            )
            column = 8 * moved[unit][:, 0, 0, unit] - 4
            expected = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.05, 0.95, 5))
            assert torch.allclose(column, expected, atol=1e-4)

    def test_a_unit_of_two_numbers_moves_both(self) -> None:
        vae = Painter(Latent("z", 2), Latent("turn", 2, Circle()))
        moved = traversed(vae, self.image, "turn", 4)
        assert moved.shape == (2, 4, 1, 8, 6)
        changed = (moved - as_float(self.image)).abs().amax((1, 2, 3)) > 1e-3
        assert changed.tolist() == [[False, False, True, True, False, False], [False] * 4 + [True, True]]

    def test_image_and_reconstruction_stand_left_of_each_row(self) -> None:
        figure = traversal(self.vae, self.image, "y", 3)
        found = cells(figure, self.image, headers=(0, 2))
        assert found.shape[:2] == (2, 5)
        for row in found:
            assert (row[0] == drawn(self.image)).all() and np.abs(row[1].astype(int) - drawn(self.image)).max() <= 1
        texts = [text.get_text() for text in figure.texts]
        assert {"image", "decoded", "5 %", "50 %", "95 %", "y[0]", "y[1]"} <= set(texts)

    def test_units_are_called_by_their_names(self) -> None:
        vae = Painter(Latent("z", 2, explains=each("smiling", "hat")), Latent("y", 4))
        assert {"smiling", "hat"} <= {text.get_text() for text in traversal(vae, self.image, "z").texts}

    def test_units_stand_by_their_kl_and_inactive_ones_are_counted(self) -> None:
        figure = traversal(self.vae, self.image, "z", 3, kl=torch.tensor([0.05, 2.5, 0.7]))
        texts = [text.get_text() for text in figure.texts]
        assert [text for text in texts if text.startswith("z[")] == [
            "z[1], 2.50 nats",
            "z[2], 0.70 nats",
            "z[0], 0.05 nats",
        ]
        assert any("1 of 3 inactive" in text for text in texts)
        found = cells(figure, self.image, headers=(0, 2))
        moved = traversed(self.vae, self.image, "z", 3)
        for row, unit in zip(found, (1, 2, 0), strict=True):
            for cell, image in zip(row[2:], moved[unit], strict=True):
                assert (cell == drawn(image)).all()

    def test_an_unknown_latent_is_refused(self) -> None:
        with pytest.raises(InputError, match="no latent 'v'"):
            traversal(self.vae, self.image, "v")


class TestSamples:
    vae = Painter()
    image = vae.images(1)[0]

    def test_only_the_named_latents_are_drawn(self) -> None:
        made = sampled(self.vae, self.image, ["w"], 7, torch.Generator().manual_seed(0))
        assert made.shape == (7, 1, 8, 6)
        assert torch.allclose(made[..., [0, 1, 2, 4, 5]], as_float(self.image)[..., [0, 1, 2, 4, 5]].expand(7, 1, 8, 5))
        assert len(made[:, 0, 0, 3].unique()) == 7

    def test_depend_on_their_generator(self) -> None:
        for figure in (samples, lambda *a: sample_latents(a[0], self.image, ["z"], *a[1:])):
            first, again, other = (
                pixels(figure(self.vae, 5, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
            )
            assert (first == again).all()
            assert (first != other).any()

    @pytest.mark.parametrize("n", [1, 2, 5, 9])
    def test_grid_has_as_many_images_as_asked(self, n: int) -> None:
        found = cells(samples(self.vae, n), self.image)
        assert (found != 255).any((2, 3, 4)).sum() == n

    def test_original_and_reconstruction_stand_above(self) -> None:
        found = cells(sample_latents(self.vae, self.image, ["z"], 1), self.image, headers=(1, 0))
        assert (found[0, 0] == drawn(self.image)).all()
        assert found.shape[:2] == (2, 2) and (found[1, 1] == 255).all()

    def test_reconstructions_stand_below_their_images(self) -> None:
        images = self.vae.images(3)
        found = cells(reconstructions(self.vae, images, labels=["0", "1", "2"]), images)
        assert np.abs(found[0].astype(int) - found[1]).max() <= 1


class TestImageFiles:
    def test_grey_is_luma_and_the_center_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "wide.png"
        wide = np.zeros((20, 40, 3), np.uint8)
        wide[:, 8:32] = (255, 0, 0)
        Image.fromarray(wide).save(path)
        assert self._read(path, (1, 10, 10)).eq(76).all()
        color = self._read(path, (3, 10, 10))[0]
        assert color.shape == (3, 10, 10) and color[0].eq(255).all() and color[1:].eq(0).all()

    def test_what_is_no_image_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("not an image")
        whole = tmp_path / "whole.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(whole)
        (tmp_path / "half.png").write_bytes(whole.read_bytes()[:600])
        for name, why in (("text.png", "is no image"), ("half.png", "damaged"), (".", "is a folder")):
            with pytest.raises(InputError, match=why):
                self._read(tmp_path / name, (1, 8, 8))
        with pytest.raises(InputError, match="missing"):
            self._read(tmp_path / "missing.png", (1, 8, 8))
        with pytest.raises(InputError, match="2 channels"):
            self._read(whole, (2, 8, 8))

    @staticmethod
    def _read(path: Path, shape: tuple[int, int, int]) -> torch.Tensor:
        def no_data() -> DataSet:
            raise AssertionError("every name is a file")

        return images_named([str(path)], shape, no_data).images
