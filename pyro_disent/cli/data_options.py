"""Options of the data sets, the same wherever a data set is named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

FactorsOption = Annotated[
    str | None,
    typer.Option(
        "--factors", metavar="A,B", help="What varies; in rotated-mnist and chairs a pair changes one of them."
    ),
]
ColorOption = Annotated[bool | None, typer.Option("--color/--grey", help="Chairs in color.", show_default=False)]
VarianceOption = Annotated[
    float | None, typer.Option("--variance", metavar="X", help="Of the colors of colored-mnist about their means.")
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", metavar="N", help="Height and width that a folder's images get."),
]
ChannelsOption = Annotated[
    int | None, typer.Option("--channels", metavar="1|3", help="A folder's images in grey or in RGB.")
]
PairByOption = Annotated[
    str | None,
    typer.Option("--pair-by", metavar="COLUMN", help="Of a folder's metadata.csv: what the images of a pair share."),
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images of a folder that cannot be used, and count them.")
]


def data_options(
    *,
    factors: str | None,
    color: bool | None,
    variance: float | None,
    image_size: int | None,
    channels: int | None,
    pair_by: str | None,
    skip_bad: bool,
) -> dict[str, Any]:
    """What was said, as `pyro_disent.data.registry.load` takes it; the data set refuses what it does not know."""
    said = {
        "factors": None if factors is None else [name.strip() for name in factors.split(",")],
        "color": color,
        "variance": variance,
        "image_size": image_size,
        "channels": channels,
        "pair_by": pair_by,
        "skip_bad": skip_bad or None,
    }
    return {name: value for name, value in said.items() if value is not None}
