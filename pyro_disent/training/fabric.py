"""Lightning Fabric, which on import changes how every warning of the process is shown: not here."""

import logging
from typing import Any

from pyro_disent.process import left_as_found

with left_as_found():
    from lightning_fabric import Fabric

__all__ = ["Fabric", "quiet_fabric"]


def quiet_fabric(**settings: Any) -> Fabric:
    """A fabric that does not tell its precision, which our own lines do."""
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return Fabric(**settings)
    finally:
        logger.setLevel(before)
