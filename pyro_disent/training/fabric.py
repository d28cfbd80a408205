"""Lightning Fabric, imported without its side effect of changing how all warnings are shown."""

import logging
from typing import Any

from pyro_disent.process import left_as_found

with left_as_found():
    from lightning_fabric import Fabric

__all__ = ["Fabric", "launched_quietly"]


def launched_quietly(**settings: Any) -> Fabric:
    """A launched fabric that logs neither its precision nor advice on GPUs: our own lines say what is used."""
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        fabric = Fabric(**settings)
        fabric.launch()
        return fabric
    finally:
        logger.setLevel(before)
