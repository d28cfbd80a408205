"""Seats, legs, backs and arms: a table of named styles for each, every style one function that adds its solids.

A new style is a function and a row in its table.
"""

from __future__ import annotations

import math

import numpy as np

from pyro_disent.data.chairs.drawn.design import BackPlane, Chair, Material, Style
from pyro_disent.data.chairs.drawn.solids import X_AXIS, Z_AXIS, Array, Solids

SEAT, FRAME, CUSHION = Material.SEAT, Material.FRAME, Material.CUSHION
SIDES = (-1, 1)


def flat_seat(solids: Solids, chair: Chair) -> None:
    """A board, extruded from rear to front, so that a trapezoid is one prism too."""
    height, half = chair.seat_height - chair.seat_thickness / 2, chair.seat_thickness / 2
    solids.prism(
        (0, -chair.half_depth, height),
        (0, chair.half_depth, height),
        (chair.half_width, half),
        (chair.front_half_width, half),
        axes=(X_AXIS, Z_AXIS),
        material=SEAT,
    )


def round_seat(solids: Solids, chair: Chair) -> None:
    rim = (chair.half_width, chair.half_depth)
    solids.column((0, 0, chair.underside), (0, 0, chair.seat_height), rim, sides=16, material=SEAT)


def bucket_seat(solids: Solids, chair: Chair) -> None:
    rim = (chair.half_width, chair.half_depth)
    bottom = (chair.half_width * 0.8, chair.half_depth * 0.85)
    solids.column((0, 0, chair.underside - 0.03), (0, 0, chair.seat_height), bottom, rim, sides=12, material=SEAT)


def cushion(solids: Solids, chair: Chair) -> None:
    """A cushion on the seat, a little wider in its middle."""
    sides = 16 if chair.has_round_seat else 4
    half = min(chair.half_width, chair.front_half_width) * 0.94
    bottom, middle, top = chair.seat_height + chair.cushion * np.array([0.0, 0.6, 1.0])
    widest = (half, chair.half_depth * 0.95)
    solids.column(
        (0, 0, bottom), (0, 0, middle), (half * 0.97, chair.half_depth * 0.92), widest, sides=sides, material=CUSHION
    )
    solids.column(
        (0, 0, middle), (0, 0, top), widest, (half * 0.86, chair.half_depth * 0.82), sides=sides, material=CUSHION
    )


def four_legs(solids: Solids, chair: Chair) -> None:
    _standing_legs(solids, chair, splay=0.0)
    if not chair.has_round_seat:
        x, y, top = chair.half_width - chair.leg_radius, chair.half_depth - chair.leg_radius, chair.underside
        solids.box((-x, -y, top - 0.05), (x, y, top), material=FRAME)


def splayed_legs(solids: Solids, chair: Chair) -> None:
    _standing_legs(solids, chair, splay=chair.splay)


def _standing_legs(solids: Solids, chair: Chair, splay: float, floor: float = 0.0, stretchers: bool = True) -> None:
    tops = chair.leg_tops
    feet = tops + np.sign(tops) * [splay, splay, 0.0]
    feet[:, 2] = floor
    for foot, top in zip(feet, tops, strict=True):
        radius = chair.leg_radius
        solids.column(foot, top, radius * chair.leg_taper, radius, sides=chair.leg_sides, material=FRAME)
    if stretchers and chair.stretcher != "none" and chair.underside > 0.2:
        _stretchers(solids, chair, feet + 0.35 * (tops - feet))


def _stretchers(solids: Solids, chair: Chair, joints: Array) -> None:
    rear_left, rear_right, front_right, front_left = joints
    bars = [(rear_left, front_left), (rear_right, front_right)]
    if chair.stretcher == "H":
        bars.append(((rear_left + front_left) / 2, (rear_right + front_right) / 2))
    else:
        bars += [(rear_left, rear_right), (front_left, front_right)]
    for bar in bars:
        solids.tube(bar, chair.leg_radius * 0.6, material=FRAME)


def rockers(solids: Solids, chair: Chair) -> None:
    """Splayed legs on two shallow arcs."""
    _standing_legs(solids, chair, splay=chair.splay, floor=0.03, stretchers=False)
    tops = chair.leg_tops
    reach = chair.half_depth + 0.16
    for rear, front in ((0, 3), (1, 2)):
        x = (tops[rear, 0] + tops[front, 0]) / 2
        x += np.sign(x) * chair.splay
        arc = [(x, y, 0.014 + 0.10 * (y / reach) ** 2) for y in np.linspace(-reach, reach, 8)]
        solids.tube(arc, (0.014, 0.018), sides=4, material=FRAME)


def star_base(solids: Solids, chair: Chair) -> None:
    """An office chair's column on a star, with or without casters."""
    top = chair.underside
    solids.column((0, 0, 0.09), (0, 0, top * 0.6), 0.034, 0.030, sides=10, material=FRAME)
    solids.column((0, 0, top * 0.55), (0, 0, top), 0.020, sides=8, material=FRAME)
    plate = (chair.half_width * 0.5, chair.half_depth * 0.5)
    solids.column((0, 0, top - 0.03), (0, 0, top), plate, material=FRAME)
    reach = max(chair.half_width, chair.half_depth) * 1.15
    for arm in range(chair.star_arms):
        angle = 2 * math.pi * (arm + 0.25) / chair.star_arms
        outward = np.array([math.cos(angle), math.sin(angle), 0.0])
        end = outward * reach
        solids.prism((0, 0, 0.10), end + Z_AXIS * 0.055, 0.026, (0.014, 0.012), material=FRAME)
        if chair.casters:
            axle = np.array([-outward[1], outward[0], 0.0]) * 0.018
            center = end + Z_AXIS * 0.028
            solids.prism(center - axle, center + axle, 0.028, sides=8, material=FRAME)
        else:
            solids.column(end, end + Z_AXIS * 0.055, 0.014, sides=6, material=FRAME)


def disc_base(solids: Solids, chair: Chair) -> None:
    half = chair.half_width
    solids.column((0, 0, 0), (0, 0, 0.02), half * 0.95, half * 0.9, sides=20, material=FRAME)
    solids.column((0, 0, 0.02), (0, 0, 0.05), half * 0.5, 0.04, sides=12, material=FRAME)
    solids.column((0, 0, 0.02), (0, 0, chair.underside), 0.03, sides=10, material=FRAME)


def sled_base(solids: Solids, chair: Chair) -> None:
    """One bent tube on each side, lying on the floor."""
    (x, y), top, radius = chair.leg_inset, chair.underside, chair.leg_radius * 0.75
    reach = chair.half_depth + chair.splay * 0.6
    for side in SIDES:
        outer = side * x * 1.03
        path = [(side * x, -y, top), (outer, -reach, 0.015), (outer, reach, 0.015), (side * x, y, top)]
        solids.tube(path, radius, material=FRAME)
    solids.tube([(-x, y * 0.9, top - 0.01), (x, y * 0.9, top - 0.01)], radius, material=FRAME)


def cantilever(solids: Solids, chair: Chair) -> None:
    """A tube down from the seat's front and back along the floor; nothing stands at the rear."""
    (x, y), top, radius, depth = chair.leg_inset, chair.underside, chair.leg_radius * 0.8, chair.half_depth
    profile = [(-y, top), (y, top), (depth + 0.02, top - 0.04), (depth, 0.05), (depth - 0.06, 0.015), (-depth, 0.015)]
    for side in SIDES:
        solids.tube([(side * x, along, height) for along, height in profile], radius, material=FRAME)
    solids.tube([(-x, -depth, 0.015), (x, -depth, 0.015)], radius, material=FRAME)


def panels(solids: Solids, chair: Chair) -> None:
    """Two boards and a bar between them."""
    half, depth, top = chair.half_width, chair.half_depth, chair.underside
    for side in SIDES:
        inner, outer = sorted((side * half, side * (half - 0.035)))
        solids.box((inner, -depth, 0), (outer, depth, top), material=FRAME)
    solids.box((-half, -0.02, top * 0.35), (half, 0.02, top * 0.55), material=FRAME)


def crossed_legs(solids: Solids, chair: Chair) -> None:
    (x, _), top, radius, depth = chair.leg_inset, chair.underside, chair.leg_radius, chair.half_depth
    for side in SIDES:
        for along in (-depth, depth):
            solids.tube([(side * x, along, 0), (side * x, -along * 0.9, top)], radius, sides=4, material=FRAME)
    solids.tube([(-x, 0, top / 2), (x, 0, top / 2)], radius * 0.7, material=FRAME)


def block(solids: Solids, chair: Chair) -> None:
    """A club chair's body on four short feet."""
    half, depth = chair.half_width, chair.half_depth
    solids.box((-half, -depth, 0.06), (half, depth, chair.underside), material=SEAT)
    for x in (-half + 0.05, half - 0.05):
        for y in (-depth + 0.05, depth - 0.05):
            solids.column((x, y, 0), (x, y, 0.07), 0.022, sides=8, material=FRAME)


def solid_back(solids: Solids, chair: Chair) -> None:
    plane, half = chair.back_plane, chair.back_thickness / 2
    narrow = plane.half_width * (1 - chair.back_narrowing)
    _panel(solids, plane, chair.seat_thickness * 0.5, plane.height, (plane.half_width, half), (narrow, half))
    if chair.cushion:
        start, end = chair.seat_thickness + plane.height * 0.12, plane.height * 0.94
        radii = (plane.half_width * 0.86, half * 1.4)
        end_radii = (plane.half_width * 0.8, half)
        _panel(solids, plane, start, end, radii, end_radii, out=chair.back_thickness, material=CUSHION)


def slatted_back(solids: Solids, chair: Chair) -> None:
    plane = chair.back_plane
    _posts(solids, chair, 0.016)
    _rail(solids, plane, plane.height - 0.03, 0.03)
    for share in np.linspace(0.18, 0.82, chair.bars):
        slat = 0.24 * plane.height / chair.bars
        _rail(solids, plane, plane.height * share, slat, material=SEAT, thickness=0.007)


def spindle_back(solids: Solids, chair: Chair) -> None:
    plane = chair.back_plane
    _posts(solids, chair, 0.014)
    _rail(solids, plane, plane.height - 0.025, 0.028)
    for x in np.linspace(-plane.half_width, plane.half_width, chair.bars + 2)[1:-1]:
        solids.prism(plane.at(x, 0), plane.at(x, plane.height - 0.03), 0.007, sides=6, material=FRAME)


def ladder_back(solids: Solids, chair: Chair) -> None:
    plane = chair.back_plane
    _posts(solids, chair, 0.018)
    for share in np.linspace(0.35, 0.97, min(chair.bars, 4)):
        _rail(solids, plane, plane.height * share, 0.028)


def curved_back(solids: Solids, chair: Chair) -> None:
    """Flat staves along a parabola, on one post."""
    plane = chair.back_plane
    knots = np.linspace(-1, 1, 7)
    depth = 2 * chair.bulge * knots**2
    for left, right, near, far in zip(knots[:-1], knots[1:], depth[:-1], depth[1:], strict=True):
        chord = X_AXIS * (right - left) * plane.half_width + plane.normal * (far - near)
        length = float(np.linalg.norm(chord))
        x, out = (left + right) / 2 * plane.half_width, (near + far) / 2
        solids.prism(
            plane.at(x, plane.height * 0.12, out),
            plane.at(x, plane.height, out),
            (length / 2 + 0.004, chair.back_thickness / 2),
            axes=(chord / length, np.cross(plane.up, chord / length)),
            material=SEAT,
        )
    post = (plane.half_width * 0.35, chair.back_thickness * 0.4)
    _panel(solids, plane, 0, plane.height * 0.3, post, material=FRAME)


def round_back(solids: Solids, chair: Chair) -> None:
    """A disc on two posts."""
    plane = chair.back_plane
    center, half = plane.at(0, plane.height * 0.62), plane.normal * chair.back_thickness / 2
    disc = (plane.half_width * 0.95, plane.height * 0.36)
    solids.prism(center - half, center + half, disc, sides=18, axes=(X_AXIS, plane.up), material=SEAT)
    _posts(solids, chair, 0.013, spread=0.5, rise=0.5)


def framed_back(solids: Solids, chair: Chair) -> None:
    """A panel between posts and two rails."""
    plane = chair.back_plane
    _posts(solids, chair, 0.02)
    _rail(solids, plane, plane.height - 0.03, 0.03)
    _rail(solids, plane, plane.height * 0.30, 0.02)
    _panel(solids, plane, plane.height * 0.30, plane.height - 0.03, (plane.half_width * 0.42, 0.008))


def split_back(solids: Solids, chair: Chair) -> None:
    """Two pads, one above the other, on two posts."""
    plane, half = chair.back_plane, chair.back_thickness / 2
    _panel(solids, plane, chair.seat_thickness, plane.height * 0.42, (plane.half_width, half))
    _panel(solids, plane, plane.height * 0.55, plane.height, (plane.half_width * 0.95, half))
    _posts(solids, chair, 0.012, spread=0.6, rise=0.7)


def crossed_back(solids: Solids, chair: Chair) -> None:
    plane = chair.back_plane
    _posts(solids, chair, 0.017)
    _rail(solids, plane, plane.height - 0.025, 0.025)
    _rail(solids, plane, plane.height * 0.28, 0.018)
    for x in (-plane.half_width, plane.half_width):
        start, end = plane.at(x, plane.height * 0.3), plane.at(-x, plane.height - 0.03)
        solids.prism(start, end, (0.011, 0.018), axes=(plane.normal, plane.up), material=FRAME)


def _panel(
    solids: Solids,
    plane: BackPlane,
    start: float,
    end: float,
    radii: tuple[float, float],
    end_radii: tuple[float, float] | None = None,
    *,
    out: float = 0.0,
    material: Material = SEAT,
) -> None:
    """A board in the plane of the back, from one height to another."""
    axes = (X_AXIS, plane.normal)
    solids.prism(plane.at(0, start, out), plane.at(0, end, out), radii, end_radii, axes=axes, material=material)


def _posts(solids: Solids, chair: Chair, radius: float, spread: float | None = None, rise: float = 1.0) -> None:
    """Two uprights: tapered at the edges of the back, or straight at a share of its half width."""
    plane = chair.back_plane
    x = plane.half_width - radius if spread is None else plane.half_width * spread
    end_radius = radius * 0.8 if spread is None else radius
    for side in SIDES:
        start, end = plane.at(side * x, 0), plane.at(side * x, plane.height * rise)
        axes = (X_AXIS, plane.normal)
        solids.prism(start, end, radius, end_radius, sides=chair.leg_sides, axes=axes, material=FRAME)


def _rail(
    solids: Solids, plane: BackPlane, rise: float, half: float, *, material: Material = FRAME, thickness: float = 0.010
) -> None:
    """A board across the whole back."""
    start, end = plane.at(-plane.half_width, rise), plane.at(plane.half_width, rise)
    solids.prism(start, end, (thickness, half), axes=(plane.normal, plane.up), material=material)


def _arm_points(chair: Chair, side: int) -> tuple[float, float, float, float]:
    """x of an arm at the rear and at the front, y where it meets the back, and its height."""
    plane, height = chair.back_plane, chair.seat_height + chair.arm_height
    rear = float(plane.base[1]) - math.tan(chair.tilt) * (height - chair.underside)
    widest = max(chair.half_width, chair.front_half_width)
    return side * (chair.half_width + 0.012), side * (widest + 0.012), rear, height


def post_arms(solids: Solids, chair: Chair) -> None:
    """An arm rest from the back to an upright at the front."""
    for side in SIDES:
        x, front_x, rear, height = _arm_points(chair, side)
        y = chair.half_depth * 0.7
        foot, top = (front_x, y, chair.underside), (front_x, y, height)
        solids.column(foot, top, 0.014, sides=chair.leg_sides, material=FRAME)
        rest = (x, rear, height), (front_x, chair.half_depth * 0.8, height)
        solids.prism(*rest, (0.028, 0.013), axes=(X_AXIS, Z_AXIS), material=FRAME)


def loop_arms(solids: Solids, chair: Chair) -> None:
    """A bent tube from the back down to the seat."""
    for side in SIDES:
        x, front_x, rear, height = _arm_points(chair, side)
        depth = chair.half_depth
        path = [(x, rear, height * 0.98), (front_x, depth * 0.55, height), (front_x, depth * 0.85, height - 0.05)]
        solids.tube([*path, (front_x, depth * 0.75, chair.underside)], 0.014, material=FRAME)


def tee_arms(solids: Solids, chair: Chair) -> None:
    """A pad on an upright."""
    for side in SIDES:
        x, _, _, height = _arm_points(chair, side)
        foot = (x, 0, chair.seat_height - chair.seat_thickness / 2)
        solids.column(foot, (x, 0, height), (0.012, 0.03), material=FRAME)
        pad = (x, -chair.half_depth * 0.6, height), (x, chair.half_depth * 0.55, height)
        solids.prism(*pad, (0.032, 0.016), axes=(X_AXIS, Z_AXIS), material=CUSHION)


def slab_arms(solids: Solids, chair: Chair) -> None:
    """A closed side, as on chairs with panels for legs and on club chairs."""
    floor = {"panels": 0.0, "block": 0.06}.get(chair.legs, chair.underside)
    thickness = 0.09 if chair.legs == "block" else 0.035
    for side in SIDES:
        inner, outer = sorted((side * chair.half_width, side * (chair.half_width + thickness)))
        top = chair.seat_height + chair.arm_height
        solids.box((inner, -chair.half_depth, floor), (outer, chair.half_depth, top), material=SEAT)


def nothing(solids: Solids, chair: Chair) -> None:
    """Adds no part: a stool has no back, and many chairs have no arms."""


SEATS: dict[str, Style] = {
    "square": Style(0.45, flat_seat),
    "trapezoid": Style(0.25, flat_seat),
    "round": Style(0.20, round_seat),
    "bucket": Style(0.10, bucket_seat),
}
LEGS: dict[str, Style] = {
    "four": Style(0.24, four_legs),
    "splayed": Style(0.14, splayed_legs),
    "star": Style(0.14, star_base),
    "disc": Style(0.06, disc_base),
    "sled": Style(0.09, sled_base),
    "cantilever": Style(0.09, cantilever),
    "rockers": Style(0.04, rockers),
    "panels": Style(0.06, panels),
    "crossed": Style(0.06, crossed_legs),
    "block": Style(0.08, block),
}
BACKS: dict[str, Style] = {
    "solid": Style(0.20, solid_back),
    "slats": Style(0.10, slatted_back),
    "spindles": Style(0.12, spindle_back),
    "ladder": Style(0.10, ladder_back),
    "curved": Style(0.14, curved_back),
    "round": Style(0.07, round_back),
    "frame": Style(0.08, framed_back),
    "split": Style(0.06, split_back),
    "crossed": Style(0.06, crossed_back),
    "none": Style(0.07, nothing),
}
ARMS: dict[str, Style] = {
    "none": Style(2 / 6, nothing),
    "post": Style(1 / 6, post_arms),
    "loop": Style(1 / 6, loop_arms),
    "slab": Style(1 / 6, slab_arms),
    "tee": Style(1 / 6, tee_arms),
}
