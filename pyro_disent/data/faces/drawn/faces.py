"""Procedural faces whose causes are CelebA's 40 attributes: what stands in for CelebA where that is not at hand.

Every attribute is drawn, so that the picture changes where it alone does: ``No_Beard`` is the beard along the jaw that
is not there, ``Male`` the jaw, the neck, the lashes and how long hair is worn, ``Young`` the missing wrinkles. What
makes a face attractive is a matter of opinion, in CelebA that of its annotators; here it is even skin, even features,
bright eyes and tidy hair, and it is sampled more often in the young and in women, less often in chubby faces.

Every face draws from its own child of one seed, so that neither the number of threads nor the number of other faces
changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pyro_disent.data.faces.drawn.attributes import ATTRIBUTES, sample_attributes
from pyro_disent.data.faces.drawn.canvas import Canvas
from pyro_disent.data.faces.drawn.design import Face, Nuisances, sample_nuisances
from pyro_disent.data.faces.drawn.dress import clothes, earrings, glasses
from pyro_disent.data.faces.drawn.features import beard, eyes, head, mouth, mustache, neck, nose, skin
from pyro_disent.data.faces.drawn.hair import hair, hair_behind, hat
from pyro_disent.data.sources import Progress
from pyro_disent.data.threads import in_threads

VERSION = 1
"""Raised whenever the same seed gives other pixels or attributes, so that no cache outlives them."""

PARTS = (hair_behind, neck, clothes, head, skin, beard, eyes, nose, mouth, mustache, hair, glasses, earrings, hat)
"""In the order they are drawn, each over those before it."""

BLUR = 0.017
"""Standard deviation of a blurry picture's blur, relative to its size."""


class Faces(NamedTuple):
    """Consecutive faces of a seed."""

    images: NDArray[np.uint8]
    """``(faces, 3, size, size)``"""
    attributes: NDArray[np.bool_]
    """``(faces, 40)``, in the order of `ATTRIBUTES`."""


def draw_face(attributes: NDArray[np.bool_], nuisances: Nuisances, size: int = 64) -> NDArray[np.uint8]:
    """A face from its attributes ``(40,)``, any combination of them, RGB ``(3, size, size)``.

    Raises:
        ValueError: where there are not 40 attributes.
    """
    if np.shape(attributes) != (len(ATTRIBUTES),):
        raise ValueError(f"attributes have shape {np.shape(attributes)}, a face has ({len(ATTRIBUTES)},)")
    canvas = Canvas(Image.fromarray(nuisances.background).resize((size, size), Image.Resampling.BILINEAR))
    face = Face(attributes, nuisances)
    for draw in PARTS:
        draw(canvas, face)
    image = canvas.reduced()
    if face.has["Blurry"]:
        image = image.filter(ImageFilter.GaussianBlur(BLUR * size))
    return np.ascontiguousarray(_lit(image, nuisances).transpose(2, 0, 1))


def _lit(image: Image.Image, nuisances: Nuisances) -> NDArray[np.uint8]:
    """The picture under its light ``(size, size, 3)``: brighter on one side, warm or cold."""
    across = nuisances.brightness + 0.14 * nuisances.light * np.linspace(-1, 1, image.width)
    tint = 1 + 0.04 * nuisances.warmth * np.array([1.0, 0.0, -1.0])
    return np.clip(np.asarray(image) * (across[:, None] * tint), 0, 255).astype(np.uint8)


def render_face(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Face ``index`` of a seed, ``(3, size, size)``, with its attributes ``(40,)``."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    attributes = sample_attributes(generator)
    return draw_face(attributes, sample_nuisances(generator), size), attributes


def render_changed(
    seed: int, indices: Iterable[int], attributes: NDArray[np.bool_], size: int = 64
) -> NDArray[np.uint8]:
    """Faces of a seed with other attributes ``(faces, 40)``; everything else of them stays.

    Returns:
        ``(faces, 3, size, size)``
    """

    def changed(index: int, target: NDArray[np.bool_]) -> NDArray[np.uint8]:
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        sample_attributes(generator)  # drawn first, from the same stream
        return draw_face(target, sample_nuisances(generator), size)

    images = np.empty((len(attributes), 3, size, size), np.uint8)
    for row, (index, target) in enumerate(zip(indices, attributes, strict=True)):
        images[row] = changed(index, target)
    return images


def render_faces(
    seed: int,
    start: int,
    count: int,
    size: int = 64,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Faces:
    """Faces ``start`` to ``start + count`` of a seed.

    Args:
        seed: of all faces.
        start: index of the first one.
        count: how many.
        size: height and width.
        progress: called with (faces done, faces in all).
        workers: number of threads; None: one per core. Does not change the result.
    """
    images = np.empty((count, 3, size, size), np.uint8)
    attributes = np.empty((count, len(ATTRIBUTES)), bool)
    indices = range(start, start + count)
    rendered = in_threads(lambda index: render_face(seed, index, size), indices, count, progress, workers)
    for row, (image, known) in enumerate(rendered):
        images[row], attributes[row] = image, known
    return Faces(images, attributes)
