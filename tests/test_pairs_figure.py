"""The contact sheet of pairs: room for every shape, and captions that say what is known."""

from __future__ import annotations

import pytest
import torch

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor
from pyro_disent.figures.naming import MANY, factor_text
from pyro_disent.figures.pairs import LINES, contact_sheet


@pytest.mark.parametrize(
    ("factor", "value", "named", "text"),
    [
        (Factor("rotation", "radians"), -0.5236, False, "\N{MINUS SIGN}30°"),
        (Factor("rotation", "radians"), 0.5236, True, "rotation +30°"),
        (Factor("rotation", "radians"), -0.001, False, "0°"),
        (Factor("azimuth", "radians", circular=True), -0.5236, True, "azimuth 330°"),
        (Factor("azimuth", "radians", circular=True), 6.2831, False, "0°"),
        (Factor("zoom"), 0.75, True, "zoom 0.75"),
        (Factor("zoom"), 1.0, False, "1"),
        (Factor("count"), 10.0, False, "10"),
        (Factor("style", categories=("flat", "round")), 1.0, True, "style round"),
        (Factor("height"), float("nan"), True, "height unknown"),
    ],
)
def test_factors_are_written_as_people_do(factor: Factor, value: float, named: bool, text: str) -> None:
    assert factor_text(factor, value, named=named) == text


def test_a_sheet_has_room_for_every_shape() -> None:
    factors = (Factor("azimuth", "radians", True), Factor("zoom"))
    for size, channels in ((1, 3), (7, 1)):
        values = {factor.name: torch.rand(2, size) for factor in factors}
        sheet = contact_sheet(Batch(torch.rand(2, size, channels, 64, 48), factors=values), factors, "title")
        assert len(sheet.axes) == 2 * size


def test_many_factors_are_not_written_out_one_by_one() -> None:
    factors = tuple(Factor(f"Big_{index}", edges=(0.5,)) for index in range(MANY + 8))
    values = {factor.name: torch.zeros(2, 3) for factor in factors}
    values["Big_2"][0, 0] = values["Big_5"][1, 0] = 1  # one each
    values["Big_3"][:, 1] = 1  # equal in both: no difference
    for factor in factors[: LINES + 2]:
        values[factor.name][1, 2] = 1  # more than there is room for
    sheet = contact_sheet(Batch(torch.rand(2, 3, 1, 28, 28), factors=values), factors, "title")
    title, legend, *captions = [text.get_text() for text in sheet.texts]
    assert title == "title" and legend.startswith("14 attributes")
    assert captions[:4] == ["Big 2", "Big 5", "", ""]
    assert captions[4] == "" and captions[5].split("\n") == ["Big 0", "Big 1", "Big 2", "Big 3", "and 3 more"]


def test_a_factor_that_the_batch_lacks_has_no_caption() -> None:
    sheet = contact_sheet(Batch(torch.rand(1, 2, 3, 28, 28)), (Factor("zoom"),), "title")
    assert [text.get_text() for text in sheet.texts] == ["title", "", "", ""]
