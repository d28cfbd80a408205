"""The swap matrix: what is shared from one image, the rest from another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE


def swap_matrix(
    vae: FactoredVAE,
    rows: Tensor,
    columns: Tensor,
    *,
    shared: Sequence[str],
    row_labels: Sequence[Label] = (),
    column_labels: Sequence[Label] = (),
) -> Figure:
    """Cell (i, j) decodes the shared latents of row i with the other latents of column j.

    The originals stand left of the rows and above the columns.

    Args:
        vae: the model.
        rows: ``(R, channels, height, width)``, uint8 or float in [0, 1].
        columns: ``(C, channels, height, width)``.
        shared: names of the latents taken from the rows.
        row_labels: left of the rows; empty, or one for each.
        column_labels: above the columns; empty, or one for each.
    """
    names = [vae.latent(name).name for name in shared]
    rest = [latent.name for latent in vae.latents if latent.name not in names]
    cells = swapped(vae, rows, columns, names)
    header: list[Tensor | None] = [None, *as_float(columns)]
    body = [[original, *made] for original, made in zip(as_float(rows), cells, strict=True)]
    return grid(
        [header, *body],
        title=f"{_listed(names)} from the row, {_listed(rest)} from the column",
        row_labels=("", *row_labels) if row_labels else (),
        column_labels=("", *column_labels) if column_labels else (),
        header_rows=1,
        header_columns=1,
    )


def swapped(vae: FactoredVAE, rows: Tensor, columns: Tensor, shared: Sequence[str]) -> Tensor:
    """The cells of the swap matrix, ``(R, C, channels, height, width)`` in [0, 1]; arguments as in `swap_matrix`."""
    of_rows, of_columns = vae.codes(rows), vae.codes(columns)
    across = torch.arange(len(rows), device="cpu").repeat_interleave(len(columns))
    down = torch.arange(len(columns), device="cpu").repeat(len(rows))
    codes = {
        name: of_rows[name][across.to(code.device)] if name in shared else code[down.to(code.device)]
        for name, code in of_columns.items()
    }
    return vae.decode(codes).unflatten(0, (len(rows), len(columns)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
