"""Convex prisms, the only solid the generated objects are made of: two parallel, similar rings of vertices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

X_AXIS: Array = np.array([1.0, 0.0, 0.0])
Y_AXIS: Array = np.array([0.0, 1.0, 0.0])
Z_AXIS: Array = np.array([0.0, 0.0, 1.0])


class Prism(NamedTuple):
    """One convex solid and its material."""

    vertices: Array
    """``(2 sides, 3)``: bottom ring, then top ring, both counter-clockwise about the axis from bottom to top."""
    material: int
    """Row of the palette the object is painted with."""

    def planes(self) -> tuple[Array, Array]:
        """Outward unit normals ``(sides + 2, 3)`` and offsets ``(sides + 2,)``: inside is ``normal @ x <= offset``."""
        sides = len(self.vertices) // 2
        bottom, top = self.vertices[:sides], self.vertices[sides:]
        bottom_edge = np.roll(bottom, -1, axis=0) - bottom
        top_edge = np.roll(top, -1, axis=0) - top
        # The longer of two parallel edges: the other one may have shrunk to a point.
        longer = (bottom_edge**2).sum(1, keepdims=True) > (top_edge**2).sum(1, keepdims=True)
        side_normals = np.cross(np.where(longer, bottom_edge, top_edge), top - bottom)
        cap = np.cross(bottom[1] - bottom[0], bottom[2] - bottom[1])
        normals = np.concatenate([side_normals, [-cap, cap]])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        points = np.concatenate([bottom, [bottom[0], top[0]]])
        return normals, (normals * points).sum(1)


class Solids:
    """Prisms collected one by one; every length is in meters, z is up."""

    def __init__(self) -> None:
        self.prisms: list[Prism] = []

    def prism(
        self,
        start: ArrayLike,
        end: ArrayLike,
        radii: ArrayLike,
        end_radii: ArrayLike | None = None,
        *,
        sides: int = 4,
        axes: tuple[Array, Array] | None = None,
        material: int = 0,
    ) -> None:
        """A prism from ``start`` to ``end``; with four sides a (tapered) box.

        Args:
            start: center of the bottom ring.
            end: center of the top ring.
            radii: half extents of the bottom ring along both axes, or one number for both.
            end_radii: the same for the top ring; None for no taper.
            sides: vertices of each ring.
            axes: directions in which the half extents are measured; None: any two across the prism.
            material: row of the palette.
        """
        first, last = np.asarray(start, float), np.asarray(end, float)
        across, along = axes or _perpendicular(last - first)
        angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
        cosine, sine = np.cos(angle), np.sin(angle)
        if sides == 4:
            cosine, sine = np.sign(cosine), np.sign(sine)

        def ring(center: Array, extents: ArrayLike) -> Array:
            wide, high = np.broadcast_to(np.asarray(extents, float), (2,))
            return center + np.outer(cosine * wide, across) + np.outer(sine * high, along)

        bottom, top = ring(first, radii), ring(last, radii if end_radii is None else end_radii)
        if np.cross(across, along) @ (last - first) < 0:
            bottom, top = bottom[::-1], top[::-1]
        self.prisms.append(Prism(np.concatenate([bottom, top]), material))

    def box(self, low: ArrayLike, high: ArrayLike, *, material: int = 0) -> None:
        """A box between two corners."""
        lower, upper = np.asarray(low, float), np.asarray(high, float)
        center, half = (lower + upper) / 2, (upper - lower) / 2
        self.column(
            (center[0], center[1], lower[2]), (center[0], center[1], upper[2]), half[:2], sides=4, material=material
        )

    def column(
        self,
        start: ArrayLike,
        end: ArrayLike,
        radii: ArrayLike,
        end_radii: ArrayLike | None = None,
        *,
        sides: int = 4,
        material: int = 0,
    ) -> None:
        """A prism with horizontal ends, whatever the slant of its axis, as a leg stands on the floor."""
        self.prism(start, end, radii, end_radii, sides=sides, axes=(X_AXIS, Y_AXIS), material=material)

    def tube(self, points: Sequence[ArrayLike], radii: ArrayLike, *, sides: int = 6, material: int = 0) -> None:
        """Prisms along a polyline, each a little longer than its part, so that the joints close."""
        corners = [np.asarray(point, float) for point in points]
        thickness = float(np.max(np.asarray(radii, float)))
        for start, end in pairwise(corners):
            length = float(np.linalg.norm(end - start))
            if length > 1e-6:
                overlap = (end - start) / length * min(thickness * 0.6, length * 0.3)
                self.prism(start - overlap, end + overlap, radii, sides=sides, material=material)

    def normalized(self) -> list[Prism]:
        """The prisms moved and scaled so that their box is centered at the origin and reaches radius 1."""
        vertices = np.concatenate([prism.vertices for prism in self.prisms])
        center = (vertices.min(0) + vertices.max(0)) / 2
        radius = np.linalg.norm(vertices - center, axis=1).max()
        return [prism._replace(vertices=(prism.vertices - center) / radius) for prism in self.prisms]


def _perpendicular(direction: Array) -> tuple[Array, Array]:
    """Two unit vectors, perpendicular to a direction and to each other; the first as close to x as possible."""
    axis = direction / np.linalg.norm(direction)
    hint = X_AXIS if abs(axis[0]) < 0.9 else Y_AXIS
    across = hint - axis * (hint @ axis)
    across /= np.linalg.norm(across)
    return across, np.cross(axis, across)
