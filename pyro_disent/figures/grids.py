"""Image grids drawn pixel for pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.figures.paper import DPI, default_settings, paper
from pyro_disent.figures.text import Lines, draw_text, extent, shortened

GAP = 4  # white pixels between images
RULE = 16  # white pixels between original images and decoded ones
_SIDE = 112  # pixels an image's longer side is enlarged towards
_LARGEST = 12_000  # pixels of a figure's longer side: nobody looks at larger files
_LABEL = 160  # largest width in pixels of labels left of the rows
_TITLE = 640  # width in pixels that a title may take even where the images are narrower
_TITLE_SIZE, _LABEL_SIZE = 8.5, 7.0  # points
_COLOR = "#6b6b6b"

Label = str | Sequence[str]
"""Text, or its parts."""
Cells = Sequence[Sequence[Tensor | None]]
"""Rows of images ``(channels, height, width)`` in [0, 1]; None leaves a cell white."""


def grid(
    cells: Cells,
    *,
    title: str = "",
    row_labels: Sequence[Label] = (),
    column_labels: Sequence[Label] = (),
    header_rows: int = 0,
    header_columns: int = 0,
) -> Figure:
    """A grid of images, each pixel a whole number of pixels wide, with white lines between images.

    Args:
        cells: rows of equal length; all images of one shape, with one channel (grey) or three (RGB).
        title: above the grid.
        row_labels: left of the rows; empty, or one for each. Parts share lines where they fit, and a part that is
            too long for a line loses its middle.
        column_labels: above the columns; empty, or one for each.
        header_rows: how many first rows a wider line sets apart.
        header_columns: how many first columns it sets apart.
    """
    canvas, starts_y, starts_x, side = _canvas(cells, header_rows, header_columns)
    height, width = canvas.shape[:2]
    left_lines = [_lines(label, _LABEL) for label in row_labels]
    top_lines = [_lines(label, side[1]) for label in column_labels]
    title = shortened(title, max(width, _TITLE), size=_TITLE_SIZE)
    of_rows = [extent(label, size=_LABEL_SIZE)[0] for label in left_lines]
    of_columns = [extent(label, size=_LABEL_SIZE)[1] for label in top_lines]
    title_width, title_height = extent(title, size=_TITLE_SIZE)
    left = GAP + (math.ceil(max(of_rows)) + 6 if any(of_rows) else 0)
    top = (
        GAP + (math.ceil(title_height) + 8 if title else 0) + (math.ceil(max(of_columns)) + 4 if any(of_columns) else 0)
    )
    total_width = left + max(width, math.ceil(title_width)) + GAP
    total_height = top + height + GAP

    figure = paper(total_width / DPI, total_height / DPI)
    with default_settings():
        axes = figure.add_axes(
            (left / total_width, GAP / total_height, width / total_width, height / total_height), frameon=False
        )
        axes.imshow(canvas, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    def text(x: float, y: float, lines: Lines, size: float = _LABEL_SIZE, **options: Any) -> None:
        if any(lines):
            draw_text(figure, x / total_width, 1 - y / total_height, lines, size=size, color=_COLOR, **options)

    text(left, GAP + 1, title, _TITLE_SIZE, va="top", ha="left")
    for lines, x in zip(top_lines, starts_x, strict=False):
        text(left + x + side[1] / 2, top - 3, lines, va="bottom", ha="center")
    for lines, y in zip(left_lines, starts_y, strict=False):
        text(left - 5, top + y + side[0] / 2, lines, va="center", ha="right")
    return figure


def _lines(label: Label, width: float) -> list[str]:
    """A label's parts on lines: a part joins the line before it where both fit."""
    lines: list[str] = []
    for part in [label] if isinstance(label, str) else label:
        longer = f"{lines[-1]}, {part}" if lines else part
        if lines and extent(longer, size=_LABEL_SIZE)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [shortened(line, width, size=_LABEL_SIZE) for line in lines]


def _canvas(
    cells: Cells, header_rows: int, header_columns: int
) -> tuple[NDArray[np.uint8], list[int], list[int], tuple[int, int]]:
    """The enlarged images on white, the start of each row and column, and an image's enlarged height and width."""
    first = next((image for row in cells for image in row if image is not None), None)
    if first is None or len({len(row) for row in cells}) != 1:
        raise ValueError("a grid needs at least one image, and rows of equal length")
    rows, columns = len(cells), len(cells[0])
    height, width = first.shape[-2:]
    longer = max(height, width)
    scale = max(1, min(round(_SIDE / longer), _LARGEST // (longer * max(rows, columns))))
    side = height * scale, width * scale
    starts_y = [i * (side[0] + GAP) + (RULE - GAP if 0 < header_rows <= i else 0) for i in range(rows)]
    starts_x = [j * (side[1] + GAP) + (RULE - GAP if 0 < header_columns <= j else 0) for j in range(columns)]
    canvas = np.full((starts_y[-1] + side[0], starts_x[-1] + side[1], 3), 255, dtype=np.uint8)
    for row, y in zip(cells, starts_y, strict=True):
        for image, x in zip(row, starts_x, strict=True):
            if image is not None:
                canvas[y : y + side[0], x : x + side[1]] = _enlarged(image, scale)
    return canvas, starts_y, starts_x, side


def _enlarged(image: Tensor, scale: int) -> NDArray[np.uint8]:
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().cpu().permute(1, 2, 0).numpy()
    return pixels.repeat(scale, 0).repeat(scale, 1)


def in_rows(images: Sequence[Tensor | None], columns: int | None = None) -> list[list[Tensor | None]]:
    """Images row by row, in a square where ``columns`` is None; white cells fill the last row."""
    columns = columns or max(1, math.ceil(math.sqrt(len(images))))
    padded = [*images, *[None] * (-len(images) % columns)]
    return [padded[start : start + columns] for start in range(0, len(padded), columns)]
