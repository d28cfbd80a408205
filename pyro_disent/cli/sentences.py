"""Sentences of the library in the command line's words: the settings they name become options."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable

from pyro_disent.cli.choices import flag
from pyro_disent.training import config
from pyro_disent.training.aliases import ALIASES

_CHOICES = {**config.choices(), **{name: alias.choice for name, alias in ALIASES.items()}}
_OTHERS = "out resume explains factors variance image_size channels shape pair_by white test_share"
FLAGS = {
    **{name: flag(name, choice) for name, choice in _CHOICES.items() if choice.flag is None or "/" not in choice.flag},
    **{name: f"--{name.replace('_', '-')}" for name in _OTHERS.split()},
    "options": "--data-option",
    "kinds": "--kind",
}
"""setting's name -> its option, for options that take a value; a dict repeats the option for each item."""
SWITCHES = {
    "compile": {"True": "--compile", "False": "--no-compile"},
    "color": {"True": "--color", "False": "--grey"},
    "skip_bad": {"True": "--skip-bad"},
    "overwrite": {"True": "--overwrite"},
}
"""setting's name -> value -> its option, for options without a value."""

_SETTING = re.compile(r"`([a-z_]+)(?:=([^`]+))?`")


def as_flags(sentence: str) -> str:
    """Replace settings in backticks, as ``batch_size=8``, by options, as ``--batch-size 8``.

    A value may be any text, also a path or a placeholder; dicts, lists, tuples and quoted texts are read as Python's.
    Other words in backticks stay as they are.
    """
    return _SETTING.sub(_as_flag, sentence)


def _as_flag(match: re.Match[str]) -> str:
    name, value = match.groups()
    if name in SWITCHES:
        return SWITCHES[name].get(value or "True", match[0])
    if name not in FLAGS:
        return match[0]
    form = _CHOICES[name].form if name in _CHOICES else None
    return " ".join(f"{FLAGS[name]} {text}" for text in _texts(value, form)) if value else FLAGS[name]


def _texts(value: str, form: str | None) -> list[str]:
    """The values of an option, one for each time that it is repeated.

    Args:
        form: the form of its `Choice`: a list is one value, except in the form ``each``.
    """
    if value[0] in "{[('\"":  # anything else may be a path, which Python would misread
        try:
            with warnings.catch_warnings(action="ignore"):  # about a backslash in a path
                read = ast.parse(value, mode="eval").body
        except (SyntaxError, ValueError):
            return [value]

        def text(node: ast.expr | None) -> str:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                return node.value
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                return ",".join(map(text, node.elts))
            return "" if node is None else ast.get_source_segment(value, node) or ""

        def named(table: ast.Dict, before: str = "") -> list[str]:
            """A value for each item; a term's options are written ``TERM.OPTION``."""
            items = []
            for key, item in zip(table.keys, table.values, strict=True):
                name = before + text(key)
                if isinstance(item, ast.Dict) and item.keys:
                    items += [_latent(name, item, text)] if form == "latents" else named(item, f"{name}.")
                else:
                    items.append(f"{name}={text(item)}")
            return items

        if isinstance(read, ast.Dict) and read.keys:
            return named(read)
        if isinstance(read, ast.List | ast.Tuple) and read.elts:
            return [text(item) for item in read.elts] if form == "each" else [text(read)]
        if isinstance(read, ast.Constant):
            return [text(read)]
    return [value]


def _latent(name: str, table: ast.Dict, text: Callable[[ast.expr | None], str]) -> str:
    """A latent's table as ``NAME=UNITS:FAMILY,key=value``, and ``--explains`` for what it explains."""
    entries = {text(key): item for key, item in zip(table.keys, table.values, strict=True)}
    settings = entries.get("settings")
    pairs = zip(settings.keys, settings.values, strict=True) if isinstance(settings, ast.Dict) else ()
    family = text(entries.get("family")) or "normal" * bool(settings)
    with_settings = ",".join([family, *(f"{text(key)}={text(item)}" for key, item in pairs)])
    units = text(entries.get("units")) or "UNITS"
    explains = f" --explains {name}={_explained(entries['explains'], text)}" if "explains" in entries else ""
    return f"{name}={units}{':' * bool(with_settings)}{with_settings}{explains}"


def _explained(value: ast.expr, text: Callable[[ast.expr | None], str]) -> str:
    """What a latent explains, as ``--explains`` reads it."""
    if isinstance(value, ast.Dict) and value.values:
        return f"each:{text(value.values[0])}"
    return text(value).replace(",", "+") if isinstance(value, ast.List | ast.Tuple) else text(value)
