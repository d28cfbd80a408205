"""What the JSON files of a run may hold: types, ranges and lengths, checked before anything is made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyro_disent import files
from pyro_disent.errors import InputError

MOST_BYTES = 1 << 24
DEEPEST, LONGEST_TEXT, LONGEST_LIST = 16, 10_000, 100_000
MOST_PIXELS = 1 << 22
"""Numbers in an image: channels x height x width."""

Check = Callable[[Any], str | None]
"""What a value has to be, in words; None where it is that."""


def read_json(path: Path, what: str, most: int = MOST_BYTES) -> Any:
    """The content of a small regular file of JSON.

    Args:
        what: what it should be, in words.

    Raises:
        InputError: for anything else, for numbers that are not finite or beyond 64 bits, and for deep nesting.
    """
    try:
        content = json.loads(files.read_regular(path, most), parse_constant=_refuse)
        _check_plain(content, ())
    except RecursionError:
        raise InputError(f"{path} cannot be read as {what}: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from error
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _check_plain(value: Any, keys: tuple[str, ...]) -> None:
    """Raises ValueError, which names the key, for values that no record holds."""
    where = f"{'.'.join(keys)[:200] or 'it'}"
    if len(keys) > DEEPEST:
        raise ValueError(f"{where} is nested more than {DEEPEST} deep")
    if isinstance(value, int | float) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where} is a number beyond 64 bits")
    if isinstance(value, str | list | dict):
        longest = LONGEST_TEXT if isinstance(value, str) else LONGEST_LIST
        if len(value) > longest:
            raise ValueError(f"{where} has the length {len(value):,}, at most {longest:,} are read")
    if isinstance(value, list):
        for number, each in enumerate(value):
            _check_plain(each, (*keys, str(number)))
    if isinstance(value, dict):
        for name, each in value.items():
            _check_plain(each, (*keys, name))


def is_text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a text"


def is_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def is_number(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return None if fits else "a finite number"


def is_whole(low: int, high: int = 2**63) -> Check:
    def check(value: Any) -> str | None:
        return None if type(value) is int and low <= value <= high else f"a whole number from {low} to {high}"

    return check


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def list_of(check: Check, count: int | None = None) -> Check:
    def whole(value: Any) -> str | None:
        if not isinstance(value, list) or (count is not None and len(value) != count):
            return "a list" if count is None else f"a list of {count}"
        wanted = next(filter(None, map(check, value)), None)
        return None if wanted is None else f"a list whose items are each {wanted}"

    return whole


def table_of(check: Check) -> Check:
    def whole(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "a table"
        wanted = next(((name, wanted) for name, each in value.items() if (wanted := check(each))), None)
        return None if wanted is None else f"a table in which {wanted[0]!r} is {wanted[1]}"

    return whole


def table(fields: Mapping[str, Check], needed: bool = True) -> Check:
    """A table with these fields and no others."""

    def whole(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "a table"
        if unknown := value.keys() - fields.keys():
            return f"a table without {min(unknown)!r}"
        for name, check in fields.items():
            if name not in value and needed:
                return f"a table with {name!r}"
            if name in value and (wanted := check(value[name])):
                return f"a table in which {name!r} is {wanted}"
        return None

    return whole


def _is_shape(value: Any) -> str | None:
    if wanted := list_of(is_whole(1, MOST_PIXELS), 3)(value):
        return wanted
    return None if math.prod(value) <= MOST_PIXELS else f"a shape of at most {MOST_PIXELS:,} numbers"


def _is_scale(value: Any) -> str | None:
    if wanted := list_of(is_number, 2)(value):
        return wanted
    return None if value[1] > 0 else "a center and a scale above 0"


def _is_edges(value: Any) -> str | None:
    if wanted := list_of(is_number)(value):
        return wanted
    return None if all(a < b for a, b in pairwise(value)) else "a list that increases"


RECORD: Mapping[str, Check] = {
    "fit": table_of(lambda _: None),  # each setting is checked by its `Choice`
    "source": table({"kind": is_text, "location": is_text, "sha256": is_text}),
    "image_shape": _is_shape,
    "factors": list_of(is_text),
    "pairs": table(
        {"kinds": list_of(list_of(is_text)), "rest_differs": is_flag, "identities": list_of(is_text)}, False
    ),
    "latents": table_of(table_of(lambda _: None)),  # each is checked by `LatentSpec`
    "edges": table_of(_is_edges),
    "units": table_of(_is_scale),
    "observed": list_of(
        table(
            {
                **dict.fromkeys(("factor", "latent"), is_text),
                **dict.fromkeys(("unit", "seed"), is_whole(0)),
                **dict.fromkeys(("share", "known", "center", "scale"), is_number),
                "values": list_of(is_number),
            },
            False,
        )
    ),
    "device": is_text,
    "precision": is_text,
    "compiled": is_flag,
    "step": is_text,
    "threads": optional(is_whole(1, 4096)),
    "init": optional(is_text),
    "versions": table_of(is_text),
    "handed_over": list_of(is_text),
    "minimized": is_text,
}
"""key of ``config.json`` -> its check, in today's format."""


def check_record(content: Mapping[str, Any], path: Path) -> None:
    """Raises InputError for a value of another type, range or length than its key has, naming file and key."""
    for name, check in RECORD.items():
        if name in content and (wanted := check(content[name])):
            raise InputError(f"{path} is not a run's configuration: {name} is not {wanted}")
