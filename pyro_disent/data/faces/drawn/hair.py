"""Hair and hats of a face: what lies behind the head, what lies on it."""

from __future__ import annotations

import math

import numpy as np

from pyro_disent.data.faces.drawn.canvas import (
    SIDES,
    WHITE,
    Canvas,
    Curve,
    arc,
    curve,
    ellipse,
    mirrored,
    mix,
    smooth,
    symmetric,
)
from pyro_disent.data.faces.drawn.design import Face

CROWN = -0.14
"""Height of the middle of the skull."""
_AROUND = np.linspace(math.pi - 0.25, 2 * math.pi + 0.25, 41)
_DOWN = np.linspace(0, 1, 25)


def hair_behind(canvas: Canvas, face: Face) -> None:
    """The part of long hair that hangs behind the neck."""
    if face.long_hair:
        canvas.fill(face.head, symmetric(_fall(face)), face.dark_hair)


def _fall(face: Face) -> Curve:
    """The outer edge of long hair on the right, from the crown down."""
    y = CROWN + (face.hair_end - CROWN) * _DOWN
    x = face.half_width + face.volume + 0.05 * (y - CROWN)
    if face.has["Wavy_Hair"]:
        x += 0.045 * np.sin(16 * y + face.nuisances.waves) + 0.03
    elif not face.has["Straight_Hair"]:
        x -= 0.16 * np.clip((y - face.hair_end) / 0.35 + 1, 0, 1) ** 2
    return x + 1j * y


def hair(canvas: Canvas, face: Face) -> None:
    """Hair on the head, or a bare one."""
    has = face.has
    if has["Bald"]:
        shine = ellipse(0.10 + 0.1 * face.nuisances.light, -0.50, 0.11, 0.055)
        canvas.fill(face.head, shine, mix(face.skin, WHITE, 0.6), 0.8)
        return
    crown = _crown(face)
    canvas.fill(face.head, np.concatenate([crown, _hairline(face)]), face.hair)
    if not has["Attractive"]:
        _stray_locks(canvas, face, crown)
    if face.long_hair:
        outer = _fall(face)
        inner = face.nuisances.width * np.interp(outer.imag, (CROWN, 0.2, 0.6), (0.40, 0.39, 0.30)) + 1j * outer.imag
        lock = np.concatenate([outer, inner[::-1]])
        for side in SIDES:
            canvas.fill(face.head, mirrored(lock, side), face.hair)
    if has["Bangs"]:
        _bangs(canvas, face)
    if has["Straight_Hair"]:
        _combed(canvas, face)
    if has["Wavy_Hair"]:
        _curled(canvas, face)


def _crown(face: Face) -> Curve:
    """The outside of the hair on the head, from left to right."""
    width, height = face.half_width + face.volume, 0.50 * face.nuisances.height + face.volume
    edge = width * np.cos(_AROUND) + 1j * height * np.sin(_AROUND)
    if face.has["Wavy_Hair"]:
        edge *= 1 + 0.055 * np.sin(13 * _AROUND + face.nuisances.waves)
    return edge + 1j * CROWN


def _stray_locks(canvas: Canvas, face: Face, crown: Curve) -> None:
    """Locks that stand off untidy hair, around the crown."""
    for index, (length, lean) in enumerate(face.nuisances.spots.tolist()):
        root = crown[4 + 4 * index]
        out = (root - 1j * CROWN) / abs(root - 1j * CROWN)
        tip = root + (0.05 + 0.07 * length) * out + 0.08 * (lean - 0.5) * 1j * out
        base = root - 0.03 * out
        canvas.fill(face.head, np.array([base + 0.03j * out, tip, base - 0.03j * out]), face.hair)


def _hairline(face: Face) -> Curve:
    """Where the hair begins, from right to left."""
    width = face.half_width
    low = 0.12 if face.long_hair else 0.06
    if face.has["Receding_Hairline"]:
        right = curve((width, low), (width * 0.95, -0.30), (0.31, -0.54), (0.15, -0.56))
        middle = -0.47j
    else:
        right = curve((width, low), (width * 0.93, -0.22), (0.27, -0.37))
        middle = complex(0.16 * face.nuisances.parting, -0.43)
    return face.turned(smooth(np.concatenate([right, [middle], mirrored(right)[::-1]])), -0.35)


def _bangs(canvas: Canvas, face: Face) -> None:
    x = np.linspace(-0.43, 0.43, 13)
    lower = -0.235 + 0.05 * (x / 0.43) ** 2 + 0.018 * np.where(np.arange(13) % 2, 1, -1)
    fringe = np.concatenate([x + 1j * lower, curve((0.36, -0.46), (-0.36, -0.46))])
    canvas.fill(face.head, face.turned(fringe, -0.25), face.hair)
    for at in (-0.24, -0.08, 0.08, 0.24):
        canvas.stroke(face.head, face.turned(curve((at, -0.50), (at * 1.1, -0.27)), -0.25), 0.018, face.dark_hair)


def _ends(face: Face) -> tuple[float, float]:
    """Where strands end: their distance outwards, and downwards."""
    return face.half_width + 0.4 * face.volume, face.hair_end - 0.03 if face.long_hair else 0.02


def _combed(canvas: Canvas, face: Face) -> None:
    top = -0.64 * face.nuisances.height - face.volume
    out, bottom = _ends(face)
    tones = mix(face.hair, WHITE, 0.35), mix(face.hair, (0, 0, 0), 0.45)
    for index, at in enumerate((-0.30, -0.20, -0.10, 0.0, 0.10, 0.20, 0.30)):
        canvas.stroke(face.head, curve((at * 0.75, top + 0.035), (at, -0.45)), 0.018, tones[index % 2])
    for index, inset in enumerate((-0.06, 0.0, 0.05)):
        strand = smooth(curve((0.33, -0.54), (out + inset, -0.2), (out + inset, bottom)))
        for side in SIDES:
            canvas.stroke(face.head, mirrored(strand, side), 0.018, tones[index % 2])


def _curled(canvas: Canvas, face: Face) -> None:
    out, bottom = _ends(face)
    light, dark = mix(face.hair, WHITE, 0.35), mix(face.hair, (0, 0, 0), 0.45)
    y = np.linspace(-0.25, bottom, 17)
    wave: Curve = out + 0.035 * np.sin(16 * y + face.nuisances.waves) + 1j * y
    for side in SIDES:
        canvas.stroke(face.head, mirrored(wave - 0.02, side), 0.022, dark)
        canvas.stroke(face.head, mirrored(wave + 0.05, side), 0.022, light)
    for index in range(6):
        at = math.pi * (1.12 + 0.152 * index)
        x, rise = out * math.cos(at), CROWN + (0.46 + 0.5 * face.volume) * math.sin(at)
        canvas.stroke(face.head, arc(x, rise, 0.055, 0.05, at - 1.4, at + 1.4), 0.02, dark)


def hat(canvas: Canvas, face: Face) -> None:
    """A cap, a woolen hat or one with a brim."""
    if not face.has["Wearing_Hat"]:
        return
    color, style = face.nuisances.accent, face.nuisances.style
    band = mix(color, (0, 0, 0), 0.4) if sum(color) > 240 else mix(color, WHITE, 0.4)
    width = face.half_width + face.volume + 0.02
    canvas.fill(face.head, arc(0, -0.36, width, 0.46, math.pi, 2 * math.pi, 25), color)
    if style < 0.35:
        bill = smooth(curve((-0.40, -0.36), (-0.32, -0.28), (0, -0.25), (0.32, -0.28), (0.40, -0.36)))
        bill = np.concatenate([face.turned(bill, 0.2), curve((width, -0.40), (-width, -0.40))])
        canvas.fill(face.head, bill, band)
    elif style < 0.65:
        canvas.fill(face.head, curve((-width, -0.46), (width, -0.46), (width, -0.31), (-width, -0.31)), band)
    else:
        canvas.fill(face.head, ellipse(0, -0.37, width + 0.28, 0.07), color)
        canvas.fill(face.head, curve((-width, -0.50), (width, -0.50), (width, -0.40), (-width, -0.40)), band)
