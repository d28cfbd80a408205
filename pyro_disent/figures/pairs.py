"""What pairs look like: both views side by side, and under each what is known of it."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor

MANY = 6
"""More factors than this are not written out one by one: under each image stands what it has and the other has not."""
LINES = 5
"""Of such a caption, at most."""


def contact_sheet(batch: Batch, factors: tuple[Factor, ...], title: str) -> Figure:
    """Pairs in rows of five or fewer: both views of a pair touch, with a caption under each.

    Args:
        batch: in one or two views.
        factors: what is written under the images, where the batch has it.
        title: of the figure.
    """
    views, size, _, height, width = batch.images.shape
    known = [factor for factor in factors if factor.name in batch.factors]
    captions = _differences(batch, known) if len(known) > MANY else _values(batch, known)
    lines = max(1, *(caption.count("\n") + 1 for view in captions for caption in view))
    columns = min(size, 5 if height < 64 else 4)
    rows = -(-size // columns)
    # In inches, so that captions keep their size whatever the number of pairs.
    image_width, margin, head, gap = 0.95, 0.25, 0.5, 0.3
    image_height, caption_height = image_width * height / width, 0.12 + 0.15 * lines
    full_width = 2 * margin + columns * views * image_width + (columns - 1) * gap
    full_height = head + rows * (image_height + caption_height) + 0.1
    figure = Figure(figsize=(full_width, full_height), facecolor="white")
    line = 1 - head / 2 / full_height
    figure.text(margin / full_width, line, title, fontsize=11, fontweight="bold", va="center")
    figure.text(1 - margin / full_width, line, _legend(known), fontsize=8, color="0.4", ha="right", va="center")
    pictures = batch.images.clamp(0, 1).permute(0, 1, 3, 4, 2).float().cpu().numpy()
    for pair in range(size):
        row, column = divmod(pair, columns)
        bottom = full_height - head - row * (image_height + caption_height) - image_height
        for view in range(views):
            left = margin + column * (views * image_width + gap) + view * image_width
            axes = figure.add_axes(
                (left / full_width, bottom / full_height, image_width / full_width, image_height / full_height)
            )
            axes.imshow(pictures[view, pair].squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():  # images may be as white as the page, or touch black on black
                spine.set(color="0.85", linewidth=1)
            figure.text(
                (left + image_width / 2) / full_width,
                (bottom - 0.04) / full_height,
                captions[view][pair],
                fontsize=8 if lines == 1 else 7 if len(known) <= MANY else 6,
                color="0.25",
                ha="center",
                va="top",
            )
    return figure


def factor_text(factor: Factor, value: float, *, named: bool) -> str:
    """A factor's value as people write it: angles in degrees, with a sign where they do not wrap around."""
    if math.isnan(value):
        text = "unknown"
    elif factor.categories:
        text = factor.categories[int(value)]
    elif value in factor.written:
        text = factor.written[value]
    elif factor.unit == "radians":
        # A minus sign as wide as the plus sign, and none before a zero.
        degrees = round(math.degrees(value)) + 0
        text = f"{degrees % 360}°" if factor.circular else f"{degrees:+d}°".replace("-", "\N{MINUS SIGN}")
        text = "0°" if degrees == 0 else text
    else:
        text = f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
    return f"{factor.name} {text}" if named else text


def _values(batch: Batch, factors: list[Factor]) -> list[list[str]]:
    """Every factor's value, for each view and pair."""
    return [
        [
            "\n".join(factor_text(f, float(batch.factors[f.name][view, pair]), named=len(factors) > 1) for f in factors)
            for pair in range(batch.size)
        ]
        for view in range(batch.views)
    ]


def _differences(batch: Batch, factors: list[Factor]) -> list[list[str]]:
    """The factors in which each view has more than the other: an attribute that it has and the other has not."""
    captions: list[list[str]] = []
    for view in range(batch.views):
        captions.append([])
        for pair in range(batch.size):
            values = {factor.name: batch.factors[factor.name][:, pair].tolist() for factor in factors}
            more = [
                name.replace("_", " ")
                for name, value in values.items()
                if batch.views == 2 and value[view] > value[1 - view]
            ]
            rest = len(more) - LINES
            captions[-1].append("\n".join(more if rest <= 0 else [*more[: LINES - 1], f"and {rest + 1} more"]))
    return captions


def _legend(factors: list[Factor]) -> str:
    if len(factors) <= MANY:
        return ", ".join(factor.name for factor in factors)
    return f"{len(factors)} attributes; under each image those that it alone of the pair has"
