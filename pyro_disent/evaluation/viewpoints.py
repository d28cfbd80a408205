"""How well a code keeps an identity, and how much it tells of the view, on identities that were never trained on."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyro_disent.data.dataset import Split
from pyro_disent.evaluation.leakage import Array

DRAWS = 20
"""Recall@1 is the mean over this many seeded galleries."""

SYMMETRIC_SHARE = 0.05
"""The share of training images that is near-symmetric by definition."""


def recall_at_1(codes: Tensor, identity: Tensor, view: Tensor, *, seed: int = 0, draws: int = DRAWS) -> float:
    """How often the nearest code of another view is one of the same identity.

    The query is the code of one view of an identity. Its gallery holds the code of *one* view of every identity, never
    the query's view: as many entries as identities, one of them right. Distances are Euclidean. In each draw every
    identity is the query once, with a newly drawn view and gallery. Chance is one over the number of identities.

    (If the gallery held all other images, the nearest one would mostly be a neighboring view, which raw pixels find as
    well. With one view for each identity, only the identity can help.)

    Args:
        codes: ``(images, width)``: a latent's posterior means, or raw pixels.
        identity: ``(images,)`` integers.
        view: ``(images,)``: an image whose value equals the query's is the same view and is not in its gallery.
        seed: for all draws.
        draws: how many; the result is their mean.

    Raises:
        ValueError: where no identity has two views.
    """
    rng = np.random.default_rng(seed)
    code = codes.detach().flatten(1).cpu().float().numpy()
    views = view.cpu().numpy()
    _, person = np.unique(identity.cpu().numpy(), return_inverse=True)
    members = [np.flatnonzero(person == i) for i in range(person.max() + 1)]
    hits = queries = 0
    for _ in range(draws):
        for i, images in enumerate(members):
            query = rng.choice(images)
            # The first of each identity in a random order is a uniform draw among its views.
            order = rng.permutation(np.flatnonzero(views != views[query]))
            present, first = np.unique(person[order], return_index=True)
            if i not in present:
                continue
            distance = np.linalg.norm(code[order[first]] - code[query], axis=1)
            hits += int(present[distance.argmin()] == i)
            queries += 1
    if not queries:
        raise ValueError("recall@1 needs identities with at least two views")
    return hits / queries


def recall_by_chance(identity: Tensor, view: Tensor) -> float:
    """`recall_at_1` of codes without information: the mean over queries of one over the entries of a gallery.

    Where each identity has several views, that is one over the number of identities.

    Raises:
        ValueError: where no identity has two views.
    """
    _, person = np.unique(identity.cpu().numpy(), return_inverse=True)
    views = view.cpu().numpy()
    pairs = np.unique(np.stack([person, np.unique(views, return_inverse=True)[1]]), axis=1)
    views_of = np.bincount(pairs[0])
    # An identity with a single view is missing from the gallery of a query that has this view.
    missing = np.bincount(pairs[1], weights=views_of[pairs[0]] == 1)
    entries = len(views_of) - missing[np.unique(views, return_inverse=True)[1]]
    is_query = views_of[person] > 1
    if not is_query.any():
        raise ValueError("recall@1 needs identities with at least two views")
    of_each = [float((1 / entries[is_query & (person == i)]).mean()) for i in np.flatnonzero(views_of > 1)]
    return float(np.mean(of_each))


def angle_error(predicted: Array, angle: Tensor) -> Array:
    """Absolute error in degrees, ``(images,)`` in [0, 180], of angles predicted as cosine and sine.

    Args:
        predicted: ``(images, 2)``, of any length: the angle is their ``atan2``.
        angle: ``(images,)`` radians.
    """
    difference = np.arctan2(predicted[:, 1], predicted[:, 0]) - angle.cpu().double().numpy()
    return np.abs(np.rad2deg((difference + math.pi) % (2 * math.pi) - math.pi))


def near_symmetric(test: Split, train: Split) -> Tensor:
    """Which test images show an identity that looks the same after half a turn, ``(images,)`` bool.

    In such an image an azimuth cannot be told from the opposite one, so its error says nothing about a code.

    A split may carry ``asymmetry``, ``(images,)``: the mean absolute pixel difference in [0, 1] between an identity's
    views half a turn apart, equal for all images of an identity. An image is near-symmetric if its asymmetry is below
    the 5 % quantile of the *training* images: the threshold depends on no model and on no test image. A split without
    ``asymmetry`` has no near-symmetric images.
    """
    asymmetry, of_train = getattr(test, "asymmetry", None), getattr(train, "asymmetry", None)
    if asymmetry is None or of_train is None:
        return torch.zeros(len(test), dtype=torch.bool)
    return asymmetry.cpu() < np.quantile(of_train.cpu().numpy(), SYMMETRIC_SHARE)
