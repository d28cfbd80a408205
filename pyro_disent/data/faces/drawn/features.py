"""Head, skin, eyes, nose, mouth and beard of a face, each drawn over those before it."""

from __future__ import annotations

import math

import numpy as np

from pyro_disent.data.faces.drawn.canvas import (
    BLACK,
    SIDES,
    WHITE,
    Array,
    Canvas,
    Color,
    Curve,
    arc,
    curve,
    ellipse,
    mirrored,
    mix,
    smooth,
    symmetric,
)
from pyro_disent.data.faces.drawn.design import EYESHADOWS, IRISES, LIPSTICKS, Face, along

EYE_X = 0.20
EYE_WIDTH = 0.112
BLUSH: Color = (244, 50, 84)
MARK: Color = (140, 24, 24)
_ACROSS: Array = np.linspace(-1, 1, 15)
"""From one corner of an eye or a mouth to the other."""
_DOME: Array = 1 - _ACROSS**2


def neck(canvas: Canvas, face: Face) -> None:
    has = face.has
    half = 0.20 + 0.09 * has["Male"] + 0.05 * has["Chubby"]
    right = curve((half, 0.25), (half * 0.96, 0.72), (half + 0.22, 0.92), (half + 0.24, 1.3))
    canvas.fill(face.body, symmetric(right), mix(face.skin, face.shade, 0.6))
    canvas.fill(face.body, ellipse(0, 0.56, half * 0.98, 0.13), face.shade)
    if has["Male"]:
        canvas.fill(face.body, ellipse(0, 0.78, 0.035, 0.05, 12), face.shade)


def head(canvas: Canvas, face: Face) -> None:
    """Ears, the head and the light on it."""
    has = face.has
    for side in SIDES:
        canvas.fill(face.head, ellipse(side * face.half_width, 0.02, 0.07, 0.12, 16), face.shade)
    if has["Double_Chin"]:
        width = 0.31 + 0.06 * has["Chubby"]
        under = smooth(curve((width, face.chin - 0.22), (width * 0.85, face.chin + 0.02), (0, face.chin + 0.16)))
        canvas.fill(face.head, symmetric(under) + 0.03j, face.crease)
        canvas.fill(face.head, symmetric(under), mix(face.skin, face.shade, 0.2))
    canvas.fill(face.head, face.outline, face.shade)
    canvas.fill(face.head, face.outline * 0.93 + complex(0.035 * face.nuisances.light, -0.01), face.skin)
    if has["Double_Chin"]:
        crease = arc(0, face.chin - 0.17, 0.26, 0.155, 0.3, math.pi - 0.3)
        canvas.stroke(face.head, crease, 0.035, face.crease)


def skin(canvas: Canvas, face: Face) -> None:
    """Cheeks, wrinkles and marks on the skin."""
    has = face.has
    if has["Attractive"]:
        toward_light = 0.05 * face.nuisances.light
        for glow in (ellipse(toward_light, -0.30, 0.17, 0.055), ellipse(toward_light, face.chin - 0.07, 0.07, 0.035)):
            canvas.fill(face.head, face.turned(glow), WHITE, 0.3)
    if has["Rosy_Cheeks"]:
        for side in SIDES:
            canvas.fill(face.head, face.turned(ellipse(side * 0.27, 0.17, 0.13, 0.095)), BLUSH, 0.55)
    if has["High_Cheekbones"]:
        hollow = smooth(curve((0.43, 0.13), (0.35, 0.215), (0.26, 0.275), (0.18, 0.31)))
        width, shadow = 0.10 * np.sin(np.linspace(0.6, math.pi - 0.2, len(hollow))), mix(face.shade, face.crease, 0.5)
        for side in SIDES:
            canvas.stroke(face.head, face.turned(mirrored(hollow, side)), width, shadow, 0.75)
            bone = ellipse(side * 0.32, 0.105, 0.105, 0.05)
            canvas.fill(face.head, face.turned(bone), mix(face.skin, WHITE, 0.5), 0.75)
    if not has["Young"]:
        _wrinkles(canvas, face)
    if not has["Attractive"]:
        for x, y in face.nuisances.spots.tolist():
            mark = ellipse(0.62 * x - 0.31, 0.66 * y - 0.34, 0.023, 0.023, 8)
            canvas.fill(face.head, face.turned(mark), mix(face.skin, MARK, 0.5))


def _wrinkles(canvas: Canvas, face: Face) -> None:
    for y in (-0.36, -0.29, -0.22):
        furrow = arc(0, y, 0.24, 0.05, math.pi + 0.3, 2 * math.pi - 0.3)
        canvas.stroke(face.head, face.turned(furrow), 0.016, face.crease)
    fold = smooth(curve((0.09, 0.13), (0.17, 0.22), (0.235, 0.34), (0.22, 0.42)))
    for side in SIDES:
        canvas.stroke(face.head, face.turned(mirrored(fold, side)), 0.024, face.crease)
        for rise in (-0.05, 0.0, 0.05):
            foot = curve((side * 0.33, face.eye_y + rise * 0.4), (side * 0.41, face.eye_y + rise))
            canvas.stroke(face.head, face.turned(foot), 0.016, face.crease)


def eyes(canvas: Canvas, face: Face) -> None:
    for side in SIDES:
        _eye(canvas, face, side)
        _eyebrow(canvas, face, side)


def _eye(canvas: Canvas, face: Face, side: int) -> None:
    has, nuisances = face.has, face.nuisances
    opening = nuisances.eye_opening * (1.1 if has["Attractive"] else 0.92) * (0.36 if has["Narrow_Eyes"] else 1.0)
    x, y = side * EYE_X, face.eye_y + 0.028 * face.unevenness * side
    upper, lower = 0.068 * opening, 0.050 * opening
    corners = (EYE_WIDTH - 0.012j * side) * _ACROSS + complex(x, y)

    def lid(rise: float) -> Curve:
        """A lid's edge, or a line beside it, ``rise`` above the corners in its middle."""
        return face.turned(corners - 1j * rise * _DOME)

    def between(top: float, bottom: float) -> Curve:
        return np.concatenate([lid(top), lid(bottom)[::-1]])

    if has["Heavy_Makeup"]:
        canvas.fill(face.head, between(upper + 0.10, upper), along(EYESHADOWS, nuisances.tint), 0.8)
    if has["Bags_Under_Eyes"]:
        canvas.fill(face.head, between(-lower - 0.02, -lower - 0.095), mix(face.skin, (70, 30, 80), 0.55))
        canvas.stroke(face.head, lid(-lower - 0.10), 0.014, face.crease)
    canvas.fill(face.head, between(upper, -lower), (248, 246, 244))
    center = x + 0.03 * nuisances.gaze
    iris = along(IRISES, nuisances.iris)
    if has["Attractive"]:
        iris = mix(iris, (120, 200, 255), 0.45)
    for radius, color in ((0.056, iris), (0.027, BLACK)):
        disk = ellipse(center, y, radius, radius, 18)
        dome = 1 - np.minimum(((disk.real - x) / EYE_WIDTH) ** 2, 1)
        disk = disk.real + 1j * np.clip(disk.imag, y - upper * dome, y + lower * dome)
        canvas.fill(face.head, face.turned(disk), color)
    if not has["Narrow_Eyes"]:
        glint = 0.026 if has["Attractive"] else 0.012
        canvas.fill(face.head, face.turned(ellipse(center + 0.02, y - 0.02, glint, glint, 8)), WHITE)
    lashes = 0.05 if has["Heavy_Makeup"] else 0.022 if has["Male"] else 0.034
    canvas.stroke(face.head, lid(upper + 0.3 * lashes), lashes * (0.45 + 0.55 * _DOME), BLACK)
    if has["Heavy_Makeup"]:
        canvas.stroke(face.head, lid(-lower), 0.016, BLACK)
    if has["Heavy_Makeup"] or not has["Male"]:
        outer = EYE_X + EYE_WIDTH
        wing = mirrored(curve((outer - 0.022, y - 0.02), (outer + 0.045, y - 0.06)), side)
        canvas.stroke(face.head, face.turned(wing), np.array([lashes, 0.008]), BLACK)


def _eyebrow(canvas: Canvas, face: Face, side: int) -> None:
    has = face.has
    low = 0.02 * has["Male"] + 0.026 * face.unevenness * side - 0.012 * face.nuisances.brow_height
    y = face.eye_y - 0.155 + low
    shape = (
        curve((0.085, y), (0.16, y - 0.06), (0.235, y - 0.085), (0.335, y + 0.03))
        if has["Arched_Eyebrows"]
        else curve((0.085, y), (0.17, y - 0.012), (0.255, y - 0.010), (0.335, y + 0.005))
    )
    line = smooth(shape)
    t = np.linspace(0, 1, len(line))
    width = 1 - 0.45 * t**2
    if has["Bushy_Eyebrows"]:
        width *= 0.082 * (1 + 0.22 * np.where(np.arange(len(line)) % 2, 1, -1))
    else:
        width *= 0.034 + 0.008 * has["Male"]
    canvas.stroke(face.head, face.turned(mirrored(line, side)), width, face.brow)


def nose(canvas: Canvas, face: Face) -> None:
    has = face.has
    big, pointy = has["Big_Nose"], has["Pointy_Nose"]
    half, height, tip = (0.165, 0.066, 0.20) if big else (0.070, 0.036, 0.155)
    half *= 0.8 if pointy else 1.0
    bend = 0.025 * face.unevenness
    away = 1 if face.nuisances.light < 0 else -1
    bridge = smooth(curve((away * 0.045, -0.08), (away * 0.04 + bend, 0.02), (away * half * 0.75, tip - 0.03)))
    canvas.stroke(face.head, face.turned(bridge, 0.05), 0.018, face.shade)
    canvas.fill(face.head, face.turned(ellipse(bend, tip - 0.015, half, height), 0.06), face.shade)
    light = mix(face.skin, WHITE, 0.55 if pointy else 0.18)
    if pointy:
        flank = curve((0, -0.10), (away * (half + 0.02), tip - 0.03), (0, tip + 0.085)) + bend
        canvas.fill(face.head, face.turned(flank, 0.12), face.crease)
        ridge = symmetric(curve((0.016, -0.10), (0.030, tip - 0.03), (0, tip + 0.06))) + bend
        canvas.fill(face.head, face.turned(ridge, 0.12), light)
    else:
        canvas.fill(face.head, face.turned(ellipse(bend, tip - 0.045, 0.6 * half, 1.1 * height), 0.08), light)
    for side in SIDES:
        nostril = ellipse(bend + side * half * 0.6, tip + 0.008, half * 0.27, 0.022 if big else 0.016, 10)
        canvas.fill(face.head, face.turned(nostril, 0.06), face.crease)


def mouth(canvas: Canvas, face: Face) -> None:
    has, expression = face.has, face.nuisances.expression
    half = 0.165 + 0.045 * has["Smiling"] + 0.015 * has["Big_Lips"]
    upper, lower = (0.062, 0.085) if has["Big_Lips"] else (0.026, 0.036)
    gap = 0.085 * (1 + 0.2 * expression) if has["Mouth_Slightly_Open"] else 0.0
    bow = _DOME * (1 - 0.35 * np.exp(-((_ACROSS / 0.22) ** 2)))
    closed = half * _ACROSS + 1j * (face.mouth_y - face.lift * (2 * _ACROSS**2 - 1) + 0.035 * face.unevenness * _ACROSS)

    def edge(below: Array) -> Curve:
        """A line ``below`` that between the closed lips."""
        return face.turned(closed + 1j * below, 0.02)

    def between(top: Curve, bottom: Curve) -> Curve:
        return np.concatenate([top, bottom[::-1]])

    natural = mix(face.skin, (160, 44, 48), 0.32 if has["Male"] else 0.42)
    lips = along(LIPSTICKS, face.nuisances.tint) if has["Wearing_Lipstick"] else natural
    top, bottom = edge(-upper * bow - 0.3 * gap * _DOME), edge((lower + 0.7 * gap) * _DOME)
    if has["Big_Lips"]:
        canvas.stroke(face.head, bottom[3:-3], 0.05, face.crease)
    canvas.fill(face.head, between(top, bottom), lips)
    shine = edge((0.55 * lower + 0.7 * gap) * _DOME)
    canvas.stroke(face.head, shine[4:-4], 0.35 * lower, mix(lips, WHITE, 0.35))
    if has["Mouth_Slightly_Open"]:
        inside = edge(-0.3 * gap * _DOME)
        canvas.fill(face.head, between(inside, edge(0.7 * gap * _DOME)), (64, 12, 20))
        teeth = edge((0.3 if has["Smiling"] else 0.0) * gap * _DOME)
        canvas.fill(face.head, between(inside, teeth), (250, 248, 244))
    else:
        canvas.stroke(face.head, face.turned(closed, 0.02), 0.016, mix(lips, BLACK, 0.55))
    if has["Smiling"]:
        dimple = arc(half + 0.02, face.mouth_y - 0.06, 0.04, 0.07, -0.9, 0.9)
        for side in SIDES:
            canvas.stroke(face.head, face.turned(mirrored(dimple, side)), 0.018, face.crease, 0.8)


def beard(canvas: Canvas, face: Face) -> None:
    """Stubble, beard, sideburns and goatee."""
    has = face.has
    jaw = face.outline[face.outline.imag > 0.12]
    if has["5_o_Clock_Shadow"]:
        rim = smooth(curve((-0.40, 0.12), (-0.26, 0.24), (0, 0.22), (0.26, 0.24), (0.40, 0.12)))
        canvas.fill(face.head, np.concatenate([jaw, rim]), mix(face.beard, (52, 56, 72), 0.7), 0.48)
    if not has["No_Beard"]:
        inner = (jaw - 0.1j) * 0.76 + 0.1j
        canvas.fill(face.head, np.concatenate([jaw * 1.02, inner[::-1]]), face.beard, 0.85)
    if has["Sideburns"]:
        strip = curve((0.47, -0.26), (0.37, -0.24), (0.335, 0.20), (0.40, 0.26), (0.45, 0.16))
        for side in SIDES:
            canvas.fill(face.head, mirrored(strip, side), face.beard)
    if has["Goatee"]:
        right = curve((0.05, -0.16), (0.15, -0.06), (0.10, 0.04), (0, 0.09)) + 1j * face.chin
        canvas.fill(face.head, face.turned(symmetric(smooth(right))), mix(face.beard, BLACK, 0.35))


def mustache(canvas: Canvas, face: Face) -> None:
    if face.has["Mustache"]:
        right = curve(
            (0, -0.10), (0.10, -0.115), (0.19, -0.04), (0.225, 0.05), (0.17, 0.01), (0.08, -0.035), (0, -0.045)
        )
        shape = symmetric(right) + 1j * face.mouth_y
        canvas.fill(face.head, face.turned(shape, 0.04), mix(face.beard, BLACK, 0.25))
