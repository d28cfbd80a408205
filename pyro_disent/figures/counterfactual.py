"""Images beside what they would be if some of their latents had other values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.data.dataset import DataSet
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
    truth: Tensor | None = None,
) -> Figure:
    """A row for every image: the image, its reconstruction, its counterfactual, and the difference of the last two.

    Where true images are known, they follow, and their difference to the counterfactual. Differences are drawn as in a
    swap matrix: the mean over channels, white where there is none, darker where larger.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        values: the latents' new values, see `queries.do`.
        seed: for latents that are drawn because their priors depend on the new values.
        labels: left of the rows; empty, or one for each image.
        in_words: label's name -> it with its value, for the title; if left out, its number is written.
        truth: ``(N, channels, height, width)``, see `do_truth`.
    """
    words = in_words or {}
    result = do(vae, images, values, seed=seed)
    parts = [as_float(images), result.reconstruction, result.image, _difference(result.image, result.reconstruction)]
    titles: tuple[str, ...] = COLUMNS
    if truth is not None:
        true = as_float(truth).to(result.image.device)
        parts += [true, _difference(result.image, true)]
        titles += ("truth", "difference to it")
    drawn = f"; {', '.join(result.redrawn)} drawn given that" if result.redrawn else ""
    return grid(
        [list(row) for row in zip(*parts, strict=True)],
        title=f"do({', '.join(words.get(name, f'{name} = {_text(value)}') for name, value in values.items())}){drawn}",
        row_labels=labels,
        column_labels=titles,
        header_columns=2,
    )


def do_truth(data: DataSet, place: int, labels: Mapping[str, float], *, seed: int = 0) -> Tensor | None:
    """A test image as it truly is with labels of these values, drawn by the data set.

    Args:
        data: the data set.
        place: the image's position in the test split.
        labels: label's name -> its value in the data.
        seed: for how test images are seen.

    Returns:
        ``(1, channels, height, width)``, uint8; None where the data set cannot draw it, as of other labels, and of a
        combination of values that no test image has.
    """
    split = data.test
    if not labels or not labels.keys() <= set(split.drawable):
        return None
    factors = split.examples(seed).factors
    has_values = torch.stack([factors[name] == value for name, value in labels.items()]).all(0).nonzero().flatten()
    if not len(has_values):
        return None
    return split.truth(torch.tensor([place]), has_values[:1].cpu(), tuple(labels), seed=seed)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    return (1 - (first - second).abs().mean(1, keepdim=True)).expand_as(first)


def _text(value: Any) -> str:
    value = value.tolist() if hasattr(value, "tolist") else value
    return str(list(value)) if isinstance(value, tuple) else str(value)
