"""What a step sees: images in one or two views, the latents each pair shares, and the factors behind each view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.pixels import as_float as as_float
from pyro_disent.pixels import as_pixels, as_tensor


@dataclass(frozen=True)
class Batch:
    """Images in views, and what the views of one pair have in common.

    Whatever `pixels.as_tensor` takes is taken: tensors, NumPy arrays, PIL images and lists of them. Masks and factors
    are moved to the device of the images.

    Args:
        images: ``(views, images, channels, height, width)``; one or two views. Floats in [0, 1], which keep their type;
            uint8 and bool, which become float32 in [0, 1].
        shared: latent's name -> bool mask ``(images, 1)`` or ``(images, units)``: True where both views have the same
            value. A bool, a 0-d tensor and an ``(images,)`` tensor are widened to ``(images, 1)``.
        factors: factor's name -> known value in every view, ``(views, images)``; angles in radians, NaN where it is not
            known. Whole numbers and bools become float64, so that what was unequal stays so.

    Raises:
        InputError: for images that are not five-dimensional or have more than two views, pixels of another type, or out
            of range where the images lie on a CPU (elsewhere nobody looks: it would wait for the device); for masks
            that are not bool or do not speak of each image (a mask of N units alone would silently mask the wrong
            axis); and for factors that are no numbers or not one in every view of each image.
    """

    images: Tensor
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images = as_pixels(self.images)
        if images.dim() != 5 or images.shape[0] not in (1, 2):
            raise InputError(
                "Batch.images must be (views, images, channels, height, width) with one or two views, "
                f"got {tuple(images.shape)}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "shared", {name: self._mask(name, mask) for name, mask in self.shared.items()})
        object.__setattr__(self, "factors", {name: self._factor(name, each) for name, each in self.factors.items()})

    def _mask(self, name: str, mask: Any) -> Tensor:
        if isinstance(mask, bool):
            return torch.full((self.size, 1), mask, device=self.images.device)
        mask = as_tensor(mask, f"what is shared of {name!r}").to(self.images.device)
        if mask.dtype != torch.bool:
            raise InputError(f"what is shared of {name!r} must be a bool mask, got {mask.dtype}")
        if mask.dim() == 0:
            return mask.expand(self.size, 1)
        if mask.shape[0] != self.size or mask.dim() > 2:
            raise InputError(
                f"what is shared of {name!r} must be (images,), (images, 1) or (images, units), {self.size} images, "
                f"got {tuple(mask.shape)}"
            )
        return mask.unsqueeze(-1) if mask.dim() == 1 else mask

    def _factor(self, name: str, values: Any) -> Tensor:
        values = as_tensor(values, f"factor {name!r}").to(self.images.device)
        if values.shape != self.images.shape[:2]:
            raise InputError(
                f"factor {name!r} must be (views, images) = {tuple(self.images.shape[:2])}, got {tuple(values.shape)}"
            )
        if values.is_complex():
            raise InputError(f"factor {name!r} must be real numbers, got {values.dtype}")
        return values if values.is_floating_point() else values.double()

    @classmethod
    def unchecked(
        cls,
        images: Tensor,
        shared: Mapping[str, Tensor] | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """A batch of what is known to be right: nothing is looked at, so nothing waits for a device in a step.

        Args:
            images: ``(views, images, channels, height, width)``, float in [0, 1].
            shared: masks of two dimensions, on the device of the images, as are ``factors``.
        """
        batch = object.__new__(cls)
        for name, value in (("images", images), ("shared", shared or {}), ("factors", factors or {})):
            object.__setattr__(batch, name, value)
        return batch

    @classmethod
    def of(cls, images: Any) -> Batch:
        """A batch as it is; anything else as images that share nothing.

        Args:
            images: a batch; or images with or without the views axis, or one image ``(channels, height, width)``.

        Raises:
            InputError: as of `Batch`.
        """
        if isinstance(images, Batch):
            return images
        images = as_tensor(images, "images")
        return cls(images[(None,) * (5 - images.dim())] if images.dim() in (3, 4) else images)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Batch:
        """This batch on a device, its images of a type; factors keep theirs, as equality is decided on them.

        Raises:
            InputError: for a type that cannot hold pixels in [0, 1].
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"the images of a batch are floats in [0, 1], which {dtype} cannot hold")
        images = self.images.to(device=device, dtype=dtype)
        if images is self.images:
            return self
        move = {name: mask.to(images.device) for name, mask in self.shared.items()}
        return Batch.unchecked(images, move, {name: each.to(images.device) for name, each in self.factors.items()})

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
        return Batch.unchecked(self.images, shared_latents(equal, latents, self.images), self.factors)


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
