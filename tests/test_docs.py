"""What the documentation says is true: its Python runs, its links lead somewhere; commands: `test_every_option`."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pyro
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.S)


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("pyro-disent")]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Top to bottom in one namespace, each printed line being what its comment says; it leaves runs and figures."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page, "python"))
    exec(compile(code, page.name, "exec"), {"__name__": "page"})
    pyro.clear_param_store()
    said = [comment.split(", in ")[0].strip() for comment in re.findall(r"print\(.*\)  # (.*)", code)]
    assert capsys.readouterr().out.splitlines() == said


def test_make_fit_runs_what_the_readme_says() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (main_job,) = re.findall(r"\$\(BIN\)/(pyro-disent fit .*)", makefile)
    assert shlex.split(main_job) in commands(ROOT / "README.md")
    assert {"fit", "test"} <= set(re.findall(r"^(\w+):", makefile, flags=re.M))
    targets = re.findall(r"make (\w+)", "\n".join(blocks(ROOT / "README.md", "sh")))
    assert set(targets) == {"fit", "test"}


def test_the_links_of_the_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_drawing_of_the_rooms_is_what_the_linter_holds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers")
    (drawing,) = re.findall(r"```\n(cli .*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.S)
    floors = [line.split("  ")[0] for line in drawing.splitlines()]
    assert [set(re.findall(r"\w+", floor)) for floor in floors] == [set(re.findall(r"\w+", layer)) for layer in layers]
    rooms = {path.stem for path in (ROOT / "pyro_disent").glob("[a-z]*") if path.is_dir() or path.suffix == ".py"}
    assert rooms == {room for floor in floors for room in re.findall(r"\w+", floor)}


def test_the_files_that_contributing_names_exist() -> None:
    page = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.S)
    (data,) = re.findall(r"(?<=\n)\| `data/` \|.*?(?=\n\n)", page, flags=re.S)
    modules = [f"data/{name}" for row in data.splitlines()[2:] for name in names(row.split("|")[1])]
    paths = [name for name in names(page.replace(data, "")) if re.fullmatch(r"[\w./]+/[\w./]*|\w+\.py", name)]
    assert len(modules) > 10 and len(paths) > 20
    for name in modules + paths:
        places = (
            folder / f"{name}{end}" for folder in (ROOT, ROOT / "pyro_disent", ROOT / "tests") for end in ("", ".py")
        )
        assert any(place.exists() for place in places), name


def names(text: str) -> list[str]:
    """What stands in backticks on one line."""
    return re.findall(r"`([^`\n]+)`", text)
