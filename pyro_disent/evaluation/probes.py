"""Linear probes: how much of a label can be read off a code by one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_disent.batch import as_float

EPOCHS = 3
BATCH_SIZE = 96
LEARNING_RATE = 5e-3


def linear_probe(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    seed: int,
    bias: bool = True,
) -> float:
    """Accuracy on held-out codes of a linear layer trained for three epochs.

    The protocol is fixed: Adam with learning rate 5e-3, batches of 96 in a seeded order, codes as they are (no
    standardization, so that a code is not rewarded for information it holds at a negligible scale).

    The protocol published with the paper's code differs in three points: ``bias=False``, the whole code, and the
    training set in place of the test set.

    Args:
        train_codes: ``(images, width)``, float, or uint8 for raw pixels; the layer is trained on their device.
        train_labels: ``(images,)`` integers, any values; a label never seen in training is never predicted.
        test_codes: ``(images, width)``.
        test_labels: ``(images,)`` integers.
        seed: for the layer's first weights and the order of the images, the same on every device.
        bias: whether the layer has one.

    Returns:
        The share of test codes whose label is predicted, in [0, 1].
    """
    device = train_codes.device
    classes, target = train_labels.to(device).unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    layer = _linear(train_codes.shape[1], len(classes), bias, generator).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE)
    # A caller may be inside no_grad, where the codes came from.
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for index in torch.randperm(len(target), generator=generator).to(device).split(BATCH_SIZE):
                loss = nn.functional.cross_entropy(layer(as_float(train_codes[index])), target[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        predicted = classes[layer(as_float(test_codes.to(device))).argmax(-1)]
    return (predicted == test_labels.to(device)).float().mean().item()


def _linear(width: int, classes: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default first weights, drawn from ``generator`` and not from the global one."""
    layer = nn.utils.skip_init(nn.Linear, width, classes, bias=bias)
    bound = width**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
