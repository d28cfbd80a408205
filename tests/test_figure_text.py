"""Text on figures: drawn as it is written, whatever a user's names hold."""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyro_disent import figures
from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor
from pyro_disent.figures import grid, save, text
from pyro_disent.figures.pairs import contact_sheet
from pyro_disent.figures.text import FAMILY, draw_text, extent, lettered, shortened
from pyro_disent.files import file_name

AS_WRITTEN = [
    "$5 to $9",
    "Ba$$in",
    "$",
    r"\frac{1}{2}",
    r"$\alpha$",
    r"cost \$5",
    "a_b^c",
    "{%&#~}",
    "<b>&amp;</b>",
    "Ωδός, Zürich, Łódź",
    "محمد",
    "\N{GRINNING FACE}",
    " ",
    "-1",
]
ESCAPED = {
    "tab\tline\nend\r": r"tab\tline\nend\r",
    "\x00\x07\x7f": r"\x00\x07\x7f",
    "half \ud83d of a pair": r"half \ud83d of a pair",
    "photo\u202egnp.exe": r"photo\u202egnp.exe",
    "two\u2028lines": r"two\u2028lines",
}
HERE = font_manager.get_font(font_manager.findfont(FAMILY)).get_charmap()


@pytest.fixture
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the font that comes with matplotlib, whatever is installed here."""
    own = [entry for entry in font_manager.fontManager.ttflist if entry.fname.startswith(matplotlib.get_data_path())]
    caches = (text._others, text._fonts, text._letters, text.lettered, text._extent)
    monkeypatch.setattr(text, "_reported", set())
    with monkeypatch.context() as only:
        only.setattr(font_manager.fontManager, "ttflist", own)
        for function in caches:
            function.cache_clear()
        yield
    for function in caches:
        function.cache_clear()


def of_grid(words: str) -> Figure:
    return grid([[torch.zeros(1, 28, 28)]], title=words, row_labels=[(words,)], column_labels=[words])


def of_pairs(words: str) -> Figure:
    factors = (Factor("a factor", categories=(words, "else")), Factor(words))
    values = {factor.name: torch.zeros(2, 1) for factor in factors}
    return contact_sheet(Batch(torch.rand(2, 1, 1, 28, 28), factors=values), factors, words)


def of_differences(words: str) -> Figure:
    factors = tuple(Factor(name) for name in (words, *"abcdefg"))
    values = {factor.name: torch.tensor([[1.0], [0.0]]) for factor in factors}
    return contact_sheet(Batch(torch.rand(2, 1, 1, 28, 28), factors=values), factors, words)


@pytest.mark.parametrize("figure", [of_grid, of_pairs, of_differences])
@pytest.mark.parametrize("words", [*AS_WRITTEN, *ESCAPED, "x" * 5_000, "\n" * 30])
def test_every_figure_draws_whatever_is_written(
    figure: Callable[[str], Figure], words: str, tmp_path: Path, no_other_fonts: None
) -> None:
    """Warnings are errors here: a glyph that is missing would be one."""
    drawn = figure(words)
    save(drawn, tmp_path / "figure.png")
    for each in filter(Text.get_text, drawn.findobj(Text)):
        assert not each.get_parse_math() and not each.get_usetex()
        assert all(ord(character) in HERE for character in each.get_text() if character != "\n")
        box = each.get_window_extent()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= drawn.bbox.x1 + 1 and box.y1 <= drawn.bbox.y1 + 1


@pytest.mark.parametrize(("words", "shown"), [*((words, words) for words in AS_WRITTEN), *ESCAPED.items()])
def test_text_is_drawn_as_written(words: str, shown: str) -> None:
    labels = [each.get_text() for each in of_grid(words).findobj(Text)]
    assert labels.count(shown) == 3


def test_a_dollar_takes_room_as_every_letter() -> None:
    assert extent("$5 to $9", size=10)[0] > extent("5 to 9", size=10)[0] + 2 * 5
    assert extent(r"\frac", size=10)[0] > extent("frac", size=10)[0]


@pytest.mark.parametrize(
    "name", ["y", "light_azimuth", "yaw/deg", "../../x", "\\x\0", "Größe", "x" * 400, "日" * 200, "$5"]
)
def test_a_latent_of_any_name_has_a_file_in_its_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / file_name("traverse", name)
    path.touch()
    assert list(tmp_path.iterdir()) == [path]
    if name.isidentifier() and len(name) < 40:
        assert path.name == f"traverse-{name}.png"


@settings(deadline=None)
@given(st.text(st.characters(), max_size=12))
def test_any_text_is_letters_that_a_font_has(words: str) -> None:
    shown, families = lettered((words,))
    fonts = [font_manager.get_font(font_manager.findfont(family)).get_charmap() for family in families]
    assert all(any(ord(character) in font for font in fonts) for character in shown)
    kept = [unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in words]
    if all(kept) and all(ord(character) in HERE for character in words):
        assert shown == words
    # What is escaped is said exactly: nothing else is shown for a character than itself or its escape.
    pieces = iter(shown)
    for character in words:
        first = next(pieces)
        if first != character or character not in shown:
            escape = character.encode("unicode_escape").decode()
            assert first + "".join(next(pieces) for _ in escape[1:]) == escape
    assert not list(pieces)


def test_what_no_font_has_is_escaped_and_said_once(
    no_other_fonts: None, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    for _ in range(2):
        shown = [each.get_text() for each in of_grid("日本").findobj(Text)]
    assert shown.count(r"\u65e5\u672c") == 3
    said = [record.getMessage() for record in caplog.records]
    assert said == [r"no installed font has 日 本: figures show \u65e5 \u672c"]
    assert not list(recwarn)


def font_with(path: Path, family: str, characters: str, *, outlines: bool) -> None:
    """A font file in which each of these characters is a square, or nothing."""
    names = {ord(character): f"glyph{number}" for number, character in enumerate(characters)}
    order = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    if outlines:
        pen.moveTo((0, 0))
        for corner in ((0, 800), (800, 800), (800, 0)):
            pen.lineTo(corner)
        pen.closePath()
    builder.setupGlyf(dict.fromkeys(order, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    font_manager.fontManager.addfont(path)


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_an_installed_font_lends_what_the_first_lacks(
    tmp_path: Path, no_other_fonts: None, caplog: pytest.LogCaptureFixture, weight: str
) -> None:
    font_with(tmp_path / "one.ttf", "Only One", "日", outlines=True)
    font_with(tmp_path / "both.ttf", "Some Letters", "日本", outlines=True)
    font_with(tmp_path / "hollow.ttf", "All Hollow", "日本語", outlines=False)
    font_with(tmp_path / "gone.ttf", "All Gone", "日本語", outlines=True)
    (tmp_path / "gone.ttf").unlink()
    assert lettered(("a 日本\t",), weight) == (r"a 日本\t", [FAMILY, "Some Letters"])  # type: ignore[arg-type]
    assert caplog.records == []
    assert lettered(("語",), weight)[0] == r"\u8a9e"  # type: ignore[arg-type]
    figure = figures.grid([[torch.zeros(1, 28, 28)]])
    draw_text(figure, 0, 0.5, "日", size=20, weight=weight)  # type: ignore[arg-type]
    save(figure, tmp_path / "figure.png")
    figure.canvas.draw()
    ink = (np.asarray(figure.canvas.buffer_rgba())[..., :3] < 100).mean()
    without = figures.grid([[torch.zeros(1, 28, 28)]])
    without.canvas.draw()
    assert ink != (np.asarray(without.canvas.buffer_rgba())[..., :3] < 100).mean()


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(), min_size=1, max_size=80), st.integers(90, 300))
def test_what_is_too_long_loses_its_middle_alone(words: str, width: int) -> None:
    short = shortened(words, width, size=7)
    assert extent(short, size=7)[0] <= width
    if short != words:
        assert extent(words, size=7)[0] > width
        assert any(
            words.startswith(short[:place]) and words.endswith(short[place + 1 :])
            for place, character in enumerate(short)
            if character == "…"
        )


def test_no_figure_bypasses_the_one_way_to_write() -> None:
    """Text is written by `text.draw_text` alone, on paper that `paper` alone makes."""
    written = {
        "text",
        "annotate",
        "suptitle",
        "supxlabel",
        "supylabel",
        "legend",
        "figtext",
        "table",
        "clabel",
        "set_text",
    }
    written |= {"set_title", "set_xlabel", "set_ylabel", "set_xticklabels", "set_yticklabels", "set_label", "title"}
    makes = {"Figure", "FigureCanvasAgg", "figure", "subplots", "savefig"}
    package = Path(figures.__file__).parents[1]
    found = {}
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [alias.name for node in imported for alias in node.names] + [
            node.module or "" for node in imported if isinstance(node, ast.ImportFrom)
        ]
        if not any(name.split(".")[0] == "matplotlib" for name in names):
            continue
        called = {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        assert "matplotlib.pyplot" not in names and "pyplot" not in names, path
        local = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        found[path.relative_to(package).as_posix()] = called & (written | makes) - local
    assert {path: calls for path, calls in found.items() if calls} == {
        "figures/paper.py": {"Figure", "FigureCanvasAgg", "savefig"},
        "figures/text.py": {"text"},
    }
