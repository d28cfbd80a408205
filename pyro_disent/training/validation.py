"""Held-out numbers of a running training, and whether it still improves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyro
import torch

from pyro_disent.data.dataset import Split
from pyro_disent.errors import InputError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import evaluating, forked_random_state, seed_random_state
from pyro_disent.models.use import Usage, use
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from pyro_disent.training.run_folder import RunFolder

HELD_OUT_BATCH = 256
IMAGES_BETWEEN = 20
"""Training images between two validations for each held-out image."""


class Validation(NamedTuple):
    """The result of one validation."""

    step: int
    """Steps taken by then."""
    numbers: dict[str, float]
    """``objective`` and ``elbo`` in nats per image, ``kl.NAME`` and ``use.NAME`` of every latent, opponents' skills."""
    is_best: bool
    """Whether its objective is the lowest so far."""

    @property
    def usage(self) -> Usage:
        return Usage.read(self.numbers)

    @property
    def empty(self) -> tuple[str, ...]:
        """Latents that carry no information, see `Usage`."""
        return self.usage.empty

    @property
    def ignored(self) -> tuple[str, ...]:
        """Latents that the decoder ignores, see `Usage`."""
        return self.usage.ignored


class Calendar(NamedTuple):
    """After which steps a training validates: a function of the step alone, so that a resumed run does as a whole one.

    If no number of steps is chosen, a validation comes after every so many epochs that a training has seen 20 images
    for each held-out one. So it takes at most 5 % of the images, and less of the time, as it needs no gradients.
    Minutes between validations would let ``best`` depend on how fast a machine is.
    """

    steps: int
    """Of the whole training: there is always a validation after the last one."""
    interval: int
    """Steps between two validations."""

    @classmethod
    def of(cls, every: int | None, steps: int, batches_per_epoch: int, batch_size: int, held_out: int) -> Calendar:
        """For a run's `FitConfig.validate_every`, the steps of an epoch, and the number of held-out images."""
        if every:
            return cls(steps, every)
        images = batches_per_epoch * batch_size
        epochs = 1 if every == 0 else max(1, -(-IMAGES_BETWEEN * held_out // images))
        return cls(steps, epochs * batches_per_epoch)

    def has(self, done: int) -> bool:
        """Whether one comes after so many steps."""
        return done == self.steps or done % self.interval == 0


OnValidation = Callable[[Validation], bool | None]
"""Called after each validation, when its checkpoints are written. True ends the training, anything else does not."""


class Progress:
    """The best held-out objective, how many validations ago it was found, and how often the training has gone back.

    Args:
        patience: validations without a better one after which a training has ended; None: it never ends by that.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience, self.best, self.since_best = patience, float("inf"), 0
        self.rollbacks = 0
        """How often the training has gone back to a checkpoint."""

    @property
    def rate(self) -> float:
        """What learning rates are multiplied by: halved each time the training has gone back."""
        return 0.5**self.rollbacks

    @property
    def is_over(self) -> bool:
        return self.patience is not None and self.since_best >= self.patience

    def see(self, step: int, numbers: dict[str, float]) -> Validation:
        """Count one validation."""
        objective = float(numbers["objective"])
        is_best = objective < self.best
        self.best = min(self.best, objective)
        self.since_best = 0 if is_best else self.since_best + 1
        return Validation(step, numbers, is_best)


def best_of(folder: RunFolder) -> Validation | None:
    """The validation of a run's best checkpoint, as `RunFolder.metrics` has it; None where that is lost."""
    rows = [row for row in folder.metrics() if row["split"] == "validation"]
    if not rows:
        return None
    best = min(rows, key=lambda row: float(row["objective"]))
    numbers = {name: float(value) for name, value in best.items() if value and name not in ("step", "epoch", "split")}
    return Validation(int(best["step"]), numbers, True)


def asked_to_end(on_validation: OnValidation | None, validation: Validation, device: torch.device) -> bool:
    """Whether a callback ends the training; whatever it draws, training draws what it would have drawn.

    Raises:
        InputError: for an array or a tensor, which may be meant either way.
    """
    if on_validation is None:
        return False
    with forked_random_state(device):
        answer = on_validation(validation)
    if isinstance(answer, torch.Tensor | np.ndarray):
        raise InputError(
            f"`on_validation` returned values of shape {tuple(answer.shape)}: True ends the training, and None or "
            "False do not; of a tensor, give bool(...) or item()"
        )
    return isinstance(answer, bool | np.bool_) and bool(answer)


def validate(objective: Objective, split: Split, seed: int, views: int) -> dict[str, float]:
    """Held-out numbers in nats per image, on the same pairs and noise each time; weights and random state stay.

    ``objective`` is what is minimized when all weights are warm, without opponents; ``elbo`` is the plain bound with
    every weight 1, each image decoded from its own posterior; ``kl.NAME`` that bound's KL of each latent; and every
    opponent's skill. Images come in one shuffled order and in batches of one size whatever the training's, so that
    terms over a batch compare between runs.
    """
    device = split.images.device
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.randperm(len(split), generator=generator, device=device)
    plain = DisentanglingELBO()
    means: dict[str, torch.Tensor] = {}
    with (
        evaluating(objective),
        torch.no_grad(),
        forked_random_state(device),
        pyro.validation_enabled(False),
        pyro.settings.context(module_local_params=True),
        objective.weights.warm(),
    ):
        seed_random_state(seed, device)
        for index in order.split(HELD_OUT_BATCH):
            step = objective.step(split.batch(index, generator, views))
            bound = plain.record(objective.model, objective.guide, step.batch)
            numbers = {
                "objective": objective.record_of(step, adversarial=False).loss,
                "elbo": -bound.loss,
                **{f"kl.{name}": kl for name, kl in bound.kl.items()},
            }
            for opponent in objective.opponents():
                numbers |= opponent.skill(step)
            share = len(index) / len(split)
            means = {name: means.get(name, 0.0) + share * value for name, value in numbers.items()}
    return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))


def used(vae: FactoredVAE, split: Split, seed: int, views: int) -> dict[str, float]:
    """``use.NAME`` of every latent, see `use`, on one batch of held-out images: always the same ones."""
    device = split.images.device
    generator = torch.Generator(device).manual_seed(seed)
    index = torch.randperm(len(split), generator=generator, device=device)[:HELD_OUT_BATCH]
    images = split.batch(index, generator, views).images[0]
    return {f"use.{name}": share for name, share in use(vae, images, seed=seed).items()}
