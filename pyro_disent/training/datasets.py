"""The data set that a configuration names, and for a resumed run the same one again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Source
from pyro_disent.errors import InputError
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HANDED_OVER


def load_data(
    config: FitConfig,
    progress: Callable[[int, int], None] | None = None,
    recorded: Source | None = None,
) -> DataSet:
    """The data set a configuration names.

    Args:
        recorded: the source that a run recorded: the data then comes from there, and must be unchanged.

    Raises:
        InputError: where it cannot be loaded, or has changed.
    """
    if config.data == HANDED_OVER or (recorded is not None and recorded.kind == HANDED_OVER):
        raise InputError(
            "the data was handed over from Python, which has to hand it over again, as `data=` of what is called: a "
            "method of the run, `pyro_disent.fit` or `pyro_disent.resume`"
        )
    source, root = config.source, config.data_root
    if recorded is not None:
        source, root = "auto", None
        if config.data in registry.names():  # a folder of images is its own source
            if recorded.kind in ("embedded", "local"):
                source = recorded.kind
            root = recorded.location if recorded.kind == "local" else None
    data = registry.load(
        config.data,
        source=source,
        root=Path(root) if root else None,
        limit=config.limit,
        progress=progress,
        **config.options,
    )
    if recorded is not None:
        check_unchanged(data, recorded)
    return data


def check_unchanged(data: DataSet, recorded: Source) -> None:
    """Raises InputError for data that is not what a run recorded."""
    if data.source.sha256 != recorded.sha256:
        raise InputError(
            f"this run was trained on data of sha256 {recorded.sha256[:12]}, but {data.source.location} has "
            f"{data.source.sha256[:12]}"
        )
