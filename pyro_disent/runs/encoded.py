"""Encode the images of a file, a folder or a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.pixels import check_shape
from pyro_disent.queries.encoding import Encoded, encode
from pyro_disent.queries.images import Files, of_data
from pyro_disent.training.config import FitConfig


def encoded(
    vae: FactoredVAE,
    images: str | Path | DataSet,
    config: FitConfig,
    load_own: Callable[[], DataSet],
    *,
    skip_bad: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """The result of `Run.encode`.

    Args:
        config: the configuration that the model was trained by; image files are read as it says.
        load_own: loads the data set that the model was trained on, with its options; used if ``images`` is its name.
    """
    if not isinstance(images, DataSet) and (Path(images).is_file() or registry.is_folder(str(images))):
        white, pad = config.options.get("white"), config.options.get("shape") == "pad"
        files = Files(Path(images), vae.image_shape, white=white, pad=pad, skip_bad=skip_bad, progress=progress)
        result = encode(vae, files)
        return dataclasses.replace(result, skipped=tuple(files.skipped), notes=tuple(files.notes()))
    if isinstance(images, DataSet):
        data = images
    else:
        data = load_own() if str(images) == config.data else registry.load(str(images))
    check_shape((1, *data.image_shape), vae.image_shape)
    return encode(vae, of_data(data, seed=seed, progress=progress))
