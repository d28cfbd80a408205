"""The values of labels as people write them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from pyro_disent.data.dataset import Factor
from pyro_disent.errors import InputError
from pyro_disent.figures.naming import factor_text
from pyro_disent.models.labels import Label

_NAMED = 12
"""Values that a sentence names, at most."""


def read(
    given: Mapping[str, str | float], labels: Mapping[str, Label], factors: Iterable[Factor]
) -> tuple[dict[str, float], str]:
    """label's name -> its value as the data has it; and all of them in words.

    Args:
        given: label's name -> value as it is written, or its number: one's own, where the data has been standardized.
        labels: by their names, of all that are given.
        factors: of the data.

    Raises:
        InputError: for a value that the label does not have, with those that it has.
    """
    by_name = {factor.name: factor for factor in factors}
    values, words = {}, []
    for name, said in given.items():
        factor, label = by_name.get(name, Factor(name)), labels[name]
        values[name] = _value(str(said), label, factor)
        words.append(factor_text(factor, values[name], named=True))
    return values, ", ".join(words)


def _value(said: str, label: Label, factor: Factor) -> float:
    written = [_in_full(factor, value) for value in label.values]
    # A text comes first: a category may be called by a number that is another one's place.
    plain = [_plain(text) for text in written]
    if Counter(plain)[_plain(said)] == 1:
        return label.values[plain.index(_plain(said))]
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    for value in label.values:
        if math.isclose(factor.center + factor.scale * value, number, rel_tol=1e-5, abs_tol=1e-6):
            return value
    more = [f"... {written[-1]} ({len(written)} values)"] if len(written) > _NAMED else []
    raise InputError(f"{label.name} cannot be {said}: it has {', '.join([*written[: _NAMED - bool(more)], *more])}")


def _in_full(factor: Factor, value: float) -> str:
    """As the user wrote it, where that is known."""
    if factor.categories or value in factor.written or factor.unit == "radians":
        return factor.written.get(value) or factor_text(factor, value, named=False)
    return f"{factor.center + factor.scale * value:g}"


def _plain(text: str) -> str:
    return text.strip().replace("\N{MINUS SIGN}", "-").removesuffix("deg").removesuffix("°").removeprefix("+")
