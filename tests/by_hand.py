"""The objectives written out from their papers, sharing no code with the package: what it is compared with.

Models are those of `tests.models.linear_vae`. Random numbers are drawn in the order in which the objective draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.models.factored_vae import FactoredVAE

SCALE = 0.5 / math.sqrt(2)  # of the normal likelihood, on [0, 1]
EDGES = {"angle": (-0.5, 0.5), "size": (0.0,)}  # of the factors' bins


class Parameters(NamedTuple):
    """Of a diagonal normal, ``(views, images, units)``."""

    mean: Tensor
    log_variance: Tensor

    def draw(self) -> Tensor:
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def flip(self) -> Parameters:
        return Parameters(self.mean[[1, 0]], self.log_variance[[1, 0]])


class Hand(NamedTuple):
    """What a term is a function of."""

    vae: FactoredVAE
    likelihood: str
    batch: Batch
    q: dict[str, Parameters]
    draws: dict[str, Tensor]


def affine(layer: nn.Module, x: Tensor, frozen: bool = False) -> Tensor:
    weight, bias = (layer.weight.detach(), layer.bias.detach()) if frozen else (layer.weight, layer.bias)
    return x @ weight.T + bias


def halves(both: Tensor) -> Parameters:
    return Parameters(both[..., : both.shape[-1] // 2], both[..., both.shape[-1] // 2 :])


def posteriors(vae: FactoredVAE, images: Tensor) -> dict[str, Parameters]:
    """Of every latent, for images ``(views, images, pixels)`` or ``(views, images, channels, height, width)``."""
    features = torch.tanh(affine(vae.guide.encoder[1], images.reshape(*images.shape[:2], -1)))
    return {name: halves(affine(head, features)) for name, head in vae.guide.heads.items()}


def priors(vae: FactoredVAE, earlier: Mapping[str, Tensor], name: str, like: Tensor) -> Parameters:
    """Standard normal, or conditioned on y by a linear network."""
    network = getattr(vae.model.priors[name], "network", None)
    return halves(affine(network, earlier["y"])) if network else Parameters(like * 0, like * 0)


def decode(vae: FactoredVAE, code: Tensor) -> Tensor:
    return affine(vae.model.decoder[0], code)


def kl(q: Parameters, p: Parameters) -> Tensor:
    """Between diagonal normals, ``(views, images, units)``."""
    ratio = (q.log_variance - p.log_variance).exp()
    distance = (q.mean - p.mean).square() / p.log_variance.exp()
    return 0.5 * (ratio + distance - 1 - q.log_variance + p.log_variance)


def minus_log_likelihood(likelihood: str, outputs: Tensor, x: Tensor) -> Tensor:
    """Summed over pixels."""
    if likelihood == "normal":
        squared = ((2 * x - 1) - torch.tanh(outputs)).square()  # the paper's, on [-1, 1]
        return (squared + 0.5 * math.log(2 * math.pi) + math.log(SCALE)).sum(-1)
    if likelihood == "continuous-bernoulli":  # whose logits are bounded
        outputs = 30 * torch.tanh(outputs / 30)
    cross_entropy = x * torch.log1p((-outputs).exp()) + (1 - x) * torch.log1p(outputs.exp())
    if likelihood == "continuous-bernoulli":  # Loaiza-Ganem & Cunningham 2019, eq. 6: with l the mean, 1 - 2 l = -tanh
        cross_entropy = cross_entropy - torch.log(outputs / torch.tanh(outputs / 2))
    return cross_entropy.sum(-1)


def mean_image(likelihood: str, outputs: Tensor) -> Tensor:
    if likelihood == "normal":
        return 0.5 * (torch.tanh(outputs) + 1)
    if likelihood == "bernoulli":
        return 1 / (1 + (-outputs).exp())
    logits = 30 * torch.tanh(outputs / 30)
    return 0.5 + 0.5 / torch.tanh(logits / 2) - 1 / logits


def similarity(hand: Hand, _: Any) -> tuple[Tensor, None]:
    """Eq. 1."""
    each = [kl(hand.q[name], hand.q[name].flip()) * mask for name, mask in hand.batch.shared.items()]
    return sum(value.sum(-1) for value in each).mean(), None


def reverse_cycle(hand: Hand, _: Any) -> tuple[Tensor, None]:
    seen: dict[str, Tensor] = {}
    world: dict[str, Tensor] = {}
    for name, own in hand.draws.items():
        world[name] = priors(hand.vae, world, name, own).draw()
        seen[name] = torch.where(hand.batch.shared[name], own, world[name])
    decoded = mean_image(hand.likelihood, decode(hand.vae, torch.cat([*seen.values()], -1)))
    again, total = posteriors(hand.vae, decoded), 0.0
    for name, mask in hand.batch.shared.items():
        target = Parameters(*(each.detach() for each in hand.q[name]))
        total = total + (kl(again[name], target) * mask).sum(-1)
    return total.mean(), None


def predictor(hand: Hand, term: Any) -> tuple[Tensor, Tensor]:
    """Eq. 3, with the encoder's side as the text or as the equation has it, on the sample or on the mean."""
    z = hand.draws["z"] if term.on == "sample" else hand.q["z"].mean
    layers = term.predictor.network

    def logits(code: Tensor, frozen: bool) -> Tensor:
        return affine(layers[2], torch.relu(affine(layers[0], code, frozen)), frozen)

    encoders, opponents, start = torch.zeros(()), torch.zeros(()), 0
    for factor in term.factors:
        edges = EDGES[factor]
        values, columns = hand.batch.factors[factor], slice(start, start + len(edges) + 1)
        bins, known = (
            sum((values >= edge).long() for edge in edges),
            values == values,
        )  # a value that is not known is NaN
        p = torch.softmax(logits(z, frozen=True)[..., columns], -1)
        right = p.gather(-1, bins[..., None])[known]
        encoders = encoders + ((p * p.log()).sum(-1).mean() if term.side == "entropy" else right.log().mean())
        guesses = torch.softmax(logits(z.detach(), frozen=False)[..., columns], -1)
        opponents = opponents - guesses.gather(-1, bins[..., None])[known].log().mean()
        start = columns.stop
    return encoders, opponents


def total_correlation(hand: Hand, term: Any) -> tuple[Tensor, Tensor]:
    """Kim & Mnih 2018, algorithm 2, with one batch in place of its two."""
    code = torch.cat([*hand.draws.values()], -1).flatten(0, 1)
    order = torch.rand_like(code).argsort(0)
    permuted = torch.stack([code[order[:, unit], unit] for unit in range(code.shape[1])], 1)
    layers = [layer for layer in term.discriminator.network if isinstance(layer, nn.Linear)]

    def probabilities(x: Tensor, frozen: bool) -> Tensor:
        for layer in layers[:-1]:
            x = affine(layer, x, frozen)
            x = torch.where(x > 0, x, 0.2 * x)
        return torch.softmax(affine(layers[-1], x, frozen), -1)

    drawn = probabilities(code, frozen=True)
    own, mixed = (probabilities(x.detach(), frozen=False) for x in (code, permuted))
    return (drawn[:, 0] / drawn[:, 1]).log().mean(), -0.5 * (own[:, 0].log().mean() + mixed[:, 1].log().mean())


def dip(hand: Hand, _: Any) -> tuple[Tensor, None]:
    """Kumar et al. 2018, eq. 7, with one weight for both parts: Cov[mean] + E[variance] is drawn to the identity."""
    mean = torch.cat([q.mean for q in hand.q.values()], -1).flatten(0, 1)
    variance = torch.cat([q.log_variance for q in hand.q.values()], -1).exp().flatten(0, 1)
    covariance = (mean - mean.mean(0)).T @ (mean - mean.mean(0)) / len(mean) + torch.diag(variance.mean(0))
    off = covariance - torch.diag(covariance.diag())
    return off.square().sum() + (covariance.diag() - 1).square().sum(), None


def info_nce(hand: Hand, _: Any) -> tuple[Tensor, None]:
    """Van den Oord et al. 2018, eq. 4, in both directions; the scores are exp(cosine / 0.1)."""
    mean = torch.cat([hand.q[name].mean * mask for name, mask in hand.batch.shared.items()], -1)
    unit = mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        for image in range(hand.batch.size):
            scores = unit[b] @ unit[a, image] / 0.1
            total = total - (scores[image] - scores.exp().sum().log())
    return total / (2 * hand.batch.size), None


TERMS: dict[str, tuple[float, Callable[[Hand, Any], tuple[Tensor, Tensor | None]]]] = {
    "factor-vae": (6.4, total_correlation),
    "similarity": (0.6, similarity),
    "predictor": (20.0, predictor),
    "reverse-cycle": (1.0, reverse_cycle),
    "total-correlation": (6.4, total_correlation),
    "dip": (10.0, dip),
    "info-nce": (20.0, info_nce),
}
"""method -> its weight by default, and its term and its opponent's loss, if it has one."""


def loss(method: str, vae: FactoredVAE, likelihood: str, batch: Batch, terms: nn.ModuleDict) -> tuple[Tensor, Tensor]:
    """A sum of methods on a batch, and what its opponents minimize; ``terms`` hold the opponents' networks."""
    names = method.split("+")
    q = posteriors(vae, batch.images)
    draws = {name: parameters.draw() for name, parameters in q.items()}
    seen = dict(draws)
    if "cycle" in names:  # Eq. 2
        seen = {name: torch.where(batch.shared[name], draw[[1, 0]], draw) for name, draw in draws.items()}
    outputs = decode(vae, torch.cat([*seen.values()], -1))
    kls = [kl(q[name], priors(vae, draws, name, draw)).sum(-1) for name, draw in draws.items()]
    beta = 2.0 if "beta-vae" in names else 1.0
    total = (minus_log_likelihood(likelihood, outputs, batch.images.flatten(-3)) + beta * sum(kls)).mean()
    opponents, hand = torch.zeros_like(total), Hand(vae, likelihood, batch, q, draws)
    for name in names:
        if name in ("vae", "beta-vae", "cycle"):
            continue
        weight, function = TERMS[name]
        value, opponent = function(hand, terms["total-correlation" if name == "factor-vae" else name])
        total = total + weight * value
        opponents = opponents if opponent is None else opponents + opponent
    return total, opponents
