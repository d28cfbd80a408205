"""``pyro-disent figures``: the figures that ``fit`` leaves in a run's folder, drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyro_disent.cli.run_options import Output, on_run
from pyro_disent.errors import InputError

if TYPE_CHECKING:
    from pyro_disent.runs.run import Run


@on_run
def figures(run: Run, seed: int) -> Output:
    """Draw what `fit` draws when it is done: of a run that was killed before, or with another checkpoint's weights.

    Writes RUN/figures and prints the path of each figure, the folder last.
    """
    from pyro_disent.training.handed_over import HANDED_OVER

    if run.record.source.kind == HANDED_OVER:
        raise InputError(
            f"{run.path} was trained on data handed over from Python, which has to hand it over again: "
            f"pyro_disent.load({str(run.path)!r}).draw(data)"
        )
    try:
        paths = run.draw(seed=seed)
    except OSError as error:
        raise InputError(f"the figures of {run.path} cannot be written: {error}") from error
    folder = run.path / "figures"
    return Output([*paths, folder], {"figures": [str(path) for path in paths], "path": str(folder)})
