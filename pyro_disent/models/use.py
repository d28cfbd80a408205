"""Which latents a model uses: what each says of an image (its KL), and what the decoder makes of it (its use)."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.pixels import as_pixels, as_tensor

EMPTY = 0.1
"""Nats below which a latent is empty. Its mean KL bounds what it can tell of an image: less than a seventh of a bit."""
IGNORED = 0.1
"""Part of an even share (1 / latents) below which the decoder ignores a latent."""
FEW_STEPS, NEARLY_EMPTY = 1000, 1.0
"""Steps, and nats of every latent, below which a model has not learned enough for any other advice to come first."""
TRY_BETA = 30
"""The weight on the KL of the latent that carries all, which made a view portable on chairs (100 emptied it)."""

NOTHING = 1e-6
"""Part of the images' own change below which the decoder's is none: a share of it would be one of noise."""

_PART = 128  # images decoded at once


def use(vae: FactoredVAE, images: Tensor, *, seed: int = 0) -> dict[str, float]:
    """latent's name -> share of the decoded change that comes with this latent alone.

    The posterior means of each image are decoded with this latent's from another image, and once more with all of
    them from that image: the squared change of the first over that of the second. 0 for a latent that the decoder
    ignores, 1 for one that alone makes the picture, 1 / latents where all do equally much. Shares sum to 1 where what
    the latents do adds up and is uncorrelated; they may sum to less where latents act together, and to more where they
    make up for each other. Weights, modes and random state are left as they were.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1]; at least two for anything to be measured.
        seed: of which other image each is given; never itself.

    Returns:
        Nothing for fewer than two images; 0 for each latent where all together change less than `NOTHING` of what the
        images themselves differ by, squared, from those they are exchanged with: a decoder that ignores all.
    """
    if len(images) < 2:
        return {}
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed), device="cpu")
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    codes, pixels = vae.codes(images), as_tensor(images, "images")
    changes, whole, shown = dict.fromkeys(codes, 0.0), 0.0, 0.0
    for part in torch.arange(len(images), device="cpu").split(_PART):
        own, others = ({name: code[index] for name, code in codes.items()} for index in (part, partner[part]))
        decoded = vae.decode(own)

        def change(exchanged: Mapping[str, Tensor], own: dict[str, Tensor] = own, decoded: Tensor = decoded) -> float:
            return _squares(vae.decode({**own, **exchanged}) - decoded)

        whole += change(others)
        shown += _squares(as_pixels(pixels[partner[part]]) - as_pixels(pixels[part]))
        for name, other in others.items():
            changes[name] += change({name: other})
    is_seen = whole > NOTHING * shown
    return {name: changed / whole if is_seen else 0.0 for name, changed in changes.items()}


def _squares(differences: Tensor) -> float:
    return differences.square().sum(dtype=torch.float64).item()


class Usage(NamedTuple):
    """KL and use of every latent, measured on held-out images."""

    kl: dict[str, float]
    """latent's name -> KL of its posterior to its prior, nats per image."""
    use: dict[str, float]
    """latent's name -> `use`."""

    @classmethod
    def read(cls, numbers: Mapping[str, float], separator: str = ".") -> Self:
        """From numbers by their names, of which ``kl.z`` and ``use.z`` are of the latent z."""
        found: dict[str, dict[str, float]] = {"kl": {}, "use": {}}
        for key, value in numbers.items():
            kind, _, latent = key.partition(separator)
            if latent and kind in found:
                found[kind][latent] = value
        return cls(**found)

    @property
    def empty(self) -> tuple[str, ...]:
        """Latents that say nothing."""
        return tuple(name for name, nats in self.kl.items() if nats < EMPTY)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Latents that say something, of which the decoder makes nothing."""
        enough = IGNORED / max(len(self.use), 1)
        return tuple(name for name, share in self.use.items() if share < enough and name not in self.empty)

    def __str__(self) -> str:
        """In a few words; empty where every latent is used."""
        said = ((self.empty, "says nothing", "say nothing"), (self.ignored, "is ignored", "are ignored"))
        return ", ".join(f"{', '.join(names)} {many if len(names) > 1 else one}" for names, one, many in said if names)

    def advice(
        self,
        units: Mapping[str, int],
        beta: Mapping[str, float],
        steps: int | None = None,
        handed_over: Container[str] = (),
    ) -> list[str]:
        """A sentence for each latent that says nothing or is ignored, with what to try.

        Args:
            units: latent's name -> how many it has.
            beta: latent's name -> weight on its KL.
            steps: that the model was trained for, where that is known: after few of them, more are the first advice.
            handed_over: ``vae`` and ``elbo`` where these were made by the user, who then changes them and no setting.
        """
        early = (steps is not None and steps < FEW_STEPS) or all(nats < NEARLY_EMPTY for nats in self.kl.values())
        sentences = []
        for name in self.empty:
            # No KL is negative; the mean of a few estimates may be.
            nats = f"{self.kl[name]:.2g} nats{' (estimated from draws)' * (self.kl[name] < 0)}"
            told = f"its KL is {nats}, less than {EMPTY}: no image can be told by it from another"
            sentences.append(f"{name} says nothing ({told}); {self._try(name, units, beta, early, handed_over)}")
        for name in self.ignored:
            told = f"{name} from another image makes {100 * self.use[name]:.2g} % of the change that all latents make"
            sentences.append(f"the decoder ignores {name} ({told}); {self._try(name, units, beta, early, handed_over)}")
        return sentences

    def _try(
        self,
        name: str,
        units: Mapping[str, int],
        beta: Mapping[str, float],
        early: bool,
        handed_over: Container[str],
    ) -> str:
        def weight(latent: str, value: int) -> str:
            if "elbo" in handed_over:
                return f"`DisentanglingELBO(beta={{{latent!r}: {value}}})`"
            return f"`beta={{{latent!r}: {value}}}`"

        tries = ["training for longer"] if early else []
        if beta.get(name, 1.0) > 1:
            tries.append(f"a smaller weight on its own KL than {beta[name]:g} ({weight(name, 1)})")
        others = {other: self.use.get(other, 0.0) for other in self.kl if other not in (*self.empty, *self.ignored)}
        if others:
            carrier = max(others, key=lambda other: (others[other], self.kl[other]))
            if beta.get(carrier, 1.0) < TRY_BETA:
                tries.append(f"a weight on the KL of {carrier}, which carries all ({weight(carrier, TRY_BETA)})")
            if units.get(carrier, 1) > 1:
                said = f"`Latent({carrier!r}, N)`" if "vae" in handed_over else f"`latents={{{carrier!r}: N}}`"
                tries.append(f"fewer units for {carrier} than {units[carrier]} ({said})")
        return f"try {_listed([*tries, 'another method'])}"


def _listed(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} or {last}" if first else last
