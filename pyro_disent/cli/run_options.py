"""What commands on a run have in common: options, loading the run, writing its figure, and printing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from pyro_disent import files
from pyro_disent.cli.choices import in_place_of
from pyro_disent.cli.console import table_console
from pyro_disent.errors import InputError
from pyro_disent.training.config import MOST_THREADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.runs.run import Run

FORMATS = (".png", ".pdf", ".svg")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `fit` printed it.")]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, as `fit` printed them.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.png", help="Where to write; in RUN/figures if not given.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
IndexOption = Annotated[int, typer.Option("--index", metavar="I", help="Which test image, from 0.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of whatever is drawn.")]
CheckpointOption = Annotated[str, typer.Option("--checkpoint", metavar="best|last", help="Which weights.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=MOST_THREADS,
        help="Of the CPU; if not given, those that are fastest when it starts.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The last line on stdout is one JSON object.")]


_IN_PYTHON = {
    "evaluate": "evaluate({data})",
    "swap": "swap([0, 1]{comma}{data})",
    "traverse": "traverse({data})",
    "sample": "sample()",
    "figures": "draw({data})",
}
"""command's name -> the method of `Run` that does the same in Python."""


def load_run(path: Path, checkpoint: str, device: str, command: str = "") -> Run:
    """Load the run that a command's options name.

    Args:
        command: its name; the error for a run that only Python can load names the method that does the same there.

    Raises:
        InputError: for a folder that is not a run folder, a checkpoint or a device that does not exist, and for a model
            that was handed over from Python.
    """
    if checkpoint not in ("best", "last"):
        raise InputError(f"--checkpoint {checkpoint} is neither best nor last")

    from pyro_disent.runs.run import load
    from pyro_disent.training.handed_over import call, in_words
    from pyro_disent.training.run_folder import RunFolder

    handed_over = RunFolder(path).read_record().handed_over
    if needed := [name for name in handed_over if name != "data"]:
        data = "data=..." if "data" in handed_over else ""
        method = _IN_PYTHON.get(command, "").format(data=data, comma=", " if data else "")
        then = f".{method}" if method else ""
        raise InputError(
            f"{path} was trained with {in_words(needed)} handed over from Python, which does this by "
            f"{call('load', path, needed)}{then}"
        )
    return load(path, "best" if checkpoint == "best" else "last", device)


def check_out(out: Path | None, what: str = "--out") -> None:
    """Refuse a path that cannot be written to, before anything is computed.

    Raises:
        InputError: for a path that is neither a regular file nor a new name in a folder that exists, and for a suffix
            that is not one of `FORMATS`.
    """
    if out is None:
        return
    if obstacle := files.obstacle(out):
        raise InputError(f"{what} {out} {obstacle}: name a file, new or to be replaced, in a folder that exists")
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"{what} {out} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def place(out: Path | None, run: Path, name: str) -> Path:
    """Where a figure goes: the user's path, or a file in RUN/figures.

    Raises:
        InputError: for RUN/figures that is a link, or not a folder.
    """
    figures = run / "figures"
    if out is None and (figures.is_symlink() or (figures.exists() and not figures.is_dir())):
        raise InputError(f"{figures} is not a folder of this run, so nothing is written there: name a file by --out")
    return out or figures / name


def called(images: Sequence[str]) -> list[str]:
    """Names of images for a figure's file name, with their folders: two people's images may have one file name."""
    return ["/".join(Path(name).with_suffix("").parts[-2:]) for name in images]


class Output(NamedTuple):
    """What a command prints."""

    lines: Sequence[Any]
    """Texts, paths and tables, one after the other."""
    as_json: Mapping[str, Any]
    """Printed instead of the lines under --json."""


_SHARED: dict[str, tuple[Any, Any]] = {
    "out": (OutOption, None),
    "seed": (SeedOption, 0),
    "checkpoint": (CheckpointOption, "best"),
    "device": (DeviceOption, "auto"),
    "threads": (ThreadsOption, None),
    "as_json": (JsonOption, False),
}
"""Options of commands on a run, in the order of their help: name -> option and default."""


def on_run(command: Callable[..., Any], *, draws: bool = False) -> Callable[..., None]:
    """A command on one run or several, with the options that all commands on runs have.

    Args:
        command: takes the loaded `Run` first, or a list of them; then its own options; and ``seed`` and ``threads`` if
            it names them. It returns `Output`.
        draws: it returns a figure and the name of its file instead; the figure goes to RUN/figures or to ``--out``.
    """
    signature = inspect.signature(command)
    # Neither class is imported before a command runs.
    hints = get_type_hints(command, localns={"Run": object, "Figure": object}, include_extras=True)
    first, *others = signature.parameters.values()
    is_list = hints[first.name] == list[object]
    path = RunsArgument if is_list else RunArgument
    of_command = [each.replace(annotation=hints[each.name]) for each in others if each.name not in _SHARED]
    accepted = {"checkpoint", "device", "as_json"} | signature.parameters.keys() | ({"out"} if draws else set())
    shared = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=option)
        for name, (option, default) in _SHARED.items()
        if name in accepted
    ]

    def loaded_and_printed(**arguments: Any) -> None:
        runs, out = arguments.pop(first.name), arguments.pop("out", None)
        checkpoint, device, as_json = (arguments.pop(name) for name in ("checkpoint", "device", "as_json"))
        check_out(out)
        # All runs are loaded before the command begins: a wrong path is an error at once, and nothing is written.
        loaded = [load_run(each, checkpoint, device, command.__name__) for each in (runs if is_list else [runs])]
        result = command(loaded if is_list else loaded[0], **arguments)
        if draws:
            figure, name = result
            result = _saved(figure, place(out, runs, name))
        _print(result, as_json)

    return in_place_of(command, loaded_and_printed, [first.replace(annotation=path), *of_command, *shared])


def figure_of_run(command: Callable[..., tuple[Figure, str]]) -> Callable[..., None]:
    """A command that draws one figure of a run, see `on_run`."""
    return on_run(command, draws=True)


def _saved(figure: Figure, path: Path) -> Output:
    """Write a figure, and say its path.

    Raises:
        InputError: where it cannot be written.
    """
    from pyro_disent.figures import save

    try:
        save(figure, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    return Output([path], {"path": str(path)})


def _print(output: Output, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(output.as_json))
        return
    from rich.table import Table

    for line in output.lines:
        table_console().print(line) if isinstance(line, Table) else typer.echo(line)
