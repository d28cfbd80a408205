"""An evaluation as a file in its run's folder, and several side by side as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pyro_disent.evaluation.counterfactuals import SWAP
from pyro_disent.evaluation.evaluate import AGGREGATE, BY_DRAWS, PIXELS, TOLD, USE
from pyro_disent.evaluation.result import Evaluation, Number
from pyro_disent.files import write_atomically

READ_TWICE = (
    "What codes tell is read twice: off the posteriors' means, where the smallest trace counts, and off draws from "
    "them, which is what a latent says: a trace that is small beside its posterior's spread drowns there."
)

R2_MEANS = (
    "R2 is that of a regressor fitted on training images (for unseen identities: on validation ones) and scored on "
    "test images: 1 reads the factor exactly, 0 is no better than its mean, below 0 is worse. High is good in the "
    "latent that explains the factor; in any other it is a leak, and low is good."
)
USE_MEANS = (
    "Use by the decoder is a latent's share of the change that all latents together make; where they are empty, it is "
    "a share of a change that may be tiny. It is 0 where that is less than a millionth of what the images differ by."
)

AGGREGATE_MEANS = (
    "The aggregated posterior is what the codes of all test images together are drawn from: the farther it is from the "
    "prior, the less are draws from the prior codes that the decoder has ever seen."
)
TOLD_MEANS = (
    "A classifier that tells samples from data sees blur as well as a wrong prior; one that tells them from "
    "reconstructions, which are as blurred, sees the prior alone. 50 % is chance, and best."
)
SWAPS_MEAN = (
    "A swap takes factors from another image, with the latents that explain them. Its error is the mean squared error "
    "of a number of the image to the true image, drawn anew: lower is better. Between brackets it lies with 95 %. The "
    "true image's own code is the best that this decoder can do, and what one latent from the swap does to it says "
    "which is not portable. The relative error is 0 there and 1 for an image left alone; it explains an error and "
    "replaces none, as it flatters a model that decodes nothing well. Composition is an image that is encoded and "
    "decoded again and again, reversibility one that is swapped there and back: the errors to itself."
)


def write(evaluation: Evaluation, path: Path) -> Path:
    """Write an evaluation; a reader sees the old file or the new one, never half of one.

    Raises:
        OSError: where it cannot be written.
    """
    write_atomically(path, (json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n").encode())
    return path


def table(evaluations: Sequence[Evaluation]) -> Table:
    """One row for each measure and block, one column for each evaluation, and one for raw pixels where known.

    The numbers of raw pixels depend on images alone. They stand once, in the first row of their measure, and only where
    all evaluations that have them agree.
    """
    result = Table("measure", "of", "unit", title=_title(evaluations), title_justify="left", caption_justify="left")
    for evaluation in evaluations:
        result.add_column(evaluation.run, justify="right", overflow="fold")
    pixels = _pixels(evaluations)
    if pixels:
        result.add_column(PIXELS, justify="right")
    rows = _rows(evaluations)
    units = {unit for numbers in rows.values() for _, unit in numbers}
    captions = (
        (R2_MEANS, "R2" in units),
        (READ_TWICE, any(BY_DRAWS in measure for measure in rows)),
        (USE_MEANS, USE in rows),
        (AGGREGATE_MEANS, AGGREGATE in rows),
        (TOLD_MEANS, TOLD in rows),
        (SWAPS_MEAN, any(measure.startswith(SWAP) for measure in rows)),
    )
    result.caption = "\n".join(text for text, needed in captions if needed) or None
    for measure, numbers in rows.items():
        if any(block for block, _ in numbers):
            result.add_section()
        for place, ((block, unit), of_runs) in enumerate(numbers.items()):
            row = [_value(number) for number in of_runs]
            if pixels:
                row.append(_value(pixels.get(measure)) if place == 0 else "")
            result.add_row(measure if place == 0 else "", block, unit if place == 0 else "", *row)
    return result


def _rows(evaluations: Sequence[Evaluation]) -> dict[str, dict[tuple[str, str], list[Number | None]]]:
    """Measure -> block and unit -> each evaluation's number, all in the order in which they were first measured."""
    rows: dict[str, dict[tuple[str, str], list[Number | None]]] = {}
    for column, evaluation in enumerate(evaluations):
        for number in evaluation.numbers.values():
            if number.block != PIXELS:
                blocks = rows.setdefault(number.measure, {})
                row = blocks.setdefault((number.block, number.unit), [None] * len(evaluations))
                row[column] = number
    return rows


def _title(evaluations: Sequence[Evaluation]) -> str:
    """The data set, where there is only one."""
    names = {evaluation.data for evaluation in evaluations}
    return f"{names.pop()}, test split" if len(names) == 1 else "test splits of several data sets"


def _pixels(evaluations: Sequence[Evaluation]) -> dict[str, Number]:
    """Measure -> its number on raw pixels, where the evaluations do not contradict each other."""
    of_measure: dict[str, list[Number]] = {}
    for evaluation in evaluations:
        for number in evaluation.numbers.values():
            if number.block == PIXELS:
                of_measure.setdefault(number.measure, []).append(number)
    return {
        name: numbers[0]
        for name, numbers in of_measure.items()
        if all(n.to_json() == numbers[0].to_json() for n in numbers)
    }


def _value(number: Number | None) -> str:
    """A number as text: percent for accuracies, two decimals for R2, one for nats and degrees."""
    if number is None:
        return ""
    value = number.value
    if not math.isfinite(value):
        return "not finite"
    match number.unit:
        case "accuracy" | "share":
            return f"{100 * value:.1f} %"
        case "R2":
            return f"{value:.2f}"
        case "squared error":
            between = "" if number.interval is None else f" [{number.interval[0]:.4f}, {number.interval[1]:.4f}]"
            return f"{value:.4f}{between}"
        case "identities":
            return f"{value:.0f}"
        case _:
            return f"{value:.1f}"
