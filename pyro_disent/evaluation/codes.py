"""The codes a model gives a data set, in the blocks that are measured, each split encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_disent.data.dataset import DataSet, Examples, Factor, Split
from pyro_disent.evaluation.leakage import FIT_IMAGES
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import surely_shared
from pyro_disent.models.program import forked_random_state, seed_random_state
from pyro_disent.objectives.elbo import Objective

SOME = 1_000
"""Test images that uses, aggregated posteriors and samples are measured on, at most."""
_CHUNK = 512  # pairs at once
_PART = 8_192  # images read from the disk at once


def blocks(latents: Iterable[str], shared: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What is measured: block's name -> the latents in it.

    Every latent is a block. The latents that pairs share (`surely_shared`) are also one block together, the others are
    another, and all of them are the block ``all``. Groups of a single latent get no second block.
    """
    latents, shared = tuple(latents), tuple(shared)
    rest = tuple(name for name in latents if name not in shared)
    result: dict[str, tuple[str, ...]] = {}
    for part in (shared, rest):
        if len(part) > 1 and part != latents:
            result["+".join(part)] = part
        result |= {name: (name,) for name in part}
    if len(latents) > 1:
        result["all"] = latents
    return result


class EncodedSplit(NamedTuple):
    """Examples of one split and their codes."""

    examples: Examples
    codes: dict[str, Tensor]
    """block's name -> ``(images, width)``: posterior means, as the decoder takes them."""

    def varies(self, factor: str) -> bool:
        """Whether the factor is known here and not the same in all images."""
        return _varies(self.examples.factors.get(factor))


class EncodedPairs(NamedTuple):
    """Pairs of one split: their codes and their factors."""

    codes: dict[str, Tensor]
    """block's name -> ``(2, pairs, width)``: posterior means."""
    draws: dict[str, Tensor]
    """block's name -> ``(2, pairs, width)``: one draw from each posterior."""
    factors: dict[str, Tensor]
    """factor's name -> ``(2, pairs)``."""

    def differs(self, factor: str) -> bool:
        """Whether the factor is known here and its difference between the two views is not the same in all pairs."""
        values = self.factors.get(factor)
        return values is not None and _varies(values[0] - values[1])


class Codes:
    """What every metric is computed from.

    Args:
        vae: the model.
        data: its data set, or another one with images of the same shape.
        seed: for how each image is seen, how pairs are made, and every metric.
        objective: what the model was trained with; needed to measure its opponents.
    """

    def __init__(self, vae: FactoredVAE, data: DataSet, seed: int, objective: Objective | None = None) -> None:
        self.vae, self.data, self.seed, self.objective = vae, data, seed, objective
        names = [latent.name for latent in vae.latents]
        self.blocks = blocks(
            names, surely_shared(vae.latents, data.pairs.typical_pair(factor.name for factor in data.factors))
        )
        self.whole = "all" if "all" in self.blocks else names[0]

    @cached_property
    def train(self) -> EncodedSplit:
        return self._encoded(self.data.train)

    @cached_property
    def validation(self) -> EncodedSplit:
        return self._encoded(self.data.validation)

    @cached_property
    def test(self) -> EncodedSplit:
        return self._encoded(self.data.test)

    @cached_property
    def some_test_images(self) -> Tensor:
        """`SOME` of them, or all, drawn by the seed: the same images for every measure that takes only some."""
        return self.test.examples.some_images(SOME, self.seed)

    def read(self, block: str, drawn: bool) -> tuple[Tensor, Tensor]:
        """Codes of the training and of the test images, ``(images, width)``: means, or one draw from each posterior."""
        train, test = (self._train_draws, self._test_draws) if drawn else (self.train.codes, self.test.codes)
        return train[block], test[block]

    def read_unseen(self, block: str, drawn: bool) -> tuple[Tensor, Tensor]:
        """As `read`, for the validation and the test images: their identities were never trained on."""
        validation, test = (
            (self._validation_draws, self._test_draws) if drawn else (self.validation.codes, self.test.codes)
        )
        return validation[block], test[block]

    # The split that is fitted and the split that is scored have different seeds. Where both have the same order of
    # images, equal noise would reveal an image's position, and everything that goes with the position.
    @cached_property
    def _train_draws(self) -> dict[str, Tensor]:
        return self._drawn(self.train, 2 * self.seed)

    @cached_property
    def _validation_draws(self) -> dict[str, Tensor]:
        return self._drawn(self.validation, 2 * self.seed)

    @cached_property
    def _test_draws(self) -> dict[str, Tensor]:
        return self._drawn(self.test, 2 * self.seed + 1)

    @cached_property
    def train_pairs(self) -> EncodedPairs:
        return self._pairs(self.data.train, FIT_IMAGES, 2 * self.seed)

    @cached_property
    def test_pairs(self) -> EncodedPairs:
        return self._pairs(self.data.test, len(self.data.test), 2 * self.seed + 1)

    @property
    def has_pairs(self) -> bool:
        """Whether the data set can show its images in two views (where it can only be labelled, it cannot)."""
        return self.data.train.has_pairs and self.data.test.has_pairs

    @cached_property
    def factors(self) -> list[Factor]:
        """Factors with known values that vary, in training as in test images."""
        return [
            factor for factor in self.data.factors if self.train.varies(factor.name) and self.test.varies(factor.name)
        ]

    def _encoded(self, split: Split) -> EncodedSplit:
        images, factors, labels = split.examples(self.seed)
        # Regressors and galleries work on the CPU, wherever the split lies.
        examples = Examples(images, _on_cpu(factors), _on_cpu(labels))
        parts = [self.vae.codes(part) for part in images.split(_PART)]
        return EncodedSplit(examples, self._in_blocks({name: torch.cat([p[name] for p in parts]) for name in parts[0]}))

    def _drawn(self, encoded: EncodedSplit, seed: int) -> dict[str, Tensor]:
        with forked_random_state(self.vae.device):
            seed_random_state(seed, self.vae.device)
            parts = [self.vae.draws(part) for part in encoded.examples.images.split(_PART)]
        return self._in_blocks({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _pairs(self, split: Split, count: int, noise_seed: int) -> EncodedPairs:
        """The first images of a seeded order, each with another view of what it shows."""
        device = split.images.device
        generator = torch.Generator(device).manual_seed(self.seed)
        index = torch.randperm(len(split), generator=generator, device=device)[:count]
        codes: list[dict[str, Tensor]] = []
        draws: list[dict[str, Tensor]] = []
        factors: list[dict[str, Tensor]] = []
        with forked_random_state(self.vae.device):
            seed_random_state(noise_seed, self.vae.device)
            for part in index.split(_CHUNK):
                batch = split.batch(part, generator, views=2)
                images = batch.images.flatten(0, 1)
                for encoded, parts in ((self.vae.codes(images), codes), (self.vae.draws(images), draws)):
                    in_blocks = self._in_blocks(encoded)
                    parts.append({name: code.unflatten(0, (2, len(part))) for name, code in in_blocks.items()})
                factors.append(_on_cpu(batch.factors))
        return EncodedPairs(_concatenate(codes), _concatenate(draws), _concatenate(factors))

    def _in_blocks(self, codes: dict[str, Tensor]) -> dict[str, Tensor]:
        return {block: torch.cat([codes[name] for name in names], -1) for block, names in self.blocks.items()}


def _varies(values: Tensor | None) -> bool:
    if values is None:
        return False
    finite = values[values.isfinite()]
    return len(finite) > 0 and bool((finite != finite[0]).any())


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _concatenate(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}
