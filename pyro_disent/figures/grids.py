"""Image grids drawn pixel for pixel, and how every figure of this package is saved."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyro_disent.figures.signature import signed
from pyro_disent.files import write_atomically

DPI = 100
GAP = 4  # white pixels between images
RULE = 16  # white pixels between originals and what is made of them
_SIDE = 112  # pixels an image's longer side is enlarged towards
_LARGEST = 12_000  # pixels of a figure's longer side: larger files are not looked at
_LETTER = 6.0  # pixels of width a letter of a label takes
_TEXT = 15  # pixels of height a line of labels takes
_COLOR = "#6b6b6b"

Cells = Sequence[Sequence[Tensor | None]]
"""Rows of images ``(channels, height, width)`` in [0, 1]; None leaves a cell white."""


def grid(
    cells: Cells,
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    header_rows: int = 0,
    header_columns: int = 0,
) -> Figure:
    """A grid of images, each pixel a whole number of pixels wide, with white lines between images.

    Args:
        cells: rows of equal length; all images of one shape, with one channel (grey) or three (RGB).
        title: above the grid.
        row_labels: left of the rows; empty, or one for each.
        column_labels: above the columns; empty, or one for each.
        header_rows: the first rows are set apart by a wider line.
        header_columns: the first columns likewise.
    """
    canvas, starts_y, starts_x, side = _canvas(cells, header_rows, header_columns)
    height, width = canvas.shape[:2]
    left = GAP + (math.ceil(_LETTER * max(map(len, row_labels))) + 6 if any(row_labels) else 0)
    top = GAP + (_TEXT + 7 if title else 0) + (_TEXT if any(column_labels) else 0)
    total_width = left + max(width, math.ceil(1.1 * _LETTER * len(title))) + GAP
    total_height = top + height + GAP

    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (left / total_width, GAP / total_height, width / total_width, height / total_height), frameon=False
    )
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()

    def text(x: float, y: float, words: str, **options: Any) -> None:
        figure.text(x / total_width, 1 - y / total_height, words, color=_COLOR, **options)

    if title:
        text(left, GAP + 1, title, fontsize=8.5, va="top", ha="left")
    for words, x in zip(column_labels, starts_x, strict=False):
        text(left + x + side[1] / 2, top - 3, words, fontsize=7, va="bottom", ha="center")
    for words, y in zip(row_labels, starts_y, strict=False):
        text(left - 5, top + y + side[0] / 2, words, fontsize=7, va="center", ha="right")
    return figure


def _canvas(
    cells: Cells, header_rows: int, header_columns: int
) -> tuple[NDArray[np.uint8], list[int], list[int], tuple[int, int]]:
    """The enlarged images on white, where each row and column starts, and an image's enlarged height and width."""
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
    """Images row by row, as many rows as columns where no number is given; white cells fill the last row."""
    columns = columns or max(1, math.ceil(math.sqrt(len(images))))
    padded = [*images, *[None] * (-len(images) % columns)]
    return [padded[start : start + columns] for start in range(0, len(padded), columns)]


def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure as the format its suffix names; a file that is there already is replaced whole or not at all.

    Nothing is cropped or rescaled: pixels stay whole. Returns the path. Missing folders are made.
    """
    path = Path(path)
    buffer = io.BytesIO()
    kind = path.suffix.lower().lstrip(".") or "png"
    figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white", **signed(kind))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    return path
