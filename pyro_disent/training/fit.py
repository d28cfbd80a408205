"""The one training loop, for every method and data set."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import nn

from pyro_disent.compiled.allocator import keep_freed_memory
from pyro_disent.data.dataset import DataSet, in_units
from pyro_disent.errors import InputError, Interrupted
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.networks import Networks
from pyro_disent.models.program import forked_random_state, seed_random_state, usual_defaults
from pyro_disent.objectives import methods
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from pyro_disent.process import left_as_found
from pyro_disent.threads import using
from pyro_disent.training import building, compiling, datasets, hardware, schedule, state
from pyro_disent.training.announced import announced
from pyro_disent.training.config import FitConfig
from pyro_disent.training.feed import Feed
from pyro_disent.training.given import GIVEN, Given
from pyro_disent.training.log import Log, Reporter, Silent
from pyro_disent.training.record import record_of
from pyro_disent.training.resume import as_recorded, goes_further, how_to_go_on
from pyro_disent.training.run import RunFolder
from pyro_disent.training.validation import OnValidation, Progress, asked_to_end, used, validate
from pyro_disent.training.weights import check_alike, fitting, load_weights

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric


@left_as_found()
@usual_defaults()
def fit(
    config: FitConfig,
    folder: RunFolder,
    *,
    resume: bool = False,
    moved_to: str | None = None,
    overwrite: bool = False,
    init: RunFolder | None = None,
    data: DataSet | None = None,
    networks: Networks | None = None,
    vae: FactoredVAE | None = None,
    elbo: DisentanglingELBO | None = None,
    reporter: Reporter | None = None,
    on_validation: OnValidation | None = None,
) -> None:
    """Train, and leave a run folder. On a CPU this process keeps memory that it frees, see `keep_freed_memory`.

    Args:
        resume: go on from the folder's last checkpoint.
        moved_to: the device that a run goes on on, where it is another than before.
        overwrite: a run that is there may be replaced.
        init: start from this run's best weights.
        data: the data set, where the configuration names none.
        networks: encoder and decoder, where the configuration names none.
        vae, elbo: model and objective, where the configuration names none.
        reporter: who is told how it goes.
        on_validation: called with each `Validation`, when its checkpoints are written. True ends the training; what it
            raises does so too. Either way the run can be resumed, and goes on.

    Raises:
        InputError: for a configuration that cannot be run; nothing is written.
        Diverged: at the first loss that is not finite; the checkpoints before it are kept.
        StorageError: where the disk fails; the last whole checkpoint is kept.
        Interrupted: at Ctrl-C, after the state was saved.

    A run that was to be replaced and is back, because this one ended before its first checkpoint, is said in a note of
    the exception.
    """
    if not torch.is_grad_enabled():
        raise InputError("gradients are switched off here (torch.no_grad, torch.inference_mode): call fit outside it")
    reporter = reporter or Silent()
    given = Given(networks, vae, elbo)
    recorded = folder.read_record() if resume else None
    if recorded is None:
        folder.refuse_existing(overwrite)
    else:
        config = as_recorded(config, recorded, folder.path, moved_to, data, given)
    if elbo is None and config.method != GIVEN:
        methods.parse(config.method)
    fabric = hardware.make_fabric(config)
    fabric.launch()
    device, is_first = fabric.device, fabric.is_global_zero
    reporter = reporter if is_first else Silent()
    if device.type == "cpu":
        keep_freed_memory()

    if data is None:
        with using(config.threads):
            data = datasets.load_data(config, reporter.preparing, recorded.source if recorded else None)
    elif recorded is not None:
        datasets.check_unchanged(data, recorded.source)
    if recorded is not None:
        data = in_units(data, recorded.units)
    edges = dict(recorded.edges) if recorded else building.factor_edges(data, config)
    latents = recorded.build_latents(vae) if recorded else building.latents(config, data, given)
    handed_over = recorded.handed_over if recorded else given.with_data(GIVEN in (config.data, data.source.kind))
    with forked_random_state(device):
        seed_random_state(config.seed, device)
        vae, objective = building.build(config, data.image_shape, edges, latents, given, data.pairs.always)
    if init is not None:
        try:
            load_weights(objective, init, "best")
        except InputError:
            check_alike(init, config, data.image_shape, latents)
            raise
    if recorded and given.names:
        fitting(objective, folder, "last")  # whose absence would be taken for a damage of the optimizer's state
    # Convolutions are a third faster where channels lie innermost; checkpoints are written in the usual order.
    objective.to(device).to(memory_format=torch.channels_last)

    train, validation = data.train.to(device), data.validation.to(device)
    views = 2 if given.needs_pairs(config.method) else 1

    def make_feed() -> Feed:
        return Feed(train, config.batch_size, config.seed, views, vae.sharing, fabric.global_rank, fabric.world_size)

    feed = make_feed()
    steps = config.max_steps or (config.epochs or 0) * feed.batches_per_epoch
    if recorded is None:
        schedule.check_warm_up(objective, config, steps)
    if recorded and not goes_further(folder, steps, reporter):
        return
    optimizer = schedule.make_optimizer(objective, config.lr, config.opponent_lr)

    with contextlib.ExitStack() as stack:
        stack.enter_context(folder)
        stack.enter_context(forked_random_state(device))
        stack.enter_context(pyro.settings.context(module_local_params=True))
        stack.enter_context(pyro.validation_enabled(False))
        threads = hardware.thread_count(
            config, recorded.threads if recorded else None, device, views, fabric.world_size
        )
        stack.enter_context(using(threads.number))
        example = make_feed().next()
        building.check_given(objective, example, given)
        if views == 2 and not any(bool(mask.any()) for mask in example.shared.values()):
            reporter.say(
                f"note     the first {example.size} pairs share nothing of any latent, as their factors differ"
            )
        step_fn, how = compiling.make_step(objective, config, fabric, steps, example, reporter.say, goes_on=resume)
        seed_random_state(config.seed + fabric.global_rank, device)
        start, progress = 0, Progress(config.patience)
        if recorded:
            folder.open()
            start = state.restore(folder, objective, progress, optimizer, feed, device)
            folder.forget_metrics_after(start)
            changed = dataclasses.replace(recorded, device=device.type, fit=recorded.fit.lasting(config))
            if changed != recorded:
                folder.change_record(changed)
            if changed.device != recorded.device:
                reporter.say(f"moved    from {recorded.device} to {device.type}: what is drawn is drawn anew")
            if (config.epochs, config.max_steps) != (recorded.fit.epochs, recorded.fit.max_steps):
                anew = "" if config.schedule == "constant" else "; from here on the learning rate is the new total's"
                reporter.say(f"longer   to {steps} steps, of which {start} are taken{anew}")
        elif is_first:
            begun = record_of(
                config,
                latents,
                data,
                edges,
                device,
                step_fn,
                how,
                threads.number,
                None if init is None else init.path,
                handed_over,
                given.minimized,
            )
            folder.create(begun, overwrite=overwrite)
            if kept := folder.kept:
                reporter.say(f"replaces {folder.path}, which is kept as {kept} until this run has a checkpoint")
        for line in announced(config, latents, data, edges, device, how, threads, steps, views):
            reporter.say(line)
        log = stack.enter_context(Log(folder, reporter, feed, steps, start)) if is_first else None
        stop = stack.enter_context(_stop_on_interrupt())

        done, ends = start, progress.is_over
        for step in range(start, 0 if ends else steps):
            batch = feed.next()
            objective.weights.set_step(step)
            schedule.set_learning_rates(optimizer, schedule.learning_rate_factor(config.schedule, step, steps))
            record = step_fn(batch)
            _average_gradients(objective, fabric)
            groups = [group["params"] for group in optimizer.param_groups]
            norms = [nn.utils.clip_grad_norm_(group, config.clip_norm) for group in groups]
            optimizer.step()

            done = step + 1
            epoch_ends = feed.position == feed.batches_per_epoch or done == steps
            if log:
                log.add(done, record, torch.stack(norms).norm())
                if epoch_ends or stop.asked:
                    log.flush()
                if epoch_ends:
                    numbers = validate(objective, validation, config.seed, views)
                    held_out = progress.see(done, numbers | used(vae, validation, config.seed, views))
                    log.validation(held_out)
                    if held_out.is_best:
                        folder.save("best", done, objective.state_dict(), {"step": done})
                if epoch_ends or stop.asked:
                    now = state.capture(done, progress, optimizer, feed, device)
                    folder.save("last", done, objective.state_dict(), now)
                if epoch_ends:
                    ends = asked_to_end(on_validation, held_out, device) or progress.is_over
            if stop.asked:
                again = how_to_go_on(folder.path, handed_over)
                raise Interrupted(f"interrupted; go on with: {again}")
            if epoch_ends and fabric.broadcast(ends):  # only the first process validates
                break
        if log:
            units = {latent.name: latent.units for latent in latents}
            again = how_to_go_on(folder.path, handed_over, patience=progress.since_best + 1)
            log.end(done, progress, again, units, objective.betas(units))
    fabric.barrier()


def _average_gradients(objective: Objective, fabric: Fabric) -> None:
    """The mean gradient over processes, as one message."""
    if fabric.world_size == 1:
        return
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    flat = fabric.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduce_op="mean")
    assert isinstance(flat, torch.Tensor)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _Stop:
    asked = False


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[_Stop]:
    """Ctrl-C asks the loop to stop after its step; a second one stops at once."""
    stop = _Stop()

    def ask(*_: Any) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread, which never sees Ctrl-C
        yield stop
        return
    try:
        yield stop
    finally:
        # None where it was not set from Python, and can therefore not be set back.
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
