"""A VAE over named latents: its graphical model, its guide, and queries of both."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_disent.batch import Batch
from pyro_disent.errors import InputError
from pyro_disent.models import param_store
from pyro_disent.models.families.mixture import NormalMixture
from pyro_disent.models.graphical_model import GenerativeModel, Guide, prior_labels
from pyro_disent.models.labels import Label, LabelSite
from pyro_disent.models.latents import Latent, sharing
from pyro_disent.models.likelihoods import Bernoulli, Likelihood
from pyro_disent.models.program import evaluating, first_parameter, forked_random_state, seed_random_state
from pyro_disent.pixels import ImageShape, as_pixels, as_tensor, check_shape

_CHUNK = 512  # images that a query encodes or decodes at once


class FactoredVAE(nn.Module):
    """A VAE whose code is split into named latents.

    ``vae.model`` is p(x | z, y) p(z) p(y) and ``vae.guide`` is q(z, y | x); both are Pyro programs that share their
    parameters with `pyro.infer.SVI`. To extend the graphical model, subclass ``Model`` or ``Guide`` and override the
    ``*_dist`` method of the conditional that changes.

    Args:
        latents: in the order in which the code lists them; a later one's prior may depend on an earlier one.
        encoder: images ``(N, channels, height, width)`` -> features ``(N, features)``.
        decoder: code ``(N, sum of widths)`` -> ``(N, channels, height, width)``.
        likelihood: what the decoder's outputs mean.
        name: prefix of its parameters in Pyro's store, ``<name>.model.decoder.0.weight``. With a name, a store that was
            saved in one process and loaded in another gives its weights to a model of that name (but no buffers, such
            as running statistics: use ``state_dict`` for these). Without, the prefix is a serial number.

    Raises:
        InputError: for no latents, two with one name, networks that do not fit the code or each other, or an invalid
            name.
    """

    Model = GenerativeModel
    Guide = Guide

    def __init__(
        self,
        latents: Sequence[Latent],
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__()
        names = [latent.name for latent in latents]
        if not names or len(set(names)) < len(names):
            raise InputError(f"a model needs latents with different names, got {names}")
        self.latents = tuple(latents)
        if name is not None and not re.fullmatch(r"[\w-]+", name):
            raise InputError(f"the name {name!r} of a model: it must be letters, digits, hyphens and underscores")
        if len({id(latent.family) for latent in latents}) < len(latents):
            raise InputError("two latents have one family object: make one for each, as they may hold weights")
        labels = prior_labels(self.latents)
        if taken := labels.keys() & set(names):
            raise InputError(f"{', '.join(sorted(taken))} cannot be both a latent and a label that a prior depends on")
        widths = {name: len(label.values) for name, label in labels.items()}
        for latent in self.latents:
            try:
                latent.family.bind(latent.units, dict(widths))
            except InputError as error:
                raise InputError(f"latent {latent.name!r}: {error}") from error
            widths[latent.name] = latent.width
        self.image_shape, features = _shapes(sum(latent.width for latent in latents), encoder, decoder)
        self.model = self.Model(self.latents, decoder, likelihood or Bernoulli())
        self.guide = self.Guide(self.latents, encoder, features)
        self.model.image_shape = self.guide.image_shape = self.image_shape
        if name is not None:
            self.model.store_name, self.guide.store_name = f"{name}.model", f"{name}.guide"

    @property
    def device(self) -> torch.device:
        return first_parameter(self).device

    def latent(self, name: str) -> Latent:
        """The latent of this name.

        Raises:
            InputError: where there is none, listing the names.
        """
        for latent in self.latents:
            if latent.name == name:
                return latent
        raise InputError(
            f"there is no latent {name!r}; this model has {', '.join(other.name for other in self.latents)}"
        )

    def sharing(self, batch: Batch) -> Batch:
        """A batch of pairs with a mask of what is shared for every latent, by what it explains; see `Latent`.

        Masks that the batch already has are kept. A batch with one view is returned unchanged.

        Raises:
            InputError: where the batch names latents that this model does not have.
        """
        return sharing(self.latents, batch)

    def encode(self, images: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Location and spread of each unit's posterior, two tensors ``(N, units)`` per latent, for ``(N, C, H, W)``.

        For a normal latent these are its mean and standard deviation, for a circle the angle in radians and the
        concentration: see `Family.summary`.

        Args:
            images: uint8, floats in [0, 1], or bool; anything that `pixels.as_tensor` takes, on any device. One image
                ``(C, H, W)`` is a batch of one.

        Raises:
            InputError: for images whose shape differs from the model's, and pixels of another type or out of range.
        """
        posteriors = self._query(self.guide.posteriors, self._images(images), pixels=True)
        parts = {latent.name: [latent.family.summary(q[latent.name]) for q in posteriors] for latent in self.latents}
        return {
            name: (torch.cat([first for first, _ in part]), torch.cat([second for _, second in part]))
            for name, part in parts.items()
        }

    def posteriors(self, images: Any) -> dict[str, dist.TorchDistribution]:
        """q(latent | x) of every latent, a distribution of batch shape ``(N,)``; images as `encode` takes them."""
        images = self._images(images)
        if type(self.guide).posteriors is not Guide.posteriors:  # its results cannot be joined
            (posteriors,) = self._query(self.guide.posteriors, images, pixels=True, chunk=max(1, len(images)))
            return posteriors
        features = torch.cat(self._query(self.guide.features, images, pixels=True))
        with self._querying():
            return self.guide.posteriors_of(features)

    def codes(self, images: Any) -> dict[str, Tensor]:
        """Every latent's posterior center as the decoder takes it, ``(N, width)``; images as `encode` takes them."""
        posteriors = self._query(self.guide.posteriors, self._images(images), pixels=True)
        return {
            latent.name: torch.cat([latent.family.center(q[latent.name]) for q in posteriors])
            for latent in self.latents
        }

    def draws(self, images: Any) -> dict[str, Tensor]:
        """Every latent drawn from its posterior with torch's random state; shapes as for `codes`."""
        posteriors = self._query(self.guide.posteriors, self._images(images), pixels=True)
        return {latent.name: torch.cat([q[latent.name].sample() for q in posteriors]) for latent in self.latents}

    def decode(self, codes: Mapping[str, Any]) -> Tensor:
        """Mean images ``(N, C, H, W)`` in [0, 1] for a code ``(N, width)`` of every latent.

        Raises:
            InputError: where a latent has no code, or one of another width, or a different number of codes.
        """
        parts = [self._code(latent, codes) for latent in self.latents]
        if len(counts := {len(part) for part in parts}) > 1:
            raise InputError(f"there must be as many codes of each latent, got {', '.join(map(str, sorted(counts)))}")
        code = torch.cat(parts, -1)
        return torch.cat(self._query(lambda part: self.model.likelihood.mean(self.model.outputs(part)), code))

    def prior_sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        *,
        held: Mapping[str, Any] | None = None,
        given: Mapping[str, float] | None = None,
    ) -> dict[str, Tensor]:
        """A draw of every latent from its prior, each given the draws of those before it, ``(count, width)`` each.

        Args:
            count: how many.
            generator: for the draws.
            held: latent's name -> code ``(N, width)``, N ``count`` or 1, that replaces its draw; priors that depend on
                this latent are conditioned on the code.
            given: label's name -> value, as the data has it, that replaces its draw in all of the codes.

        Raises:
            InputError: for a latent or a label that does not exist, codes of another shape, a value that the label
                never had, and a label on which no latent that is drawn depends.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"prior_sample draws a whole number of codes, 1 or more, not {count!r}")
        codes = {name: self._code(self.latent(name), held) for name in held} if held else {}
        if wrong := [name for name, code in codes.items() if len(code) not in (1, count)]:
            raise InputError(
                f"the code held of {wrong[0]!r} must be of 1 or {count} images, got {len(codes[wrong[0]])}"
            )
        fixed = {name: code.expand(1, count, -1) for name, code in codes.items()}
        drawn = [latent.name for latent in self.latents if latent.name not in codes]
        for name, label in self.labels_of(given or (), drawn=drawn).items():
            place = label.place((given or {})[name])
            fixed[name] = torch.full((1, count), place, device=self.device)
        device = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        with forked_random_state(self.device), self._querying():
            seed_random_state(seed, self.device)
            trace = pyro.poutine.trace(pyro.condition(self.model, data=fixed)).get_trace(images=count)
        return {latent.name: cast(Tensor, trace.nodes[latent.name]["value"]).squeeze(0) for latent in self.latents}

    def labels_of(self, names: Iterable[str], *, drawn: Sequence[str]) -> dict[str, Label]:
        """The labels of these names, on which latents that are drawn depend.

        Raises:
            InputError: for a label that no prior depends on, or only priors of latents that are not drawn.
        """
        labels, chosen = prior_labels(self.latents), {}
        for name in names:
            if name not in labels:
                if not labels:
                    raise InputError(f"no prior of this model depends on a label, so {name!r} cannot be given")
                raise InputError(f"no prior of this model depends on {name!r}; there are priors on {', '.join(labels)}")
            if not any(name in latent.family.labels for latent in self.latents if latent.name in drawn):
                below = [latent.name for latent in self.latents if name in latent.family.labels]
                raise InputError(
                    f"the label {name!r} would change nothing, as {' and '.join(below)} would be held: draw "
                    f"{'one of them' if len(below) > 1 else 'it'} too"
                )
            chosen[name] = labels[name]
        return chosen

    def prior_of(self, latent: str, codes: dict[str, Tensor]) -> dist.TorchDistribution:
        """p(latent | the latents declared before it), at their codes ``(N, width)``: batch shape ``(N,)`` or ``()``.

        A normal prior that depends on labels is the mixture over their values, by their frequencies.
        """
        declared = self.latent(latent)
        sites = [s for s in cast(Iterable[LabelSite], self.model.labels) if s.label.name in declared.family.labels]
        with self._querying():
            if not sites:
                return self.model.prior_dist(declared, codes, None)
            logits, parts = [], []
            for choice in itertools.product(*(range(len(site.label.values)) for site in sites)):
                index = [torch.tensor(value, device=self.device) for value in choice]
                count = len(next(iter(codes.values())))
                hot = {s.label.name: s.one_hot(i).expand(count, -1) for s, i in zip(sites, index, strict=True)}
                logits.append(torch.stack([s.log_frequencies[i] for s, i in zip(sites, index, strict=True)]).sum())
                parts.append(self.model.prior_dist(declared, {**hot, **codes}, None))
            return NormalMixture(
                torch.stack(logits).expand(count, -1),
                torch.stack([part.mean for part in parts], -2),
                torch.stack([part.stddev for part in parts], -2),
            )

    def _images(self, images: Any) -> Tensor:
        """Images as ``(N, C, H, W)``, with their shape checked but not yet their pixels."""
        images = as_tensor(images, "images")
        if images.dim() not in (3, 4):
            raise InputError(f"images must be (N, channels, height, width), got {tuple(images.shape)}")
        check_shape(images.shape, self.image_shape)
        return images if images.dim() == 4 else images.unsqueeze(0)

    def _code(self, latent: Latent, codes: Mapping[str, Any]) -> Tensor:
        if latent.name not in codes:
            raise InputError(f"there is no code of the latent {latent.name!r} among {', '.join(codes) or 'none'}")
        code = as_tensor(codes[latent.name], f"the code of {latent.name!r}")
        if code.dim() != 2 or code.shape[-1] != latent.width:
            raise InputError(f"the code of {latent.name!r} must be (N, {latent.width}), got {tuple(code.shape)}")
        return code.to(self.model._like())

    def _query(
        self, function: Callable[[Tensor], Any], inputs: Tensor, *, pixels: bool = False, chunk: int = _CHUNK
    ) -> list[Any]:
        like = self.guide._like()

        def prepared(part: Tensor) -> Tensor:
            part = part.to(like.device)
            return as_pixels(part, like.dtype, wait=True).to(like.dtype) if pixels else part

        with self._querying():
            return [function(prepared(part)) for part in inputs.split(chunk)]

    @contextlib.contextmanager
    def querying(self, seed: int) -> Iterator[None]:
        """Run its programs in evaluation mode, without gradients, with seeded draws.

        Afterwards, modes, Pyro's store and the random state are as before.
        """
        with forked_random_state(self.device), self._querying():
            seed_random_state(seed, self.device)
            yield

    @contextlib.contextmanager
    def _querying(self) -> Iterator[None]:
        """No gradient, evaluation mode, and nothing put into Pyro's store, after taking the values loaded there."""
        for program in (self.model, self.guide):
            param_store.take_up(program)
        with evaluating(self), torch.no_grad(), pyro.settings.context(module_local_params=True):
            yield


def _shapes(code_width: int, encoder: nn.Module, decoder: nn.Module) -> tuple[ImageShape, int]:
    """Image shape and number of features, from a run of the networks on a code of zeros."""
    try:
        with evaluating(encoder, decoder), torch.no_grad():
            images = decoder(next(decoder.parameters()).new_zeros(1, code_width))
            features = encoder(images)
    except RuntimeError as error:
        raise InputError(f"the networks do not fit a code of {code_width} numbers: {error}") from error
    if images.dim() != 4 or features.dim() != 2:
        raise InputError(
            "a decoder must give images (N, channels, height, width) and an encoder features (N, features); got "
            f"{tuple(images.shape)} and {tuple(features.shape)}"
        )
    channels, height, width = images.shape[1:]
    return (channels, height, width), features.shape[1]
