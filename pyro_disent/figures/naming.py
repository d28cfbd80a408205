"""The names of images in figures, from their files, labels and factors."""

from __future__ import annotations

import math

from pyro_disent.data.dataset import DataSet, Examples, Factor, Split

MANY = 6
"""More factors than this are not written out one by one."""
LONG = 6
"""A number of more characters (without its sign) is rounded, unless it is whole."""


def image_name(data: DataSet, split: Split, examples: Examples, index: int) -> tuple[str, ...]:
    """An image's name in parts: the file's name or its labels; then its factors, if these are few (`MANY`).

    ``("alice/3.jpg", "light low")``, ``("chair 12", "azimuth 90°", "elevation +20°")``, ``("digit 7", "+23°")``.

    Args:
        data: the data set, which declares the factors.
        split: the image's split.
        examples: the split's images, with the factors and labels that were drawn for them.
        index: the image's position in the split, from 0.
    """
    labels = {name: int(values[index]) for name, values in examples.labels.items()}
    identity = labels.pop("identity", None)
    if identity is not None and not split.names:  # an identity's number says less than a name, more than other labels
        labels = {"identity": identity}
    parts = [split.names[index]] if split.names else []
    parts += [f"{split.label_words.get(name, name)} {value}" for name, value in labels.items()]
    factors = [factor for factor in data.factors if factor.name in examples.factors]
    if len(factors) <= MANY:
        values = [(factor, float(examples.factors[factor.name][index])) for factor in factors]
        parts += [
            factor_text(factor, value, named=len(factors) > 1 or factor.unit != "radians")
            for factor, value in values
            if not math.isnan(value)
        ]
    return tuple(parts) or (f"image {index}",)


def factor_text(factor: Factor, value: float, *, named: bool) -> str:
    """A factor's value as people write it: angles in degrees, with a sign where they do not wrap around.

    Numbers from the user's files stay as they were written. A number longer than `LONG` is rounded to three digits, or
    to all digits before the point.
    """
    if math.isnan(value):
        text = "unknown"
    elif factor.categories:
        text = factor.categories[int(value)]
    elif value in factor.written:
        text = _short(factor.written[value])
    elif factor.unit == "radians":
        # A minus sign as wide as the plus sign, and none before a zero.
        degrees = round(math.degrees(value)) + 0
        text = f"{degrees % 360}°" if factor.circular else f"{degrees:+d}°".replace("-", "\N{MINUS SIGN}")
        text = "0°" if degrees == 0 else text
    else:
        text = f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
    return f"{factor.name} {text}" if named else text


def _short(written: str) -> str:
    number = written.strip().removesuffix("°")
    digits = number.lstrip("+-")
    if len(digits) <= LONG or digits.isdecimal():
        return written
    value = float(number)
    rounded = f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"
    return rounded + "°" * written.endswith("°")
