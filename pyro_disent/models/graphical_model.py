"""The graphical model over named latents: p(x, z, y) and its guide q(z, y | x), as Pyro programs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models.labels import Label, LabelSite
from pyro_disent.models.latents import Latent
from pyro_disent.models.likelihoods import Likelihood
from pyro_disent.models.program import Program, at_least_float32, first_parameter
from pyro_disent.pixels import ImageShape, check_shape


def seen(latent: str, value: Tensor) -> Tensor:
    """What the decoder sees of a latent: the deterministic site ``<latent>_seen``, where handlers act.

    The latent's own site keeps its value, so a handler here changes neither its prior nor its KL.
    """
    fn = dist.Delta(value, event_dim=1).mask(False)
    return pyro.sample(f"{latent}_seen", fn, obs=value, infer={"_deterministic": True, "seen": latent})  # type: ignore[arg-type]


class ImageProgram(Program):
    """A program that is called with a batch, or with images."""

    image_shape: ImageShape | None = None
    """Channels, height, width of the images it takes; None: any."""

    def batch_of(self, batch: Batch | Tensor) -> Batch:
        """A batch that this program can take, from a batch or images.

        Raises:
            InputError: for images whose shape or device differs from this program's.
        """
        batch = Batch.of(batch)
        images, device = batch.images, self._like().device
        if self.image_shape is not None:
            check_shape(images.shape, self.image_shape)
        if images.device != device:
            raise InputError(f"the images lie on {images.device} and the model on {device}: use batch.to")
        return batch

    def _like(self) -> Tensor:
        """A parameter with the type and the device of the networks."""
        return first_parameter(self)


class GenerativeModel(ImageProgram):
    """p(x, z, y), for any number of named latents::

    z ~ p(z)             prior_dist(z)
    y ~ p(y)             prior_dist(y), which may depend on the latents declared before it
    x ~ p(x | z, y)      x_dist(code)
    """

    def __init__(self, latents: Sequence[Latent], decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.latents = tuple(latents)
        self.priors = nn.ModuleDict({latent.name: latent.family for latent in latents})
        self.labels = nn.ModuleList(LabelSite(label) for label in prior_labels(latents).values())
        self.decoder, self.likelihood = decoder, likelihood

    def prior_dist(self, latent: Latent, earlier: dict[str, Tensor], batch: Batch | None) -> dist.TorchDistribution:
        """p(latent | earlier latents, batch), event shape ``(width,)``; drawing from it needs no batch."""
        return latent.family.prior(latent.units, earlier, self._like(), batch)

    def _like(self) -> Tensor:
        return first_parameter(self.decoder)

    def x_dist(self, code: Tensor) -> dist.TorchDistribution:
        """p(x | code) for codes ``(..., width)``, event shape ``(channels, height, width)``."""
        return self.likelihood(self.outputs(code))

    def outputs(self, code: Tensor) -> Tensor:
        """The decoder's outputs for codes ``(..., width)``: ``(..., channels, height, width)``."""
        outputs = at_least_float32(self.decoder(code.flatten(0, -2)))
        return outputs.unflatten(0, code.shape[:-1])

    def forward(
        self, batch: Batch | Tensor | None = None, *, views: int = 1, images: int = 1, observe: bool = True
    ) -> Tensor:
        """The batch's images, or images drawn from the prior without a batch, ``(views, images, C, H, W)``.

        Args:
            observe: condition on the batch's images; if False, they are drawn too, but priors still see the batch.
        """
        batch = None if batch is None else self.batch_of(batch)
        like = self._like()
        # The type of the decoder's outputs, which are never in half precision.
        x = None if batch is None else batch.images.to(torch.promote_types(like.dtype, torch.float32))
        if x is not None:
            views, images = x.shape[:2]
        with _plates(views, images, like.device):
            labels = {site.label.name: site(batch) for site in cast(Iterable[LabelSite], self.labels)}
            values: dict[str, Tensor] = {}
            for latent in self.latents:
                # Without labels, pass the dict itself: a handler or a subclass may read it.
                earlier = {**labels, **values} if labels else values
                values[latent.name] = pyro.sample(latent.name, self.prior_dist(latent, earlier, batch))
            code = _side_by_side([seen(name, value) for name, value in values.items()])
            return pyro.sample("x", self.x_dist(code), obs=x if observe else None)


class Guide(ImageProgram):
    """q(z, y | x) = q(z | x) q(y | x): one encoder, and a linear head for each latent::

    z ~ q(z | x)         posterior_dist(z, parameters)
    y ~ q(y | x)         posterior_dist(y, parameters)
    """

    def __init__(self, latents: Sequence[Latent], encoder: nn.Module, features: int) -> None:
        super().__init__()
        self.latents = tuple(latents)
        self.encoder = encoder
        like = next(encoder.parameters(), None)
        self.heads = nn.ModuleDict(
            {latent.name: _head(features, latent.family.posterior_parameters(latent.units), like) for latent in latents}
        )

    def posterior_dist(self, latent: Latent, parameters: Tensor, batch: Batch | None) -> dist.TorchDistribution:
        """q(latent | x, batch) from its head's output ``(..., posterior parameters)``, event shape ``(width,)``."""
        return latent.family.posterior(at_least_float32(parameters), batch)

    def posteriors(self, images: Tensor, batch: Batch | None = None) -> dict[str, dist.TorchDistribution]:
        """Every latent's posterior for images ``(..., channels, height, width)``, of a batch if there is one."""
        return self.posteriors_of(self.features(images), batch)

    def posteriors_of(self, features: Tensor, batch: Batch | None = None) -> dict[str, dist.TorchDistribution]:
        """Every latent's posterior from `features` of images, ``(..., features)``."""
        heads = [cast(nn.Linear, self.heads[latent.name]) for latent in self.latents]
        # One product for all heads: on a CPU, a product with few columns takes as long as one with many.
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        parameters = functional.linear(features, weight, bias)
        parts = parameters.split([head.out_features for head in heads], -1)
        return {
            latent.name: self.posterior_dist(latent, part, batch)
            for latent, part in zip(self.latents, parts, strict=True)
        }

    def features(self, images: Tensor) -> Tensor:
        """The encoder's features of images ``(..., channels, height, width)``: ``(..., features)``."""
        return self.encoder(images.flatten(0, -4)).unflatten(0, images.shape[:-3])

    def forward(self, batch: Batch | Tensor | None = None, **_: Any) -> dict[str, Tensor]:
        """A draw of every latent from its posterior, ``(views, images, width)`` each."""
        if batch is None:
            raise ValueError("the guide q(z, y | x) needs images: call it with a batch")
        batch, like = self.batch_of(batch), self._like()
        images = batch.images.to(like.dtype)
        with _plates(batch.views, batch.size, like.device):
            return {name: pyro.sample(name, q) for name, q in self.posteriors(images, batch).items()}


def prior_labels(latents: Sequence[Latent]) -> dict[str, Label]:
    """The labels that priors depend on, each once; raises InputError where two priors disagree on one."""
    result: dict[str, Label] = {}
    for latent in latents:
        for name, label in latent.family.labels.items():
            if result.setdefault(name, label) != label:
                raise InputError(f"two priors depend on the label {name!r} with different values or frequencies")
    return result


def _head(features: int, outputs: int, like: Tensor | None) -> nn.Linear:
    """A linear layer whose posterior starts near N(0, 1), whatever the scale of the features.

    Args:
        like: a parameter of the encoder, with the type and the device for the layer.
    """
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    head = nn.Linear(features, outputs, device=device, dtype=dtype)
    nn.init.normal_(head.weight, std=0.1 / math.sqrt(features))
    nn.init.zeros_(head.bias)
    return head


def _side_by_side(values: list[Tensor]) -> Tensor:
    """Join what the decoder sees of each latent to one code; enumerated values have axes that the others lack."""
    if any(value.shape[:-1] != values[0].shape[:-1] for value in values):
        batch = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
        values = [value.expand(*batch, value.shape[-1]) for value in values]
    return torch.cat(values, -1)


@contextlib.contextmanager
def _plates(views: int, images: int, device: torch.device) -> Iterator[None]:
    # A plate makes an index tensor on the device named here; without, it would be on the default device.
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(pyro.plate("views", views, dim=-2, device=str(device)))
            stack.enter_context(pyro.plate("images", images, dim=-1, device=str(device)))
        except ValueError as error:
            raise InputError(
                f"a plate around this model lies in the place of its own, views at dimension -2 and images at -1: give "
                f"the outer one dim=-3 or less ({str(error).splitlines()[0]})"
            ) from error
        yield
