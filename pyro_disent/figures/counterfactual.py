"""Images beside what they would be if some of their latents had other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.queries.intervention import Value, do

COLUMNS = ("image", "decoded", "counterfactual", "difference")


def counterfactual(
    vae: FactoredVAE,
    images: Tensor,
    values: Mapping[str, Value],
    *,
    seed: int = 0,
    labels: Sequence[Label] = (),
    in_words: Mapping[str, str] | None = None,
) -> Figure:
    """A row for every image: the image, its reconstruction, its counterfactual, and the difference of the last two.

    The difference is drawn as in a swap matrix: the mean over channels, white where there is none, darker where larger.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        values: the latents' new values, see `queries.do`.
        seed: for latents that are drawn because their priors depend on the new values.
        labels: left of the rows; empty, or one for each image.
        in_words: label's name -> it with its value, for the title; if left out, its number is written.
    """
    words = in_words or {}
    result = do(vae, images, values, seed=seed)
    difference = (1 - (result.image - result.reconstruction).abs().mean(1, keepdim=True)).expand_as(result.image)
    drawn = f"; {', '.join(result.redrawn)} drawn given that" if result.redrawn else ""
    return grid(
        [list(row) for row in zip(as_float(images), result.reconstruction, result.image, difference, strict=True)],
        title=f"do({', '.join(words.get(name, f'{name} = {_text(value)}') for name, value in values.items())}){drawn}",
        row_labels=labels,
        column_labels=COLUMNS,
        header_columns=2,
    )


def _text(value: Any) -> str:
    value = value.tolist() if hasattr(value, "tolist") else value
    return str(list(value)) if isinstance(value, tuple) else str(value)
