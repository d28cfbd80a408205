"""The weights of a run's checkpoint, for an objective that they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pyro_disent.errors import InputError
from pyro_disent.models.latents import Latent
from pyro_disent.models.specification import LatentSpec
from pyro_disent.objectives.elbo import Objective
from pyro_disent.pixels import ImageShape
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.config import FitConfig
from pyro_disent.training.run_folder import RunFolder


def check_alike(folder: RunFolder, config: FitConfig, image_shape: ImageShape, latents: Sequence[Latent]) -> None:
    """Raises InputError where a run's weights cannot fit another model, and names the settings that differ."""
    record = folder.read_record()
    ours = {latent.name: LatentSpec.describing(latent) for latent in latents}
    both = {
        "channels": (record.image_shape[0], image_shape[0]),
        "image size": ["x".join(map(str, shape[1:])) for shape in (record.image_shape, image_shape)],
        "network": (record.fit.network, config.network),
        "model": (record.fit.model, config.model),
        "latents": [_listed(specs) for specs in (record.latents, ours)],
    }
    if unlike := [f"{what}: {theirs} there, {ours} here" for what, (theirs, ours) in both.items() if theirs != ours]:
        raise InputError(f"the weights of {folder.path} are those of another model or method: {'; '.join(unlike)}")


def _listed(latents: Mapping[str, LatentSpec]) -> str:
    return ", ".join(
        f"{name}={spec.units}{f':{spec.family}' * (spec.family != 'normal')}" for name, spec in latents.items()
    )


def load_weights(objective: Objective, folder: RunFolder, which: Which) -> None:
    """Give an objective the weights of a run's checkpoint.

    Raises:
        InputError: where they are another model's; nothing is loaded then.
    """
    objective.load_state_dict(fitting(objective, folder, which))


def fitting(objective: Objective, folder: RunFolder, which: Which) -> dict[str, torch.Tensor]:
    """The weights of a run's checkpoint; raises InputError where they are not those of this objective."""
    weights, parameters = folder.weights(which), objective.state_dict()
    other = f"the weights of {folder.path} are those of another model or method"
    for name in sorted(weights.keys() | parameters.keys()):
        if name not in weights or name not in parameters:
            raise InputError(f"{other}: {name} is {'not among them' if name not in weights else 'one too many'}")
        # A tensor of another type would be converted, and rounded, silently.
        if (weights[name].shape, weights[name].dtype) != (parameters[name].shape, parameters[name].dtype):
            raise InputError(f"{other}: {name} is {_kind(weights[name])}, where {_kind(parameters[name])} is needed")
    return weights


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
