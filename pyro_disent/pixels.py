"""Where images enter: the one place that turns user input into tensors and checks the range of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_disent.errors import InputError

ImageShape = tuple[int, int, int]

ACCEPTED = "pixels are uint8 in 0 to 255, floats in [0, 1], or bool"
OVERSHOOT = 0.25
"""A generous bound on how far interpolation moves pixels out of their range."""


def as_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images as floats in [0, 1]; floats unchanged."""
    return images.to(dtype).div_(255) if images.dtype == torch.uint8 else images


def as_pixels(images: Any, dtype: torch.dtype = torch.float32, *, wait: bool = False) -> Tensor:
    """Images as floats in [0, 1].

    Args:
        images: what `as_tensor` takes. Floats keep their type.
        dtype: the type for uint8 and bool.
        wait: also check pixels on devices other than a CPU, which waits for the device.

    Raises:
        InputError: for other types, and floats out of range, with a hint that fits the range.
    """
    tensor = as_tensor(images, "images")
    if tensor.dtype == torch.uint8:
        return as_float(tensor, dtype)
    if tensor.dtype == torch.bool:
        return tensor.to(dtype)
    if not tensor.is_floating_point():
        raise InputError(f"images are of type {tensor.dtype}, whose range nothing says: {ACCEPTED}")
    # A subclass of Tensor may have no values, for example in a trace or on a simulated device.
    is_checked = tensor.device.type == "cpu" or (wait and tensor.device.type != "meta")
    if is_checked and type(tensor) in (Tensor, nn.Parameter) and tensor.numel() and not torch.compiler.is_compiling():
        low, high = (each.item() for each in torch.aminmax(tensor.detach()))
        if not (low >= 0 and high <= 1):
            problem = f"images have pixels from {low:.4g} to {high:.4g}, but floats must be in [0, 1]"
            raise InputError(f"{problem}: {how_to_scale(low, high)}")
    return tensor


def how_to_scale(low: float, high: float) -> str:
    """How to bring floats from ``low`` to ``high`` into [0, 1], as the end of a sentence.

    The advice never darkens images or cuts off their content, and stays general where the range does not show what the
    numbers are. At least one of the two bounds is not in [0, 1].
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "leave out or fill in what is not finite"
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return "clip them to [0, 1], out of which interpolation takes pixels slightly"
    if low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
        return "give (x + 1) / 2 of what is in [-1, 1]"
    if low >= -255 * OVERSHOOT and 128 <= high <= 255 * (1 + OVERSHOOT):
        clip = " and clip the result to [0, 1]" if low < 0 or high > 255 else ""
        return f"divide what goes to 255 by 255{clip}"
    if low >= 0 and high > 255:
        return "divide them by the largest value that they may have (65535 where they have 16 bits)"
    if low < 0:
        return "undo how they were standardized: times the standard deviation, plus the mean"
    return "divide them by the largest value that they may have"


def as_tensor(values: Any, what: str) -> Tensor:
    """A tensor unchanged; NumPy arrays, PIL images, numbers, and lists of these, as tensors on the CPU.

    PIL images become ``(channels, height, width)``. Types are kept, including 64-bit floats.

    Raises:
        InputError: for input that is not numeric or has rows of different lengths, naming ``what``.
    """
    check_dense(values, what)
    if isinstance(values, Tensor):
        return values
    if isinstance(values, list | tuple) and values and not isinstance(values[0], list | tuple | int | float):
        parts = [as_tensor(part, what) for part in values]
        if len(shapes := {tuple(part.shape) for part in parts}) > 1:
            raise InputError(f"{what}: all must have one shape, got {', '.join(map(str, sorted(shapes)))}")
        return torch.stack(parts)
    if hasattr(values, "getbands"):  # a PIL image; this check needs no import of PIL
        return _of_pil(values, what)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{what}: all rows must have one length, {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} must be a tensor, an array or a list of numbers, got {_described(values, array)}")
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    # torch rejects a foreign byte order and negative strides, and warns about read-only memory.
    array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
    return torch.from_numpy(array)


def check_dense(values: Any, what: str) -> None:
    """Raises InputError for sparse tensors, and for arrays with masked values."""
    if isinstance(values, Tensor) and values.layout is not torch.strided:
        layout = str(values.layout).removeprefix("torch.")
        raise InputError(f"{what}: a tensor of layout {layout}, where a dense one is needed: give its to_dense()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(
            f"{what}: an array of which {np.ma.count_masked(values)} values are masked: give its filled(x)"
        )


def _of_pil(image: Any, what: str) -> Tensor:
    if image.mode not in ("L", "RGB", "1"):
        raise InputError(f"{what}: a PIL image of mode {image.mode}: use image.convert('L') or image.convert('RGB')")
    pixels = as_tensor(np.array(image), what)
    return pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels.unsqueeze(0)


def _described(values: Any, array: np.ndarray) -> str:
    return f"an array of {array.dtype}" if isinstance(values, np.ndarray | list | tuple) else type(values).__name__


def check_shape(shape: tuple[int, ...], taken: ImageShape) -> None:
    """Raises InputError for images ``(..., channels, height, width)`` whose shape differs from a model's."""
    if tuple(shape[-3:]) == taken and len(shape) >= 3:
        return
    channels, height, width = taken
    hint = ""
    if shape[-3:] == (3, height, width) and channels == 1:
        hint = ": images in color are made grey by images.mean(-3, keepdim=True), PIL's by image.convert('L')"
        if len(shape) == 3:
            hint += "; of three grey ones the axis of the channel is missing, as in images.unsqueeze(-3)"
    elif shape[-3:] == (1, height, width) and channels == 3:
        hint = ": grey images are given three channels by images.expand(..., 3, -1, -1), PIL's by image.convert('RGB')"
    elif shape[-3:] == (height, width, channels):
        hint = ": channels come before height and width, as in images.permute(0, 3, 1, 2)"
    elif shape[-2:] == (height, width) and channels == 1:
        hint = ": the axis of the one channel is missing, as in images.unsqueeze(-3)"
    raise InputError(
        f"this model takes images of {channels} x {height} x {width} (channels, height, width), "
        f"got {tuple(shape)}{hint}"
    )
