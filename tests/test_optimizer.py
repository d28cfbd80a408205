"""Our Adam against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pyro_disent.compiled.adam import Adam


def two_networks() -> tuple[nn.Module, nn.Module]:
    network = nn.Sequential(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.Flatten(), nn.Linear(144, 5))
    return network, copy.deepcopy(network)


def grouped(network: nn.Module) -> list[dict]:
    first, last = network[0], network[2]
    return [{"params": list(first.parameters())}, {"params": list(last.parameters()), "lr": 0.1, "betas": (0.5, 0.9)}]


def give_gradients(*networks: nn.Module) -> None:
    for parameters in zip(*(network.parameters() for network in networks), strict=True):
        gradient = torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()


def test_is_torchs_fused_adam_bit_by_bit() -> None:
    ours, theirs = two_networks()
    optimizer, reference = Adam(grouped(ours), lr=1e-2), torch.optim.Adam(grouped(theirs), lr=1e-2, fused=True)
    for step in range(20):
        give_gradients(ours, theirs)
        for each in (optimizer, reference):
            each.param_groups[0]["lr"] = 1e-2 / (step + 1)
            each.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)


def test_states_are_exchanged_with_torchs() -> None:
    ours, theirs = two_networks()
    optimizer, reference = Adam(grouped(ours), lr=1e-2), torch.optim.Adam(grouped(theirs), lr=1e-2, fused=True)
    give_gradients(ours, theirs)
    reference.step()
    ours.load_state_dict(theirs.state_dict())
    optimizer.load_state_dict(copy.deepcopy(reference.state_dict()))  # torch would share the tensors
    assert reference.state_dict().keys() == optimizer.state_dict().keys()
    for _ in range(3):
        give_gradients(ours, theirs)
        optimizer.step()
        reference.step()
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    give_gradients(ours, theirs)
    optimizer.step()
    reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_parameters_without_a_gradient_stay() -> None:
    network, _ = two_networks()
    optimizer = Adam(network.parameters())
    optimizer.step()
    give_gradients(network)
    network[2].weight.grad = None
    before = network[2].weight.clone()
    optimizer.step()
    assert torch.equal(network[2].weight, before)


def test_a_closure_is_refused() -> None:
    network, _ = two_networks()
    with pytest.raises(TypeError, match="closure"):
        Adam(network.parameters()).step(lambda: 0.0)
