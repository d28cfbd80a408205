"""Sentences of the library as the command line says them: the settings they name become its options."""

from __future__ import annotations

import ast
import re
import warnings

from pyro_disent.cli.choices import flag
from pyro_disent.training import config

_OF_FIT = {**config.choices(), **{name: alias.choice for name, alias in config.ALIASES.items()}}
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
    return " ".join(f"{FLAGS[name]} {text}" for text in _texts(value)) if value else FLAGS[name]


def _texts(value: str) -> list[str]:
    """What an option is given, once for each time that it is repeated."""
    if value[0] in "{[('\"":  # else a path, which Python would read otherwise
        try:
            with warnings.catch_warnings(action="ignore"):  # of a backslash, in what is a path after all
                read = ast.parse(value, mode="eval").body
        except (SyntaxError, ValueError):
            return [value]

        def text(node: ast.expr | None) -> str:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                return node.value
            return "" if node is None else ast.get_source_segment(value, node) or ""

        if isinstance(read, ast.Dict) and read.keys:
            return [f"{text(key)}={text(item)}" for key, item in zip(read.keys, read.values, strict=True)]
        if isinstance(read, ast.List | ast.Tuple) and read.elts:
            return [",".join(map(text, read.elts))]
        if isinstance(read, ast.Constant):
            return [text(read)]
    return [value]
