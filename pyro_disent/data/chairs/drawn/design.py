"""What one generated chair is: its styles, its measures, and the few points its parts are attached to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from pyro_disent.data.chairs.drawn.solids import Array, Solids


class Material(IntEnum):
    """Rows of a chair's palette."""

    SEAT = 0
    FRAME = 1
    CUSHION = 2


@dataclass(frozen=True)
class Chair:
    """The styles and measures of one chair. Lengths in meters, angles in radians, +y is the front."""

    seat: str
    legs: str
    back: str
    arms: str
    width: float
    depth: float
    seat_height: float
    seat_thickness: float
    front_flare: float
    """Front width of a trapezoid seat, relative to its rear."""
    back_height: float
    back_thickness: float
    back_narrowing: float
    """How much narrower a solid back is at the top, a share of its width."""
    tilt: float
    """How far the back leans from upright."""
    bulge: float
    """Depth of a curved back."""
    bars: int
    """Slats, rungs or spindles of a back that has them."""
    arm_height: float
    """Above the seat, without its cushion."""
    cushion: float
    """Thickness of the cushion; 0 for none."""
    leg_radius: float
    leg_taper: float
    """Radius of a leg at the floor, relative to its top."""
    splay: float
    """How far legs spread outwards."""
    round_legs: bool
    stretcher: str
    """Bars between four legs: ``none``, ``H`` or ``box``."""
    star_arms: int
    """Arms of a star base."""
    casters: bool
    colors: tuple[tuple[int, int, int], ...]
    """RGB of seat, frame and cushion."""

    @property
    def half_width(self) -> float:
        return self.width / 2

    @property
    def half_depth(self) -> float:
        return self.depth / 2

    @property
    def front_half_width(self) -> float:
        return self.half_width * (self.front_flare if self.seat == "trapezoid" else 1.0)

    @property
    def has_round_seat(self) -> bool:
        return self.seat in ("round", "bucket")

    @property
    def underside(self) -> float:
        """Height of the seat's lower face."""
        return self.seat_height - self.seat_thickness

    @property
    def leg_sides(self) -> int:
        return 8 if self.round_legs else 4

    @property
    def leg_inset(self) -> tuple[float, float]:
        """Where legs meet the seat, measured from its middle: x at the rear, and y."""
        if self.has_round_seat:
            return self.half_width * 0.78, self.half_depth * 0.72
        return self.half_width - self.leg_radius, self.half_depth - self.leg_radius

    @property
    def leg_tops(self) -> Array:
        """Where four legs meet the seat ``(4, 3)``: rear left, rear right, front right, front left."""
        x, y = self.leg_inset
        front = self.front_half_width - self.leg_radius if self.seat == "trapezoid" else x
        corners = np.array([(-x, -y), (x, -y), (front, y), (-front, y)])
        return np.concatenate([corners, np.full((4, 1), self.underside)], 1)

    @property
    def back_plane(self) -> BackPlane:
        rear = self.half_depth * (0.80 if self.has_round_seat else 1.0) - self.back_thickness
        return BackPlane(
            base=np.array([0.0, -rear, self.underside]),
            up=np.array([0.0, -math.sin(self.tilt), math.cos(self.tilt)]),
            normal=np.array([0.0, math.cos(self.tilt), math.sin(self.tilt)]),
            half_width=self.half_width * (0.82 if self.has_round_seat else 1.0),
            height=self.back_height + self.seat_thickness,
        )


class BackPlane(NamedTuple):
    """The leaning plane of a back, through the rear edge of the seat's lower face."""

    base: Array
    up: Array
    normal: Array
    """Towards who sits."""
    half_width: float
    height: float

    def at(self, x: float, rise: float, out: float = 0.0) -> Array:
        """The point ``x`` to the side, ``rise`` up the plane and ``out`` of it."""
        return self.base + [x, 0.0, 0.0] + self.up * rise + self.normal * out


class Style(NamedTuple):
    """One way to make a part: how often chairs have it, and the function that adds it to a chair."""

    weight: float
    build: Callable[[Solids, Chair], None]
