"""Every method and sum equals what its equation says, written out by hand: value and gradient, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import LIKELIHOODS
from pyro_disent.objectives.elbo import Objective, total
from pyro_disent.objectives.methods import METHODS, Setting, build_objective
from tests import by_hand
from tests.models import conditional_latents, linear_vae, pair_batch
from tests.table import ROWS


class Case(NamedTuple):
    latents: Callable[[], list[Latent]]
    shared: dict[str, Any]
    """Rows of the masks, repeated over the images of the batch."""


def z_and_y() -> list[Latent]:
    return [Latent("z", 3), Latent("y", 2, explains="rest")]


CASES = {
    "z and y": Case(z_and_y, {"z": [[True]], "y": [[False]]}),
    "everything shared": Case(z_and_y, {"z": [[True]], "y": [[True]]}),
    "nothing shared": Case(z_and_y, {"z": [[False]], "y": [[False]]}),
    "three latents": Case(
        lambda: [
            Latent("z", 3),
            Latent("rotation", 1, explains=("rotation",)),
            Latent("scale", 2, explains=("scale",)),
        ],
        {"z": [[True]], "rotation": [[True], [False]], "scale": [[False], [True]]},
    ),
    "unit by unit": Case(lambda: [Latent("z", 3)], {"z": [[True, False, True], [False, False, True]]}),
    "conditional prior": Case(conditional_latents, {"y": [[False]], "z": [[True]]}),
}


def without_rounding(objective: Objective) -> Objective:
    """In float64, with the numbers that are stored in float32 as they were meant."""
    objective.double()
    weights = objective.weights
    weights.values.copy_(torch.tensor([float(weight) for weight in weights.by_name.values()], dtype=torch.float64))  # type: ignore[arg-type]
    for name, buffer in objective.named_buffers():
        if name.endswith("likelihood.log_scale"):
            buffer.fill_(math.log(by_hand.SCALE))
    return objective


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("method", ROWS)
def test_value_and_gradient_are_those_of_the_equation(method: str, likelihood: str, case: str) -> None:
    latents, rows = CASES[case].latents(), CASES[case].shared
    vae = linear_vae(latents, LIKELIHOODS[likelihood]())
    edges = {factor: torch.tensor(values) for factor, values in by_hand.EDGES.items()}
    elbo = build_objective(method, Setting(tuple(latents), edges))
    objective = without_rounding(elbo(vae.model, vae.guide))
    shared = {name: torch.tensor(mask * (6 // len(mask))) for name, mask in rows.items()}
    batch = pair_batch(dtype=torch.float64, **shared)
    batch.factors["size"] = torch.where(torch.rand(2, 6) < 0.3, torch.nan, torch.randn(2, 6, dtype=torch.float64))

    torch.manual_seed(1)
    record = objective.record(batch)
    torch.manual_seed(1)
    loss, opponents = by_hand.loss(method, vae, likelihood, batch, objective.terms)

    # Near logits of 0, the mean of a continuous Bernoulli is a series of two terms.
    series = likelihood == "continuous-bernoulli" and method == "reverse-cycle"
    relative = 1e-6 if series else 1e-10
    assert record.loss.item() == pytest.approx(loss.item(), rel=relative)
    assert sum(value.item() for value in record.opponents.values()) == pytest.approx(opponents.item(), rel=1e-10)
    assert record.kl.keys() == {latent.name for latent in latents}
    named = dict(objective.named_parameters())
    ours, hand = (
        torch.autograd.grad(value, list(named.values()), allow_unused=True, materialize_grads=True)
        for value in (total(record), loss + opponents)
    )
    for name, one, other in zip(named, ours, hand, strict=True):
        message = lambda text, name=name: f"{name}: {text}"  # noqa: E731
        torch.testing.assert_close(one, other, rtol=10 * relative, atol=1e-10 if series else 1e-12, msg=message)


def test_every_method_is_written_out_by_hand() -> None:
    assert METHODS.keys() == {"vae", "beta-vae", "cycle", *by_hand.TERMS}
