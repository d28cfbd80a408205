"""What commands on a run have in common: options, loading it, and writing a figure of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent import files
from pyro_disent.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.experiments.run import Run

FORMATS = (".png", ".pdf", ".svg")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `fit` printed it.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.png", help="Where to write; in RUN/figures if not given.")
]
IndexOption = Annotated[int, typer.Option("--index", metavar="I", help="Which test image, from 0.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of whatever is drawn.")]
CheckpointOption = Annotated[str, typer.Option("--checkpoint", metavar="best|last", help="Which weights.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Of the CPU; if not given, those that are fastest when it starts."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The last line on stdout is one JSON object.")]


def load_run(path: Path, checkpoint: str, device: str) -> Run:
    """A run as a command's options name it.

    Raises:
        InputError: for a folder that is no run, a checkpoint or a device that does not exist.
    """
    if checkpoint not in ("best", "last"):
        raise InputError(f"--checkpoint {checkpoint} is neither best nor last")

    from pyro_disent.experiments.run import load

    return load(path, "best" if checkpoint == "best" else "last", device)


def check_out(out: Path | None, what: str = "--out") -> None:
    """Refuse a place that cannot be written to before anything is computed.

    Raises:
        InputError: for what is neither a regular file nor a new name in a folder that exists, and for a format that
            figures are not written in.
    """
    if out is None:
        return
    if found := files.obstacle(out):
        raise InputError(f"{what} {out} {found}: name a file, new or to be replaced, in a folder that exists")
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"{what} {out} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def place(out: Path | None, run: Path, name: str) -> Path:
    """Where a figure goes: what was said, or a file in RUN/figures.

    Raises:
        InputError: for RUN/figures that leads elsewhere, or is no folder.
    """
    figures = run / "figures"
    if out is None and (figures.is_symlink() or (figures.exists() and not figures.is_dir())):
        raise InputError(f"{figures} is not a folder of this run, so nothing is written there: name a file by --out")
    return out or figures / name


def finish(figure: Figure, path: Path, as_json: bool) -> None:
    """Write the figure and print its path, last.

    Raises:
        InputError: where it cannot be written.
    """
    from pyro_disent.figures import save

    try:
        save(figure, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
    typer.echo(json.dumps({"path": str(path)}) if as_json else path)
