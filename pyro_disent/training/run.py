"""A run's folder: configuration, checkpoints, metrics. Every write leaves the old state or the new one, whole."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from pyro_disent import files
from pyro_disent.data.dataset import Pairs
from pyro_disent.errors import InputError, StorageError
from pyro_disent.models.latents import surely_shared
from pyro_disent.models.program import usual_defaults
from pyro_disent.training.config import FitConfig

if TYPE_CHECKING:
    from pyro_disent.data.dataset import DataSet
    from pyro_disent.models.factored_vae import FactoredVAE
    from pyro_disent.objectives.elbo import Objective

Which = Literal["last", "best"]
RECORDED = frozenset({"source", "image_shape", "factors", "edges", "latents", "device", "precision", "step"})
"""What ``config.json`` holds beside the `FitConfig`, and every reader of it needs."""


class RunFolder:
    """``config.json``, ``checkpoints/``, ``metrics.csv``, ``figures/`` of one run.

    ``checkpoints/last.json`` and ``best.json`` name the folder that is theirs, which is complete before it is named: a
    kill between any two system calls leaves the old checkpoint or the new one.
    """

    def __init__(self, path: Path, *, numbered: bool = False) -> None:
        self.path = path
        self._numbered = numbered
        self._replaced: Path | None = None

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def named(cls, out: Path | None, data: str, method: str, runs: Path = Path("runs")) -> RunFolder:
        """The folder a new run goes to: ``out``, else the first ``runs/<data>-<method>-<k>`` that does not exist."""
        if out is not None:
            return cls(out)
        folder = cls(runs / f"{Path(data).name}-{method}-1", numbered=True)
        while folder.path.exists():
            folder._next_number()
        return folder

    def _next_number(self) -> None:
        stem, _, number = self.path.name.rpartition("-")
        self.path = self.path.with_name(f"{stem}-{int(number) + 1}")

    def refuse_existing(self, overwrite: bool) -> None:
        """Raises InputError where something is there that may not be overwritten."""
        if not self.path.exists() or self._numbered:
            return
        if not overwrite:
            raise InputError(f"{self.path} exists already: choose another --out, or --overwrite it, or --resume it")
        try:
            self.read_config()
        except InputError as error:
            raise InputError(f"{self.path} is not a run's folder, so it is not overwritten") from error

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder. A run that it replaces is moved aside, and removed once this one has a checkpoint.

        Raises:
            InputError: where the folder cannot be made.
        """
        try:
            if self.path.exists() and not self._numbered:
                self._replaced = self.path.with_name(f".{self.path.name}.replaced")
                shutil.rmtree(self._replaced, ignore_errors=True)
                self.path.rename(self._replaced)
            while True:
                try:
                    self.path.mkdir(parents=True)
                    break
                except FileExistsError:
                    if not self._numbered:  # made meanwhile by somebody else
                        raise
                    self._next_number()
            self.checkpoints.mkdir()
            files.write_atomically(self.config_file, json.dumps(config, indent=2).encode())
        except OSError as error:
            raise InputError(f"{self.path} cannot be made: {error}") from error

    def read_config(self) -> dict[str, Any]:
        """The whole of ``config.json``.

        Raises:
            InputError: where the folder is not a run's.
        """
        if not self.path.exists():
            raise InputError(f"there is no run at {self.path}")
        FitConfig.read(self.config_file)
        config = json.loads(self.config_file.read_text())
        if missing := RECORDED - config.keys():
            raise InputError(f"{self.config_file} is not a run's configuration: it lacks {', '.join(sorted(missing))}")
        return config

    def save(self, which: Which, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, then name it, then remove what is no longer named.

        Raises:
            StorageError: where that fails; the checkpoint before it is still named and whole.
        """
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        named = self._named(which)
        # The same step may be saved again after a resume: never into the folder that is named now.
        name = f"{which}-{step:09d}"
        folder = self.checkpoints / (f"{name}-again" if named == name else name)
        with self._storage():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                files.write(folder / "weights.safetensors", safetensors.torch.save(contiguous))
                files.write(folder / "state.pt", buffer.getvalue())
                files.sync(folder)
                pointer = json.dumps({"folder": folder.name, "step": step})
                files.write_atomically(self.checkpoints / f"{which}.json", pointer.encode())
            except OSError:
                if self._named(which) != folder.name:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            for old in self.checkpoints.glob(f"{which}-*"):
                if old != folder:
                    shutil.rmtree(old)
            if self._replaced is not None:
                shutil.rmtree(self._replaced)
                self._replaced = None

    def _named(self, which: Which) -> str | None:
        try:
            return json.loads((self.checkpoints / f"{which}.json").read_text())["folder"]
        except (OSError, ValueError, KeyError):
            return None

    @contextlib.contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self.path} could not be written, its last checkpoint is kept: {error}") from error

    def checkpoint(self, which: Which) -> Path:
        """The folder of a checkpoint.

        Raises:
            InputError: where there is none.
        """
        named = self._named(which)
        if named is None:
            raise InputError(f"{self.path} has no {which} checkpoint that can be read")
        return self.checkpoints / named

    def weights(self, which: Which) -> dict[str, Tensor]:
        """The tensors of a checkpoint, on the CPU."""
        path = self.checkpoint(which) / "weights.safetensors"
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error

    def state(self, which: Which) -> dict[str, Any]:
        """Optimizer, step, random state and position in the data of a checkpoint."""
        path = self.checkpoint(which) / "state.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise InputError(f"{path} cannot be read as a training state: {error}") from error

    def write_metrics(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row to ``metrics.csv``; a number that is new gets a column."""
        with self._storage():
            columns = self._columns()
            if row.keys() <= set(columns):
                with self.metrics_file.open("a", newline="") as file:
                    csv.DictWriter(file, columns, restval="").writerow(row)
            else:
                columns += [name for name in row if name not in columns]
                self._rewrite_metrics(columns, [*self.metrics(), row])

    def metrics(self) -> list[dict[str, str]]:
        """The rows of ``metrics.csv``."""
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open(newline="") as file:
            return list(csv.DictReader(file))

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of steps that a resumed run will take again, and one that was cut off."""
        with self._storage():
            kept = [row for row in self.metrics() if row["step"].isdecimal() and int(row["step"]) <= step]
            self._rewrite_metrics(self._columns(), kept)

    def _columns(self) -> list[str]:
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open(newline="") as file:
            return next(csv.reader(file), [])

    def _rewrite_metrics(self, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        files.write_atomically(self.metrics_file, content.getvalue().encode())


@dataclass(frozen=True)
class Run:
    """A trained model and what it was trained on."""

    path: Path
    config: dict[str, Any]
    """The whole of ``config.json``; ``config["fit"]`` is the `FitConfig`."""
    vae: FactoredVAE
    objective: Objective

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors of the data it was trained on."""
        return tuple(self.config["factors"])

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the latents that its pairs share, see `surely_shared`."""
        return surely_shared(self.vae.latents, Pairs.from_json(self.config["pairs"]).typical)

    def data(self, progress: Callable[[int, int], None] | None = None) -> DataSet:
        """The data set it was trained on, loaded again from the same source.

        Raises:
            InputError: where the source is not what it was.
        """
        from pyro_disent.training.setup import load_data

        return load_data(FitConfig.from_json(self.config["fit"]), progress, recorded=self.config["source"])


@usual_defaults()
def load(
    path: Path | str,
    checkpoint: Which = "best",
    device: str = "cpu",
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Run:
    """A run's model with the weights of a checkpoint, in evaluation mode.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        encoder, decoder: the networks, of a run that was trained on networks handed over from Python.

    Raises:
        InputError: where the folder is not a run's, the checkpoint is damaged, or there is no such device.
    """
    from pyro_disent.training.setup import build, load_weights, recorded_latents, resolve_device

    folder = RunFolder(Path(path))
    config = folder.read_config()
    given = None if encoder is None or decoder is None else (encoder, decoder)
    settings = FitConfig.from_json(config["fit"])
    vae, objective = build(settings, tuple(config["image_shape"]), config["edges"], recorded_latents(config), given)
    load_weights(objective, folder, checkpoint)
    objective.to(resolve_device(device)).eval()
    vae.eval()
    return Run(folder.path, config, vae, objective)
