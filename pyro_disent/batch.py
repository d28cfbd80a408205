"""The input of a step: images in one or two views, the latents each pair shares, and the factors of each view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.pixels import as_float as as_float
from pyro_disent.pixels import as_pixels, as_tensor


class Pairing(NamedTuple):
    """What the two views of each pair have in common, in terms of factors and never of latents."""

    equal: Mapping[str, Tensor]
    """factor's name -> ``(images,)`` bool: True where both views have the same value."""
    always: tuple[str, ...] = ()
    """Factors that every pair has in common by construction, such as the identity."""
    rest_differs: bool = False
    """Whether the views also differ in causes that nobody recorded."""

    @classmethod
    def of(cls, factors: Mapping[str, Tensor], *, always: tuple[str, ...] = (), rest_differs: bool = False) -> Pairing:
        """Compare factors, ``(views, images)`` each; an unknown value (NaN) counts as not equal."""
        return cls({name: values[0] == values[-1] for name, values in factors.items()}, always, rest_differs)


@dataclass(frozen=True)
class Batch:
    """Images in views, and what the views of one pair have in common.

    It takes whatever `pixels.as_tensor` takes: tensors, NumPy arrays, PIL images and lists of them. Masks and factors
    are moved to the device of the images.

    Args:
        images: ``(views, images, channels, height, width)``; one or two views. Floats in [0, 1], which keep their type;
            uint8 and bool, which become float32 in [0, 1].
        shared: latent's name -> bool mask ``(images, 1)`` or ``(images, units)``: True where both views have the same
            value. A bool, a 0-d tensor and an ``(images,)`` tensor are widened to ``(images, 1)``.
        factors: factor's name -> value in every view, ``(views, images)``; angles in radians, NaN where it is
            unknown. Whole numbers and bools become float64, so that unequal values stay unequal.
        pairing: what the views of each pair have in common, where ``factors`` are not enough to decide it.
        observed: latent's name -> its value in every view, as `Family.embed` takes it, ``(views, images)`` or
            ``(views, images, units)``; NaN where it is unknown. Used by the objective, see `DisentanglingELBO`.
        index: the images' positions in their split, ``(views, images)`` int64, or None if unknown.
        counts: of a part of a batch, see `part`: factor's name -> how many of its values the whole batch knows, times
            the part's share of the images, 0-d.

    Raises:
        InputError: for images that are not five-dimensional or have more than two views; for pixels of another type, or
            out of range on a CPU (other devices are not checked: that would wait for the device); for masks that are
            not bool or do not have a row for each image (a mask of N units alone would silently mask the wrong axis);
            and for factors and observed values that are not numbers, or not one for every view of each image.
    """

    images: Tensor
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    pairing: Pairing | None = None
    observed: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None
    counts: Mapping[str, Tensor] = field(default_factory=dict)

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
        object.__setattr__(self, "observed", {name: self._value(name, each) for name, each in self.observed.items()})

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

    def _value(self, name: str, values: Any) -> Tensor:
        values = as_tensor(values, f"the observed {name!r}").to(self.images.device)
        values = values.unsqueeze(-1) if values.dim() == 2 else values
        if values.dim() != 3 or values.shape[:2] != self.images.shape[:2] or values.is_complex():
            raise InputError(
                f"the observed {name!r} must be real numbers of shape (views, images) = {tuple(self.images.shape[:2])} "
                f"or (views, images, units), got {values.dtype} {tuple(values.shape)}"
            )
        return values if values.is_floating_point() else values.double()

    @classmethod
    def unchecked(
        cls,
        images: Tensor,
        shared: Mapping[str, Tensor] | None = None,
        factors: Mapping[str, Tensor] | None = None,
        pairing: Pairing | None = None,
        observed: Mapping[str, Tensor] | None = None,
        index: Tensor | None = None,
        counts: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """A batch of valid parts: nothing is checked, so that a step never waits for the device.

        Args:
            images: ``(views, images, channels, height, width)``, float in [0, 1].
            shared: masks of two dimensions, on the device of the images, like ``factors``.
            observed: ``(views, images, units)``, also on that device.
        """
        batch = object.__new__(cls)
        fields = {"images": images, "shared": shared or {}, "factors": factors or {}, "pairing": pairing}
        fields |= {"observed": observed or {}, "index": index, "counts": counts or {}}
        for name, value in fields.items():
            object.__setattr__(batch, name, value)
        return batch

    @classmethod
    def of(cls, images: Any) -> Batch:
        """Return a batch unchanged; make a batch that shares nothing from anything else.

        Args:
            images: a batch; or images with or without the views axis, or one image ``(channels, height, width)``.

        Raises:
            InputError: as for `Batch`.
        """
        if isinstance(images, Batch):
            return images
        images = as_tensor(images, "images")
        return cls(images[(None,) * (5 - images.dim())] if images.dim() in (3, 4) else images)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Batch:
        """This batch on a device, with images of a type; factors keep their type, so that equal values stay equal.

        Raises:
            InputError: for an invalid device, and a type that cannot hold pixels in [0, 1].
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if device is not None:
            try:
                device = torch.device(device)
            except (RuntimeError, TypeError) as error:
                raise InputError(f"a batch goes to a device as cpu, cuda or cuda:1, and not to {device!r}") from error
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise InputError(f"the images of a batch are of a torch.dtype, as torch.float64, and not of {dtype!r}")
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"the images of a batch are floats in [0, 1], which {dtype} cannot hold")
        images = self.images.to(device=device, dtype=dtype)
        if images is self.images:
            return self

        def to_device(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(images.device) for name, tensor in tensors.items()}

        pairing = None if self.pairing is None else self.pairing._replace(equal=to_device(self.pairing.equal))
        index = None if self.index is None else self.index.to(images.device)
        shared, factors, observed = to_device(self.shared), to_device(self.factors), to_device(self.observed)
        return Batch.unchecked(images, shared, factors, pairing, observed, index, to_device(self.counts))

    def part(self, which: slice) -> Batch:
        """Some of the images in all views, with everything that the batch says of them.

        A mean over the values that are known of a factor divides by `counts`, so that the mean of such means over equal
        parts is that of the whole batch, wherever its unknown values lie.
        """

        def of_images(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: each[:, which] for name, each in values.items()}

        pairing = self.pairing
        if pairing is not None:
            pairing = pairing._replace(equal={name: equal[which] for name, equal in pairing.equal.items()})
        images = self.images[:, which]
        share = images.shape[1] / self.size
        return Batch.unchecked(
            images=images,
            shared={name: mask[which] for name, mask in self.shared.items()},
            factors=of_images(self.factors),
            pairing=pairing,
            observed=of_images(self.observed),
            index=None if self.index is None else self.index[:, which],
            counts={name: count * share for name, count in self._counts().items()},
        )

    def parts(self, number: int) -> tuple[Batch, ...]:
        """The batch as equal parts, one after the other, see `part`; itself where it is one.

        Raises:
            InputError: where they would not be equal.
        """
        if number == 1:
            return (self,)
        if number < 1 or self.size % number:
            raise InputError(f"a batch of {self.size} images cannot be taken in {number} equal parts")
        size = self.size // number
        return tuple(self.part(slice(start, start + size)) for start in range(0, self.size, size))

    def _counts(self) -> Mapping[str, Tensor]:
        """factor's name -> how many of its values are known, at least 1."""
        known = {name: (~values.isnan()).sum().clamp(min=1) for name, values in self.factors.items()}
        return {**{name: count.to(self.images.dtype) for name, count in known.items()}, **self.counts}

    @property
    def views(self) -> int:
        return self.images.shape[0]

    @property
    def size(self) -> int:
        """Images in each view."""
        return self.images.shape[1]

    def in_common(self) -> Pairing:
        """What the views of each pair have in common: the data set's `pairing`, or else a comparison of factors."""
        if self.pairing is not None:
            return self.pairing
        return Pairing.of(self.factors)

    def sharing(self, masks: Mapping[str, Tensor]) -> Batch:
        """This batch with these masks, in their order; masks that the batch already has take precedence."""
        return replaced(self, shared={**masks, **self.shared})

    def observing(self, values: Mapping[str, Tensor]) -> Batch:
        """This batch with these values of latents, ``(views, images, units)``, NaN where they are unknown."""
        return replaced(self, observed={**self.observed, **values})


def replaced(batch: Batch, **changed: Any) -> Batch:
    """A batch with some parts replaced; nothing is checked."""
    return Batch.unchecked(**{**vars(batch), **changed})
