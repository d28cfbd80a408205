"""What is read off codes is read off means and off draws alike, and a use of nothing is none."""

from __future__ import annotations

import pytest
import torch

from pyro_disent.evaluation.codes import Codes
from pyro_disent.evaluation.evaluate import PIXELS, identities, pair_leaks
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.use import NOTHING, use
from tests.dials import a_run, dials, reading_vae
from tests.models import SHAPE, linear_vae

LOOKS, DIALS = [0, 1, 2, 3], [4, 5, 6]
READ = ("pair/height", "view/height", "view/azimuth", "recall_at_1")


def whispering() -> FactoredVAE:
    """The means of z and y tell what those of loud and y_loud tell: by ten-thousandths of their posteriors' scale."""
    vae = reading_vae(z=LOOKS, y=DIALS, loud=LOOKS, y_loud=DIALS)
    with torch.no_grad():
        for name, units in (("z", LOOKS), ("y", DIALS)):
            head = vae.guide.heads[name]
            head.weight[: len(units)] *= 1e-4
            head.bias[: len(units)] *= 1e-4
            head.bias[len(units) :] = 0
            vae.guide.heads["loud" if name == "z" else "y_loud"].bias[len(units) :] = -18
    return vae


@pytest.fixture(scope="module")
def numbers() -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_disent.evaluation.evaluate.METRICS", (pair_leaks, identities))
        found = a_run(whispering(), dials((40, 20, 20))).evaluate().to_json()
    measures = {(number["measure"], number["block"]) for number in found["numbers"].values()}
    assert len(measures) == len(found["numbers"])  # no two rows of the report are one
    return {key: number["value"] for key, number in found["numbers"].items()}


@pytest.mark.parametrize("kind", READ)
def test_a_latent_that_only_whispers_tells_by_its_means_and_not_by_its_draws(
    kind: str, numbers: dict[str, float]
) -> None:
    quiet, loud = ("z", "loud") if kind == "recall_at_1" else ("y", "y_loud")
    measure, _, factor = kind.partition("/")
    by_draws = f"{measure}_drawn/{factor}".rstrip("/")
    assert numbers[f"{kind}/{quiet}"] > 0.8
    assert numbers[f"{by_draws}/{quiet}"] < 0.2  # recall by chance is a twentieth
    assert numbers[f"{kind}/{loud}"] > 0.8 and numbers[f"{by_draws}/{loud}"] > 0.8


def test_whatever_is_read_of_a_block_is_read_twice(numbers: dict[str, float]) -> None:
    keys = {key for key in numbers if key.split("/")[-1] in ("z", "y", "loud", "y_loud", "all")}
    once = {key for key in keys if "_drawn/" not in key}
    assert {key.replace("/", "_drawn/", 1) for key in once} == keys - once
    assert "view_error_drawn/azimuth/y" in keys and f"recall_at_1_drawn/{PIXELS}" not in numbers
    assert numbers["view_error/azimuth/y"] < 15 < numbers["view_error_drawn/azimuth/y"]


def test_draws_of_pairs_are_the_seeds_and_move_nothing() -> None:
    data = dials((20, 5, 20))
    codes, again, other = (Codes(whispering(), data, seed) for seed in (3, 3, 4))
    state = torch.get_rng_state()
    train, test = codes.train_pairs.draws["z"], codes.test_pairs.draws["z"]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(train, again.train_pairs.draws["z"])
    for others in (test, other.train_pairs.draws["z"], train.flip(0)):  # the views have noise of their own, too
        assert abs(torch.stack([train.flatten(), others.flatten()]).corrcoef()[0, 1]) < 0.1
    validation, unseen = codes.read_unseen("z", drawn=True)
    assert abs(torch.stack([validation.flatten(), unseen[: len(validation)].flatten()]).corrcoef()[0, 1]) < 0.15


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1e-5])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_decoder_that_changes_nothing_uses_no_latent(scale: float, as_bytes: bool) -> None:
    vae = linear_vae()
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    pictures = (images * 255).byte() if as_bytes else images
    assert min(use(vae, pictures).values()) > 0
    with torch.no_grad():
        vae.model.decoder[0].weight *= scale
    assert use(vae, pictures) == {"z": 0.0, "y": 0.0}


def test_the_floor_is_the_images_own_change() -> None:
    """The same weak decoder says something of images that hardly differ, and nothing of those that differ much."""
    vae = linear_vae()
    far = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        vae.guide.encoder[1].weight *= 1e3  # codes of near images are still far apart
        vae.model.decoder[0].weight *= 1e-3
    near = 1e-3 * far
    assert max(use(vae, far).values()) == 0 < min(use(vae, near).values())
    assert NOTHING == 1e-6
