"""The swap matrix: what is shared from one image, the rest from another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.data.dataset import DataSet
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import swapped as swapped_latents


def swap_matrix(
    vae: FactoredVAE,
    rows: Tensor,
    columns: Tensor,
    *,
    shared: Sequence[str],
    row_labels: Sequence[Label] = (),
    column_labels: Sequence[Label] = (),
    truth: Tensor | None = None,
) -> Figure:
    """Cell (i, j) decodes the shared latents of row i with the other latents of column j.

    The originals stand left of the rows and above the columns. Where true images are known, they stand under each row,
    and below them the difference to the decoded ones: white where they agree, darker where they differ more.

    Args:
        vae: the model.
        rows: ``(R, channels, height, width)``, uint8 or float in [0, 1].
        columns: ``(C, channels, height, width)``.
        shared: names of the latents taken from the rows.
        row_labels: left of the rows; empty, or one for each.
        column_labels: above the columns; empty, or one for each.
        truth: ``(R, C, channels, height, width)``, see `swap_truth`.
    """
    names = [vae.latent(name).name for name in shared]
    rest = [latent.name for latent in vae.latents if latent.name not in names]
    cells = swap_images(vae, rows, columns, names)
    header: list[Tensor | None] = [None, *as_float(columns)]
    body: list[list[Tensor | None]] = [[original, *row] for original, row in zip(as_float(rows), cells, strict=True)]
    labels = list(row_labels)
    if truth is not None:
        true = as_float(truth).to(cells.device)
        wrong = (1 - (cells - true).abs().mean(2, keepdim=True)).expand_as(true)  # grey, the mean of the channels
        body = [line for row in zip(body, _unnamed(true), _unnamed(wrong), strict=True) for line in row]
        labels = [label for name in row_labels or [""] * len(rows) for label in (name, "truth", "difference")]
    return grid(
        [header, *body],
        title=f"{_listed(names)} from the row, {_listed(rest)} from the column",
        row_labels=("", *labels) if labels else (),
        column_labels=("", *column_labels) if column_labels else (),
        header_rows=1,
        header_columns=1,
    )


def swap_images(vae: FactoredVAE, rows: Tensor, columns: Tensor, shared: Sequence[str]) -> Tensor:
    """The cells of the swap matrix, ``(R, C, channels, height, width)`` in [0, 1]; arguments as in `swap_matrix`."""
    of_rows, of_columns = vae.codes(rows), vae.codes(columns)
    across = torch.arange(len(rows), device="cpu").repeat_interleave(len(columns))
    down = torch.arange(len(columns), device="cpu").repeat(len(rows))
    codes = {
        name: of_rows[name][across.to(code.device)] if name in shared else code[down.to(code.device)]
        for name, code in of_columns.items()
    }
    return vae.decode(codes).unflatten(0, (len(rows), len(columns)))


def swap_truth(
    vae: FactoredVAE,
    data: DataSet,
    rows: Sequence[int],
    columns: Sequence[int],
    *,
    shared: Sequence[str],
    seed: int = 0,
) -> Tensor | None:
    """The true images for the cells of a swap matrix, drawn by the data set.

    Args:
        vae: the model.
        data: the data set.
        rows, columns: positions of R and of C test images.
        shared: names of the latents taken from the rows.
        seed: for how test images are seen.

    Returns:
        ``(R, C, channels, height, width)``, uint8; None where the data set cannot draw the exchanged factors.
    """
    pair = data.pairs.typical_pair(factor.name for factor in data.factors)
    latents, factors = swapped_latents(vae.latents, pair, data.test.drawable)
    of_rows = torch.tensor(rows, dtype=torch.long, device="cpu").repeat_interleave(len(columns))
    of_columns = torch.tensor(columns, dtype=torch.long, device="cpu").repeat(len(rows))
    moved = {latent.name for latent in vae.latents} - set(shared)
    # The latents that explain drawable factors are either those taken from the columns, or those from the rows.
    if latents and set(latents) == moved:
        images = data.test.truth(of_rows, of_columns, factors, seed=seed)
    elif latents and set(latents) == set(shared):
        images = data.test.truth(of_columns, of_rows, factors, seed=seed)
    else:
        return None
    return images.unflatten(0, (len(rows), len(columns)))


def _unnamed(rows: Tensor) -> list[list[Tensor | None]]:
    """Rows of images with a white cell in front."""
    return [[None, *row] for row in rows]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
