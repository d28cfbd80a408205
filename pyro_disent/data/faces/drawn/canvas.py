"""An antialiased canvas in a face's own units, and the curves a face is made of.

A point is a complex number, ``x + iy`` with y down, and a curve is an array of them ``(points,)``: turning, scaling and
moving are one product and one sum, and mirroring is a conjugate.
"""

from __future__ import annotations

import cmath
import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]
Curve = NDArray[np.complex128]
Color = tuple[float, float, float]
"""RGB in [0, 255]."""

WHITE: Color = (255, 255, 255)
BLACK: Color = (20, 14, 14)
SIDES = (-1, 1)
"""Left and right in the image."""
SUPERSAMPLING = 4


def mix(first: Color, second: Color, share: float) -> Color:
    """``first`` at share 0, ``second`` at 1."""
    rest = 1 - share
    return (
        rest * first[0] + share * second[0],
        rest * first[1] + share * second[1],
        rest * first[2] + share * second[2],
    )


class Pose:
    """From a face's units to the image, which spans [-1, 1] in x and y: turned about a pivot, scaled, moved."""

    def __init__(self, angle: float, scale: float, shift: complex, pivot: complex) -> None:
        self.factor = cmath.rect(scale, angle)
        self.offset = shift + (scale - self.factor) * pivot

    def __call__(self, curve: Curve) -> Curve:
        return curve * self.factor + self.offset


class Canvas:
    """Filled curves and strokes over a background."""

    def __init__(self, background: Image.Image) -> None:
        side = background.width * SUPERSAMPLING
        self.image = background.resize((side, side), Image.Resampling.NEAREST)
        self._half = side / 2
        # Only the second blends, which takes three times as long.
        self._opaque, self._blending = ImageDraw.Draw(self.image), ImageDraw.Draw(self.image, "RGBA")

    def fill(self, pose: Pose, outline: Curve, color: Color, opacity: float = 1.0) -> None:
        """The inside of a closed curve."""
        pixels = ((pose(outline) + (1 + 1j)) * self._half).view(float).tolist()
        red, green, blue = int(color[0]), int(color[1]), int(color[2])
        if opacity >= 1:
            self._opaque.polygon(pixels, fill=(red, green, blue))
        else:
            self._blending.polygon(pixels, fill=(red, green, blue, int(255 * opacity)))

    def stroke(self, pose: Pose, curve: Curve, width: float | Array, color: Color, opacity: float = 1.0) -> None:
        """A line along an open curve, of one width ``()`` or of a width for each point ``(points,)``."""
        self.fill(pose, ribbon(curve, width), color, opacity)

    def reduced(self) -> Image.Image:
        """The picture in its final size."""
        return self.image.reduce(SUPERSAMPLING)


def ribbon(curve: Curve, width: float | Array) -> Curve:
    """The outline of a stroke along an open curve without double points."""
    along = np.empty_like(curve)
    along[1:-1] = curve[2:] - curve[:-2]
    along[0], along[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    across = along * (0.5j * width / np.abs(along))
    return np.concatenate([curve + across, (curve - across)[::-1]])


def curve(*points: tuple[float, float]) -> Curve:
    """A curve through ``(x, y)`` in straight lines."""
    return np.array(points, float).view(complex)[:, 0]


def mirrored(shape: Curve, side: int = -1) -> Curve:
    """A shape that is drawn for the right (side 1), on either side."""
    return shape if side > 0 else -shape.conj()


def symmetric(half: Curve) -> Curve:
    """A closed outline from its right half."""
    return np.concatenate([half, mirrored(half)[::-1]])


def ellipse(x: float, y: float, half_width: float, half_height: float, points: int = 28) -> Curve:
    return arc(x, y, half_width, half_height, 0, 2 * math.pi * (1 - 1 / points), points)


def arc(x: float, y: float, half_width: float, half_height: float, start: float, end: float, points: int = 14) -> Curve:
    """Part of an ellipse between two angles, which grow from the right over the bottom."""
    directions = _directions(start, end, points)
    return half_width * directions.real + 1j * (half_height * directions.imag) + complex(x, y)


@functools.lru_cache(maxsize=256)
def _directions(start: float, end: float, points: int) -> Curve:
    return np.exp(1j * np.linspace(start, end, points))


def smooth(controls: Curve, closed: bool = False) -> Curve:
    """A Catmull-Rom curve through all control points."""
    return _catmull_rom(len(controls), closed) @ controls


@functools.cache
def _catmull_rom(controls: int, closed: bool, steps: int = 5) -> Array:
    """The curve's points as weights of its control points, ``(points, controls)``."""
    t = np.linspace(0, 1, steps, endpoint=False)
    weights = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )
    segments = controls if closed else controls - 1
    matrix = np.zeros((segments * steps + (not closed), controls))
    for segment in range(segments):
        for neighbor in range(4):
            column = segment + neighbor - 1
            column = column % controls if closed else min(max(column, 0), controls - 1)
            matrix[segment * steps : (segment + 1) * steps, column] += weights[:, neighbor]
    if not closed:
        matrix[-1, -1] = 1
    return matrix
