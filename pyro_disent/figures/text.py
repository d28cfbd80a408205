"""All text on figures is written here: literally, and in fonts that have its characters.

Names, categories and captions come from users, so nothing in them is read as mathematics or a command. A character that
is invisible (a line's end, a control character, half of a surrogate pair), or that no installed font has, is shown as
Python escapes it (``\\n``, ``\\u65e5``).
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyro_disent.figures.paper import default_settings, paper

FAMILY = "DejaVu Sans"
"""It comes with matplotlib; other fonts are used only for characters that it lacks."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that are invisible, or would reverse the text after them."""
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Invisible too, but part of the spelling of Persian and Indian words."""
LONGEST = 400
"""A line that has to fit is cut to this many characters before it is measured."""

Lines = str | Sequence[str]
"""Text in one line, or in several; a line break inside a line counts as one of its characters."""
Weight = Literal["normal", "bold"]

_log = logging.getLogger(__name__)
_reported: set[str] = set()
"""Characters whose missing font was logged already."""


def draw_text(
    figure: Figure, x: float, y: float, lines: Lines, *, size: float, weight: Weight = "normal", **options: Any
) -> Text:
    """Text on a figure: ``x``, ``y`` in fractions of its width and height from the lower left, ``size`` in points."""
    shown, families = lettered((lines,) if isinstance(lines, str) else tuple(lines), weight)
    options |= {"fontsize": size, "fontfamily": families, "fontweight": weight}
    with default_settings():
        return figure.text(x, y, shown, parse_math=False, usetex=False, **options)


@lru_cache(4_096)
def _extent(lines: tuple[str, ...], size: float, weight: Weight) -> tuple[float, float]:
    figure = paper(1, 1)
    text = draw_text(figure, 0, 0, lines, size=size, weight=weight)
    with default_settings():
        box = text.get_window_extent()
    return box.width, box.height


def extent(lines: Lines, *, size: float, weight: Weight = "normal") -> tuple[float, float]:
    """Width and height of text in pixels; both are 0 for empty text."""
    lines = (lines,) if isinstance(lines, str) else tuple(lines)
    return _extent(lines, size, weight) if any(lines) else (0.0, 0.0)


def shortened(line: str, width: float, *, size: float, weight: Weight = "normal") -> str:
    """A line whose middle is cut out as far as needed to fit into a width in pixels."""
    if len(line) > LONGEST:  # nobody reads more, and measuring it would take long
        line = _without_middle(line, LONGEST)
    if extent(line, size=size, weight=weight)[0] <= width:
        return line
    fits, too_long = 0, len(line)
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        if extent(_without_middle(line, kept), size=size, weight=weight)[0] <= width:
            fits = kept
        else:
            too_long = kept
    return _without_middle(line, max(fits, 1))


def _without_middle(line: str, kept: int) -> str:
    start = kept // 2  # names differ more often at their ends, which keep the extra character
    return f"{line[:start]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - (kept - start) :]}"


@lru_cache(4_096)
def lettered(lines: tuple[str, ...], weight: Weight = "normal") -> tuple[str, list[str]]:
    """Text as it is drawn, and the font families that have its characters, in the order of use."""
    wanted = {character for line in lines for character in line if _is_seen(character)}
    families, missing = _fonts(frozenset(wanted - _letters(FAMILY, weight)), weight)
    shown = [
        "".join(
            character if _is_seen(character) and character not in missing else _escaped(character) for character in line
        )
        for line in lines
    ]
    return "\n".join(shown), [FAMILY, *families]


def _is_seen(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character) not in UNSEEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


@cache
def _fonts(wanted: frozenset[str], weight: Weight) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that have these characters, the most complete first, and the characters that no family has."""

    def covered(family: str) -> set[str]:
        return {character for character in wanted & _letters(family, weight) if _has(family, character, weight)}

    families: list[str] = []
    while wanted and (best := max(_others(), key=lambda family: len(covered(family)), default="")) and covered(best):
        families.append(best)
        wanted -= covered(best)
    if new := sorted(wanted - _reported):
        _reported.update(new)
        _log.warning("no installed font has %s: figures show %s", " ".join(new), " ".join(map(_escaped, new)))
    return tuple(families), wanted


@cache
def _others() -> list[str]:
    """Installed families in alphabetical order, without those that draw a box or a symbol for every character."""
    bundled = Path(matplotlib.get_data_path())
    return sorted(
        {
            entry.name
            for entry in font_manager.fontManager.ttflist
            if not Path(entry.fname).is_relative_to(bundled) and "lastresort" not in entry.name.lower().replace(" ", "")
        }
    )


def _font(family: str, weight: Weight) -> Any:
    with default_settings():
        properties = font_manager.FontProperties(family=[family], weight=weight)
        # A removed font raises an error; only if the default font is missing, the list of fonts is rebuilt.
        path = font_manager.findfont(properties, fallback_to_default=False, rebuild_if_missing=family == FAMILY)
        return font_manager.get_font(path)


@cache
def _letters(family: str, weight: Weight) -> frozenset[str]:
    """The characters that a family's font of this weight has; none if it cannot be read or scaled."""
    try:
        font = _font(family, weight)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _has(family: str, character: str, weight: Weight) -> bool:
    """Whether a font can draw a character: fonts of colored pictures list characters without an outline."""
    try:
        font = _font(family, weight)
        font.set_size(12, 100)
        glyph = font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError):
        return False
    return bool(glyph.width and glyph.height) or unicodedata.category(character) in ("Zs", "Cf", "Mn")
