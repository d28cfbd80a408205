"""The step of a run, compiled where that is wanted, possible and worth the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyro_disent.batch import Batch
from pyro_disent.compiled.step import CompiledStep, EagerStep, why_not_compiled
from pyro_disent.objectives.elbo import Objective
from pyro_disent.training.config import FitConfig

if TYPE_CHECKING:
    from pyro_disent.training.fabric import Fabric


WORTH_COMPILING = 2000  # steps below which compiling for the first time takes longer than it saves


def make_step(
    objective: Objective,
    config: FitConfig,
    fabric: Fabric,
    steps: int,
    example: Batch,
    say: Callable[[str], None] = lambda _: None,
    *,
    goes_on: bool = False,
) -> tuple[EagerStep, str]:
    """The step, compiled where it is wanted and possible, and how it runs, in words.

    Args:
        example: a batch of the shape that will be trained on; it is compiled now, not at the first step.
        say: called with a line before compiling starts.
        goes_on: whether a run is resumed, whose record says if its step is compiled.
    """
    eager = EagerStep(objective, fabric.autocast)
    if config.compile is False:
        return eager, f"eager ({'as recorded' if goes_on else '`compile=False`'})"
    if config.compile is None and steps < WORTH_COMPILING:
        return eager, f"eager (fewer than {WORTH_COMPILING} steps)"
    if missing := why_not_compiled():
        return eager, f"eager ({missing})"
    mode = None if config.compile_mode == "default" else config.compile_mode
    compiled = CompiledStep(objective, fabric.autocast, mode=mode)
    start = time.perf_counter()
    say("compiling the step, which takes 10 to 60 seconds the first time")
    try:
        compiled.compile(example)
    except Exception as error:  # compilers raise errors of any type; the step then runs eager, and says so
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return eager, f"eager (compiling failed: {reason[0]})"
    return compiled, f"compiled in {time.perf_counter() - start:.0f} s"
