"""A run that was trained: its model, loaded again, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from pyro_disent.data.dataset import DataSet, in_units
from pyro_disent.errors import InputError, StorageError
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.program import usual_defaults
from pyro_disent.objectives.elbo import DisentanglingELBO
from pyro_disent.process import is_first_process, left_as_found
from pyro_disent.runs.trained_model import TrainedModel
from pyro_disent.training.building import build
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.given import Given, call, check_again, check_minimized
from pyro_disent.training.hardware import resolve_device
from pyro_disent.training.run import RunFolder
from pyro_disent.training.weights import load_weights

if TYPE_CHECKING:  # matplotlib and xarray are imported by the methods that need them
    from matplotlib.figure import Figure
    from xarray import Dataset

    from pyro_disent.figures.inputs import Chosen, Image
    from pyro_disent.queries.encoding import Encoded
    from pyro_disent.queries.intervention import Value


class Run(TrainedModel):
    """A trained model and what is asked of it: figures, codes and draws."""

    def swap(self, images: Iterable[Image], *, data: DataSet | None = None, seed: int = 0) -> Figure:
        """A matrix of images: what pairs share from the row, the rest from the column; see `figures.swap_matrix`.

        Where all are test images of a data set that can draw them anew, the truth stands under each row.

        Args:
            images: two or more: test indices from 0, image files, or images ``(channels, height, width)``.
            data: whose test images indices are; its own, if not given.
            seed: of how test images are seen.

        Raises:
            InputError: for fewer images, and for those that cannot be had.
        """
        from pyro_disent.figures import swap_matrix
        from pyro_disent.figures.inputs import as_index
        from pyro_disent.figures.swap import swap_truth

        images = [] if isinstance(images, str | Path) or not isinstance(images, Iterable) else list(images)
        if len(images) < 2:
            raise InputError("swap needs at least two images: test indices, image files, or images from Python")
        places = [place for image in images if isinstance(place := as_index(image), int)]
        data = self.data() if data is None and places else data
        shown, names = self._images(images, data, seed)
        truth = None
        if data is not None and len(places) == len(images):
            truth = swap_truth(self.vae, data, places, places, shared=self.shared, seed=seed)
        return swap_matrix(
            self.vae, shown, shown, shared=self.shared, row_labels=names, column_labels=names, truth=truth
        )

    def reconstructions(
        self, images: Iterable[Image] | None = None, *, data: DataSet | None = None, seed: int = 0
    ) -> Figure:
        """Images above what the model makes of them, see `figures.reconstructions`; arguments as in `swap`.

        Args:
            images: one or more; None: the first dozen test images.
        """
        from pyro_disent.figures import reconstructions

        if images is None:
            data = self.data() if data is None else data
            images = range(min(12, len(data.test)))
        if not (images := list(images)):
            raise InputError("there are no images to reconstruct")
        shown, names = self._images(images, data, seed)
        return reconstructions(self.vae, shown, labels=names)

    def traverse(
        self,
        latent: str | None = None,
        index: int = 0,
        steps: int = 9,
        *,
        data: DataSet | None = None,
        seed: int = 0,
    ) -> Figure:
        """One latent moved through the quantiles of its prior, all else as in a test image; see `figures.traversal`.

        The units stand in the order of their KL over test images.

        Args:
            latent: which one, see `moving`.
            index: of the test image.
            steps: how many values each unit takes.
            data, seed: as in `swap`.
        """
        from pyro_disent.figures.traversal import KL_IMAGES, traversal
        from pyro_disent.models.use import unit_kl

        latent = self.moving(latent)  # refused before the data are loaded
        if steps < 2:
            raise InputError(f"a traversal has `steps` of 2 or more, got {steps}")
        data = self.data() if data is None else data
        (image,), (name,) = self._images([index], data, seed)
        some = data.test.examples(seed).some_images(KL_IMAGES, seed)
        kl = unit_kl(self.vae, some, [latent]).get(latent)
        return traversal(self.vae, image, latent, steps, name=name, kl=kl)

    def moving(self, latent: str | None = None) -> str:
        """The latent of this name; the last that a pair does not share, if none is named."""
        names = [each.name for each in self.vae.latents]
        differing = [name for name in names if name not in self.shared]
        return self.vae.latent((differing or names)[-1] if latent is None else latent).name

    def interpolate(
        self,
        first: Image,
        last: Image,
        latents: Sequence[str] = (),
        steps: int = 9,
        *,
        data: DataSet | None = None,
        seed: int = 0,
    ) -> Figure:
        """From one image to another in the named latents, see `figures.interpolation`; images as in `swap`.

        Args:
            latents: which ones move, the others held as in the first image; all, where none is named.
            steps: how many decoded images, 2 or more.
        """
        from pyro_disent.figures import interpolation

        latents = list(dict.fromkeys(self.vae.latent(name).name for name in latents))  # before the data are loaded
        if steps < 2:
            raise InputError(f"an interpolation has `steps` of 2 or more, got {steps}")
        (a, b), names = self._images([first, last], data, seed)
        return interpolation(self.vae, a, b, latents, steps, names=names)

    def do(self, image: Image, values: Mapping[str, Value], *, data: DataSet | None = None, seed: int = 0) -> Figure:
        """An image beside what it would be if latents had these values, see `figures.counterfactual`.

        Args:
            image: one, as in `swap`.
            values: what is set, see `queries.do`, which gives the images themselves.
            seed: of how a test image is seen, and of what is drawn.
        """
        from pyro_disent.figures import counterfactual
        from pyro_disent.queries.intervention import settings

        settings(self.vae, values)  # refused before the data are loaded
        images, names = self._images([image], data, seed)
        return counterfactual(self.vae, images, values, seed=seed, labels=names)

    def encode(
        self,
        images: str | Path | DataSet,
        *,
        skip_bad: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Encoded:
        """What the posterior of each image says of every latent, with its name; `Encoded.write` makes a file of it.

        Args:
            images: an image file, a folder of them (all below it, resized as the model takes them), a data set's name,
                or a data set: all of its splits.
            skip_bad: leave out the files that cannot be read.
            seed: of how a data set's images are seen, as in `swap`.
            progress: called with (images done, images in all).

        Raises:
            InputError: for what is none of these, files that cannot be read, and data of another shape.
        """
        from pyro_disent.runs.encoded import encoded

        fit = self.record.fit
        return encoded(self.vae, images, fit, self.data, skip_bad=skip_bad, seed=seed, progress=progress)

    def posterior(
        self, images: Iterable[Image] | int = 16, draws: int = 100, *, data: DataSet | None = None, seed: int = 0
    ) -> dict[str, Dataset]:
        """Draws from posterior and prior and what they predict, in ArviZ' groups: see `queries.arviz_groups`.

        `queries.inference_data` makes of it what ArviZ works on, `queries.write_groups` a file, and
        `figures.posterior_figures` pictures.

        Args:
            images: as in `swap`, or how many test images, evenly spaced.
            draws: how many of each.
        """
        from pyro_disent.queries.draws import arviz_groups

        if isinstance(images, int):
            data = self.data() if data is None else data
            count = len(data.test)
            wanted = min(images, count)
            # From end to end: neighbors may show one and the same thing.
            images = [count * place // wanted for place in range(wanted)]
        chosen = list(images)
        if not chosen:
            raise InputError("there are no images to draw posteriors of")
        shown, names = self._images(chosen, data, seed)
        return arviz_groups(self.vae, shown, draws=draws, seed=seed, names=[", ".join(parts) for parts in names])

    def sample(
        self,
        n: int = 36,
        latents: Sequence[str] = (),
        index: int = 0,
        *,
        given: Mapping[str, str | float] | None = None,
        data: DataSet | None = None,
        seed: int = 0,
    ) -> Figure:
        """Images of codes drawn from the prior, see `figures.samples`; of ``latents`` only, where any are named.

        Args:
            n: how many.
            latents: those that are drawn, the others held at a test image.
            index: of the test image.
            given: label's name -> value, for priors that depend on labels: as people write it, or its number.
            data: as in `swap`.
            seed: of the draws.

        Raises:
            InputError: for labels and values that are not there, see `FactoredVAE.prior_sample`.
        """
        from pyro_disent.figures import sample_latents, samples
        from pyro_disent.runs.label_values import read

        if n < 1:
            raise InputError(f"{n} images cannot be drawn: it must be 1 or more")
        generator = torch.Generator().manual_seed(seed)
        names = list(dict.fromkeys(self.vae.latent(name).name for name in latents))
        values, condition = None, ""
        if given:
            labels = self.vae.labels_of(given, drawn=names or [latent.name for latent in self.vae.latents])
            data = self.data() if data is None else data
            values, condition = read(given, labels, in_units(data, self.record.units).factors)
        if not names:
            return samples(self.vae, n, generator, given=values, condition=condition)
        (image,), (name,) = self._images([index], data, seed)
        return sample_latents(self.vae, image, names, n, generator, name=name, given=values, condition=condition)

    def draw(self, data: DataSet | None = None, seed: int = 0) -> list[Path]:
        """Draw the figures that `fit` leaves, into its folder.

        Args:
            data: of which test images are shown; its own, if not given.

        Returns:
            The paths written, in ``figures``.

        Raises:
            InputError: where ``figures`` leads elsewhere, or is no folder.
            OSError: where they cannot be written.
        """
        from pyro_disent.figures import of_run

        folder = self.path / "figures"
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{folder} is not a folder of this run, so nothing is written there")
        data = self.data() if data is None else data
        return of_run.draw(self.vae, data, folder, self.shared, seed)

    def drawn(self, data: DataSet | None = None) -> Run:
        """Itself, trained just now, with its figures; of several processes the first one draws.

        Raises:
            StorageError: where they cannot be written.
        """
        if not is_first_process():
            return self
        try:
            self.draw(data)
        except OSError as error:
            raise StorageError(
                f"{self.path} is trained, but its figures could not be written ({error}); to draw them: "
                f"pyro-disent figures {self.path}"
            ) from error
        return self

    def _images(self, images: Iterable[Image], data: DataSet | None, seed: int) -> Chosen:
        """Images as its own data set was read."""
        from pyro_disent.figures.inputs import images_named

        said = self.record.fit.options
        return images_named(
            images,
            self.vae.image_shape,
            self.data if data is None else lambda: data,
            seed=seed,
            white=said.get("white"),
            pad=said.get("shape") == "pad",
        )


@left_as_found()
@usual_defaults()
def load(
    path: Path | str,
    checkpoint: Which = "best",
    device: str = "cpu",
    *,
    vae: FactoredVAE | None = None,
    elbo: DisentanglingELBO | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Run:
    """A run's model with the weights of a checkpoint, in evaluation mode.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        vae, elbo, encoder, decoder: what a run was trained with that was handed over from Python, handed over again:
            it takes the weights.

    Raises:
        InputError: where the folder is not a run's, the checkpoint is damaged, there is no such device, or something
            else was handed over than before.
    """
    folder = RunFolder(Path(path))
    record = folder.read_record()
    given = Given.of(vae, elbo, encoder, decoder)
    needed = [name for name in record.handed_over if name != "data"]
    check_again(needed, given.names, folder.path, call("load", folder.path, needed))
    check_minimized(record.minimized, given, folder.path)
    latents = record.build_latents(vae)
    always, observed = record.pairs.always, record.observed
    vae, objective = build(record.fit, record.image_shape, record.edges, latents, given, always, observed)
    load_weights(objective, folder, checkpoint)
    objective.to(resolve_device(device)).eval()
    vae.eval()
    return Run(folder.path, record, vae, objective, checkpoint)
