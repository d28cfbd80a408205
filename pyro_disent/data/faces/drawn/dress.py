"""What a face wears: clothes, tie, necklace, glasses, earrings."""

from __future__ import annotations

import math

import numpy as np

from pyro_disent.data.faces.drawn.canvas import (
    SIDES,
    WHITE,
    Canvas,
    Color,
    arc,
    curve,
    ellipse,
    mirrored,
    mix,
    symmetric,
)
from pyro_disent.data.faces.drawn.design import Face

METALS: tuple[Color, ...] = ((250, 214, 90), (236, 240, 246))
FRAMES: tuple[Color, ...] = ((24, 22, 26), (96, 44, 26), (60, 66, 84))
_CIRCLE = np.exp(1j * np.linspace(0, 2 * math.pi, 33))


def clothes(canvas: Canvas, face: Face) -> None:
    has, nuisances = face.has, face.nuisances
    wide = 0.10 * has["Male"]
    neckline = 0.24 + wide
    depth = 0.80 + 0.14 * nuisances.neckline
    right = curve(
        (0, depth), (neckline * 0.7, depth - 0.05), (neckline, 0.72), (0.74 + wide, 0.86), (0.95 + wide, 1.05), (1.1, 2)
    )
    canvas.fill(face.body, symmetric(right), nuisances.clothes)
    trim = arc(0, 0.70, neckline, depth - 0.68, 0.1, math.pi - 0.1)
    canvas.stroke(face.body, trim, 0.03, mix(nuisances.clothes, (0, 0, 0), 0.25))
    if has["Wearing_Necktie"]:
        _necktie(canvas, face)
    if has["Wearing_Necklace"]:
        _necklace(canvas, face)


def _necktie(canvas: Canvas, face: Face) -> None:
    """A closed collar, a knot and the tie below it."""
    color = face.nuisances.accent
    canvas.fill(face.body, symmetric(curve((0.30, 0.62), (0.36, 0.80), (0.20, 2))), (244, 244, 246))
    collar = curve((0, 0.74), (0.30, 0.60), (0.36, 0.78), (0.17, 0.90))
    for side in SIDES:
        canvas.fill(face.body, mirrored(collar, side), (222, 224, 230))
    canvas.fill(face.body, symmetric(curve((0.07, 0.72), (0.05, 0.82))), mix(color, (0, 0, 0), 0.35))
    canvas.fill(face.body, symmetric(curve((0.05, 0.82), (0.18, 2))), color)


def _necklace(canvas: Canvas, face: Face) -> None:
    metal = METALS[face.nuisances.style > 0.5]
    beads = arc(0, 0.68, 0.19 + 0.09 * face.has["Male"], 0.20, 0.05, math.pi - 0.05, 11)
    canvas.stroke(face.body, beads, 0.065, mix(metal, (0, 0, 0), 0.6))
    for bead in beads.tolist():
        canvas.fill(face.body, ellipse(bead.real, bead.imag, 0.027, 0.027, 10), metal)
    canvas.fill(face.body, ellipse(0, 0.92, 0.05, 0.06), face.nuisances.accent)


def glasses(canvas: Canvas, face: Face) -> None:
    if not face.has["Eyeglasses"]:
        return
    style = face.nuisances.style
    color = FRAMES[min(int(style * len(FRAMES)), len(FRAMES) - 1)]
    # Between an ellipse (2) and a rounded rectangle.
    power = 2 / (2.0 + 3.0 * (style * 7 % 1))
    ring = 0.16 * np.sign(_CIRCLE.real) * abs(_CIRCLE.real) ** power
    ring = ring + 0.118j * np.sign(_CIRCLE.imag) * abs(_CIRCLE.imag) ** power
    for side in SIDES:
        center = complex(side * 0.205, face.eye_y + 0.018)
        outer, inner = (face.turned(ring * size + center, 0.06) for size in (1.11, 0.87))
        canvas.fill(face.head, inner, WHITE, 0.14)
        canvas.fill(face.head, np.concatenate([outer, inner[::-1]]), color)
        hinge = curve((side * 0.375, face.eye_y - 0.02), (side * face.half_width, face.eye_y))
        canvas.stroke(face.head, face.turned(hinge), 0.035, color)
    bridge = curve((-0.04, face.eye_y), (0.04, face.eye_y))
    canvas.stroke(face.head, face.turned(bridge, 0.06), 0.035, color)


def earrings(canvas: Canvas, face: Face) -> None:
    if not face.has["Wearing_Earrings"]:
        return
    metal = METALS[face.nuisances.style > 0.5]
    for side in SIDES:
        x = side * (face.half_width + 0.035)
        canvas.fill(face.head, ellipse(x, 0.235, 0.07, 0.105, 16), mix(metal, (0, 0, 0), 0.65))
        canvas.fill(face.head, ellipse(x, 0.235, 0.048, 0.08, 16), metal)
        canvas.fill(face.head, ellipse(x, 0.15, 0.028, 0.028, 10), metal)
