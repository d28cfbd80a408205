"""``pyro-disent data``: list the data sets, show their pairs, and prepare them for fast loading."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_disent.cli.data_options import with_data_options
from pyro_disent.cli.run_options import SeedOption, check_out
from pyro_disent.cli.sentences import as_flags

if TYPE_CHECKING:
    from rich.text import Text

    from pyro_disent.signatures import Option

app = typer.Typer(help="Data sets: list them, look at their pairs, prepare them.", no_args_is_help=True)

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A data set's name (see `data list`), or a folder of images.")
]
SourceOption = Annotated[str, typer.Option("--source", help="auto, local, download or embedded.")]
RootOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Its folder; $PYRO_DISENT_DATA if not given."),
]


@app.command("list")
def list_data(source: SourceOption = "auto", root: RootOption = None) -> None:
    """What data sets there are, what varies in them, and where each would come from."""
    from rich.table import Table

    from pyro_disent.cli.console import table_console
    from pyro_disent.data import registry
    from pyro_disent.data.sources import Request
    from pyro_disent.errors import InputError

    Request.of(source, root)
    table = Table("data set", "varies in, and its options", "would come from")
    for name in registry.names():
        try:
            description = registry.describe(name, source=source, root=root)
        except (InputError, ImportError) as error:  # one missing data set hides none of the others
            table.add_row(name, "", f"nowhere: {as_flags(str(error))}")
        else:
            factors = ", ".join(factor.name for factor in description.factors)
            table.add_row(name, _with_options(factors, description.options), description.origin)
    varies = _with_options("the columns of its metadata.csv", registry.options_of_folders())
    table.add_row("FOLDER", varies, "the folder that is named in place of a data set")
    console = table_console()
    console.print(table)
    console.print("Options are said by --data-option NAME=VALUE; `pyro-disent fit --help` has flags for many of them.")


def _with_options(varies: str, options: Mapping[str, Option] | None) -> Text:
    from rich.text import Text

    names = "any" if options is None else ", ".join(map(str, options.values()))
    return Text.assemble(varies, f"\noptions: {names}" if names else "")


@app.command("show")
@with_data_options
def show(
    data: DataArgument,
    source: SourceOption = "auto",
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.png", help="DATA-pairs.png if not given.")] = None,
    seed: SeedOption = 0,
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=400, help="How many pairs.")] = 20,
    *,
    options: dict[str, Any],
) -> None:
    """A contact sheet of training pairs: the two views side by side, and under each the factors that made it."""
    import torch

    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry
    from pyro_disent.errors import InputError
    from pyro_disent.figures import save
    from pyro_disent.figures.pairs import contact_sheet, names_in, with_numbers

    path = out or _free_name(f"{Path(registry.absolute_name(data)).name}-pairs")
    check_out(path)
    _check_no_image_of(path, data, root)
    with shown_progress(f"loading {data}") as progress:
        loaded = registry.load(data, source=source, root=root, progress=progress, **options)
    typer.echo(f"{loaded.name}, {len(loaded.train):,} training images, {loaded.source}")
    if identities := loaded.identities_split():
        typer.echo(f"  identities: {as_flags(identities)}")
    for line in [*loaded.details, *loaded.notes]:
        typer.echo(f"  {as_flags(line)}")
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(loaded.train), generator=generator)[:pairs]
    train = with_numbers(loaded.train)
    # Images without pairs are shown one by one.
    what = "training pairs" if train.has_pairs else "training images, which have no pairs"
    batch = train.batch(index, generator, views=2 if train.has_pairs else 1)
    sheet = contact_sheet(batch, loaded.factors, f"{loaded.name}: {what}", names_in(batch, train))
    try:
        save(sheet, path)
    except OSError as error:
        raise InputError(f"--out {path} cannot be written: {error}") from error
    typer.echo(path)


def _free_name(stem: str) -> Path:
    """The first of STEM.png, STEM-2.png, ... that does not exist, or is a figure that this program wrote."""
    from pyro_disent.data.images.headers import header

    for number in itertools.count(1):
        path = Path(f"{stem}{f'-{number}' * (number > 1)}.png")
        if not os.path.lexists(path) or (not path.is_symlink() and (seen := header(path)) and seen.ours):
            return path
    raise AssertionError  # there is no last number


def _check_no_image_of(path: Path, data: str, root: Path | None) -> None:
    """Raises InputError for a path to an image of the data set, or to a file in its folder that is not our figure."""
    from pyro_disent.data.images.headers import header
    from pyro_disent.data.own.listing import listed
    from pyro_disent.errors import InputError

    folder = root or Path(data)
    if not path.is_file() or not folder.is_dir() or ((seen := header(path)) and seen.ours):
        return
    is_inside = path.resolve().is_relative_to(folder.resolve())
    # A link in the folder may lead to the path.
    if is_inside or (root is None and any((folder / name).samefile(path) for name in listed(folder).images)):
        raise InputError(f"--out {path} is a file of the data set {folder}, and no figure: name another one")


@app.command("prepare")
@with_data_options
def prepare(
    data: DataArgument,
    source: SourceOption = "auto",
    root: RootOption = None,
    *,
    options: dict[str, Any],
) -> None:
    """Download, convert or render a data set into the cache, where every later run finds it at once."""
    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry

    with shown_progress(f"preparing {data}") as progress:
        path = registry.prepare(data, source=source, root=root, progress=progress, **options)
    typer.echo(path)
