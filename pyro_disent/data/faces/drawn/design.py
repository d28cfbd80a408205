"""What one generated face is: what its attributes leave open, and the colors and measures that follow from both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_disent.data.faces.drawn.attributes import ATTRIBUTES
from pyro_disent.data.faces.drawn.canvas import BLACK, Array, Color, Curve, Pose, curve, mirrored, mix, smooth

SKINS: tuple[Color, ...] = ((240, 200, 172), (226, 176, 140), (196, 142, 104), (156, 106, 76), (124, 82, 58))
PALE: Color = (255, 234, 226)
IRISES: tuple[Color, ...] = ((72, 46, 28), (96, 64, 36), (70, 112, 160), (84, 120, 92), (110, 120, 128))
HAIRS: dict[str, tuple[Color, ...]] = {
    "Black_Hair": ((22, 18, 20), (44, 36, 36)),
    "Blond_Hair": ((242, 214, 140), (214, 172, 92)),
    "Brown_Hair": ((118, 76, 44), (82, 50, 28)),
    "Gray_Hair": ((204, 206, 212), (158, 160, 166)),
}
"""Between which colors each attribute's hair lies."""
OTHER_HAIR: tuple[Color, ...] = ((214, 116, 56), (176, 70, 36), (122, 34, 38))
"""Hair of none of these colors is red: from copper to burgundy."""
LIPSTICKS: tuple[Color, ...] = ((200, 16, 46), (150, 14, 60), (232, 50, 110))
EYESHADOWS: tuple[Color, ...] = ((96, 60, 140), (44, 84, 140), (120, 66, 50), (40, 110, 104))
SPOTS = 9
RADIUS = 0.5
"""Radius of the cylinder that a turning head's front lies on, in the face's units."""


@dataclass(frozen=True)
class Nuisances:
    """What differs between two faces of the same attributes; independent of them.

    Lengths are in halves of the image, angles in radians, colors in [0, 255]; all other values are places between two
    extremes, in [0, 1].
    """

    shift: complex
    scale: float
    """Size of the whole figure, about 1."""
    tilt: float
    """Angle of the head, clockwise."""
    turn: float
    """Angle of the head about its vertical axis."""
    width: float
    """Relative size of the head, about 1."""
    height: float
    """Relative size of the head, about 1."""
    skin: float
    """From light to dark."""
    background: NDArray[np.uint8]
    """Colors of the four corners ``(2, 2, 3)``."""
    light: float
    """In [-1, 1]: from the left or from the right."""
    brightness: float
    """What every color is multiplied by, about 1."""
    warmth: float
    """In [-1, 1]: bluish to reddish light."""
    hair_length: float
    hair_volume: float
    hair_tint: float
    parting: float
    """In [-1, 1]: the side the hair is parted on."""
    waves: float
    """Phase of wavy hair."""
    clothes: Color
    accent: Color
    """Color of ties and hats."""
    neckline: float
    style: float
    """Kind of hats, frames and jewelry."""
    tint: float
    """Shade of lipstick and eye shadow."""
    iris: float
    eye_opening: float
    """About 1."""
    brow_height: float
    """In [-1, 1]."""
    gaze: float
    """In [-1, 1]."""
    expression: float
    """In [-1, 1]: less or more of a smile, a mouth less or more open."""
    skew: float
    """The side an uneven face leans to, -1 or 1."""
    spots: Array
    """Where uneven skin is marked, and how the locks of untidy hair stand, ``(SPOTS, 2)``."""


def sample_nuisances(generator: np.random.Generator) -> Nuisances:
    """Draw everything of one face that its attributes leave open."""

    def between(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    def color(low: float, high: float) -> Color:
        red, green, blue = generator.uniform(low, high, 3).tolist()
        return red, green, blue

    backdrop = generator.uniform(30, 225) + generator.normal(0, 28, 3)
    corners = np.clip(backdrop + generator.normal(0, 22, (2, 2, 3)), 0, 255)
    return Nuisances(
        shift=complex(between(-0.07, 0.07), between(-0.09, 0.01)),
        scale=between(0.96, 1.08),
        tilt=between(-0.16, 0.16),
        turn=between(-0.26, 0.26),
        width=between(0.95, 1.05),
        height=between(0.96, 1.04),
        skin=between(0, 1) ** 1.5,
        background=corners.astype(np.uint8),
        light=between(-1, 1),
        brightness=between(0.9, 1.06),
        warmth=between(-1, 1),
        hair_length=between(0, 1),
        hair_volume=between(0, 1),
        hair_tint=between(0, 1),
        parting=between(-1, 1),
        waves=between(0, 2 * math.pi),
        clothes=color(20, 230),
        accent=color(20, 220),
        neckline=between(0, 1),
        style=between(0, 1),
        tint=between(0, 1),
        iris=between(0, 1),
        eye_opening=between(0.9, 1.12),
        brow_height=between(-1, 1),
        gaze=between(-1, 1),
        expression=between(-1, 1),
        skew=float(generator.choice((-1, 1))),
        spots=generator.random((SPOTS, 2)),
    )


def along(colors: tuple[Color, ...], place: float) -> Color:
    """A color ``place`` (in [0, 1]) of the way through several."""
    at = place * (len(colors) - 1)
    first = min(int(at), len(colors) - 2)
    return mix(colors[first], colors[first + 1], at - first)


class Face:
    """Colors, measures and poses of one face; its attributes by name in ``has``.

    A face's units: the eyes are 0.4 apart, the origin lies between and a little below them, and at a scale of 1 the
    image spans [-1, 1] in x and y.
    """

    eye_y = -0.05
    mouth_y = 0.34

    def __init__(self, attributes: NDArray[np.bool_], nuisances: Nuisances) -> None:
        has: dict[str, bool] = dict(zip(ATTRIBUTES, attributes.tolist(), strict=True))
        self.has, self.nuisances = has, nuisances

        self.skin = PALE if has["Pale_Skin"] else along(SKINS, nuisances.skin)
        self.shade = mix(self.skin, (70, 24, 16), 0.30)
        """Skin in shadow."""
        self.crease = mix(self.skin, (36, 8, 8), 0.58)
        """Skin in a fold."""
        palettes = [HAIRS[name] for name in HAIRS if has[name]] or [OTHER_HAIR]
        # Several colors at once, which no sampled face has, are blended.
        red, green, blue = np.mean([along(colors, nuisances.hair_tint) for colors in palettes], 0).tolist()
        self.hair: Color = (red, green, blue)
        self.dark_hair = mix(self.hair, (0, 0, 0), 0.35)
        # Eyebrows and beards are darker than hair where they would be lost on the skin.
        self.brow = mix(mix(self.crease, BLACK, 0.5), self.hair, 0.2)
        beard = mix(self.hair, BLACK, 0.3)
        self.beard = mix(beard, BLACK, 0.5) if abs(sum(beard) - sum(self.skin)) < 220 else beard

        self.half_width = 0.455 * nuisances.width * (1.06 if has["Chubby"] else 1.0)
        """Half the width of the head at the eyes."""
        self.chin = (0.60 if has["Oval_Face"] else 0.55) * nuisances.height
        self.outline = self._outline()
        long_share = 0.12 if has["Male"] else 0.85
        self.long_hair = not has["Bald"] and nuisances.hair_length < long_share
        self.hair_end = 0.35 + 0.65 * nuisances.hair_length / long_share
        """Where long hair ends."""
        self.volume = 0.05 + 0.07 * nuisances.hair_volume + 0.03 * has["Wavy_Hair"]
        """How far hair stands off the head."""
        self.lift = (0.062 if has["Smiling"] else 0.012) * (1 + 0.25 * nuisances.expression)
        """How far the corners of the mouth are raised."""
        self.unevenness = 0.0 if has["Attractive"] else nuisances.skew
        """The side uneven features lean to; 0 for even ones."""

        pivot = 0.6j
        self.head = Pose(nuisances.tilt, nuisances.scale, nuisances.shift, pivot)
        self.body = Pose(0.2 * nuisances.tilt, nuisances.scale, nuisances.shift, pivot)
        self._toward, self._sideways = math.cos(nuisances.turn), math.sin(nuisances.turn)

    def _outline(self) -> Curve:
        """The outline of the head, clockwise from its top."""
        has, chin, height = self.has, self.chin, self.nuisances.height
        oval = has["Oval_Face"]
        jaw = (0.25 if oval else 0.345) + 0.035 * has["Male"] + 0.09 * has["Chubby"] + 0.015 * (not has["Young"])
        chin_side = (0.10 if oval else 0.17) + 0.035 * has["Male"] + 0.05 * has["Chubby"]
        cheek = (0.395 if oval else 0.44) + 0.07 * has["Chubby"] - 0.035 * has["High_Cheekbones"]
        half = curve(
            (0, -0.64 * height),
            (0.27, -0.57 * height),
            (0.39 if oval else 0.425, -0.34),
            (self.half_width, -0.06),
            (cheek, 0.19),
            (jaw, chin - 0.15),
            (chin_side, chin - 0.025),
            (0, chin),
        )
        return smooth(np.concatenate([half, mirrored(half[-2:0:-1])]), closed=True)

    def turned(self, shape: Curve, out: float = 0.0) -> Curve:
        """A shape on the front of the head, ``out`` of its surface, moved by the head's turn."""
        x = shape.real
        # Beyond its sides nothing of the front is left to come forward.
        depth = np.sqrt(np.maximum(RADIUS**2 - x * x, 0)) + out
        moved = shape.copy()
        moved.real = x * self._toward + depth * self._sideways
        return moved
