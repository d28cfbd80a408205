"""How well a classifier tells samples of a model from data, and from its reconstructions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_disent.models.program import forked_random_state, seed_random_state
from pyro_disent.pixels import as_pixels

SIDE = 32
"""Images are shrunk by the largest whole factor that leaves at least this many pixels on their longer side."""
EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 2e-3


def told_apart(first: Tensor, second: Tensor, *, seed: int = 0) -> float:
    """Held-out accuracy of a small convolutional classifier that separates two sets of images; chance is 1/2.

    It is trained on the first half of each set and scored on the second half (a classifier two-sample test, Lopez-Paz
    and Oquab 2017). The protocol is fixed: three convolutions, Adam with learning rate 2e-3, ten epochs in batches of
    64, a seeded order and seeded first weights.

    Args:
        first, second: ``(N, channels, height, width)``, uint8 or float in [0, 1], at least 2 each; of the larger
            set only the first images are used.
        seed: for the classifier's first weights and the order of the images.
    """
    count = min(len(first), len(second)) // 2
    device = first.device
    images = torch.cat([_shrunk(each[start : start + count]) for start in (0, count) for each in (first, second)])
    target = torch.tensor([0.0, 1.0], device=device).repeat_interleave(count)
    generator = torch.Generator().manual_seed(seed)
    with forked_random_state(device):
        seed_random_state(seed, device)
        classifier = _classifier(images.shape[1:]).to(device)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for index in torch.randperm(2 * count, generator=generator, device="cpu").to(device).split(BATCH_SIZE):
                logits = classifier(images[index]).squeeze(-1)
                loss = functional.binary_cross_entropy_with_logits(logits, target[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        second_guessed = classifier(images[2 * count :]).squeeze(-1) > 0
    return (second_guessed == target.bool()).double().mean().item()


def _shrunk(images: Tensor) -> Tensor:
    """Floats around 0; large images are shrunk by the mean over squares of pixels."""
    pixels = as_pixels(images).float()
    factor = max(1, max(pixels.shape[-2:]) // SIDE)
    return functional.avg_pool2d(pixels, factor) - 0.5 if factor > 1 else pixels - 0.5


def _classifier(shape: torch.Size) -> nn.Module:
    layers: list[nn.Module] = []
    channels = shape[0]
    for width in (16, 32, 32):
        layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU()]
        channels = width
    classifier = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(1))
    classifier(torch.zeros(1, *shape, device="cpu"))  # the lazy layer learns its input width
    return classifier
