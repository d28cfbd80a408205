"""Lightning Fabric, which on import changes how every warning of the process is shown: not here."""

import logging
from typing import Any

from pyro_disent.process import left_as_found

with left_as_found():
    from lightning_fabric import Fabric

__all__ = ["Fabric", "launched_quietly"]


def launched_quietly(**settings: Any) -> Fabric:
    """A fabric that does not tell its precision, nor what else a GPU could do: our own lines say what is used."""
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        fabric = Fabric(**settings)
        fabric.launch()
        return fabric
    finally:
        logger.setLevel(before)
