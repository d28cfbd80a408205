"""Which latents and units a model uses: what each tells about an image (its KL), how much the decoder uses a latent."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.pixels import as_pixels, as_tensor

EMPTY = 0.1
"""Nats below which a latent or a unit is empty. Its mean KL bounds its information on an image: under 1/7 of a bit."""
IGNORED = 0.1
"""Fraction of an even share (1 / latents) below which the decoder ignores a latent."""
FEW_STEPS, NEARLY_EMPTY = 1000, 1.0
"""Steps, and nats of every latent, below which the first advice is to train longer."""
TRY_BETA = 30
"""Weight on the KL of the latent that carries all. On chairs it made a view portable; 100 emptied the latent."""

NOTHING = 1e-6
"""Fraction of the images' change below which the decoder's change is noise, and shares of it mean nothing."""

_PART = 128  # images decoded at once


def use(vae: FactoredVAE, images: Tensor, *, seed: int = 0) -> dict[str, float]:
    """latent's name -> share of the decoded change that this latent alone causes.

    The posterior means of each image are decoded with this latent taken from another image, and with all latents taken
    from that image; the share is the squared change of the first over that of the second. It is 0 for a latent that
    the decoder ignores, 1 for one that alone makes the picture, 1 / latents where all do equally much. Shares sum to 1
    where the effects of the latents are additive and uncorrelated; they can sum to less where latents act together,
    and to more where they compensate each other. Weights, modes and random state do not change.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1]; at least two.
        seed: for the choice of the other image, which is never the same one.

    Returns:
        An empty dict for fewer than two images. 0 for each latent where all together change less than `NOTHING` of the
        squared difference between the two images themselves: the decoder ignores all.
    """
    if len(images) < 2:
        return {}
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed), device="cpu")
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    codes, pixels = vae.codes(images), as_tensor(images, "images")
    changes, total, difference = dict.fromkeys(codes, 0.0), 0.0, 0.0
    for part in torch.arange(len(images), device="cpu").split(_PART):
        original, others = ({name: code[index] for name, code in codes.items()} for index in (part, partner[part]))
        decoded = vae.decode(original)

        def change(
            exchanged: Mapping[str, Tensor], original: dict[str, Tensor] = original, decoded: Tensor = decoded
        ) -> float:
            return _squares(vae.decode({**original, **exchanged}) - decoded)

        total += change(others)
        difference += _squares(as_pixels(pixels[partner[part]]) - as_pixels(pixels[part]))
        for name, other in others.items():
            changes[name] += change({name: other})
    is_used = total > NOTHING * difference
    return {name: changed / total if is_used else 0.0 for name, changed in changes.items()}


def unit_kl(vae: FactoredVAE, images: Tensor, latents: Iterable[str], *, seed: int = 0) -> dict[str, Tensor]:
    """latent's name -> KL of each unit's posterior to its prior, ``(units,)``, in nats per image.

    The mean over images, exact where the family knows a closed form, otherwise estimated from one draw of each image.
    A prior that depends on other latents is the one at their draws; on labels, the mixture over their values. A latent
    whose KL does not factorize over its units is left out.

    Args:
        vae: the model.
        images: ``(N, channels, height, width)``, uint8 or float in [0, 1].
        latents: names of those whose units are measured.
        seed: of the draws.
    """
    posteriors = vae.posteriors(images)
    kl = {}
    with vae.querying(seed):
        draws = {name: q.sample() for name, q in posteriors.items()}
        for latent in map(vae.latent, latents):
            name = latent.name
            nats = latent.family.kl(posteriors[name], vae.prior_of(name, draws), draws[name])
            if nats.shape[-1] == latent.units:
                kl[name] = nats.double().mean(0).cpu()
    return kl


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
        """From numbers by name, where ``kl.z`` and ``use.z`` belong to the latent z."""
        parts: dict[str, dict[str, float]] = {"kl": {}, "use": {}}
        for key, value in numbers.items():
            kind, _, latent = key.partition(separator)
            if latent and kind in parts:
                parts[kind][latent] = value
        return cls(**parts)

    @property
    def empty(self) -> tuple[str, ...]:
        """Latents that carry no information."""
        return tuple(name for name, nats in self.kl.items() if nats < EMPTY)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Latents that carry information, but that the decoder ignores."""
        enough = IGNORED / max(len(self.use), 1)
        return tuple(name for name, share in self.use.items() if share < enough and name not in self.empty)

    def __str__(self) -> str:
        """In a few words; empty where every latent is used."""
        groups = ((self.empty, "says nothing", "say nothing"), (self.ignored, "is ignored", "are ignored"))
        return ", ".join(
            f"{', '.join(names)} {many if len(names) > 1 else one}" for names, one, many in groups if names
        )

    def advice(
        self,
        units: Mapping[str, int],
        beta: Mapping[str, float],
        steps: int | None = None,
        handed_over: Container[str] = (),
    ) -> list[str]:
        """A sentence for each latent that says nothing or is ignored, with what to try.

        Args:
            units: latent's name -> number of units.
            beta: latent's name -> weight on its KL.
            steps: that the model was trained for, if known; after few steps, the first advice is to train longer.
            handed_over: ``vae`` and ``elbo`` if the user made these, who then has to change them and not a setting.
        """
        early = (steps is not None and steps < FEW_STEPS) or all(nats < NEARLY_EMPTY for nats in self.kl.values())
        sentences = []
        for name in self.empty:
            # No KL is negative; the mean of a few estimates may be.
            nats = f"{self.kl[name]:.2g} nats{' (estimated from draws)' * (self.kl[name] < 0)}"
            reason = f"its KL is {nats}, less than {EMPTY}: no image can be told by it from another"
            sentences.append(f"{name} says nothing ({reason}); {self._try(name, units, beta, early, handed_over)}")
        for name in self.ignored:
            reason = f"{name} from another image makes {100 * self.use[name]:.2g} % of the change that all latents make"
            sentences.append(
                f"the decoder ignores {name} ({reason}); {self._try(name, units, beta, early, handed_over)}"
            )
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
                setting = f"`Latent({carrier!r}, N)`" if "vae" in handed_over else f"`latents={{{carrier!r}: N}}`"
                tries.append(f"fewer units for {carrier} than {units[carrier]} ({setting})")
        return f"try {_listed([*tries, 'another method'])}"


def _listed(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} or {last}" if first else last
