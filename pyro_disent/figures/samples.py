"""Images drawn from the prior: all latents, or only some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_disent.batch import as_float
from pyro_disent.figures.grids import Label, grid, in_rows
from pyro_disent.models.factored_vae import FactoredVAE


def samples(
    vae: FactoredVAE,
    n: int,
    generator: torch.Generator | None = None,
    *,
    given: Mapping[str, float] | None = None,
    condition: str = "",
) -> Figure:
    """``n`` mean images of codes drawn from the prior.

    Args:
        vae: the model.
        n: how many.
        generator: for the draws.
        given: values of labels, see `FactoredVAE.prior_sample`.
        condition: these labels in words; if empty, their numbers are written.
    """
    images = vae.decode(vae.prior_sample(n, generator, given=given))
    return grid(in_rows(list(images)), title=f"Samples from the prior{_condition(given, condition)}")


def sample_latents(
    vae: FactoredVAE,
    image: Tensor,
    latents: Sequence[str],
    n: int,
    generator: torch.Generator | None = None,
    *,
    name: Label = "image",
    given: Mapping[str, float] | None = None,
    condition: str = "",
) -> Figure:
    """``n`` images with only the named latents drawn from their prior, the others held at an image's posterior means.

    A prior that depends on held latents is taken at their means. The image and its reconstruction stand above.

    Args:
        vae: the model.
        image: ``(channels, height, width)``, uint8 or float in [0, 1].
        latents: names of the latents that are drawn.
        n: how many.
        generator: for the draws.
        name: the image's label.
        given, condition: as in `samples`.
    """
    drawn = list(sampled(vae, image, latents, n, generator, given=given))
    body = in_rows(drawn, columns=max(2, len(in_rows(drawn)[0])))
    original = [as_float(image), vae.decode(vae.codes(image.unsqueeze(0)))[0]]
    return grid(
        [[*original, *[None] * (len(body[0]) - 2)], *body],
        title=f"{', '.join(latents)} from the prior{_condition(given, condition)}, the rest of the image held",
        column_labels=(name, "decoded"),
        header_rows=1,
    )


def sampled(
    vae: FactoredVAE,
    image: Tensor,
    latents: Sequence[str],
    n: int,
    generator: torch.Generator | None = None,
    *,
    given: Mapping[str, float] | None = None,
) -> Tensor:
    """The images of `sample_latents`, ``(n, channels, height, width)`` in [0, 1]."""
    drawn = {vae.latent(name).name for name in latents}
    held = {name: code for name, code in vae.codes(image.unsqueeze(0)).items() if name not in drawn}
    return vae.decode(vae.prior_sample(n, generator, held=held, given=given))


def _condition(given: Mapping[str, float] | None, condition: str) -> str:
    words = condition or ", ".join(f"{name} {value:g}" for name, value in (given or {}).items())
    return f", given {words}" if words else ""
