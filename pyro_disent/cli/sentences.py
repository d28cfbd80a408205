"""Sentences of the library as the command line says them: the settings they name become its options."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable

from pyro_disent.cli.choices import flag
from pyro_disent.training import config
from pyro_disent.training.aliases import ALIASES

_OF_FIT = {**config.choices(), **{name: alias.choice for name, alias in ALIASES.items()}}
_BESIDE = "out resume explains factors variance image_size channels shape pair_by white test_share"
FLAGS = {
    **{name: flag(name, choice) for name, choice in _OF_FIT.items() if choice.flag is None or "/" not in choice.flag},
    **{name: f"--{name.replace('_', '-')}" for name in _BESIDE.split()},
    "options": "--data-option",
    "kinds": "--kind",
}
"""setting's name -> its option, of those that take a value. A dict is given by repeating the option."""
SWITCHES = {
    "compile": {"True": "--compile", "False": "--no-compile"},
    "color": {"True": "--color", "False": "--grey"},
    "skip_bad": {"True": "--skip-bad"},
    "overwrite": {"True": "--overwrite"},
}
"""setting's name -> value -> its option, of those that are said or not."""

_SETTING = re.compile(r"`([a-z_]+)(?:=([^`]+))?`")


def as_flags(sentence: str) -> str:
    """A sentence whose settings in backticks, as ``batch_size=8``, are options, as ``--batch-size 8``.

    A value may be any text, a path or a placeholder too; dicts, lists, tuples and quoted texts are read as Python's.
    What else stands in backticks stays as it is.
    """
    return _SETTING.sub(_as_flag, sentence)


def _as_flag(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name in SWITCHES:
        return SWITCHES[name].get(value or "True", found[0])
    if name not in FLAGS:
        return found[0]
    form = _OF_FIT[name].form if name in _OF_FIT else None
    return " ".join(f"{FLAGS[name]} {text}" for text in _texts(value, form)) if value else FLAGS[name]


def _texts(value: str, form: str | None) -> list[str]:
    """What an option is given, once for each time that it is repeated.

    Args:
        form: of its `Choice`: a list is one text but where each item is said by itself.
    """
    if value[0] in "{[('\"":  # else a path, which Python would read otherwise
        try:
            with warnings.catch_warnings(action="ignore"):  # of a backslash, in what is a path after all
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
            """An option for each item; what is of a term by ``TERM.OPTION``."""
            found = []
            for key, item in zip(table.keys, table.values, strict=True):
                name = before + text(key)
                if isinstance(item, ast.Dict) and item.keys:
                    found += [_latent(name, item, text)] if form == "latents" else named(item, f"{name}.")
                else:
                    found.append(f"{name}={text(item)}")
            return found

        if isinstance(read, ast.Dict) and read.keys:
            return named(read)
        if isinstance(read, ast.List | ast.Tuple) and read.elts:
            return [text(item) for item in read.elts] if form == "each" else [text(read)]
        if isinstance(read, ast.Constant):
            return [text(read)]
    return [value]


def _latent(name: str, table: ast.Dict, text: Callable[[ast.expr | None], str]) -> str:
    """A latent's table as ``NAME=UNITS:FAMILY,key=value``; what it explains has an option of its own."""
    said = {text(key): item for key, item in zip(table.keys, table.values, strict=True)}
    settings = said.get("settings")
    pairs = zip(settings.keys, settings.values, strict=True) if isinstance(settings, ast.Dict) else ()
    family = text(said.get("family")) or "normal" * bool(settings)
    of_family = ",".join([family, *(f"{text(key)}={text(item)}" for key, item in pairs)])
    units = text(said.get("units")) or "UNITS"
    explains = f" --explains {name}={_explained(said['explains'], text)}" if "explains" in said else ""
    return f"{name}={units}{':' * bool(of_family)}{of_family}{explains}"


def _explained(value: ast.expr, text: Callable[[ast.expr | None], str]) -> str:
    """What a latent explains, as ``--explains`` reads it."""
    if isinstance(value, ast.Dict) and value.values:
        return f"each:{text(value.values[0])}"
    return text(value).replace(",", "+") if isinstance(value, ast.List | ast.Tuple) else text(value)
