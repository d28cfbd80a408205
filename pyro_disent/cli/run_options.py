"""What commands on a run have in common: options, loading it, and writing a figure of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.training.run import Run

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

    from pyro_disent.training.run import load

    return load(path, "best" if checkpoint == "best" else "last", device)


def check_out(out: Path | None) -> None:
    """Refuse a place that cannot be written to before anything is computed.

    Raises:
        InputError: for a folder, and for a format that figures are not written in.
    """
    if out is None:
        return
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file in it, such as {out / 'figure.png'}")
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"--out {out} must end in .png, .pdf or .svg")


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
