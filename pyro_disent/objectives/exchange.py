"""Effect handlers that change what the decoder sees: ``<latent>_seen`` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_disent.errors import InputError


class Seen(Messenger):
    """Show the decoder other values of some latents; their own sites, priors and KLs are not touched.

    (Editing the guide's trace instead would change the KL of every latent whose prior depends on the edited one.)
    """

    def show(self, latent: str, value: Tensor) -> Tensor | None:
        """The value to show in place of a latent's ``(..., views, images, width)``, or None to leave it."""
        raise NotImplementedError

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        latent = msg["infer"].get("seen") if msg["infer"] else None
        if latent is not None and (value := self.show(latent, msg["value"])) is not None:
            msg["value"], msg["fn"] = value, dist.Delta(value, event_dim=1).mask(False)


class Exchange(Seen):
    """The forward cycle (Eq. 2): the decoder sees the other view's value of what the pair shares.

    Args:
        shared: latent's name -> bool ``(images, 1)`` or ``(images, units)``, as in `Batch.shared`.
    """

    def __init__(self, shared: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shared = shared

    def show(self, latent: str, value: Tensor) -> Tensor | None:
        mask = self.shared.get(latent)
        if mask is None:
            return None
        # Views are the third axis from the right; the first may be Predictive's samples.
        return torch.where(per_number(mask, latent, value.shape[-1]), value.flip(-3), value)


class Replace(Seen):
    """Show the decoder these values, for swaps, traversals and latents that are held fixed.

    Args:
        values: latent's name -> a value that broadcasts to ``(views, images, width)``.
        where: latent's name -> bool mask as in `Batch.shared`: where it is False the decoder sees the latent's value.
    """

    def __init__(self, values: Mapping[str, Tensor], where: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.values, self.where = values, where or {}

    def show(self, latent: str, value: Tensor) -> Tensor | None:
        shown = self.values.get(latent)
        if shown is None or (mask := self.where.get(latent)) is None:
            return None if shown is None else shown.expand(value.shape)
        return torch.where(per_number(mask, latent, value.shape[-1]), shown, value)


def per_number(mask: Tensor, latent: str, width: int) -> Tensor:
    """Expand a mask per image or unit to one per number of the code; a unit may take several numbers."""
    units = mask.shape[-1]
    if width % units:
        raise InputError(f"what is shared of {latent!r} names {units} units, but its code has {width} numbers")
    return mask if units in (1, width) else mask.repeat_interleave(width // units, -1)
