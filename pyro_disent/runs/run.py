"""A trained run, loaded again: figures, codes and draws of its model."""

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
from pyro_disent.training.handed_over import HandedOver, call, check_again, check_minimized
from pyro_disent.training.hardware import resolve_device
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.weights import load_weights

if TYPE_CHECKING:  # matplotlib and xarray are imported by the methods that need them
    from matplotlib.figure import Figure
    from xarray import Dataset

    from pyro_disent.figures.inputs import Chosen, Image
    from pyro_disent.queries.encoding import Encoded
    from pyro_disent.queries.intervention import Value


MOST_SWAPPED = 64
"""Images of a swap, whose figure has their square."""


class Run(TrainedModel):
    """A trained model with its figures, codes and draws."""

    def swap(self, images: Iterable[Image], *, data: DataSet | None = None, seed: int = 0) -> Figure:
        """A matrix of images: what pairs share from the row, the rest from the column; see `figures.swap_matrix`.

        If all are test images of a data set that can draw them anew, the true images stand under each row.

        Args:
            images: two or more: test indices from 0, image files, or images ``(channels, height, width)``.
            data: the data set of the test images; None: the run's own.
            seed: of the views in which test images are seen.

        Raises:
            InputError: for fewer images, and for images that do not exist or cannot be read.
        """
        from pyro_disent.figures import swap_matrix
        from pyro_disent.figures.inputs import as_index
        from pyro_disent.figures.swap import swap_truth

        images = [] if isinstance(images, str | Path) or not isinstance(images, Iterable) else list(images)
        if len(images) < 2:
            raise InputError("swap needs at least two images: test indices, image files, or images from Python")
        if len(images) > MOST_SWAPPED:
            raise InputError(f"swap draws each image with each other: at most {MOST_SWAPPED}, not {len(images)}")
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
        """Images above their reconstructions, see `figures.reconstructions`; arguments as in `swap`.

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
            latent: its name, see `moving`.
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
        test_images = data.test.examples(seed).some_images(KL_IMAGES, seed)
        kl = unit_kl(self.vae, test_images, [latent]).get(latent)
        return traversal(self.vae, image, latent, steps, name=name, kl=kl)

    def moving(self, latent: str | None = None) -> str:
        """The latent of this name; None: the last latent that a pair does not share."""
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
            latents: names of those that move, the others held as in the first image; empty: all.
            steps: how many decoded images, 2 or more.
        """
        from pyro_disent.figures import interpolation

        latents = list(dict.fromkeys(self.vae.latent(name).name for name in latents))  # before the data are loaded
        if steps < 2:
            raise InputError(f"an interpolation has `steps` of 2 or more, got {steps}")
        (a, b), names = self._images([first, last], data, seed)
        return interpolation(self.vae, a, b, latents, steps, names=names)

    def do(self, image: Image, values: Mapping[str, Value], *, data: DataSet | None = None, seed: int = 0) -> Figure:
        """An image beside what it would look like if latents and labels had these values, see `figures.counterfactual`.

        Where labels alone are set, of a test image that the data set can draw anew, the true image stands beside it.

        Args:
            image: one, as in `swap`.
            values: name of a latent, or of a label on which priors depend -> value, see `queries.do`, which gives the
                images themselves; a label's as people write it, or its number.
            seed: of the view in which a test image is seen, and of the draws.
        """
        from pyro_disent.figures import counterfactual
        from pyro_disent.figures.counterfactual import do_truth
        from pyro_disent.figures.inputs import as_index
        from pyro_disent.queries.intervention import settings, split_labels
        from pyro_disent.runs.label_values import read_label_values

        on_labels, on_latents = split_labels(self.vae, values)
        settings(self.vae, on_latents)  # refused before the data are loaded
        values, in_words = dict(values), {}
        label_values: dict[str, float] = {}
        if on_labels:
            data = self.data() if data is None else data
            factors = in_units(data, self.record.units).factors
        for label, value in on_labels:
            numbers, in_words[label.name] = read_label_values({label.name: str(value)}, {label.name: label}, factors)
            label_values |= numbers
        values |= label_values
        images, names = self._images([image], data, seed)
        truth = None
        if data is not None and not on_latents and isinstance(place := as_index(image), int):
            truth = do_truth(data, place, label_values, seed=seed)
        return counterfactual(self.vae, images, values, seed=seed, labels=names, in_words=in_words, truth=truth)

    def encode(
        self,
        images: str | Path | DataSet,
        *,
        skip_bad: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Encoded:
        """Every latent's posterior for each image, with the images' names; `Encoded.write` makes a file of it.

        Args:
            images: an image file; a folder of images, with its subfolders, resized as the model needs; or a data set or
                its name, with all splits.
            skip_bad: leave out the files that cannot be read.
            seed: of the views in which a data set's images are seen.
            progress: called with (images done, images in all).

        Raises:
            InputError: for anything else, files that cannot be read, and images of another shape.
        """
        from pyro_disent.runs.encoded import encoded

        fit = self.record.fit
        return encoded(self.vae, images, fit, self.data, skip_bad=skip_bad, seed=seed, progress=progress)

    def posterior(
        self, images: Iterable[Image] | int = 16, draws: int = 100, *, data: DataSet | None = None, seed: int = 0
    ) -> dict[str, Dataset]:
        """Draws from posterior and prior and their predictions, in ArviZ' groups: see `queries.arviz_groups`.

        `queries.inference_data` converts them for ArviZ, `queries.write_groups` writes a file, and
        `figures.posterior_figures` draws them.

        Args:
            images: as in `swap`, or how many test images, evenly spaced.
            draws: how many from each.
        """
        from pyro_disent.queries.draws import arviz_groups

        if isinstance(images, int):
            data = self.data() if data is None else data
            count = len(data.test)
            number = min(images, count)
            # Evenly spaced: neighbors may show one object.
            images = [count * place // number for place in range(number)]
        images = list(images)
        if not images:
            raise InputError("there are no images to draw posteriors of")
        shown, names = self._images(images, data, seed)
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
        """Images of codes drawn from the prior, see `figures.samples`; if ``latents`` are named, only these are drawn.

        Args:
            n: how many.
            latents: those that are drawn; the others are held at a test image.
            index: of the test image.
            given: label's name -> value, for priors that depend on labels: as people write it, or its number.
            data: as in `swap`.
            seed: of the draws.

        Raises:
            InputError: for labels and values that do not exist, see `FactoredVAE.prior_sample`.
        """
        from pyro_disent.figures import sample_latents, samples
        from pyro_disent.runs.label_values import read_label_values

        if n < 1:
            raise InputError(f"{n} images cannot be drawn: it must be 1 or more")
        generator = torch.Generator().manual_seed(seed)
        names = list(dict.fromkeys(self.vae.latent(name).name for name in latents))
        values, condition = None, ""
        if given:
            labels = self.vae.labels_of(given, drawn=names or [latent.name for latent in self.vae.latents])
            data = self.data() if data is None else data
            values, condition = read_label_values(given, labels, in_units(data, self.record.units).factors)
        if not names:
            return samples(self.vae, n, generator, given=values, condition=condition)
        (image,), (name,) = self._images([index], data, seed)
        return sample_latents(self.vae, image, names, n, generator, name=name, given=values, condition=condition)

    def draw(self, data: DataSet | None = None, seed: int = 0) -> list[Path]:
        """Draw the figures of `fit` into the run's folder.

        Args:
            data: the data set whose test images are shown; None: the run's own.

        Returns:
            The paths written, in ``figures``.

        Raises:
            InputError: where ``figures`` is a link, or not a folder.
            OSError: where they cannot be written.
        """
        from pyro_disent.figures import of_run

        folder = self.path / "figures"
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{folder} is not a folder of this run, so nothing is written there")
        data = self.data() if data is None else data
        return of_run.draw_figures(self.vae, data, folder, self.shared, seed)

    def drawn(self, data: DataSet | None = None) -> Run:
        """Draw the figures of a run that was just trained, and return it; only the first of several processes draws.

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
        """Images, read as the run's own data set was."""
        from pyro_disent.figures.inputs import images_named

        options = self.record.fit.options
        return images_named(
            images,
            self.vae.image_shape,
            self.data if data is None else lambda: data,
            seed=seed,
            white=options.get("white"),
            pad=options.get("shape") == "pad",
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
        vae, elbo, encoder, decoder: the objects from Python that the run was trained with; they take the weights.

    Raises:
        InputError: where the folder is not a run's, the checkpoint is damaged, there is no such device, or other
            objects are handed over than in training.
    """
    folder = RunFolder(Path(path))
    record = folder.read_record()
    objects = HandedOver.of(vae, elbo, encoder, decoder)
    needed = [name for name in record.handed_over if name != "data"]
    check_again(needed, objects.names, folder.path, call("load", folder.path, needed))
    check_minimized(record.minimized, objects, folder.path)
    latents = record.build_latents(vae)
    always, observed = record.pairs.always, record.observed
    vae, objective = build(record.fit, record.image_shape, record.edges, latents, objects, always, observed)
    load_weights(objective, folder, checkpoint)
    objective.to(resolve_device(device)).eval()
    vae.eval()
    return Run(folder.path, record, vae, objective, checkpoint)
