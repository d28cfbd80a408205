"""An evaluation of a model that reads what it knows off pixels: its blocks, bounds, numbers and table."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.errors import InputError
from pyro_disent.evaluation import report
from pyro_disent.evaluation.bounds import elbo
from pyro_disent.evaluation.codes import blocks
from pyro_disent.evaluation.evaluate import PIXELS, evaluate, identities
from pyro_disent.evaluation.probes import linear_probe
from pyro_disent.evaluation.result import Evaluation
from tests.dials import Dials, a_run, dials, reading_vae


class TestBlocks:
    def test_every_latent_and_all(self) -> None:
        assert blocks(["z", "y"], ["z"]) == {"z": ("z",), "y": ("y",), "all": ("z", "y")}

    def test_one_latent_is_all_there_is(self) -> None:
        assert blocks(["z"], ["z"]) == {"z": ("z",)}

    def test_latents_that_pairs_do_not_share_stand_together(self) -> None:
        assert list(blocks(["z", "w", "azimuth", "y"], ["z", "w"])) == [
            "z+w",
            "z",
            "w",
            "azimuth+y",
            "azimuth",
            "y",
            "all",
        ]

    def test_no_factors_and_several_latents(self) -> None:
        assert blocks(["z", "w"], ["z", "w"]) == {"z": ("z",), "w": ("w",), "all": ("z", "w")}


class TestBound:
    def test_is_the_mean_over_images_whatever_the_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vae, images = reading_vae(z=[0, 1, 2, 3], y=[4, 5]), Dials(10, seed=0).images
        bound = elbo(vae, images)
        assert bound.elbo == pytest.approx(bound.log_likelihood - sum(bound.kl.values()))
        means, scale = (images.flatten(1)[:, [4, 5]] / 255 * 4 - 2), 0.1
        kl = (0.5 * (means**2 + scale**2 - 1) - math.log(scale)).sum(-1).mean().item()
        assert bound.kl["y"] == pytest.approx(kl, rel=1e-4)
        monkeypatch.setattr("pyro_disent.evaluation.bounds._CHUNK", 7)
        in_parts = elbo(vae, images)
        assert in_parts.kl == pytest.approx(bound.kl, rel=1e-5)
        assert in_parts.log_likelihood == pytest.approx(bound.log_likelihood, rel=0.05)

    def test_leaves_model_and_random_state_alone(self) -> None:
        vae, images = reading_vae(z=[0, 1], y=[4]), Dials(4, seed=0).images
        vae.train()
        before = {name: value.clone() for name, value in vae.state_dict().items()}
        state = torch.get_rng_state()
        assert elbo(vae, images, seed=1) == elbo(vae, images, seed=1) != elbo(vae, images, seed=2)
        assert vae.training
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
        assert all(parameter.grad is None for parameter in vae.parameters())


@pytest.fixture(scope="module")
def evaluation() -> dict:
    told: list[tuple[int, int, str]] = []
    run = a_run(reading_vae(z=[0, 1, 2, 3], y=[4, 5, 6]), dials())
    result = run.evaluate(progress=lambda *step: told.append(step)).to_json()
    assert told[-1][0] == told[-1][1] == len(told) - 2
    return result


class TestEvaluate:
    def value(self, evaluation: dict, key: str) -> float:
        return evaluation["numbers"][key]["value"]

    def test_is_plain_json(self, evaluation: dict) -> None:
        assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
        assert evaluation["protocol"] == 1
        assert evaluation["blocks"] == {"z": ["z"], "y": ["y"], "all": ["z", "y"]}

    def test_measures_every_block(self, evaluation: dict) -> None:
        for kind in ("leak/azimuth", "leak/height", "pair/height", "view/azimuth", "view_error/azimuth"):
            assert {key for key in evaluation["numbers"] if key.startswith(f"{kind}/")} == {
                f"{kind}/{block}" for block in ("z", "y", "all")
            }

    def test_z_is_the_identity(self, evaluation: dict) -> None:
        assert self.value(evaluation, "recall_at_1/z") == 1.0
        assert self.value(evaluation, "recall_at_1/y") < 0.2
        assert self.value(evaluation, "recall_at_1/z") > self.value(evaluation, f"recall_at_1/{PIXELS}")
        for factor in ("azimuth", "height"):
            assert self.value(evaluation, f"leak/{factor}/z") <= 0.05
            assert self.value(evaluation, f"view/{factor}/z") <= 0.05
        assert self.value(evaluation, "pair/height/z") <= 0.05

    def test_y_is_the_view(self, evaluation: dict) -> None:
        for factor in ("azimuth", "height"):
            assert self.value(evaluation, f"leak/{factor}/y") > 0.95
            assert self.value(evaluation, f"view/{factor}/y") > 0.95
        assert self.value(evaluation, "pair/height/y") > 0.95
        assert self.value(evaluation, "view_error/azimuth/y") < 5
        assert self.value(evaluation, "near_symmetric") == 0

    def test_labels_of_training_are_probed_and_identities_are_not(self, evaluation: dict) -> None:
        vae, data = reading_vae(z=[0, 1, 2, 3], y=[4, 5, 6]), dials()
        code, test = vae.codes(data.train.images), vae.codes(data.test.images)
        known, asked = data.train.labels["kind"], data.test.labels["kind"]
        whole = torch.cat([code["z"], code["y"]], -1)
        assert self.value(evaluation, "linear_probe/kind/z") == linear_probe(code["z"], known, test["z"], asked, seed=0)
        assert self.value(evaluation, "linear_probe_published/kind") == linear_probe(
            whole, known, whole, known, seed=0, bias=False
        )
        assert not any("identity" in key for key in evaluation["numbers"])

    def test_bound(self, evaluation: dict) -> None:
        parts = [self.value(evaluation, key) for key in ("log_likelihood", "kl/z", "kl/y")]
        assert self.value(evaluation, "elbo") == pytest.approx(parts[0] - parts[1] - parts[2])

    def test_is_the_same_again(self) -> None:
        first, again, other = (
            a_run(reading_vae(z=[0, 6]), dials((4, 3, 4))).evaluate(seed=seed).numbers for seed in (0, 0, 1)
        )
        # The decoder's first weights are drawn anew each time; nothing else may differ.
        same = {key for key in first if key not in ("elbo", "log_likelihood")}
        assert {key: first[key] for key in same} == {key: again[key] for key in same}
        assert {key: first[key] for key in same} != {key: other[key] for key in same}

    def test_near_symmetric_identities_are_counted_and_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyro_disent.evaluation.evaluate.METRICS", (identities,))
        data = dials((8, 4, 4))
        opposite = 3 * Dials.views  # images of identities that are told the wrong way round
        data.test.factors["azimuth"][:opposite] += math.pi
        run = a_run(reading_vae(y=[4, 5]), data)
        assert run.evaluate().numbers["view_error/azimuth/y"].value > 170
        data.train.asymmetry, data.test.asymmetry = torch.ones(len(data.train)), torch.ones(len(data.test))
        data.test.asymmetry[:opposite] = 0.01
        numbers = run.evaluate().numbers
        assert numbers["view_error/azimuth/y"].value < 15
        assert numbers["near_symmetric"].value == 3

    def test_a_data_set_without_labels_factors_or_pairs(self) -> None:
        class Plain(Dials):
            def __init__(self, identities: int, seed: int) -> None:
                super().__init__(identities, seed)
                self.labels, self.factors = {}, {}

            has_pairs = False

        data = DataSet("plain", Plain(2, 0), Plain(2, 1), Plain(2, 2), (), Source("local", "here", "0"), {})
        numbers = evaluate(reading_vae(z=[0, 1]), data).numbers
        assert set(numbers) == {"elbo", "log_likelihood", "kl/z", "use/z", "aggregate_kl/z"}

    def test_factors_without_pairs_are_read_all_the_same(self) -> None:
        class Single(Dials):
            has_pairs = False

        data = dials((4, 3, 3))
        splits = [Single(count, seed) for seed, count in enumerate((4, 3, 3))]
        for split in splits:
            del split.labels["identity"]
        data = DataSet("single", *splits, data.factors, data.source, {})
        kinds = {key.partition("/")[0] for key in evaluate(reading_vae(z=[0]), data).numbers}
        assert "leak" in kinds
        assert kinds.isdisjoint({"pair", "recall_at_1", "view"})

    def test_images_of_another_shape_are_refused(self) -> None:
        data = dials((2, 2, 2))
        data.train.images = data.train.images.repeat(1, 3, 1, 1)
        with pytest.raises(InputError, match="2x4 with 1 channel, but those of dials are 2x4 with 3 channels"):
            a_run(reading_vae(z=[0]), data).evaluate()


class TestReport:
    def text(self, *evaluations: dict) -> str:
        written = io.StringIO()
        Console(width=140, file=written).print(report.table([Evaluation.from_json(each) for each in evaluations]))
        return written.getvalue()

    def test_table_has_a_column_for_each_run(self, evaluation: dict) -> None:
        text = self.text(evaluation, evaluation | {"run": "another-1"})
        assert "dials, test split" in text
        header = next(line for line in text.splitlines() if "measure" in line)
        assert all(name in header for name in ("dials-cycle-1", "another-1", PIXELS))
        assert next(line for line in text.splitlines() if "recall@1" in line).count("100.0 %") == 2

    def test_raw_pixels_stand_in_their_own_column_once(self, evaluation: dict) -> None:
        pixels = evaluation["numbers"][f"recall_at_1/{PIXELS}"]["value"]
        rows = [line.split("│") for line in self.text(evaluation).splitlines() if line.startswith("│")]
        assert [row[1].strip() for row in rows if row[-2].strip() == f"{100 * pixels:.1f} %"] == [
            "recall@1 of identity in another view"
        ]
        assert PIXELS not in self.text(evaluation).split("measure")[1].split("\n", 1)[1]

    def test_raw_pixels_of_several_data_sets_are_not_one_column(self, evaluation: dict) -> None:
        other = json.loads(json.dumps(evaluation)) | {"data": "others"}
        other["numbers"][f"recall_at_1/{PIXELS}"]["value"] = 0.4567
        text = self.text(evaluation, other)
        assert "several data sets" in text
        assert "45.7 %" not in text

    def test_a_measure_that_one_run_lacks(self, evaluation: dict) -> None:
        other = evaluation | {"run": "less", "numbers": {"elbo": evaluation["numbers"]["elbo"]}}
        assert "leak of height" in self.text(other, evaluation)

    def test_not_finite_is_said(self, evaluation: dict) -> None:
        number = {"measure": "ELBO", "block": "", "value": None, "unit": "nats per image"}
        assert "not finite" in self.text(evaluation | {"numbers": {"elbo": number}})

    def test_file_is_replaced_whole_or_not_at_all(
        self, evaluation: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = a_run(reading_vae(z=[0]), dials((2, 2, 2)), tmp_path)
        path = run.write(Evaluation.from_json(evaluation))
        assert path == tmp_path / "evaluation.json"
        assert json.loads(path.read_text()) == evaluation
        with pytest.raises(ValueError, match="JSON"):
            run.write(Evaluation.from_json(evaluation | {"seed": math.nan}))
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run.write(Evaluation.from_json(evaluation | {"seed": 3}))
        assert json.loads(path.read_text()) == evaluation

    def test_another_data_set_gets_a_file_of_its_own(self, evaluation: dict, tmp_path: Path) -> None:
        run = a_run(reading_vae(z=[0]), dials((2, 2, 2)), tmp_path)
        assert run.write(Evaluation.from_json(evaluation | {"data": "others"})).name == "evaluation-others.json"
        source = evaluation["source"] | {"sha256": "1" * 64}  # another folder of the same name
        assert run.write(Evaluation.from_json(evaluation | {"source": source})).name == "evaluation-dials.json"
