"""Model and objective that a configuration names, made for the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pyro_disent.batch import Batch
from pyro_disent.data import bins
from pyro_disent.data.dataset import DataSet
from pyro_disent.errors import InputError
from pyro_disent.models import table
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.families import ConditionalNormal
from pyro_disent.models.labels import Label
from pyro_disent.models.latents import Latent, shared_by
from pyro_disent.models.likelihoods import likelihood
from pyro_disent.models.networks import Networks, networks
from pyro_disent.models.program import forked_random_state
from pyro_disent.models.specification import LatentSpec, build_latents
from pyro_disent.objectives import methods
from pyro_disent.objectives.elbo import DisentanglingELBO, Objective
from pyro_disent.pixels import ImageShape
from pyro_disent.training.config import FitConfig
from pyro_disent.training.handed_over import HANDED_OVER, HandedOver
from pyro_disent.training.observed import Observation, known_shares, specs_with


def latents(config: FitConfig, data: DataSet, objects: HandedOver | None = None) -> tuple[Latent, ...]:
    """The latents of a configuration, made for the factors of a data set; or those of a vae that was handed over.

    Raises:
        InputError: for a latent that explains what this data does not have.
    """
    objects = objects or HandedOver()
    made = _explaining(config.latents, data) if objects.vae is None else _of_vae(objects.vae, data)
    if config.observe and objects.elbo is not None:
        raise InputError("an elbo handed over says `observe` itself: leave that away")
    if objects.vae is None:
        if extra := specs_with(config.observe, made, data):
            made = _explaining({**config.latents, **extra}, data)
        _count_labels(made, data, config.seed)
    several = len(data.pairs.kinds) > 1 and not data.pairs.always
    if several and (common := [latent.name for latent in made if latent.explains == "common"]):
        kinds = ", ".join("+".join(kind) for kind in data.pairs.kinds)
        raise InputError(
            f"{', '.join(common)} stands for what pairs have in common, and pairs of several kinds ({kinds}) have "
            "nothing in common: say which factors each latent explains, or leave it out by 0 units"
        )
    if objects.needs_pairs(config.method) and not _ever_shared(made, data):
        raise InputError(
            f"the method {config.method!r} is about what pairs share, and none of {', '.join(config.latents)} is ever "
            "shared: give a latent that explains common, or factors that can be equal"
        )
    return made


def _count_labels(made: Sequence[Latent], data: DataSet, seed: int) -> None:
    """Count the values, in the training images, of factors that priors depend on.

    Raises:
        InputError: for a factor that is not a label, and for one that has other values in the other splits.
    """
    latent_names = {latent.name for latent in made}
    factor_names = {factor.name for factor in data.factors} - latent_names
    families = [latent.family for latent in made if isinstance(latent.family, ConditionalNormal)]
    parents = list(dict.fromkeys(name for family in families for name in family.parents if name in factor_names))
    if not parents:
        return
    training, *others = (split.examples(seed).factors for split in (data.train, data.validation, data.test))
    labels = {name: Label.count(name, training[name]) for name in parents}
    for name, label in labels.items():
        values = torch.tensor(label.values, dtype=torch.float64)
        if not all(bool(torch.isin(factors[name].double().cpu(), values).all()) for factors in others):
            raise InputError(
                f"a prior cannot depend on {name!r}: images of the validation or the test split have a value that no "
                "training image has, or none"
            )
    for family in families:
        family.labels = {name: labels[name] for name in family.parents if name in labels}


def _explaining(specs: Mapping[str, LatentSpec], data: DataSet) -> tuple[Latent, ...]:
    factors = [factor.name for factor in data.factors]
    return build_latents(specs, factors, of_pairs=data.of_pairs, joint=data.joint)


def _of_vae(vae: FactoredVAE, data: DataSet) -> tuple[Latent, ...]:
    """A vae's own latents; a name that is not a factor's is refused, as its latent would silently never be shared."""
    specs = {latent.name: LatentSpec(latent.units, explains=latent.explains) for latent in vae.latents}
    for latent, rebuilt in zip(vae.latents, _explaining(specs, data), strict=True):
        if latent.explains != rebuilt.explains:
            raise InputError(
                f"latent {latent.name!r} of the vae explains {latent.explains!r}, which here is "
                f"{rebuilt.explains!r}: say that, as a vae handed over is taken as it is"
            )
    return vae.latents


def _ever_shared(made: Sequence[Latent], data: DataSet) -> bool:
    """Whether a pair shares any latent when everything that can be equal is equal."""
    factors = [factor.name for factor in data.factors]
    pair = data.pairs.pair(factors, [*factors, *data.of_pairs])
    return any(bool(mask.any()) for mask in shared_by(made, pair, 1, torch.device("cpu")).values())


def build(
    config: FitConfig,
    image_shape: tuple[int, int, int],
    edges: Mapping[str, list[float]],
    latents: Sequence[Latent],
    objects: Networks | HandedOver | None = None,
    always: Sequence[str] = (),
    observed: Sequence[Observation] = (),
) -> tuple[FactoredVAE, Objective]:
    """Model and objective of a configuration, with fresh weights from torch's random state.

    Args:
        edges: factor's name -> inner edges of the bins a predictor sees it in.
        latents: those of the configuration, made for the data.
        objects: the vae and the objective that were handed over, or encoder and decoder alone.
        always: factors that every pair has in common.
        observed: factors that are the values of latents.

    Raises:
        InputError: for names that do not exist, and where what was handed over is missing or does not fit the images.
    """
    objects = objects if isinstance(objects, HandedOver) else HandedOver(objects)
    vae = _vae(config, image_shape, latents, objects)
    elbo = _elbo(config, edges, latents, always, observed) if objects.elbo is None else objects.elbo
    return vae, elbo(vae.model, vae.guide)


def _vae(config: FitConfig, image_shape: ImageShape, latents: Sequence[Latent], objects: HandedOver) -> FactoredVAE:
    if objects.vae is not None:
        if objects.vae.image_shape != tuple(image_shape):
            raise InputError(
                f"the vae takes images of {objects.vae.image_shape}, but the data has {tuple(image_shape)}"
            )
        return table.check_parameters(objects.vae)
    if config.model == HANDED_OVER:
        raise InputError("the model of this configuration was handed over from Python: hand it over again, as `vae=`")
    if objects.networks is None and config.network == HANDED_OVER:
        raise InputError(
            "the networks of this configuration were handed over from Python: hand them over again, as `encoder=` and "
            "`decoder=`"
        )
    make = networks(config.network) if objects.networks is None else lambda *_: objects.networks
    return table.make(config.model, latents, image_shape, make, likelihood(config.likelihood)())


def _elbo(
    config: FitConfig,
    edges: Mapping[str, list[float]],
    latents: Sequence[Latent],
    always: Sequence[str],
    observed: Sequence[Observation],
) -> DisentanglingELBO:
    if config.method == HANDED_OVER:
        raise InputError("the objective of this configuration was handed over from Python: hand it over again")
    setting = methods.Setting(
        tuple(latents),
        {factor: torch.tensor(values) for factor, values in edges.items()},
        tuple(always),
    )
    return methods.build_objective(
        config.method,
        setting,
        options=config.terms,
        weights=config.weights,
        beta=config.beta,
        warmup_steps=config.warmup_steps,
        known=known_shares(observed, latents),
    )


def check_handed_over(objective: Objective, example: Batch, objects: HandedOver) -> None:
    """Evaluate the objective once if anything is handed over or observed: its errors come before a run begins.

    Random state, modes and buffers stay as they were.
    """
    if objects.vae is None and objects.elbo is None and not example.observed:
        return
    buffers = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    with forked_random_state(example.images.device), torch.no_grad():
        objective.record(example)
    for name, buffer in objective.named_buffers():
        buffer.copy_(buffers[name])


def factor_edges(data: DataSet, config: FitConfig) -> dict[str, list[float]]:
    """factor's name -> inner edges of the bins a predictor sees it in, as a configuration asks for them; see `bins`."""
    return bins.factor_edges(data, config.bins, config.bins_by, config.seed)
