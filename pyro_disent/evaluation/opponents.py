"""How well the opponent of Eq. 3, and a fresh classifier, tell factors from a code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Batch, as_float
from pyro_disent.data.dataset import Examples
from pyro_disent.evaluation.leakage import FIT_IMAGES
from pyro_disent.models.program import evaluating, forked_random_state, seed_random_state
from pyro_disent.objectives.elbo import Objective
from pyro_disent.objectives.terms import UNKNOWN, Prediction

_CHUNK = 1_024


def prediction(objective: Objective) -> Prediction | None:
    """The objective's term of Eq. 3, where it has one."""
    return next((term for term in objective.terms.values() if isinstance(term, Prediction)), None)


def skill(objective: Objective, term: Prediction, examples: Examples, *, seed: int = 0) -> dict[str, float]:
    """The opponent's accuracy, and the share of the most frequent bin: `Prediction.skill` over all images.

    Args:
        examples: uint8 images and their factors.
        seed: for draws from the posterior, if the opponent sees draws.
    """
    device = next(objective.parameters()).device
    rows = torch.arange(len(examples.images))
    with evaluating(objective), torch.no_grad(), forked_random_state(device):
        seed_random_state(seed, device)
        codes = []
        for index in rows.split(_CHUNK):
            images = as_float(examples.images[index.to(examples.images.device)].to(device)).unsqueeze(0)
            codes.append(term.code(objective.step(Batch(images))).squeeze(0))
        factors = {name: examples.factors[name].to(device).unsqueeze(0) for name in term.factors}
        return {name: value.item() for name, value in term.skill_on(torch.cat(codes).unsqueeze(0), factors).items()}


def classifier_accuracy(code: Tensor, bins: Tensor, test_code: Tensor, test_bins: Tensor, *, seed: int = 0) -> float:
    """Accuracy on test images of boosted trees from a code to a factor's bin, fitted on at most 20,000 training images.

    scikit-learn's ``HistGradientBoostingClassifier`` with its defaults; images whose factor is not known are left out.

    Args:
        code, test_code: ``(images, width)``.
        bins, test_bins: ``(images,)`` int64, as `terms.quantized` gives them.
        seed: for the choice of images and for the classifier.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = np.flatnonzero((bins != UNKNOWN).cpu().numpy())
    if len(rows) > FIT_IMAGES:
        rows = np.random.default_rng(seed).choice(rows, FIT_IMAGES, replace=False)
    test_mask = (test_bins != UNKNOWN).cpu().numpy()
    classifier = HistGradientBoostingClassifier(random_state=seed)
    classifier.fit(code.cpu().double().numpy()[rows], bins.cpu().numpy()[rows])
    return float(classifier.score(test_code.cpu().double().numpy()[test_mask], test_bins.cpu().numpy()[test_mask]))
