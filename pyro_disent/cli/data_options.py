"""Options of the data sets, the same wherever a data set is named."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pyro_disent.cli.choices import with_more
from pyro_disent.cli.named_values import name_value_pairs
from pyro_disent.errors import InputError

of_data = functools.partial(typer.Option, rich_help_panel="Data")

FactorsOption = Annotated[
    str | None,
    of_data(
        "--factors",
        metavar="A,B",
        help="The factors that vary; in rotated-mnist and chairs a pair changes one of them; all if not given.",
    ),
]
ColorOption = Annotated[
    bool | None, of_data("--color/--grey", help="Chairs in color or in grey; grey if not given.", show_default=False)
]
VarianceOption = Annotated[
    float | None, of_data("--variance", metavar="X", help="Variance of the colors of colored-mnist about their means.")
]
ImageSizeOption = Annotated[
    int | None,
    of_data(
        "--image-size", metavar="N", help="Height and width that a folder's images get, 8 to 512; 64 if not given."
    ),
]
ChannelsOption = Annotated[
    int | None,
    of_data("--channels", metavar="1|3", help="A folder's images in grey or in RGB; grey if all of them are."),
]
ShapeOption = Annotated[
    str | None,
    of_data("--shape", metavar="crop|pad", help="A folder's images are cropped to a square, or get black margins."),
]
PairByOption = Annotated[
    str | None,
    of_data(
        "--pair-by",
        metavar="A,B",
        help="Kinds of pairs by what they share: columns of a folder's metadata.csv; of chairs, identity and view.",
    ),
]
SkipBadOption = Annotated[
    bool, of_data("--skip-bad", help="Leave out images of a folder that cannot be used, and count them.")
]
KindOption = Annotated[
    list[str] | None,
    of_data(
        "--kind",
        metavar="COLUMN=KIND",
        help="Of a folder's metadata.csv: a column is number, category, angle (in radians), degrees, text; repeatable.",
    ),
]
WhiteOption = Annotated[
    float | None,
    of_data("--white", metavar="X", help="A white pixel's value in a folder's images; its format's largest one."),
]
TestShareOption = Annotated[
    float | None,
    of_data("--test-share", metavar="X", help="Share of a folder's identities to test on; a tenth if not given."),
]

DataOption = Annotated[
    list[str] | None,
    of_data(
        "--data-option",
        metavar="NAME=VALUE",
        help="Any option of the data set, see `pyro-disent data list`, as zooms=1; repeatable.",
    ),
]


def _options(
    factors: FactorsOption = None,
    color: ColorOption = None,
    variance: VarianceOption = None,
    image_size: ImageSizeOption = None,
    channels: ChannelsOption = None,
    shape: ShapeOption = None,
    pair_by: PairByOption = None,
    skip_bad: SkipBadOption = False,
    kind: KindOption = None,
    white: WhiteOption = None,
    test_share: TestShareOption = None,
    data_option: DataOption = None,
) -> dict[str, Any]:
    """The user's options as `pyro_disent.data.registry.load` takes them; the data set refuses those that it lacks."""
    flags = {
        "factors": None if factors is None else [name.strip() for name in factors.split(",")],
        "color": color,
        "variance": variance,
        "image_size": image_size,
        "channels": channels,
        "shape": shape,
        "pair_by": None if pair_by is None else [name.strip() for name in pair_by.split(",")],
        "skip_bad": skip_bad or None,
        "kinds": _kinds(kind) or None,
        "white": white,
        "test_share": test_share,
    }
    flags = {name: value for name, value in flags.items() if value is not None}
    others = name_value_pairs(data_option, "--data-option")
    if twice := [name for name in others if name in flags]:
        raise InputError(f"--data-option {twice[0]}={others[twice[0]]}: a flag of its own says it already: say it once")
    return others | flags


def _kinds(items: list[str] | None) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for item in items or ():
        column, _, kind = item.rpartition("=")  # a column's name may hold the sign
        if not column or not kind:
            raise InputError(f"--kind {item}: write COLUMN=KIND")
        if kinds.setdefault(column, kind) != kind:
            raise InputError(f"--kind says of {column} that it is {kinds[column]} and {kind}")
    return kinds


def with_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with every option of the data sets; it takes those that the user gives as ``options``."""
    parameters = inspect.signature(_options, eval_str=True).parameters.values()
    options = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    return with_more(command, options, "options", lambda values: _options(**values))
