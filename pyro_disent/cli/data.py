"""``pyro-disent data``: what data sets there are, what their pairs look like, and making them fast to load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_disent.cli.data_options import (
    ChannelsOption,
    ColorOption,
    FactorsOption,
    ImageSizeOption,
    PairByOption,
    SkipBadOption,
    VarianceOption,
    data_options,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyro_disent.batch import Batch
    from pyro_disent.data.dataset import Factor

app = typer.Typer(help="Data sets: list them, look at their pairs, prepare them.", no_args_is_help=True)

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A data set's name (see `data list`), or a folder of images.")
]
SourceOption = Annotated[str, typer.Option("--source", help="auto, local, download or embedded.")]
RootOption = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Its folder; $PYRO_DISENT_DATA if not given."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of whatever is drawn.")]


@app.command("list")
def list_data(source: SourceOption = "auto", root: RootOption = None) -> None:
    """What data sets there are, what varies in them, and where each would come from."""
    from rich.table import Table

    from pyro_disent.cli.console import table_console
    from pyro_disent.data import registry
    from pyro_disent.data.sources import Request
    from pyro_disent.errors import InputError

    Request.of(source, root)
    table = Table("data set", "varies in", "would come from")
    for name in registry.names():
        try:
            description = registry.describe(name, source=source, root=root)
        except (InputError, ImportError) as error:  # one that cannot be had hides none of the others
            table.add_row(name, "", f"nowhere: {error}")
        else:
            table.add_row(name, ", ".join(factor.name for factor in description.factors), description.found)
    console = table_console()
    console.print(table)


@app.command("show")
def show(
    data: DataArgument,
    source: SourceOption = "auto",
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.png", help="DATA-pairs.png if not given.")] = None,
    seed: SeedOption = 0,
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=400, help="How many pairs.")] = 20,
    factors: FactorsOption = None,
    color: ColorOption = None,
    variance: VarianceOption = None,
    image_size: ImageSizeOption = None,
    channels: ChannelsOption = None,
    pair_by: PairByOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """A contact sheet of training pairs: the two views side by side, and under each the factors that made it."""
    import torch

    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry
    from pyro_disent.errors import InputError
    from pyro_disent.figures import save

    path = out or Path(f"{Path(data).name}-pairs.png")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--out {path} is no file that can be written: name a PNG file in a folder that exists")
    options = data_options(
        factors=factors,
        color=color,
        variance=variance,
        image_size=image_size,
        channels=channels,
        pair_by=pair_by,
        skip_bad=skip_bad,
    )
    with shown_progress(f"loading {data}") as progress:
        loaded = registry.load(data, source=source, root=root, progress=progress, **options)
    typer.echo(f"{loaded.name}, {len(loaded.train):,} training images, {loaded.source}")
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(loaded.train), generator=generator)[:pairs]
    sheet = contact_sheet(loaded.train.batch(index, generator), loaded.factors, f"{loaded.name}: training pairs")
    try:
        save(sheet, path)
    except OSError as error:
        raise InputError(f"--out {path} cannot be written: {error}") from error
    typer.echo(path)


@app.command("prepare")
def prepare(
    data: DataArgument,
    source: SourceOption = "auto",
    root: RootOption = None,
    factors: FactorsOption = None,
    color: ColorOption = None,
    variance: VarianceOption = None,
    image_size: ImageSizeOption = None,
    channels: ChannelsOption = None,
    pair_by: PairByOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Download, convert or render a data set into the cache, where every later run finds it at once."""
    from pyro_disent.cli.progress import shown_progress
    from pyro_disent.data import registry

    options = data_options(
        factors=factors,
        color=color,
        variance=variance,
        image_size=image_size,
        channels=channels,
        pair_by=pair_by,
        skip_bad=skip_bad,
    )
    with shown_progress(f"preparing {data}") as progress:
        path = registry.prepare(data, source=source, root=root, progress=progress, **options)
    typer.echo(path)


def contact_sheet(batch: Batch, factors: tuple[Factor, ...], title: str) -> Figure:
    """Pairs in rows of five or fewer: both views of a pair touch, with each view's factors under it."""
    from matplotlib.figure import Figure

    views, size, _, height, width = batch.images.shape
    columns = min(size, 5 if height < 64 else 4)
    rows = -(-size // columns)
    lines = max(1, len(factors))
    # In inches, so that captions keep their size whatever the number of pairs.
    image_width, margin, head, gap = 0.95, 0.25, 0.5, 0.3
    image_height, caption = image_width * height / width, 0.12 + 0.15 * lines
    full_width = 2 * margin + columns * views * image_width + (columns - 1) * gap
    full_height = head + rows * (image_height + caption) + 0.1
    figure = Figure(figsize=(full_width, full_height), facecolor="white")
    line = 1 - head / 2 / full_height
    figure.text(margin / full_width, line, title, fontsize=11, fontweight="bold", va="center")
    names = ", ".join(factor.name for factor in factors)
    figure.text(1 - margin / full_width, line, names, fontsize=8, color="0.4", ha="right", va="center")
    pictures = batch.images.clamp(0, 1).permute(0, 1, 3, 4, 2).float().cpu().numpy()
    for pair in range(size):
        row, column = divmod(pair, columns)
        bottom = full_height - head - row * (image_height + caption) - image_height
        for view in range(views):
            left = margin + column * (views * image_width + gap) + view * image_width
            axes = figure.add_axes(
                (left / full_width, bottom / full_height, image_width / full_width, image_height / full_height)
            )
            axes.imshow(pictures[view, pair].squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():  # images may be as white as the page, or touch black on black
                spine.set(color="0.85", linewidth=1)
            values = [
                factor_text(factor, float(batch.factors[factor.name][view, pair]), named=len(factors) > 1)
                for factor in factors
                if factor.name in batch.factors
            ]
            figure.text(
                (left + image_width / 2) / full_width,
                (bottom - 0.04) / full_height,
                "\n".join(values),
                fontsize=8 if lines == 1 else 7,
                color="0.25",
                ha="center",
                va="top",
            )
    return figure


def factor_text(factor: Factor, value: float, *, named: bool) -> str:
    """A factor's value as people write it: angles in degrees, with a sign where they do not wrap around."""
    import math

    if factor.unit == "radians":
        # A minus sign as wide as the plus sign, and none before a zero.
        degrees = round(math.degrees(value)) + 0
        text = f"{degrees % 360}°" if factor.circular else f"{degrees:+d}°".replace("-", "\N{MINUS SIGN}")
        text = "0°" if degrees == 0 else text
    else:
        text = f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
    return f"{factor.name} {text}" if named else text
