"""Read the values of labels as people write them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from pyro_disent.data.dataset import Factor
from pyro_disent.errors import InputError
from pyro_disent.figures.naming import factor_text
from pyro_disent.models.labels import Label

_MOST_LISTED = 12
"""Values that a sentence lists, at most."""


def read_label_values(
    given: Mapping[str, str | float], labels: Mapping[str, Label], factors: Iterable[Factor]
) -> tuple[dict[str, float], str]:
    """label's name -> its value as the data has it; and all of them in words.

    Args:
        given: label's name -> value as people write it, or a number: in the user's units if the data is standardized.
        labels: label's name -> label, for all names in ``given``.
        factors: the data's.

    Raises:
        InputError: for a value that the label does not have, listing those that it has.
    """
    by_name = {factor.name: factor for factor in factors}
    values, words = {}, []
    for name, text in given.items():
        factor, label = by_name.get(name, Factor(name)), labels[name]
        values[name] = _value(str(text), label, factor)
        words.append(factor_text(factor, values[name], named=True))
    return values, ", ".join(words)


def _value(text: str, label: Label, factor: Factor) -> float:
    names = [_in_full(factor, value) for value in label.values]
    # Names come first: a category's name may be a number that is another category's place.
    plain = [_plain(name) for name in names]
    if Counter(plain)[_plain(text)] == 1:
        return label.values[plain.index(_plain(text))]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    for value in label.values:
        if math.isclose(factor.center + factor.scale * value, number, rel_tol=1e-5, abs_tol=1e-6):
            return value
    last = [f"... {names[-1]} ({len(names)} values)"] if len(names) > _MOST_LISTED else []
    raise InputError(f"{label.name} cannot be {text}: it has {', '.join([*names[: _MOST_LISTED - bool(last)], *last])}")


def _in_full(factor: Factor, value: float) -> str:
    """A value as the user wrote it, if that is recorded."""
    if factor.categories or value in factor.written or factor.unit == "radians":
        return factor.written.get(value) or factor_text(factor, value, named=False)
    return f"{factor.center + factor.scale * value:g}"


def _plain(text: str) -> str:
    return text.strip().replace("\N{MINUS SIGN}", "-").removesuffix("deg").removesuffix("°").removeprefix("+")
