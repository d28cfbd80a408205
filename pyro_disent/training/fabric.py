"""Lightning Fabric, which on import changes how every warning of the process is shown: not here."""

from pyro_disent.process import left_as_found

with left_as_found():
    from lightning_fabric import Fabric

__all__ = ["Fabric"]
