"""A batch that is taken in parts: by several processes at once, or by one of them one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_disent.errors import InputError
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.step import LossRecord


def in_parts(evaluate: Callable[[int], LossRecord], number: int, parameters: Iterable[nn.Parameter]) -> LossRecord:
    """Gradients and record of a batch: the means over its parts, which are equal, taken one after the other.

    Args:
        evaluate: sets the ``grad`` of all parameters from a part, and returns its record.
        number: of parts.
    """
    record = evaluate(0)
    if number == 1:
        return record
    learning = [parameter for parameter in parameters if parameter.grad is not None]
    # Copies: with CUDA graphs a step overwrites the record and the gradients of the step before.
    sums, record = [_gradient(parameter).clone() for parameter in learning], record.map(lambda value: value.clone())
    for part in range(1, number):
        record = record.map(lambda total, value: total.add_(value), evaluate(part))
        for total, parameter in zip(sums, learning, strict=True):
            total.add_(_gradient(parameter))
    for total, parameter in zip(sums, learning, strict=True):
        parameter.grad = total.div_(number)
    return record.map(lambda total: total.div_(number))


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def check_divisible(objective: Objective, accumulate: int, processes: int) -> None:
    """Check that the mean over the parts of a batch is what the whole batch would give.

    Raises:
        InputError: where a term compares images of several parts, or a layer takes its statistics from one part.
    """
    if accumulate > 1:
        for name, term in objective.terms.items():
            if term.of_whole_batch:
                raise InputError(
                    f"`accumulate={accumulate}` takes a batch in parts in turn, and the term {name} compares all "
                    "images of a batch: leave `accumulate` away, or train on several `devices`"
                )
    if accumulate * processes == 1:
        return
    for name, layer in objective.named_modules():
        if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
            setting = f"`accumulate={accumulate}`" if accumulate > 1 else f"`devices={processes}`"
            raise InputError(
                f"{setting} takes a batch in parts, and {name} is a {type(layer).__name__}, whose statistics would be "
                "those of a part: use GroupNorm, put the layer into evaluation mode, or leave the setting away"
            )
