"""One run: it is prepared from a configuration, trained by the loop, and written to its folder."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pyro
import torch

from pyro_disent.compiled.allocator import keep_freed_memory
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import Diverged, InputError
from pyro_disent.models.program import forked_random_state, usual_defaults
from pyro_disent.objectives import methods
from pyro_disent.process import is_first_process, left_as_found
from pyro_disent.threads import using
from pyro_disent.training import building, compiling, division, hardware, schedule, state
from pyro_disent.training.announced import announced
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HANDED_OVER, HandedOver
from pyro_disent.training.interrupts import stop_on_signals
from pyro_disent.training.log import Log, Reporter, Silent
from pyro_disent.training.loop import Loop
from pyro_disent.training.prepare import Prepared, prepare
from pyro_disent.training.record import RunRecord, record_of
from pyro_disent.training.resume import as_recorded, goes_further, how_to_go_on
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.together import Together, ending_together
from pyro_disent.training.validation import Calendar, OnValidation, Progress


@left_as_found()
@usual_defaults()
def train(
    config: FitConfig,
    folder: RunFolder,
    *,
    resume: bool = False,
    moved_to: str | None = None,
    overwrite: bool = False,
    init: RunFolder | None = None,
    data: DataSet | None = None,
    objects: HandedOver | None = None,
    reporter: Reporter | None = None,
    on_validation: OnValidation | None = None,
) -> None:
    """Train, and leave a run folder. On a CPU this process keeps memory that it frees, see `keep_freed_memory`.

    Args:
        resume: go on from the folder's last checkpoint.
        moved_to: the device that a resumed run moves to.
        overwrite: an existing run may be replaced.
        init: start from this run's best weights.
        data: the data set, where the configuration names none.
        objects: networks, model and objective, where the configuration names none.
        reporter: receives progress.
        on_validation: called with each `Validation`, when its checkpoints are written. True ends the training, and
            so does an exception. Either way the run can be resumed.

    Raises:
        InputError: for a configuration that cannot be run; nothing is written.
        Diverged: at the first loss that is not finite, where `FitConfig.on_divergence` does not go back to a checkpoint
            before it; that is kept.
        StorageError: where the disk fails; the last whole checkpoint is kept.
        Interrupted: at Ctrl-C or SIGTERM, after the state was saved.
        StoppedAtOnce: at a second signal, and at one before the first step.

    If this run ends before its first checkpoint, the run that it was to replace comes back: a note of the exception
    says so.
    """
    if not torch.is_grad_enabled():
        raise InputError("gradients are switched off here (torch.no_grad, torch.inference_mode): call fit outside it")
    reporter, objects = reporter or Silent(), objects or HandedOver()
    with contextlib.ExitStack() as stack:
        # Before other processes are started: a folder that is in use is refused at once, and by one of them.
        recorded = folder.read_record() if resume else None
        if is_first_process():
            if recorded is None:
                folder.refuse_existing(overwrite)
            else:
                stack.enter_context(folder).open()
        has_state = recorded is not None and folder.has_begun
        if recorded is not None:
            config = as_recorded(config, recorded, folder.path, moved_to, data, objects)
            folder.metrics()  # a damaged file is refused here, before anything is written
            if not has_state and recorded.init is not None:
                init = RunFolder(Path(recorded.init))
        if objects.elbo is None and config.method != HANDED_OVER:
            methods.parse(config.method)
        fabric = hardware.launched_fabric(config)
        device, is_first = fabric.device, fabric.is_global_zero
        reporter = reporter if is_first else Silent()
        if device.type == "cpu":
            keep_freed_memory()
        stop = stack.enter_context(stop_on_signals())
        together = Together(fabric)
        stack.enter_context(ending_together(fabric, together))
        trained = prepare(
            config, objects, device, data=data, recorded=recorded, folder=folder, init=init, reporter=reporter
        )
        objective = trained.objective
        feed = trained.feed(config, fabric.global_rank, fabric.world_size)
        steps = config.max_steps or (config.epochs or 0) * feed.batches_per_epoch
        if recorded is None:
            schedule.check_warm_up(objective, config, steps)
        elif has_state and not goes_further(folder, steps, reporter):
            return
        division.check_divisible(objective, config.accumulate, fabric.world_size)
        optimizer = schedule.make_optimizer(objective, config.lr, config.opponent_lr)

        if recorded is None:
            stack.enter_context(folder)
        stack.enter_context(forked_random_state(device))
        stack.enter_context(pyro.settings.context(module_local_params=True))
        stack.enter_context(pyro.validation_enabled(False))
        before = recorded.threads if recorded else None
        threads = hardware.thread_count(config, before, device, trained.views, fabric.world_size)
        stack.enter_context(using(threads.number))
        example = trained.feed(config, fabric.global_rank, fabric.world_size).next()
        building.check_handed_over(objective, example, objects)
        if trained.views == 2 and not any(bool(mask.any()) for mask in example.shared.values()):
            reporter.say(
                f"note     the first {example.size} pairs share nothing of any latent, as their factors differ"
            )
        together.agreed()
        with together.one_batch():
            part = example.parts(config.accumulate)[0]
            step, how = compiling.make_step(objective, config, fabric, steps, part, reporter.say, goes_on=resume)
        loop = Loop(
            vae=trained.vae,
            objective=objective,
            step=step,
            optimizer=optimizer,
            feed=feed,
            validation=trained.data.validation,
            steps=steps,
            schedule=config.schedule,
            checkpoint_minutes=config.checkpoint_minutes,
            calendar=Calendar.of(
                config.validate_every, steps, feed.batches_per_epoch, config.batch_size, len(trained.data.validation)
            ),
            clip_norm=config.clip_norm,
            seed=config.seed,
            accumulate=config.accumulate,
            on_divergence=config.on_divergence,
            progress=Progress(config.patience),
            fabric=fabric,
            together=together,
        )
        start, pending = 0, state.Pending()
        if recorded:
            is_older = False
            if has_state:
                start, pending, is_older = state.restore(folder, objective, loop.progress, optimizer, feed)
            else:
                reporter.say(f"begins   anew: {folder.path} was stopped before its first checkpoint")
            if is_older:
                reporter.say("older    state of an earlier version: from here on, what is drawn is drawn by new rules")
            if is_first:
                folder.forget_metrics_after(start)
                _go_on(recorded, config, folder, device, start, steps, reporter)
        elif is_first:
            begun = record_of(
                config,
                trained.latents,
                trained.data,
                trained.edges,
                device,
                step,
                how,
                threads.number,
                None if init is None else init.path,
                trained.handed_over,
                objects.minimized,
                trained.observed.observations,
            )
            folder.create(begun, overwrite=overwrite)
            if kept := folder.kept:
                reporter.say(f"replaces {folder.path}, which is kept as {kept} until this run has a checkpoint")
        lines = announced(
            config, trained.latents, trained.data, trained.edges, device, how, threads, steps, trained.views
        )
        for line in (*lines, *trained.observed.in_words(trained.views, objective.elbo.exchange)):
            reporter.say(line)
        log = stack.enter_context(Log(folder, reporter, feed, steps, start, pending)) if is_first else None
        together.go_on = go_on = how_to_go_on(folder.path, trained.handed_over)
        together.agreed()
        together.share_weights(objective)
        done = None
        while done is None:
            try:
                done = loop.run(start, folder, log, on_validation, go_on, stop)
            except Diverged as error:
                start = loop.go_back(error, folder, log)
        if log:
            _end(log, loop, done, folder, trained)
        together.agreed()
    fabric.barrier()


def _go_on(
    recorded: RunRecord,
    config: FitConfig,
    folder: RunFolder,
    device: torch.device,
    start: int,
    steps: int,
    reporter: Reporter,
) -> None:
    """Record and report what changes in a resumed run: its device and its length."""
    changed = dataclasses.replace(recorded, device=device.type, fit=recorded.fit.lasting(config))
    if changed != recorded:
        folder.change_record(changed)
    if changed.device != recorded.device:
        reporter.say(f"moved    from {recorded.device} to {device.type}: what is drawn is drawn anew")
    if (config.epochs, config.max_steps) != (recorded.fit.epochs, recorded.fit.max_steps):
        anew = "" if config.schedule == "constant" else "; from here on the learning rate is the new total's"
        reporter.say(f"longer   to {steps} steps, of which {start} are taken{anew}")


def _end(log: Log, loop: Loop, done: int, folder: RunFolder, trained: Prepared) -> None:
    units = {latent.name: latent.units for latent in trained.latents}
    again = how_to_go_on(folder.path, trained.handed_over, patience=loop.progress.since_best + 1)
    log.end(done, loop.progress, again, units, loop.objective.betas(units))
