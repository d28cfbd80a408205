"""The units of every latent for each of many images, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import Each, Latent
from pyro_disent.queries import tables
from pyro_disent.queries.images import Part

SUFFIXES = (".csv", ".npz", ".nc")


@dataclass(frozen=True)
class Encoded:
    """Each image's posterior of every unit of every latent, in numbers."""

    names: list[str]
    """The name of each image."""
    units: dict[str, tuple[int | str, ...]]
    """latent's name -> its units: numbers from 0, or the factors that they stand for."""
    numbers: dict[str, dict[str, NDArray[np.floating]]]
    """latent's name -> quantity -> ``(images, units)``: see `Family.quantities`."""
    measured_in: dict[str, str]
    """latent's name -> the physical unit of its location, such as radians, or empty."""
    skipped: tuple[str, ...] = ()
    """Images that were left out, and why."""
    notes: tuple[str, ...] = ()
    """How images were changed to the size and channels that the model takes."""

    def __len__(self) -> int:
        return len(self.names)

    def write(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write a table, whole or not at all; the suffix chooses CSV, NumPy's ``.npz`` or netCDF.

        * ``.csv``: one row for each image; columns ``file_name``, and ``z[0].location``, ``z[0].spread`` ... by unit.
        * ``.npz``: arrays ``file_name``, ``z.location`` ``(images, units)`` ...
        * ``.nc``: variables ``z_location`` ... over the dimensions ``image`` and ``z_unit``, which have coordinates.

        Raises:
            InputError: for another suffix, an existing file without ``overwrite``, and a disk that fails.
        """
        path = Path(path)
        tables.check_place(path, SUFFIXES, overwrite=overwrite)
        to_bytes = {".csv": self._csv, ".npz": self._npz, ".nc": self._netcdf}[path.suffix.lower()]
        return tables.write(path, to_bytes())

    def _csv(self) -> bytes:
        quantities = [(name, each) for name, of_latent in self.numbers.items() for each in of_latent]
        columns = [f"{name}[{unit}].{each}" for name, each in quantities for unit in self.units[name]]
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file_name", *columns])
        for place, name in enumerate(self.names):
            # `str` gives the shortest text that reads back as the same float.
            rows.writerow([name, *(str(x) for latent, each in quantities for x in self.numbers[latent][each][place])])
        return text.getvalue().encode()

    def _npz(self) -> bytes:
        arrays = {
            f"{name}.{each}": array for name, of_latent in self.numbers.items() for each, array in of_latent.items()
        }
        content = io.BytesIO()
        np.savez(content, file_name=np.array(self.names, dtype=np.str_), allow_pickle=False, **arrays)
        return content.getvalue()

    def _netcdf(self) -> bytes:
        import xarray

        table = xarray.Dataset(coords={"image": self.names, **{f"{k}_unit": list(v) for k, v in self.units.items()}})
        for name, of_latent in self.numbers.items():
            for each, values in of_latent.items():
                units = {"units": self.measured_in[name]} if each == "location" and self.measured_in[name] else {}
                table[f"{name}_{each}"] = (("image", f"{name}_unit"), values, units)
        return tables.netcdf({"/": table})


def encode(vae: FactoredVAE, parts: Iterable[Part]) -> Encoded:
    """Encode images, some at a time, as the quantities of each posterior, see `Family.quantities`.

    Args:
        vae: the model.
        parts: images as `FactoredVAE.encode` takes them, with their names: see `queries.images`.
    """
    names: list[str] = []
    arrays: dict[str, dict[str, list[NDArray[np.floating]]]] = {latent.name: {} for latent in vae.latents}
    for part in parts:
        posteriors = vae.posteriors(part.images)
        names += part.names
        for latent in vae.latents:
            for each, values in latent.family.quantities(posteriors[latent.name]).items():
                arrays[latent.name].setdefault(each, []).append(values.cpu().numpy())
    return Encoded(
        names,
        {latent.name: unit_names(latent) for latent in vae.latents},
        {
            name: {each: np.concatenate(parts) for each, parts in by_quantity.items()}
            for name, by_quantity in arrays.items()
        },
        {latent.name: latent.family.measured_in for latent in vae.latents},
    )


def unit_names(latent: Latent) -> tuple[int | str, ...]:
    """The units along an axis: numbers from 0, or the factors that they stand for."""
    return latent.explains.factors if isinstance(latent.explains, Each) else tuple(range(latent.units))
