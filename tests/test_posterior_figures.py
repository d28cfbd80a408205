"""Pictures of draws: what stands on them is in the draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from pyro_disent.figures import posterior_figures
from pyro_disent.figures.posterior import PAIRED, UNITS, aggregate, predictive_check, unit_pairs
from pyro_disent.models.families import Categorical, Circle
from pyro_disent.models.latents import Latent, each
from pyro_disent.queries.draws import arviz_groups
from tests.models import SHAPE, linear_vae

IMAGES = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def titles(figure: Any) -> list[str]:
    return texts(figure)[2:]


@pytest.fixture(scope="module")
def groups() -> dict[str, xarray.Dataset]:
    latents = [
        Latent("z", 2, explains=each("hat", "beard")),
        Latent("turn", 1, Circle()),
        Latent("kind", 1, Categorical(4)),
        Latent("y", 2, explains="rest"),
    ]
    return arviz_groups(linear_vae(latents), IMAGES, draws=30)


def test_each_unit_has_a_panel_with_the_share_of_its_draws(groups: dict[str, xarray.Dataset]) -> None:
    figure = aggregate(groups)
    assert titles(figure) == ["hat", "beard", "turn[0]", "kind[0]", "y[0]", "y[1]"]
    assert "20 images" in texts(figure)[0]
    choices = groups["posterior"]["kind"].values.ravel()
    (filled, _), edges = figure.axes[3].patches, [-0.5, 0.5, 1.5, 2.5, 3.5]
    share = np.histogram(choices, edges, density=True)[0]
    heights = filled.get_xy()[:, 1]
    assert {round(float(height), 9) for height in heights} == {0.0, *(round(float(each), 9) for each in share)}
    turn = figure.axes[2].patches[0].get_xy()[:, 0]
    assert turn.min() == pytest.approx(-math.pi) and turn.max() == pytest.approx(math.pi)


def test_the_units_by_which_images_differ_most_are_shown() -> None:
    vae = linear_vae([Latent("z", UNITS + 6)])
    with torch.no_grad():
        head = vae.guide.heads["z"]
        head.weight[: UNITS + 6] = 0  # the same for all images, but for units 3 and 29
        head.weight[3], head.weight[29] = 1.0, -1.0
    groups = arviz_groups(vae, IMAGES, draws=50)
    figure = aggregate(groups)
    assert len(figure.axes) == UNITS and {"z[3]", "z[29]"} <= set(titles(figure))
    assert f"the {UNITS} of {UNITS + 6} units" in texts(figure)[0]
    paired = titles(unit_pairs(groups))
    assert len(paired) == PAIRED * (PAIRED - 1) // 2 and "z[29] over z[3]" in paired


def test_a_check_counts_the_images_inside_their_interval() -> None:
    """Images are normal around a mean of their own: 90 % of what is as the model says, none of what is brighter."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.3, 0.7, (400, 1, 1, 1))
    drawn = mean + 0.1 * rng.standard_normal((1, 200, 400, 1, 4, 4))
    alike = mean + 0.1 * rng.standard_normal((400, 1, 4, 4))

    def counted(images: np.ndarray) -> list[int]:
        sizes = ("image", "channel", "height", "width")
        groups = {
            "observed_data": xarray.Dataset({"x": (sizes, images)}),
            "posterior_predictive": xarray.Dataset({"x": (("chain", "draw", *sizes), drawn)}),
        }
        words = texts(predictive_check(groups))[0]
        return [int(part.split(" in ")[0]) for part in words.split("400 images, ")[1].split(" and ")]

    inside = counted(alike)
    assert all(abs(count - 360) < 5 * math.sqrt(400 * 0.9 * 0.1) + 4 for count in inside)  # 4: quantiles of 200 draws
    assert counted(alike + 0.5)[0] == 0


def test_one_unit_has_no_pairs(groups: dict[str, xarray.Dataset]) -> None:
    assert set(posterior_figures(groups)) == {"aggregate", "pairs", "check"}
    assert set(posterior_figures(arviz_groups(linear_vae([Latent("z", 1)]), IMAGES, draws=3))) == {"aggregate", "check"}
