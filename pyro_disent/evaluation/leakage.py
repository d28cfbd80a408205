"""Leaks: how much of a known factor a non-linear regressor can read from a code that should not hold it.

`evaluate` reads every leak from two codes. In posterior means (the protocol's reading) trees find the smallest trace.
Draws from the posteriors show what a latent really passes on: where its means vary by only a hundredth of the
posterior's scale, draws tell nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

FIT_IMAGES = 20_000
"""Training images a regressor is fitted on, at most."""

Array = NDArray[np.float64]


def leak(
    z_train: Tensor,
    factor_train: Tensor,
    z_test: Tensor,
    factor_test: Tensor,
    circular: bool,
    *,
    seed: int = 0,
) -> float:
    """R2 on test images of boosted trees from a code to a factor: 1 where the code tells it, 0 where it tells nothing.

    The regressor is scikit-learn's ``HistGradientBoostingRegressor`` with its defaults, fitted on 20,000 training
    images (a seeded choice; all of them where there are fewer). The R2 is not clipped: a code without information
    scores a little below 0. Images whose factor is not known (NaN) are left out.

    Args:
        z_train: codes ``(images, width)``.
        factor_train: the factor's value ``(images,)``; angles in radians.
        z_test: codes ``(images, width)``.
        factor_test: the factor's value ``(images,)``.
        circular: whether the factor wraps around at 2 pi: the R2 is then the mean over its cosine and its sine.
        seed: for the choice of images and for the regressor.
    """
    fitted = fit_regressors(z_train, factor_train, circular, seed=seed)
    return r2(fitted(z_test), factor_test, circular)


def pair_leak(
    codes_train: Tensor,
    factor_train: Tensor,
    codes_test: Tensor,
    factor_test: Tensor,
    circular: bool,
    *,
    seed: int = 0,
) -> float:
    """R2 of the same regressor from the difference of a pair's two codes to the difference of its two factors.

    A code may describe a factor relative to a zero that differs between images (handwritten digits differ in slant).
    Absolute values are then hard to read from a code that moves exactly as the factor does; differences are not.

    Args:
        codes_train: ``(2, pairs, width)``.
        factor_train: ``(2, pairs)``.
        codes_test: ``(2, pairs, width)``.
        factor_test: ``(2, pairs)``.
        circular: as in `leak`.
        seed: as in `leak`.
    """
    return leak(
        codes_train[0] - codes_train[1],
        factor_train[0] - factor_train[1],
        codes_test[0] - codes_test[1],
        factor_test[0] - factor_test[1],
        circular,
        seed=seed,
    )


class Fitted:
    """Boosted trees from a code to one factor: one regressor, or one for the cosine and one for the sine."""

    def __init__(self, code: Array, targets: Array, seed: int) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self._regressors = [HistGradientBoostingRegressor(random_state=seed).fit(code, target) for target in targets.T]

    def __call__(self, code: Tensor) -> Array:
        """Predicted values ``(images, 1)``, or ``(images, 2)`` for the cosine and sine of a circular factor."""
        return np.stack([regressor.predict(_array(code)) for regressor in self._regressors], -1)


def fit_regressors(code: Tensor, factor: Tensor, circular: bool, *, seed: int = 0) -> Fitted:
    """The regressor of `leak`, fitted on at most `FIT_IMAGES` images whose factor is known."""
    values = _array(factor)
    rows = np.flatnonzero(np.isfinite(values))
    if len(rows) > FIT_IMAGES:
        rows = np.random.default_rng(seed).choice(rows, FIT_IMAGES, replace=False)
    return Fitted(_array(code)[rows], targets(factor, circular)[rows], seed)


def r2(predicted: Array, factor: Tensor, circular: bool) -> float:
    """Mean R2 over the columns of ``predicted`` (one, or cosine and sine), over images whose factor is known."""
    from sklearn.metrics import r2_score

    mask = np.isfinite(_array(factor))
    return float(r2_score(targets(factor, circular)[mask], predicted[mask], multioutput="uniform_average"))


def targets(factor: Tensor, circular: bool) -> Array:
    """The regression targets: ``(images, 1)``, or ``(images, 2)`` for the cosine and sine of a circular factor."""
    values = _array(factor)
    return np.stack([np.cos(values), np.sin(values)], -1) if circular else values[:, None]


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()
