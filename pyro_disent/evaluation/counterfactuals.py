"""Counterfactuals against the truth: an image decoded with another one's factors, and the same image drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_disent.batch import Pairing, as_float
from pyro_disent.data.dataset import Split
from pyro_disent.evaluation.result import Number
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Swapped, swapped

PAIRS = 1_000
DRAWS = 1_000
"""Resamples of the bootstrap."""
COMPOSED = (1, 2, 4)
"""How many times in a row an image is encoded and decoded."""

SWAP = "swap error"
MANY = 4
"""Factors that are named one by one, at most."""

REPEATED = 256
"""Pairs for which composition and reversibility are computed, at most: for all pairs they would take half of the total
time, and no model is chosen by them."""

_PART = 128  # pairs at once


@dataclass(frozen=True)
class SwapError:
    """How far counterfactuals are from the truth, as mean squared errors per pixel value: lower is better."""

    swapped: Swapped
    """The latents that were taken from the other image, and the factors that they explain."""
    pairs: int
    error: float
    interval: tuple[float, float]
    """95 % confidence interval of ``error``, by a bootstrap over what the swapped images show (see `swap_error`)."""
    ceiling: float
    """The error of the true image's reconstruction: the best that the model could do."""
    left_alone: float
    """The error of the unchanged image."""
    mean_image: float
    """The error of the mean of all images of the split."""
    one_replaced: Mapping[str, float]
    """latent's name -> the error of the true image's code with only this latent taken from the swap: a large one shows
    which latent cannot be carried over."""
    composition: Mapping[int, float]
    """times -> the error between an image and itself after being encoded and decoded so many times."""
    reversibility: float
    """The error between an image and itself after a swap and the reverse swap."""

    @property
    def relative(self) -> float:
        """0 for the ceiling, 1 for an image left alone; NaN where these are equal.

        It explains an error and does not replace it: a collapsed model decodes the truth as badly as a swap, so its
        relative error is small.
        """
        span = self.left_alone - self.ceiling
        return (self.error - self.ceiling) / span if span else float("nan")

    def numbers(self) -> dict[str, Number]:
        """All errors as an evaluation records them."""
        factors, latents = self.swapped.factors, ", ".join(self.swapped.latents)
        of = ", ".join(factors) if len(factors) <= MANY else f"{len(factors)} factors"
        measure, unit = f"{SWAP} of {of} (lower is better)", "squared error"
        times = {1: "once", 2: "twice"}
        return {
            "swap_error": Number(measure, f"{latents} of the other image", self.error, unit, self.interval),
            "swap_error_ceiling": Number(measure, "true image's own code", self.ceiling, unit),
            "swap_error_left_alone": Number(measure, "image left alone", self.left_alone, unit),
            "swap_error_mean_image": Number(measure, "mean image", self.mean_image, unit),
            "swap_error_relative": Number(f"relative {SWAP} of {of}", "", self.relative, "share"),
            **{
                f"swap_error_of_one/{name}": Number(
                    f"{SWAP} of one latent in the true image's code (lower is better)", name, error, unit
                )
                for name, error in self.one_replaced.items()
            },
            **{
                f"composition/{count}": Number(
                    "composition (lower is better)", times.get(count, f"{count} times"), error, unit
                )
                for count, error in self.composition.items()
            },
            "reversibility": Number("reversibility (lower is better)", "", self.reversibility, unit),
        }


def swap_error(vae: FactoredVAE, split: Split, pair: Pairing, *, pairs: int = PAIRS, seed: int = 0) -> SwapError | None:
    """Swap factors that the data set can draw, and compare with the images that it draws.

    Images a and b are drawn independently; they show two identities, or are two images where identities are unknown.
    The posterior means of a, with the latents that `swapped` chooses taken from b, are decoded. The result is compared
    with image a drawn with the factors of b.

    The interval is a bootstrap over the identities of a (over images, where there are no identities).

    Args:
        vae: the model; weights, modes and random state are left as they were.
        split: all of its images are used, as `examples` shows them: validation to choose a model, test to report.
        pair: a typical one of the data set, see `Pairs.typical_pair`.
        pairs: how many.
        seed: for how images are seen, for pairs and for the bootstrap.

    Returns:
        None where no latent explains only factors that the split can draw, and where there are fewer than two images.
    """
    chosen = swapped(vae.latents, pair, split.drawable)
    if not chosen.latents or len(split) < 2:
        return None
    examples = split.examples(seed)
    shown = examples.labels.get("identity", torch.arange(len(split), device="cpu")).cpu()
    a, b = independent_pairs(shown, pairs, seed)
    images = examples.images
    mean = (images[:].sum(0, dtype=torch.float64) / (255 * len(images))).float().to(vae.device)
    truth = split.truth(a, b, chosen.factors, seed=seed)
    errors: dict[str, list[Tensor]] = defaultdict(list)
    parts = zip(a.split(_PART), b.split(_PART), truth.split(_PART), strict=True)
    for place, (of_a, of_b, true_images) in enumerate(parts):
        image, other = (images[places.to(images.device)].to(vae.device) for places in (of_a, of_b))
        measured = _errors(vae, chosen, image, other, true_images.to(vae.device), mean)
        if place * _PART < REPEATED:
            measured |= _repeated(vae, chosen, image, other)
        for name, error in measured.items():
            errors[name].append(error)
    of_pairs = {name: torch.cat(each).cpu() for name, each in errors.items()}
    means = {name: each.mean().item() for name, each in of_pairs.items()}
    return SwapError(
        swapped=chosen,
        pairs=pairs,
        error=means["error"],
        interval=interval(of_pairs["error"], shown[a], seed),
        ceiling=means["ceiling"],
        left_alone=means["left alone"],
        mean_image=means["mean image"],
        one_replaced={latent.name: means[f"one {latent.name}"] for latent in vae.latents},
        composition={count: means[f"composed {count}"] for count in COMPOSED},
        reversibility=means["reversed"],
    )


def _errors(
    vae: FactoredVAE, chosen: Swapped, image: Tensor, other: Tensor, truth: Tensor, mean: Tensor
) -> dict[str, Tensor]:
    """The errors that `swap_error` averages, ``(pairs,)`` float64; images are ``(pairs, channels, height, width)``."""
    swap, of_truth = _swap(vae, chosen, image, other), vae.codes(truth)
    return {
        "error": _squared(vae.decode(swap), truth),
        "ceiling": _squared(vae.decode(of_truth), truth),
        "left alone": _squared(as_float(image), truth),
        "mean image": _squared(mean, truth),
        **{f"one {name}": _squared(vae.decode({**of_truth, name: code}), truth) for name, code in swap.items()},
    }


def _swap(vae: FactoredVAE, chosen: Swapped, image: Tensor, other: Tensor) -> dict[str, Tensor]:
    """The codes of a counterfactual."""
    of_other = vae.codes(other)
    return {name: of_other[name] if name in chosen.latents else code for name, code in vae.codes(image).items()}


def _repeated(vae: FactoredVAE, chosen: Swapped, image: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Composition and reversibility (Monteiro et al., ICLR 2023), ``(pairs,)`` float64 each."""
    decoded = vae.decode(_swap(vae, chosen, image, other))
    errors = {"reversed": _squared(vae.decode(_swap(vae, chosen, decoded, image)), image)}
    again = image
    for count in range(1, max(COMPOSED) + 1):
        again = vae.decode(vae.codes(again))
        if count in COMPOSED:
            errors[f"composed {count}"] = _squared(again, image)
    return errors


def _squared(decoded: Tensor, truth: Tensor) -> Tensor:
    return (decoded.double() - as_float(truth).double()).square().flatten(1).mean(1)


def independent_pairs(shown: Tensor, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images a and b of pairs, drawn independently so that they show different things.

    Where all images show the same thing, a and b are two different images.

    Args:
        shown: what each image shows, ``(images,)``, such as its identity.
        pairs: how many, each drawn with replacement.
        seed: for the draws, made on the CPU.

    Returns:
        Positions of a and of b, ``(pairs,)`` int64 each.
    """
    if bool((shown == shown[0]).all()):
        shown = torch.arange(len(shown), device="cpu")
    generator = torch.Generator("cpu").manual_seed(seed)
    _, group, counts = torch.unique(shown, return_inverse=True, return_counts=True)
    order = torch.argsort(group, stable=True)
    start = counts.cumsum(0) - counts
    a = torch.randint(len(shown), (pairs,), generator=generator, device="cpu")
    after, others = (start + counts)[group[a]], len(shown) - counts[group[a]]
    # `order` sorts the images by what they show. After the group of a, wrapping around the end, follow all others.
    step = torch.randint(1 << 40, (pairs,), generator=generator, device="cpu") % others
    return a, order[(after + step) % len(shown)]


def interval(errors: Tensor, unit: Tensor, seed: int) -> tuple[float, float]:
    """95 % confidence interval of the mean error: a bootstrap that draws units, each with all of its errors.

    Args:
        errors: ``(pairs,)``.
        unit: the independent unit of each pair, ``(pairs,)``.
        seed: for the bootstrap.
    """
    _, group = np.unique(unit.numpy(), return_inverse=True)
    sums, counts = np.bincount(group, errors.numpy()), np.bincount(group)
    chosen = np.random.default_rng(seed).integers(len(counts), size=(DRAWS, len(counts)))
    low, high = np.quantile(sums[chosen].sum(1) / counts[chosen].sum(1), (0.025, 0.975)).tolist()
    return low, high
