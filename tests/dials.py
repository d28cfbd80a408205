"""Images whose pixels say everything, and models that read chosen pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.data.dataset import DataSet, Examples, Factor, Source, Split
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Latent
from pyro_disent.objectives.elbo import ForwardCycle
from pyro_disent.runs.run import Run
from tests.table import RECORD


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


class Dials(Split):
    """Images whose pixels say everything: four of the identity, cosine and sine of an angle, a height, and a kind."""

    views = 24

    def __init__(self, identities: int, seed: int) -> None:
        random = generator(seed)
        who = torch.arange(identities).repeat_interleave(self.views)
        angle = (torch.arange(self.views) * (2 * math.pi / self.views)).repeat(identities)
        height = torch.rand(len(who), generator=random)
        kind = torch.randint(2, (identities,), generator=random)[who]
        looks = torch.rand(identities, 4, generator=random)[who]
        looks[:, 0] = (looks[:, 0] + kind) / 2
        dial = torch.stack([angle.cos() / 2 + 0.5, angle.sin() / 2 + 0.5, height, torch.zeros_like(height)], -1)
        images = (torch.cat([looks, dial], -1) * 255).round().byte().view(-1, 1, 2, 4)
        super().__init__(images, {"identity": who + 1_000 * seed, "kind": kind}, {"azimuth": angle, "height": height})

    def batch(self, index: Tensor, generator: torch.Generator, views: int = 2) -> Batch:
        start = index - index % self.views
        step = torch.randint(1, self.views, index.shape, generator=generator)
        chosen = torch.stack([index, start + (index - start + step) % self.views][:views])
        return Batch(self.images[chosen] / 255, factors={name: f[chosen] for name, f in self.factors.items()})

    def examples(self, seed: int) -> Examples:
        return Examples(self.images, self.factors, self.labels)


def dials(identities: tuple[int, int, int] = (60, 30, 20)) -> DataSet:
    train, validation, test = (Dials(count, seed) for seed, count in enumerate(identities))
    factors = (Factor("azimuth", "radians", circular=True), Factor("height"))
    return DataSet("dials", train, validation, test, factors, Source("embedded", "dials", "0" * 64), {})


def reading_vae(**latents: list[int]) -> FactoredVAE:
    """A VAE whose encoder reads each latent's posterior means off these pixels, at a tenth of a standard deviation."""
    width = sum(map(len, latents.values()))
    decoder = nn.Sequential(nn.Linear(width, 8), nn.Unflatten(1, (1, 2, 4)))
    vae = FactoredVAE(
        [Latent(name, len(pixels), explains="rest" if name == "y" else "common") for name, pixels in latents.items()],
        nn.Flatten(),
        decoder,
    )
    with torch.no_grad():
        for name, pixels in latents.items():
            head = vae.guide.heads[name]
            head.weight.zero_()
            head.bias.zero_()
            for unit, pixel in enumerate(pixels):
                head.weight[unit, pixel] = 4
                head.bias[unit] = -2
            head.bias[len(pixels) :] = 2 * math.log(0.1)
    return vae


@dataclass(frozen=True)
class RunInMemory(Run):
    """A run whose data set needs not be loaded again."""

    given: DataSet | None = None

    def data(self, progress: object = None) -> DataSet:
        assert self.given is not None
        return self.given


def a_run(vae: FactoredVAE, data: DataSet, path: Path = Path("dials-cycle-1")) -> Run:
    record = replace(RECORD, fit=replace(RECORD.fit, data=data.name), source=data.source)
    objective = ForwardCycle()(vae.model, vae.guide)
    return RunInMemory(path, record, vae, objective, given=data)
