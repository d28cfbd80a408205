"""The library names settings as Python writes them, and the command line says them as its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

import pyro_disent
from pyro_disent.cli.evaluate import _as_printed
from pyro_disent.cli.main import app
from pyro_disent.cli.sentences import FLAGS, SWITCHES, as_flags
from pyro_disent.data.dataset import TEST_MORE, Source
from pyro_disent.data.own.columns import check_kinds
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from pyro_disent.evaluation.result import Evaluation, Number
from pyro_disent.training.config import FitConfig

PACKAGE = Path(pyro_disent.__file__).parent
LIBRARY = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(PACKAGE / "cli")]
NO_SETTINGS = {"config", "init", "quiet", "json", "help"}  # how the command is called, and not what is trained


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string, docstrings and the parts of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def settings_named(path: Path) -> Iterator[str]:
    """Names in backticks that an equals sign follows, also where an f-string goes on with the value."""
    for _, text in literals(path):
        yield from re.findall(r"(?<!`)`([a-z_]+)=", text)


def options(command: Any) -> set[str]:
    """Every option of a command and of those below it."""
    found = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return found.union(*(options(below) for below in getattr(command, "commands", {}).values()))


class TestTheLibrary:
    @pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_names_no_option_but_in_whole_commands(self, path: Path) -> None:
        prose = [(line, re.sub(r"pyro-disent [a-z].*", "", text)) for line, text in literals(path)]
        assert [(line, text) for line, text in prose if re.search(r"(?<!\w)--[a-z]", text)] == []

    def test_names_settings_that_the_command_line_has(self) -> None:
        named = {name for path in LIBRARY for name in settings_named(path)}
        assert {"batch_size", "beta", "compile", "data_root", "kinds", "skip_bad"} <= named
        from_python_alone = {"requires_grad", "vae", "encoder", "decoder"}
        assert named - from_python_alone <= {*FLAGS, *SWITCHES}


class TestTheTable:
    def test_has_only_options_that_there_are(self) -> None:
        said = {*FLAGS.values(), *(flag for switch in SWITCHES.values() for flag in switch.values())}
        assert said - options(typer.main.get_command(app)) == set()

    def test_has_every_option_that_is_a_setting_of_fit(self) -> None:
        fit = typer.main.get_command(app).commands["fit"]  # type: ignore[attr-defined]
        said = {*FLAGS.values(), *(flag for switch in SWITCHES.values() for flag in switch.values())}
        assert options(fit) - said == {f"--{name}" for name in NO_SETTINGS} & options(fit)

    def test_has_no_setting_twice(self) -> None:
        assert not FLAGS.keys() & SWITCHES.keys() and len(set(FLAGS.values())) == len(FLAGS)


names = st.sampled_from(sorted(FLAGS))
plain = st.text(st.characters(exclude_characters="`", exclude_categories=("Cs",)), max_size=30)
word = st.from_regex(r"[\w.+/-][\w.+/ -]*", fullmatch=True)
around = st.tuples(plain, plain)


@given(plain, st.sampled_from(["`pyro-disent methods`", "`data list`", "`unheard_of`", "`unheard_of=3`", "`", "``"]))
def test_what_is_no_setting_stays(text: str, quoted: str) -> None:
    assert as_flags(text) == text
    assert as_flags(f"{text}{quoted}") == f"{text}{quoted}"


@given(around, names, st.one_of(word, st.integers().map(str), st.floats().map(str)))
def test_a_value_is_text(around: tuple[str, str], name: str, value: str) -> None:
    before, after = around
    assert as_flags(f"{before}`{name}`{after}") == f"{before}{FLAGS[name]}{after}"
    assert as_flags(f"{before}`{name}={value}`{after}") == f"{before}{FLAGS[name]} {value}{after}"
    assert as_flags(f"`{name}={value!r}`") == f"{FLAGS[name]} {value}"


@given(names, st.dictionaries(plain, st.one_of(plain, st.integers(), st.floats(0, 1)), min_size=1, max_size=4))
def test_a_dict_is_an_option_for_each(name: str, value: dict[str, object]) -> None:
    assert as_flags(f"`{name}={value!r}`") == " ".join(f"{FLAGS[name]} {key}={item}" for key, item in value.items())


@given(names, st.lists(plain, min_size=1, max_size=4))
def test_lists_and_tuples_are_joined_or_said_one_by_one(name: str, value: list[str]) -> None:
    texts = value if name in ("guards", "hides") else [",".join(value)]
    said = " ".join(f"{FLAGS[name]} {text}" for text in texts)
    assert as_flags(f"`{name}={value!r}`") == as_flags(f"`{name}={tuple(value)!r}`") == said


@given(names, plain.filter(bool))
def test_no_value_is_too_odd(name: str, value: str) -> None:
    assert as_flags(f"`{name}={value}`").startswith(f"{FLAGS[name]} ")


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("say `batch_size=65` or less", "say --batch-size 65 or less"),
        ("`compile=False`, `compile=True`, `compile`", "--no-compile, --compile, --compile"),
        ("`color=False` or `color=True`", "--grey or --color"),
        ("by `skip_bad=True`, `overwrite` it", "by --skip-bad, --overwrite it"),
        ("`skip_bad=False`", "`skip_bad=False`"),  # there is no option that says it
        ("`latents={NAME: UNITS}`", "--latent NAME=UNITS"),
        ("`latents={'y': N}` or `beta={'y': 30, 'z': 1e-3}`", "--latent y=N or --beta y=30 --beta z=1e-3"),
        ("`kinds={'a': 'text', 'b c': 'angle'}`", "--kind a=text --kind b c=angle"),
        ("`pair_by=who,light` or `pair_by=('who', 'light')`", "--pair-by who,light or --pair-by who,light"),
        (
            "`terms={'predictor': {'side': 'entropy', 'hide': ['a', 'b']}, 'dip': {'x': 2}}`",
            "--term predictor.side=entropy --term predictor.hide=a,b --term dip.x=2",
        ),
        ("`hides=['a', 'b']` or `guards=('z',)`", "--hide a --hide b or --guard z"),
        (
            "`latents={'z': {'units': 3, 'family': 'conditional', 'settings': {'parents': 'y'}}, 'w': 2}`",
            "--latent z=3:conditional,parents=y --latent w=2",
        ),
        (
            "`latents={'z': {'units': 2, 'explains': {'each': ['a', 'b']}}, 'v': {'explains': ['a', 'b']}}`",
            "--latent z=2 --explains z=each:a,b --latent v=UNITS --explains v=a+b",
        ),
        ("`data_root=/a b/{c` does not exist", "--data-root /a b/{c does not exist"),
        (r"`data_root='\d'` is odd", r"--data-root \d is odd"),
        ("see `pyro-disent methods`", "see `pyro-disent methods`"),
    ],
)
def test_as_today(sentence: str, said: str) -> None:
    assert as_flags(sentence) == said


class TestBothWays:
    """What Python raises and what the program prints, of one mistake."""

    def test_a_number(self, call: Any) -> None:
        with pytest.raises(InputError, match="`patience` must be greater than 0, got 0"):
            FitConfig("vae", "x", {"z": 1}, "mlp", "bernoulli", 1.0, 8, epochs=1, patience=0)
        refused = call("fit", "--method", "vae", "--data", "rotated-mnist", "--patience", "0")
        assert refused.returncode == 2
        assert refused.stderr == "pyro-disent: --patience must be greater than 0, got 0\n"

    def test_two_settings(self, call: Any) -> None:
        says = "`source=embedded` reads no folder: leave out `data_root=there`, or use `source=local`"
        with pytest.raises(InputError, match=says):
            Request.of("embedded", "there")
        refused = call("data", "list", "--source", "embedded", "--data-root", "there")
        says = "--source embedded reads no folder: leave out --data-root there, or use --source local"
        assert refused.returncode == 2 and refused.stderr == f"pyro-disent: {says}\n"

    def test_a_dict(self) -> None:
        with pytest.raises(InputError) as caught:
            check_kinds({"pose": "degree"}, ["pose"], "it")
        says = ": a column's kind is one of "
        assert str(caught.value).startswith("`kinds={'pose': 'degree'}` (did you mean degrees?)" + says)
        assert as_flags(str(caught.value)).startswith("--kind pose=degree (did you mean degrees?)" + says)

    def test_a_number_that_an_evaluation_could_not_take(self) -> None:
        number = Number("recall@1", f"one identity measures nothing: {TEST_MORE}", 1.0, "accuracy")
        found = Evaluation(1, "run", "cycle", "photos", Source("local", "", ""), {}, 0, {}, {"chance": number})
        said = "one identity measures nothing: --test-share 0.3 tests on more of a folder's"
        assert _as_printed(found).numbers == {"chance": number._replace(block=said)}
        assert "`test_share=0.3`" in number.block and found.numbers == {"chance": number}

    def test_the_table_of_methods(self, call: Any) -> None:
        from pyro_disent.objectives.methods import methods

        assert "by `predictor_side=cross-entropy`" in methods()["predictor"].equation
        assert "by --predictor-side cross-entropy" in call("methods").stdout
