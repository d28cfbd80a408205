"""Contact sheets of pairs: both views side by side, and under each view its factors."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import Factor, Split
from pyro_disent.figures.naming import MANY, factor_text
from pyro_disent.figures.paper import DPI, default_settings, paper
from pyro_disent.figures.text import draw_text, extent, shortened

LINES = 5
"""Lines of a caption, at most, where there are too many factors to write all: those that only this image has."""


def contact_sheet(batch: Batch, factors: tuple[Factor, ...], title: str, names: Sequence[Sequence[str]] = ()) -> Figure:
    """Pairs in rows of five or fewer: both views of a pair touch, with a caption under each.

    Args:
        batch: images in one or two views.
        factors: the factors written under the images, if the batch has them.
        title: above the images.
        names: the images' names in each view, the first line under each image; empty where they have none.
    """
    views, size, _, height, width = batch.images.shape
    present = [factor for factor in factors if factor.name in batch.factors]
    captions = _differences(batch, present) if len(present) > MANY else _values(batch, present)
    for view_names, in_view in zip(names, captions, strict=False):
        in_view[:] = [[name, *caption] for name, caption in zip(view_names, in_view, strict=True)]
    lines = max(1, *(len(caption) for view in captions for caption in view))
    columns = min(size, 5 if height < 64 else 4)
    rows = -(-size // columns)
    # In inches, so that captions keep their size whatever the number of pairs.
    image_width, margin, head, gap = 0.95, 0.25, 0.5, 0.3
    image_height, caption_height = image_width * height / width, 0.12 + 0.15 * lines
    full_width = 2 * margin + columns * views * image_width + (columns - 1) * gap
    full_height = head + rows * (image_height + caption_height) + 0.1
    figure = paper(full_width, full_height)
    line = 1 - head / 2 / full_height
    room = DPI * (full_width - 2 * margin)
    title = shortened(title, room, size=11, weight="bold")
    draw_text(figure, margin / full_width, line, title, size=11, weight="bold", va="center")
    room -= extent(title, size=11, weight="bold")[0] + DPI * gap
    if room > DPI:  # in less than an inch only an ellipsis would remain
        legend = shortened(_legend(present), room, size=8)
        draw_text(figure, 1 - margin / full_width, line, legend, size=8, color="0.4", ha="right", va="center")
    caption_size = 8 if lines == 1 else 7 if len(present) <= MANY else 6
    pictures = batch.images.clamp(0, 1).permute(0, 1, 3, 4, 2).float().cpu().numpy()
    for pair in range(size):
        row, column = divmod(pair, columns)
        bottom = full_height - head - row * (image_height + caption_height) - image_height
        for view in range(views):
            left = margin + column * (views * image_width + gap) + view * image_width
            with default_settings():
                axes = figure.add_axes(
                    (left / full_width, bottom / full_height, image_width / full_width, image_height / full_height)
                )
                axes.imshow(pictures[view, pair].squeeze(), cmap="gray", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():  # separate white images from the page, black ones from each other
                    spine.set(color="0.85", linewidth=1)
            draw_text(
                figure,
                (left + image_width / 2) / full_width,
                (bottom - 0.04) / full_height,
                [shortened(words, DPI * image_width, size=caption_size) for words in captions[view][pair]],
                size=caption_size,
                color="0.25",
                ha="center",
                va="top",
            )
    return figure


def _values(batch: Batch, factors: list[Factor]) -> list[list[list[str]]]:
    """Every factor's value, for each view and pair."""
    return [
        [
            [factor_text(f, float(batch.factors[f.name][view, pair]), named=len(factors) > 1) for f in factors]
            for pair in range(batch.size)
        ]
        for view in range(batch.views)
    ]


def _differences(batch: Batch, factors: list[Factor]) -> list[list[list[str]]]:
    """The factors that are larger in each view than in the other, such as an attribute that only one view has."""
    captions: list[list[list[str]]] = []
    for view in range(batch.views):
        captions.append([])
        for pair in range(batch.size):
            values = {factor.name: batch.factors[factor.name][:, pair].tolist() for factor in factors}
            larger = [
                name.replace("_", " ")
                for name, value in values.items()
                if batch.views == 2 and value[view] > value[1 - view]
            ]
            rest = len(larger) - LINES
            captions[-1].append(larger if rest <= 0 else [*larger[: LINES - 1], f"and {rest + 1} more"])
    return captions


def _legend(factors: list[Factor]) -> str:
    if len(factors) <= MANY:
        return ", ".join(factor.name for factor in factors)
    return f"{len(factors)} attributes; under each image those that it alone of the pair has"


_NUMBER = "number of the image"
"""The factor by which `names_in` finds images again."""


def with_numbers(split: Split) -> Split:
    """A split whose batches hold each image's number as one more factor; unchanged if its images have no names."""
    if not split.names:
        return split
    split = copy.copy(split)
    number = torch.arange(len(split), dtype=torch.float64, device=split.images.device)
    split.factors = {**split.factors, _NUMBER: number}
    return split


def names_in(batch: Batch, split: Split) -> list[list[str]]:
    """The names of the images in a batch of a split `with_numbers`, for each view; empty where images have no names."""
    if _NUMBER not in batch.factors:
        return []
    return [[split.names[int(number)] for number in view] for view in batch.factors[_NUMBER].tolist()]
