"""Every method and sum equals what its equation says, written out by hand: value and gradient, in float64."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch

from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import LIKELIHOODS
from pyro_disent.objectives.elbo import Objective, total
from pyro_disent.objectives.methods import METHODS, Setting, build
from tests import by_hand
from tests.models import conditional_latents, linear_vae, pair_batch
from tests.table import ROWS
from tests.test_terms import EDGES


class Case(NamedTuple):
    latents: list[Latent]
    shared: dict[str, Any]
    """Rows of the masks, repeated over the images of the batch."""


CASES = {
    "z and y": Case([Latent("z", 3), Latent("y", 2)], {"z": [[True]], "y": [[False]]}),
    "everything shared": Case([Latent("z", 3), Latent("y", 2)], {"z": [[True]], "y": [[True]]}),
    "nothing shared": Case([Latent("z", 3), Latent("y", 2)], {"z": [[False]], "y": [[False]]}),
    "three latents": Case(
        [Latent("z", 3), Latent("rotation", 1), Latent("scale", 2)],
        {"z": [[True]], "rotation": [[True], [False]], "scale": [[False], [True]]},
    ),
    "unit by unit": Case([Latent("z", 3)], {"z": [[True, False, True], [False, False, True]]}),
    "conditional prior": Case(conditional_latents(), {"y": [[False]], "z": [[True]]}),
}


def without_rounding(objective: Objective) -> Objective:
    """In float64, with the numbers that are stored in float32 as they were meant."""
    objective.double()
    weights = objective.weights
    weights.values.copy_(torch.tensor([float(weight) for weight in weights.given.values()], dtype=torch.float64))  # type: ignore[arg-type]
    for name, buffer in objective.named_buffers():
        if name.endswith("likelihood.log_scale"):
            buffer.fill_(math.log(by_hand.SCALE))
    return objective


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("method", ROWS)
def test_value_and_gradient_are_those_of_the_equation(method: str, likelihood: str, case: str) -> None:
    latents, rows = CASES[case]
    vae = linear_vae(latents, LIKELIHOODS[likelihood]())
    elbo = build(method, Setting(tuple(latents), EDGES))
    objective = without_rounding(elbo(vae.model, vae.guide))
    shared = {name: torch.tensor(mask * (6 // len(mask))) for name, mask in rows.items()}
    batch = pair_batch(dtype=torch.float64, **shared)

    torch.manual_seed(1)
    record = objective.record(batch)
    torch.manual_seed(1)
    loss, opponents = by_hand.loss(method, vae, likelihood, batch, objective.terms)

    assert record.loss.item() == pytest.approx(loss.item(), rel=1e-9)
    assert sum(value.item() for value in record.opponents.values()) == pytest.approx(opponents.item(), rel=1e-9)
    named = dict(objective.named_parameters())
    ours, hand = (
        torch.autograd.grad(value, list(named.values()), allow_unused=True, materialize_grads=True)
        for value in (total(record), loss + opponents)
    )
    for name, one, other in zip(named, ours, hand, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_every_method_is_written_out_by_hand() -> None:
    assert METHODS.keys() == {"vae", "beta-vae", "cycle", *by_hand.TERMS}
