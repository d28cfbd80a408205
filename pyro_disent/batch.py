"""What a step sees: images in one or two views, the latents each pair shares, and the factors behind each view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Pairing(NamedTuple):
    """What is known of what the two views of each pair have in common, in terms of factors and never of latents."""

    equal: Mapping[str, Tensor]
    """factor's name -> ``(images,)`` bool: where both views have the same value."""
    always: tuple[str, ...] = ()
    """Factors that every pair has in common by the way it is made, as the identity."""
    rest_differs: bool = False
    """Whether the views differ in more than these: causes that nobody recorded."""

    @classmethod
    def of(cls, factors: Mapping[str, Tensor], *, always: tuple[str, ...] = (), rest_differs: bool = False) -> Pairing:
        """By comparing known factors, ``(views, images)`` each; what is not known (NaN) is not equal."""
        return cls({name: values[0] == values[-1] for name, values in factors.items()}, always, rest_differs)


@dataclass(frozen=True)
class Batch:
    """Images in views, and what the views of one pair have in common.

    Args:
        images: ``(views, images, channels, height, width)``, float in [0, 1]; one or two views.
        shared: latent's name -> bool mask ``(images, 1)`` or ``(images, units)``: True where both views have the same
            value. A bool, a 0-d tensor and an ``(images,)`` tensor are widened to ``(images, 1)``.
        factors: factor's name -> known value in every view, ``(views, images)``; angles in radians.
        pairing: what the views of each pair have in common, where comparing ``factors`` does not tell.

    Raises:
        ValueError: for images that are not five-dimensional or have more than two views, and for masks that are not
            bool or do not speak of each image (a mask of N units alone would silently mask the wrong axis).
    """

    images: Tensor
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    pairing: Pairing | None = None

    def __post_init__(self) -> None:
        if self.images.dim() != 5 or self.images.shape[0] not in (1, 2):
            raise ValueError(
                "Batch.images must be (views, images, channels, height, width) with one or two views, "
                f"got {tuple(self.images.shape)}"
            )
        object.__setattr__(self, "shared", {name: self._mask(name, mask) for name, mask in self.shared.items()})
        for name, values in self.factors.items():
            if values.shape != self.images.shape[:2]:
                raise ValueError(
                    f"factor {name!r} must be (views, images) = {self.images.shape[:2]}, got {values.shape}"
                )

    def _mask(self, name: str, mask: Tensor | bool) -> Tensor:
        if isinstance(mask, bool):
            return torch.full((self.size, 1), mask, device=self.images.device)
        if mask.dtype != torch.bool:
            raise ValueError(f"what is shared of {name!r} must be a bool mask, got {mask.dtype}")
        if mask.dim() == 0:
            return mask.expand(self.size, 1)
        if mask.shape[0] != self.size or mask.dim() > 2:
            raise ValueError(
                f"what is shared of {name!r} must be (images,), (images, 1) or (images, units), {self.size} images, "
                f"got {tuple(mask.shape)}"
            )
        return mask.unsqueeze(-1) if mask.dim() == 1 else mask

    @classmethod
    def of(cls, images: Batch | Tensor) -> Batch:
        """A batch as it is; a tensor of images, with or without the views axis, as a batch that shares nothing."""
        if isinstance(images, Batch):
            return images
        return cls(images if images.dim() == 5 else images.unsqueeze(0))

    @property
    def views(self) -> int:
        return self.images.shape[0]

    @property
    def size(self) -> int:
        """Images in each view."""
        return self.images.shape[1]

    def in_common(self) -> Pairing:
        """What the views of each pair have in common: as the data set said, else by comparing the known factors."""
        if self.pairing is not None:
            return self.pairing
        return Pairing.of(self.factors)

    def sharing(self, masks: Mapping[str, Tensor]) -> Batch:
        """This batch with these masks, in the order they come in; those that it brings itself go before them."""
        return replace(self, shared={**masks, **self.shared})


def as_float(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
