"""Numbers of a user's own on figures: as they were written, unless nobody could read that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_disent.data.own.columns import column
from pyro_disent.figures.naming import factor_text


def shown(values: list[object] | np.ndarray, kind: str | None = None) -> list[str]:
    found = column(values, "size", "size", str, kind)
    factor = found.factor("size", np.arange(len(values)))
    return [factor_text(factor, value, named=False) for value in found.values.tolist()]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("0.5", "0.5"),
        ("0.50", "0.50"),
        ("-0.125", "-0.125"),
        ("+12.25", "+12.25"),
        ("0.7310585786300049", "0.731"),
        ("-0.7310585786300049", "-0.731"),
        ("123.4567891", "123"),
        ("999.9999", "1000"),
        ("1234.5678", "1235"),
        ("1234567.25", "1.23e+06"),
        ("0.00001234567", "1.23e-05"),
        ("6.02214076e23", "6.02e+23"),
        ("20231115", "20231115"),
        ("-1234567", "-1234567"),
        ("0.5000000000", "0.5"),
    ],
)
def test_a_long_number_is_rounded_and_a_short_or_whole_one_is_as_it_was_written(written: str, text: str) -> None:
    assert shown([written, "7", "8.5"]) == [text, "7", "8.5"]


def test_angles_keep_their_unit() -> None:
    assert shown(["12.3456789", "90", "-157.5"], "degrees") == ["12.3°", "90°", "-157.5°"]
    assert shown(["1.5707963267948966", "0.5"], "angle") == ["1.57", "0.5"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(seed=st.integers(0, 1_000), scale=st.sampled_from([1e-6, 0.01, 1.0, 50.0, 2e4]))
def test_random_floats_are_short_and_near(dtype: type, seed: int, scale: float) -> None:
    values = (np.random.default_rng(seed).normal(size=12) * scale).astype(dtype)
    for text, value in zip(shown(values), values, strict=True):
        assert len(text.lstrip("-")) <= 8
        assert float(text) == pytest.approx(float(value), rel=6e-3)
