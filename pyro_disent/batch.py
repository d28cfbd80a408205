"""What a step sees: images in one or two views, the latents each pair shares, and the factors behind each view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images in views, and what the views of one pair have in common.

    Args:
        images: ``(views, images, channels, height, width)``, float in [0, 1]; one or two views.
        shared: latent's name -> bool mask ``(images, 1)`` or ``(images, units)``: True where both views have the same
            value. A bool, a 0-d tensor and an ``(images,)`` tensor are widened to ``(images, 1)``.
        factors: factor's name -> known value in every view, ``(views, images)``; angles in radians.

    Raises:
        ValueError: for images that are not five-dimensional or have more than two views, and for masks that are not
            bool or do not speak of each image (a mask of N units alone would silently mask the wrong axis).
    """

    images: Tensor
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)

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

    def sharing(self, latents: Mapping[str, Iterable[str]]) -> Batch:
        """This batch with ``shared`` read off its factors for these latents, by `shared_latents`."""
        if self.views == 1:
            return self
        equal = {name: values[0] == values[1] for name, values in self.factors.items()}
        return Batch(self.images, shared_latents(equal, latents, self.images), self.factors)


def shared_latents(
    equal: Mapping[str, Tensor], latents: Mapping[str, Iterable[str]], like: Tensor
) -> dict[str, Tensor]:
    """Which latents a pair shares, from which factors are equal in its two views: the one rule of this library.

    A latent named after a factor is shared where that factor is equal, and a unit named after a factor likewise.
    ``y`` stands for every factor without a latent of its own: shared where all of those are equal, never where none is
    known. Every other latent is what the pair has in common, and shared.

    Args:
        equal: factor's name -> ``(images,)`` bool.
        latents: latent's name -> names of its units (empty where they have none).
        like: the batch's images, ``(views, images, ...)``, on the device the masks are wanted on.

    Returns:
        latent's name -> bool mask, ``(images, 1)`` or ``(images, units)``.
    """
    named = {name for latent, units in latents.items() for name in (latent, *units)}
    rest = [mask for name, mask in equal.items() if name not in named]
    images = like.shape[-4]
    always, never = (torch.full((images,), value, device=like.device) for value in (True, False))
    shared = {}
    for latent, units in latents.items():
        units = tuple(units)
        if latent in equal:
            shared[latent] = equal[latent]
        elif units:
            shared[latent] = torch.stack([equal.get(unit, always) for unit in units], -1)
        elif latent == "y":
            shared[latent] = torch.stack(rest).all(0) if rest else never
        else:
            shared[latent] = always
    return {latent: mask if mask.dim() == 2 else mask.unsqueeze(-1) for latent, mask in shared.items()}


def stands_for_factors(latent: str, factors: Iterable[str]) -> bool:
    """Whether a latent stands for factors: it is ``y``, or named after one. Every other latent is what pairs share."""
    return latent == "y" or latent in set(factors)


def as_float(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
