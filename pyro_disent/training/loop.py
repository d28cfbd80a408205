"""The one training loop, for every method and data set. It knows no configuration: `prepare` has decided everything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyro_disent.compiled.adam import Adam
from pyro_disent.compiled.step import EagerStep
from pyro_disent.data.dataset import Split
from pyro_disent.errors import Diverged, Interrupted
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import hashed, seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.step import LossRecord
from pyro_disent.training import schedule, state
from pyro_disent.training.division import in_parts
from pyro_disent.training.feed import Feed
from pyro_disent.training.interrupts import Stop
from pyro_disent.training.log import Log
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.together import Together
from pyro_disent.training.validation import (
    Calendar,
    OnValidation,
    Progress,
    Validation,
    asked_to_end,
    used,
    validate,
)

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric


MOST_ROLLBACKS = 3
"""How often a training goes back to its last checkpoint before it stops."""


@dataclass(frozen=True)
class Loop:
    """Everything that a step needs."""

    vae: FactoredVAE
    objective: Objective
    step: EagerStep
    """Loss and gradients of a batch, compiled or not."""
    optimizer: Adam
    feed: Feed
    validation: Split
    """On the device, as the feed's images."""
    steps: int
    schedule: str
    """Schedule of the learning rates, see `schedule.learning_rate_factor`."""
    calendar: Calendar
    """When held-out images are looked at."""
    checkpoint_minutes: float
    """Minutes between two checkpoints within an epoch; 0: there are none."""
    clip_norm: float
    """Largest norm of the gradient of a parameter group."""
    seed: int
    """Seed of all draws: the noise of a step depends on it, the step, the process and the part of its batch."""
    accumulate: int
    """Parts in which a process takes its batch."""
    on_divergence: str
    """``stop`` or ``rollback``, see `go_back`."""
    progress: Progress
    fabric: Fabric
    together: Together

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    def run(
        self, start: int, folder: RunFolder, log: Log | None, on_validation: OnValidation | None, go_on: str, stop: Stop
    ) -> int:
        """Train from a step on, write metrics and checkpoints, and return the number of steps taken.

        Args:
            start: steps taken before.
            log: of the process that writes; None in all others.
            go_on: how a user resumes this run, for the message of an interrupt.
            stop: whether a signal asks for its end.

        Raises:
            Diverged: at the first loss that is not finite.
            Interrupted: at a signal, after the state was saved.
            StoppedAtOnce: at a second signal.
        """
        done, ends, saved = start, self.progress.is_over, time.monotonic()
        stop.go_on = lambda: "" if folder.kept else go_on  # while a run is kept aside, this one has no checkpoint
        failed: Exception | None = None
        for step in range(start, 0 if ends else self.steps):
            record = None
            if failed is None:
                try:
                    record = self._gradients(step)
                except Exception as error:
                    failed = error
            stop_signal = self.together.agreed(failed, stop.number)
            assert record is not None
            record, norm = self._update(record, step)
            done = step + 1
            validates = self.calendar.has(done)
            saves = validates or self.feed.position == self.feed.batches_per_epoch
            try:
                if log:
                    log.add(done, record, norm)
                    if validates:
                        log.flush()
                        self._check_weights(done)
                    held_out = self._validate(done, folder, log) if validates else None
                    stop_signal = stop.number if self.together.alone else stop_signal
                    due = 0 < 60 * self.checkpoint_minutes <= time.monotonic() - saved
                    if saves or due or stop_signal:
                        self._check_weights(done)
                        now = state.capture(done, self.progress, self.optimizer, self.feed, log.pending())
                        folder.save("last", done, self.objective.state_dict(), now)
                        saved = time.monotonic()
                    if held_out:
                        ends = asked_to_end(on_validation, held_out, self.device) or self.progress.is_over
            except Exception as error:
                failed = error
            if self.together.alone or saves or stop_signal:  # otherwise others learn of it at the next step
                self.together.agreed(failed)
            if stop_signal:
                raise self.together.reported_once(Interrupted(f"interrupted; go on with: {go_on}", stop_signal))
            if saves and self.fabric.broadcast(ends):  # only the first process validates
                break
        return done

    def go_back(self, error: Diverged, folder: RunFolder, log: Log | None) -> int:
        """Put back the last checkpoint after a divergence, and go on from it at half the learning rate.

        The checkpoint is written again with the new rate, so that a resumed run has it.

        Returns:
            The steps taken by then.

        Raises:
            Diverged: the error, where the training is to stop, has no checkpoint yet, or has gone back too often.
        """
        rollbacks = self.progress.rollbacks + 1
        if self.on_divergence == "stop":
            raise error
        if rollbacks > MOST_ROLLBACKS:
            raise _with_note(error, f"training went back {MOST_ROLLBACKS} times before: its learning rate is too high")
        if not folder.has_begun:
            raise _with_note(error, "there is no checkpoint to go back to: ask for more by `checkpoint_minutes`")
        back = state.restore(folder, self.objective, self.progress, self.optimizer, self.feed)
        self.progress.rollbacks = rollbacks
        self.fabric.barrier()  # the checkpoint is replaced when all have read it
        if log:
            log.go_back(back.step, back.pending)
            now = state.capture(back.step, self.progress, self.optimizer, self.feed, back.pending)
            folder.save("last", back.step, self.objective.state_dict(), now)
            log.reporter.say(
                f"back     to step {back.step} at {self.progress.rate:g} of the learning rate "
                f"({rollbacks} of {MOST_ROLLBACKS}): {error}"
            )
        return back.step

    def _check_weights(self, done: int) -> None:
        """Raises Diverged for weights that are not finite, before they become a checkpoint."""
        weights = {name: tensor for name, tensor in self.objective.state_dict().items() if tensor.is_floating_point()}
        finite = torch.stack([tensor.isfinite().all() for tensor in weights.values()]).tolist()
        if bad := [name for name, is_finite in zip(weights, finite, strict=True) if not is_finite]:
            raise Diverged(f"training diverged at step {done}: its update made {', '.join(bad)} not finite")

    def _gradients(self, step: int) -> LossRecord:
        """Loss and gradients of this process's part of the batch; nothing is read back to the host."""
        parts = self.feed.next().parts(self.accumulate)
        first = self.fabric.global_rank * self.accumulate  # of this process's parts, among those of all processes
        self.objective.weights.set_step(step)

        def evaluate(number: int) -> LossRecord:
            seed_random_state(hashed("noise", self.seed, step, first + number), self.device)
            with self.together.one_batch():
                return self.step(parts[number])

        return in_parts(evaluate, len(parts), self.objective.parameters())

    def _update(self, record: LossRecord, step: int) -> tuple[LossRecord, Tensor]:
        """Update the weights; the record of the whole batch, and the norm of its gradient before clipping."""
        record = self.together.average(self.objective, record)
        factor = schedule.learning_rate_factor(self.schedule, step, self.steps)
        schedule.set_learning_rates(self.optimizer, factor * self.progress.rate)
        groups = [group["params"] for group in self.optimizer.param_groups]
        norms = [nn.utils.clip_grad_norm_(group, self.clip_norm) for group in groups]
        self.optimizer.step()
        return record, torch.stack(norms).norm()

    def _validate(self, done: int, folder: RunFolder, log: Log) -> Validation:
        """Log held-out numbers, and save the weights as the best checkpoint where they are the best so far."""
        views = self.feed.views
        numbers = validate(self.objective, self.validation, self.seed, views)
        held_out = self.progress.see(done, numbers | used(self.vae, self.validation, self.seed, views))
        log.validation(held_out)
        if held_out.is_best:
            folder.save("best", done, self.objective.state_dict(), {"step": done})
        return held_out


def _with_note(error: Diverged, note: str) -> Diverged:
    error.add_note(note)
    return error
