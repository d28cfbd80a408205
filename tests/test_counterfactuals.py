"""Swap errors whose values are known: of an oracle, of a model that draws one image, of codes that mix factors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Examples, Factor, Pairs, Source, Split
from pyro_disent.evaluation import report
from pyro_disent.evaluation.codes import Codes
from pyro_disent.evaluation.counterfactuals import independent_pairs, interval, swap_error
from pyro_disent.evaluation.evaluate import counterfactuals
from pyro_disent.evaluation.result import Number
from pyro_disent.figures.swap import swap_truth
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent, each, swapped

pytestmark = pytest.mark.usefixtures("full_protocol")
FACTORS = ("angle", "height")


class Dials(Split):
    """Images of four pixels: two say the identity, one the angle, one the height."""

    def __init__(self, identities: int = 12, views: int = 10, drawable: tuple[str, ...] = FACTORS) -> None:
        generator = torch.Generator().manual_seed(0)
        looks = torch.rand(identities, 2, generator=generator).repeat_interleave(views, 0)
        dials = torch.rand(identities * views, 2, generator=generator)
        images = torch.cat([looks, dials], -1).mul(200).add(20).round().byte().view(-1, 1, 2, 2)
        who = torch.arange(identities).repeat_interleave(views)
        super().__init__(images, {"identity": who}, dict(zip(FACTORS, dials.T, strict=True)))
        self._drawable = drawable

    @property
    def drawable(self) -> tuple[str, ...]:
        return self._drawable

    def _drawn(self, a: Tensor, b: Tensor, factors: tuple[str, ...], seed: int) -> Tensor:
        images = self.images[a].clone()
        for column, name in enumerate(FACTORS):
            if name in factors:
                images[:, 0, 1, column] = self.images[b][:, 0, 1, column]
        return images

    def examples(self, seed: int) -> Examples:
        return Examples(self.images, self.factors, self.labels)


PAIR = Pairs((("identity",),), identities=("identity",)).typical_pair(FACTORS)


class Logits(nn.Module):
    """The logits of pixels that are a linear function of the code."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, code: Tensor) -> Tensor:
        return (code @ self.weight.T).clamp(1e-6, 1 - 1e-6).logit().view(-1, 1, 2, 2)


def vae_of(weight: Tensor, decoder: Tensor | None = None) -> FactoredVAE:
    """z is the first two numbers of ``weight @ pixels``, y the last two; the decoder is the inverse, unless said."""
    latents = [Latent("z", 2), Latent("y", 2, explains="rest")]
    vae = FactoredVAE(latents, nn.Flatten(), Logits(torch.linalg.inv(weight) if decoder is None else decoder))
    with torch.no_grad():
        for name, rows in (("z", weight[:2]), ("y", weight[2:])):
            head = vae.guide.heads[name]
            head.weight.zero_()
            head.bias.zero_()
            head.weight[:2] = rows
    return vae


def means(split: Split, pairs: int = 1_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels in [0, 1], ``(pairs, 4)``, of a, of b and of the truth, for the pairs of seed 0."""
    a, b = independent_pairs(split.labels["identity"], pairs, 0)
    pixels = split.images.flatten(1).double().numpy() / 255
    truth = pixels[a].copy()
    truth[:, 2:] = pixels[b][:, 2:]
    return pixels[a], pixels[b], truth


def test_an_oracle_makes_no_error() -> None:
    split = Dials()
    found = swap_error(vae_of(torch.eye(4)), split, PAIR)
    assert found is not None and found.swapped == (("y",), FACTORS) and found.pairs == 1_000
    for error in (found.error, *found.interval, found.ceiling, found.reversibility, *found.composition.values()):
        assert error == pytest.approx(0, abs=1e-9)
    assert max(found.one_replaced.values()) == pytest.approx(0, abs=1e-9)
    assert found.relative == pytest.approx(0, abs=1e-6)
    pixels_a, _, truth = means(split)
    assert found.left_alone == pytest.approx(((pixels_a - truth) ** 2).mean(), rel=1e-6)


def test_a_mean_image_errs_by_the_variance() -> None:
    """A decoder of one image is as far from the truth as the variance about it says, whatever it is given."""
    split = Dials()
    mean = split.images.double().mean((0, 1)).flatten() / 255
    vae = vae_of(torch.eye(4), torch.zeros(4, 4))
    vae.model.decoder.forward = lambda code: mean.float().logit().expand(len(code), 4).view(-1, 1, 2, 2)  # type: ignore
    found = swap_error(vae, split, PAIR)
    assert found is not None
    variance = ((means(split)[2] - mean.numpy()) ** 2).mean()
    assert found.mean_image == pytest.approx(variance, rel=1e-6)
    for error in (found.error, found.ceiling, *found.one_replaced.values()):
        assert error == pytest.approx(variance, rel=1e-5)


def test_a_code_that_mixes_says_which_latent_is_not_portable() -> None:
    """y holds a twentieth of z's first pixel: swapped, it carries b's, which the inverse puts into the picture."""
    weight = torch.eye(4)
    weight[2, 0] = 0.05
    split = Dials()
    found = swap_error(vae_of(weight), split, PAIR)
    assert found is not None
    a, b, _ = means(split)
    # The decoder takes a twentieth of a's first pixel off y's first number, which has a twentieth of b's.
    expected = ((0.05 * (b[:, 0] - a[:, 0])) ** 2).mean() / 4
    assert found.error == pytest.approx(expected, rel=1e-4)
    assert found.one_replaced["y"] == pytest.approx(expected, rel=1e-4)
    assert found.one_replaced["z"] == pytest.approx(0, abs=1e-9)
    assert found.ceiling == pytest.approx(0, abs=1e-9)
    assert found.interval[0] < found.error < found.interval[1]
    assert found.relative == pytest.approx(expected / found.left_alone, rel=1e-3)


def test_a_decoder_that_dims_composes_to_a_power() -> None:
    split = Dials()
    found = swap_error(vae_of(torch.eye(4), 0.9 * torch.eye(4)), split, PAIR)
    assert found is not None
    a = means(split)[0][:256]
    for count, error in found.composition.items():
        assert error == pytest.approx(((1 - 0.9**count) ** 2 * a**2).mean(), rel=1e-4)
    back = np.concatenate([0.81 * a[:, :2], 0.9 * a[:, 2:]], 1)
    assert found.reversibility == pytest.approx(((back - a) ** 2).mean(), rel=1e-4)


def test_pairs_are_of_two_identities_and_independent() -> None:
    who = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100)]
    a, b = independent_pairs(who, 60_000, 1)
    assert (who[a] != who[b]).all()
    joint = torch.bincount(3 * who[a] + who[b], minlength=9).view(3, 3) / 60_000
    share = torch.tensor([0.5, 0.3, 0.2])
    expected = share[:, None] * share[None] / (1 - share[:, None]) * (1 - torch.eye(3))
    torch.testing.assert_close(joint, expected, atol=0.01, rtol=0)
    assert torch.bincount(b[who[a] == 0], minlength=100)[who != 0].min() > 400
    one, other = independent_pairs(torch.zeros(5), 1_000, 0)
    assert (one != other).all()


def test_the_interval_is_that_of_a_mean_of_independent_units() -> None:
    """Each unit has the same error ten times, which is no more to know: 400 units, not 4,000 numbers."""
    error = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = interval(error.repeat_interleave(10), torch.arange(400).repeat_interleave(10), 0)
    half = 1.96 * float(error.std()) / math.sqrt(400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert (high + low) / 2 == pytest.approx(float(error.mean()), abs=half / 4)


@pytest.mark.parametrize(
    ("latents", "pairs", "expected"),
    [
        ([Latent("z", 2), Latent("y", 2, explains="rest")], Pairs((("identity",),)), (("y",), FACTORS)),
        # What a pair always has in common is the identity and the height, so that only the angle is the rest.
        (
            [Latent("z", 2), Latent("y", 2, explains="rest")],
            Pairs((("identity", "height"),)),
            (("y",), ("angle",)),
        ),
        # Pairs by height: that is what z stands for, and the rest is the identity too.
        (
            [Latent("z", 2), Latent("y", 2, explains="rest")],
            Pairs((("height",),), identities=("identity",)),
            (("z",), ("height",)),
        ),
        (
            [Latent("z", 2), Latent("angle", 1, explains=("angle",)), Latent("h", 1, explains=each("height"))],
            Pairs((("identity",),)),
            (("angle", "h"), FACTORS),
        ),
        ([Latent("all", 2, explains="rest")], Pairs((("identity",),)), ((), ())),
        ([Latent("z", 2), Latent("y", 2, explains="rest")], Pairs((("identity",),), rest_differs=True), ((), ())),
        ([Latent("z", 2), Latent("tilt", 1, explains=("tilt",))], Pairs((("identity",),)), ((), ())),
    ],
)
def test_latents_are_swapped_that_explain_what_can_be_drawn(
    latents: list[Latent], pairs: Pairs, expected: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    assert swapped(latents, pairs.typical_pair(FACTORS), FACTORS) == expected


def test_nothing_is_measured_where_nothing_can_be_drawn() -> None:
    split = Dials(drawable=())
    assert swap_error(vae_of(torch.eye(4)), split, PAIR) is None
    assert list(counterfactuals(Codes(vae_of(torch.eye(4)), data_of(split), 0))) == []


def data_of(split: Split) -> DataSet:
    factors = tuple(Factor(name) for name in FACTORS)
    pairs = Pairs((("identity",),), identities=("identity",))
    return DataSet("dials", split, split, split, factors, Source("embedded", "dials", "0" * 64), {}, pairs)


def test_the_table_has_it_beside_what_it_is_compared_to() -> None:
    weight = torch.eye(4)
    weight[2, 0] = 0.05
    (measurement,) = counterfactuals(Codes(vae_of(weight), data_of(Dials()), 0))
    numbers = measurement.compute()
    assert list(numbers)[:4] == ["swap_error", "swap_error_ceiling", "swap_error_left_alone", "swap_error_mean_image"]
    assert {number.measure for number in list(numbers.values())[:4]} == {
        "swap error of angle, height (lower is better)"
    }
    found = numbers["swap_error"]
    assert Number.from_json(found.to_json()) == found
    assert found.interval is not None and report._value(found).startswith(f"{found.value:.4f} [{found.interval[0]:.4f}")
    assert "interval" not in numbers["swap_error_ceiling"].to_json()


@pytest.mark.parametrize("name", ["rotated-mnist", "colored-mnist"])
def test_a_real_data_set_is_measured_and_the_seed_is_all_it_depends_on(name: str) -> None:
    data = registry.load(name, source="embedded")
    channels = data.image_shape[0]
    latents = [Latent("z", 2), Latent("y", 1, explains="rest")]
    decoder = nn.Sequential(nn.Linear(3, channels * 784), nn.Unflatten(1, (channels, 28, 28)))
    vae = FactoredVAE(latents, nn.Sequential(nn.Flatten(), nn.Linear(channels * 784, 4)), decoder)
    pair = data.pairs.typical_pair(factor.name for factor in data.factors)
    state = torch.get_rng_state()
    one, again, other = (swap_error(vae, data.validation, pair, pairs=50, seed=seed) for seed in (3, 3, 4))
    assert one == again and one != other
    assert torch.equal(torch.get_rng_state(), state)
    assert one is not None and one.swapped.factors == tuple(factor.name for factor in data.factors)
    assert one.left_alone > 0 and one.error > 0


@pytest.mark.cuda
def test_a_gpu_finds_the_same() -> None:
    weight = torch.eye(4)
    weight[2, 0] = 0.05
    here = swap_error(vae_of(weight), Dials(), PAIR)
    vae = vae_of(weight)
    vae.model.to("cuda")
    vae.guide.to("cuda")
    there = swap_error(vae, Dials().to("cuda"), PAIR)
    assert here is not None and there is not None and here.swapped == there.swapped
    for name in ("error", "ceiling", "left_alone", "mean_image", "reversibility"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-3, abs=1e-9)


class TestTruthOfASwapMatrix:
    """Cell (i, j) of the figure: what is shared from the row, the rest from the column."""

    split = Dials()
    rows, columns = [0, 25, 50], [7, 11]

    def expected(self) -> Tensor:
        """The identity's pixels of the row, the dials of the column."""
        images = torch.empty(3, 2, 1, 2, 2, dtype=torch.uint8)
        for i, row in enumerate(self.rows):
            for j, column in enumerate(self.columns):
                images[i, j, 0, 0] = self.split.images[row, 0, 0]
                images[i, j, 0, 1] = self.split.images[column, 0, 1]
        return images

    def test_what_is_drawn_comes_from_the_column(self) -> None:
        vae = vae_of(torch.eye(4))
        found = swap_truth(vae, data_of(self.split), self.rows, self.columns, shared=["z"])
        assert found is not None and torch.equal(found, self.expected())

    def test_or_from_the_row(self) -> None:
        vae = vae_of(torch.eye(4))
        found = swap_truth(vae, data_of(self.split), self.columns, self.rows, shared=["y"])
        assert found is not None and torch.equal(found, self.expected().transpose(0, 1))

    def test_there_is_none_of_what_cannot_be_drawn(self) -> None:
        vae = vae_of(torch.eye(4))
        for split, shared in ((self.split, ["z", "y"]), (Dials(drawable=("angle",)), ["z"])):
            assert swap_truth(vae, data_of(split), self.rows, self.columns, shared=shared) is None
