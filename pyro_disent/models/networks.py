"""The paper's encoders and decoders, for any image size.

An encoder maps images ``(N, channels, height, width)`` to features ``(N, features)``, a decoder a code ``(N, width)``
to ``(N, channels, height, width)``. Any module that does so can replace them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import nn

from pyro_disent import plugins
from pyro_disent.errors import InputError

ImageShape = tuple[int, int, int]
Networks = tuple[nn.Module, nn.Module]


def mlp(image_shape: ImageShape, code_width: int) -> Networks:
    """Two hidden layers of 512 with tanh (rotated MNIST, section 5.1)."""
    channels, height, width = image_shape
    pixels = channels * height * width
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh())
    decoder = nn.Sequential(
        nn.Linear(code_width, 512),
        nn.Tanh(),
        nn.Linear(512, 512),
        nn.Tanh(),
        nn.Linear(512, pixels),
        nn.Unflatten(1, (channels, height, width)),
    )
    return encoder, decoder


def conv3x3(image_shape: ImageShape, code_width: int) -> Networks:
    """Three 3x3 convolutions of 32, stride 2, and a layer of 128 (colored MNIST and CelebA, sections 5.3, 5.4)."""
    return _convolutional(image_shape, code_width, channels=(32, 32, 32), kernel=3, features=128)


def conv4x4(image_shape: ImageShape, code_width: int) -> Networks:
    """FactorVAE's 4x4 convolutions, stride 2, down to about 4x4 pixels, and a layer of 256 (chairs, section 5.2)."""
    depth = max(1, (max(image_shape[1:]) // 4).bit_length() - 1)
    channels = (32, 32, 64, 64, 64, 64, 64)[:depth]
    return _convolutional(image_shape, code_width, channels=channels, kernel=4, features=256)


def _convolutional(
    image_shape: ImageShape, code_width: int, channels: tuple[int, ...], kernel: int, features: int
) -> Networks:
    """Strided convolutions with padding 1 and ReLU, a fully connected layer, and the mirror image of both."""
    image_channels, *size = image_shape
    widths = (image_channels, *channels)
    sizes = [tuple(size)]
    for _ in channels:
        sizes.append(tuple((side + 2 - kernel) // 2 + 1 for side in sizes[-1]))
    if min(sizes[-1]) < 1:
        raise InputError(
            f"images of {size[0]}x{size[1]} are too small for {len(channels)} convolutions of stride 2: use the mlp"
        )
    flat = channels[-1] * sizes[-1][0] * sizes[-1][1]

    encoder: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        encoder += [nn.Conv2d(inner, outer, kernel, stride=2, padding=1), nn.ReLU()]
    encoder += [nn.Flatten(), nn.Linear(flat, features), nn.ReLU()]

    decoder: list[nn.Module] = [nn.Linear(code_width, features), nn.ReLU(), nn.Linear(features, flat), nn.ReLU()]
    decoder.append(nn.Unflatten(1, (channels[-1], *sizes[-1])))
    for depth in range(len(channels), 0, -1):
        # A transposed convolution gives the smallest size that the convolution maps to this one: pad the rest.
        missing = tuple(
            large - (2 * (small - 1) + kernel - 2) for large, small in zip(sizes[depth - 1], sizes[depth], strict=True)
        )
        decoder.append(
            nn.ConvTranspose2d(
                widths[depth], widths[depth - 1], kernel, stride=2, padding=1, output_padding=(missing[0], missing[1])
            )
        )
        if depth > 1:
            decoder.append(nn.ReLU())
    return _he_initialized(nn.Sequential(*encoder)), _he_initialized(nn.Sequential(*decoder), last=0.1)


def _he_initialized(network: nn.Sequential, last: float = 1.0) -> nn.Sequential:
    """He et al. 2015: weights that keep the scale of activations through ReLUs; biases of 0.

    With torch's default the scale shrinks by a factor of 2.4 per layer, and training stalls for hundreds of steps.

    Args:
        last: factor on the last layer's weights; 0.1 makes a decoder start near an even grey.
    """
    layers = [layer for layer in network if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers:
        fan_in = layer.weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):
            # Only one in stride x stride of the kernel's weights reaches each output pixel.
            fan_in = layer.in_channels * layer.weight[0, 0].numel() // (layer.stride[0] * layer.stride[1])
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in) * (last if layer is layers[-1] else 1.0))
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return network


NETWORKS: dict[str, Callable[[ImageShape, int], Networks]] = {"mlp": mlp, "conv3x3": conv3x3, "conv4x4": conv4x4}


def networks(name: str) -> Callable[[ImageShape, int], Networks]:
    """The networks of this name: ours, or those of the entry-point group ``pyro_disent.networks``.

    Raises:
        InputError: for a name that does not exist, listing those that do.
    """
    return plugins.find("pyro_disent.networks", NETWORKS, name, "network")
