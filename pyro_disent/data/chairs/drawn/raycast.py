"""A ray caster for convex prisms in NumPy: one object from all its views at once.

Along the ray through a pixel the *inverse* depth of a plane is affine in the pixel's coordinates. A convex prism is hit
where the smallest inverse depth of the planes that face the eye exceeds the largest of those that face away, and the
former is then the inverse depth of the hit. So a plane costs one addition and one comparison a pixel, and a depth
buffer of inverse depths starts at zero, which is infinitely far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pyro_disent.data.chairs.drawn.solids import Array, Prism

Float32 = NDArray[np.float32]
Image = NDArray[np.uint8]

SUPERSAMPLING = 2
"""Rays a pixel along each axis."""
FIELD_OF_VIEW = math.radians(22)
LIGHT = np.array([-0.45, 0.70, 0.55]) / np.linalg.norm([-0.45, 0.70, 0.55])
"""Towards the light, in the camera's frame: left, up, towards the camera."""
BACKGROUND = 255.0

# Colors are summed over a pixel's rays as integers in 1 / 64, four 16-bit lanes in one 64-bit word: one lookup and
# one addition serve all channels, and 255 * 64 * 2 * 2 still fits a lane.
_FIXED_POINT = 64


def render(
    prisms: Sequence[Prism], colors: Array, azimuth: Array, elevation: Array, zoom: Array, size: int = 64
) -> Image:
    """One object of radius 1 about the origin from many views, on white, lit from the camera's upper left.

    Args:
        prisms: the object.
        colors: ``(materials, 3)``, RGB in [0, 255].
        azimuth: ``(views,)`` radians; 0 looks at the object's front (+y), a quarter turn at its +x side.
        elevation: ``(views,)`` radians above the horizon.
        zoom: ``(views,)``; at 1 the object's bounding sphere just fits the image, below it is further away.
        size: height and width of the images.

    Returns:
        ``(views, size, size, 3)`` RGB.
    """
    views, samples = len(azimuth), size * SUPERSAMPLING
    planes = [prism.planes() for prism in prisms]
    normals = np.concatenate([normal for normal, _ in planes])
    offsets = np.concatenate([offset for _, offset in planes])
    materials = np.repeat([prism.material for prism in prisms], [len(offset) for _, offset in planes])

    eye, frame = cameras(azimuth, elevation, zoom)
    facing = np.einsum("fi,vji->vfj", normals, frame)  # normals in every camera's frame
    clearance = offsets - eye @ normals.T  # negative: the eye is in front of this plane
    in_front = clearance < 0
    clearance = np.where(in_front, np.minimum(clearance, -1e-6), np.maximum(clearance, 1e-6))
    slopes = (facing * [math.tan(FIELD_OF_VIEW / 2), -math.tan(FIELD_OF_VIEW / 2), -1.0] / clearance[..., None]).astype(
        np.float32
    )

    inverse_depth = np.zeros((views, samples, samples), np.float32)
    face_drawn = np.zeros((views, samples, samples), np.uint16)  # 0: background
    corners = _project(np.concatenate([prism.vertices for prism in prisms]), eye, frame, samples)
    vertex, face = 0, 0
    for prism, (_, offset) in zip(prisms, planes, strict=True):
        vertices, faces = slice(vertex, vertex + len(prism.vertices)), slice(face, face + len(offset))
        _draw(inverse_depth, face_drawn, corners[:, vertices], slopes[:, faces], in_front[:, faces], face + 1)
        vertex, face = vertices.stop, faces.stop
    return _resolve(face_drawn, _palette(colors[materials], _shade(facing, normals)), size)


def cameras(azimuth: Array, elevation: Array, zoom: Array) -> tuple[Array, Array]:
    """Where each camera is ``(views, 3)``, and its right, up and backward unit vectors ``(views, 3, 3)``."""
    flat = np.zeros_like(azimuth)
    backward = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)], -1
    )
    right = np.stack([-np.cos(azimuth), np.sin(azimuth), flat], -1)
    up = np.cross(backward, right)
    distance = 1.05 / math.sin(FIELD_OF_VIEW / 2) / zoom
    return backward * distance[:, None], np.stack([right, up, backward], 1)


def _project(vertices: Array, eye: Array, frame: Array, samples: int) -> Array:
    """Vertices ``(n, 3)`` on every camera's grid of rays: ``(views, n, 2)`` columns and rows."""
    seen = np.einsum("vji,vni->vnj", frame, vertices - eye[:, None])
    scale = math.tan(FIELD_OF_VIEW / 2) * -seen[..., 2:]
    return (seen[..., :2] / scale * [1.0, -1.0] + 1) / 2 * samples


def _draw(
    inverse_depth: Float32,
    face_drawn: NDArray[np.uint16],
    corners: Array,
    slopes: Float32,
    in_front: NDArray[np.bool_],
    first_face: int,
) -> None:
    """Draw one prism into every view's depth buffer, within its box on the screen.

    The boxes of all views get the size of the largest, so that one operation serves all of them.
    """
    views, samples, _ = inverse_depth.shape
    low = np.maximum(np.floor(corners.min(1) - 1).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(1) + 1).astype(int), samples)
    width, height = (high - low).max(0)
    if width <= 0 or height <= 0:
        return
    left, top = np.clip(low, 0, samples - np.array([width, height])).T
    centers = ((np.arange(samples, dtype=np.float32) + 0.5) / samples * 2 - 1).astype(np.float32)
    columns, rows = centers[left[:, None] + np.arange(width)], centers[top[:, None] + np.arange(height)]

    front, back = _sorted_faces(in_front)
    every = np.arange(views)
    across = slopes[..., :1] * columns[:, None] + slopes[..., 2:]  # (views, faces, width)
    down = slopes[..., 1:2] * rows[:, None]  # (views, faces, height)

    def plane(faces: NDArray[np.intp]) -> Float32:
        return across[every, faces][:, None, :] + down[every, faces][:, :, None]

    nearest = plane(front[0])
    hit_face = np.empty(nearest.shape, np.uint16)
    hit_face[:] = (front[0] + first_face)[:, None, None]
    for faces in front[1:]:
        value = plane(faces)
        np.copyto(hit_face, (faces + first_face).astype(np.uint16)[:, None, None], where=value < nearest)
        np.minimum(nearest, value, out=nearest)

    windows = sliding_window_view(inverse_depth, (height, width), axis=(1, 2), writeable=True)
    face_windows = sliding_window_view(face_drawn, (height, width), axis=(1, 2), writeable=True)
    before = windows[every, top, left]
    limit = before.copy()
    for faces in back:
        np.maximum(limit, plane(faces), out=limit)
    hit = nearest > limit
    np.copyto(before, nearest, where=hit)
    windows[every, top, left] = before
    face_before = face_windows[every, top, left]
    np.copyto(face_before, hit_face, where=hit)
    face_windows[every, top, left] = face_before


def _sorted_faces(in_front: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Faces towards the eye and away from it, ``(most in any view, views)``; views with fewer repeat their last one."""
    order = np.argsort(~in_front, axis=1, kind="stable")
    towards = in_front.sum(1)
    away = in_front.shape[1] - towards
    every = np.arange(len(order))
    front = order[every, np.minimum(np.arange(towards.max())[:, None], towards - 1)]
    back = order[every, -1 - np.minimum(np.arange(away.max())[:, None], away - 1)]
    return front, back


def _shade(facing: Array, normals: Array) -> Array:
    """The brightness of each face in each view ``(views, faces)``: some light from above, more from the lamp."""
    lambert = np.clip(facing @ LIGHT, 0, 1)
    return np.clip(0.42 + 0.12 * normals[:, 2] + 0.55 * lambert, 0.12, 1.05)


def _palette(colors: Array, brightness: Array) -> NDArray[np.uint64]:
    """The background's and every lit face's color in each view, packed: ``(views, 1 + faces)``."""
    views, faces = brightness.shape
    lanes = np.full((views, 1 + faces, 4), BACKGROUND * _FIXED_POINT, np.uint16)
    lanes[:, 1:, :3] = np.minimum(colors * brightness[..., None], 255) * _FIXED_POINT
    return lanes.view(np.uint64)[..., 0]


def _resolve(face_drawn: NDArray[np.uint16], palette: NDArray[np.uint64], size: int) -> Image:
    """Mean color over the rays of each pixel, rounded."""
    images = np.empty((len(face_drawn), size, size, 3), np.uint8)
    for image, faces, packed in zip(images, face_drawn, palette, strict=True):
        rays = packed[faces]
        total = sum(
            rays[i::SUPERSAMPLING, j::SUPERSAMPLING] for i in range(SUPERSAMPLING) for j in range(SUPERSAMPLING)
        )
        lanes = np.ascontiguousarray(total).view(np.uint16).reshape(size, size, 4)
        scale = _FIXED_POINT * SUPERSAMPLING**2
        image[:] = (lanes[..., :3] + np.uint16(scale // 2)) // np.uint16(scale)
    return images
