"""Two sets of images told apart: where they are one distribution, and where they differ by a known amount."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from pyro_disent.evaluation.two_sample import told_apart


def noise(count: int, seed: int, shift: float = 0.0, shape: tuple[int, int, int] = (1, 28, 28)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.5 + shift + 0.1 * torch.randn(count, *shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (2, 5, 5)])
def test_one_distribution_is_not_told_from_itself(shape: tuple[int, int, int]) -> None:
    """The accuracy on n held-out images has a standard deviation of 1 / (2 sqrt(n))."""
    accuracy = told_apart(noise(400, 0, shape=shape), noise(400, 1, shape=shape))
    assert abs(accuracy - 0.5) < 5 * 0.5 / math.sqrt(400)


def test_a_shift_is_told_as_well_as_anyone_could() -> None:
    """Images that differ in brightness alone, each all of one grey: Bayes' rule is right in Phi(shift / 2 sigma)."""
    generator = torch.Generator().manual_seed(0)
    grey = (0.4 + 0.1 * torch.randn(2, 1000, 1, 1, 1, generator=generator)).expand(-1, -1, 1, 28, 28).clamp(0, 1)
    best = norm.cdf(0.2 / 2 / 0.1)
    accuracy = told_apart(grey[0], grey[1] + 0.2)
    assert best - 0.05 < accuracy < best + 5 * math.sqrt(best * (1 - best) / 1000)


def test_seeded_and_alone() -> None:
    first, second = noise(60, 0), noise(60, 1, shift=0.01)
    torch.manual_seed(0)
    one = told_apart(first, second, seed=3)
    before = torch.random.get_rng_state()
    assert told_apart(first, second, seed=3) == one
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bytes_and_floats_are_the_same_images() -> None:
    first, second = ((255 * noise(100, seed, 0.02 * seed)).round().byte() for seed in (0, 1))
    assert told_apart(first, second) == told_apart(first.float() / 255, second.float() / 255)
