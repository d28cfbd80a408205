"""A run's folder: configuration, checkpoints, metrics. Every write leaves the old state or the new one, whole."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from pyro_disent.errors import InputError
from pyro_disent.training.config import FitConfig

if TYPE_CHECKING:
    from pyro_disent.data.dataset import DataSet
    from pyro_disent.models.factored_vae import FactoredVAE
    from pyro_disent.objectives.elbo import Objective

Which = Literal["last", "best"]


class RunFolder:
    """``config.json``, ``checkpoints/``, ``metrics.csv``, ``figures/`` of one run.

    ``checkpoints/last.json`` and ``best.json`` name the folder that is theirs, which is complete before it is named: a
    kill between any two system calls leaves the old checkpoint or the new one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @classmethod
    def named(cls, out: Path | None, data: str, method: str, runs: Path = Path("runs")) -> RunFolder:
        """The folder a new run goes to: ``out``, else the first ``runs/<data>-<method>-<k>`` that does not exist."""
        if out is not None:
            return cls(out)
        stem, number = f"{Path(data).name}-{method}", 1
        while (runs / f"{stem}-{number}").exists():
            number += 1
        return cls(runs / f"{stem}-{number}")

    def refuse_existing(self, overwrite: bool) -> None:
        """Raises InputError where something is there that may not be overwritten."""
        if not self.path.exists():
            return
        if not overwrite:
            raise InputError(f"{self.path} exists already: choose another --out, or --overwrite it, or --resume it")
        if not self.config_file.is_file() and any(self.path.iterdir() if self.path.is_dir() else [self.path]):
            raise InputError(f"{self.path} is not a run's folder, so it is not overwritten")

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder, in place of a run that was there."""
        if self.path.exists():
            shutil.rmtree(self.path)
        self.checkpoints.mkdir(parents=True)
        write_atomically(self.config_file, json.dumps(config, indent=2).encode())

    def read_config(self) -> dict[str, Any]:
        """The whole of ``config.json``.

        Raises:
            InputError: where the folder is not a run's.
        """
        if not self.path.exists():
            raise InputError(f"there is no run at {self.path}")
        FitConfig.read(self.config_file)
        return json.loads(self.config_file.read_text())

    def save(self, which: Which, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, then name it, then remove what is no longer named."""
        folder = self.checkpoints / f"{which}-{step:09d}"
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            _write(partial / "weights.safetensors", safetensors.torch.save(contiguous))
            buffer = io.BytesIO()
            torch.save(dict(state), buffer)
            _write(partial / "state.pt", buffer.getvalue())
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if folder.exists():  # the same step again, after a resume
            shutil.rmtree(folder)
        partial.rename(folder)
        write_atomically(self.checkpoints / f"{which}.json", json.dumps({"folder": folder.name, "step": step}).encode())
        for old in self.checkpoints.glob(f"{which}-*"):
            if old.is_dir() and old != folder:
                shutil.rmtree(old)

    def checkpoint(self, which: Which) -> Path:
        """The folder of a checkpoint.

        Raises:
            InputError: where there is none.
        """
        pointer = self.checkpoints / f"{which}.json"
        try:
            return self.checkpoints / json.loads(pointer.read_text())["folder"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path} has no {which} checkpoint: {pointer} cannot be read") from error

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
            return torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise InputError(f"{path} cannot be read as a training state: {error}") from error

    def write_metrics(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row to ``metrics.csv``; a number that is new gets a column."""
        columns = self._columns()
        if row.keys() <= set(columns):
            with self.metrics_file.open("a", newline="") as file:
                csv.DictWriter(file, columns, restval="").writerow(row)
        else:
            self._rewrite_metrics([*columns, *(name for name in row if name not in columns)], [*self.metrics(), row])

    def metrics(self) -> list[dict[str, str]]:
        """The rows of ``metrics.csv``."""
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open(newline="") as file:
            return list(csv.DictReader(file))

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of steps that a resumed run will take again."""
        self._rewrite_metrics(self._columns(), [row for row in self.metrics() if int(row["step"]) <= step])

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
        write_atomically(self.metrics_file, content.getvalue().encode())


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

    def data(self, progress: Callable[[int, int], None] | None = None) -> DataSet:
        """The data set it was trained on, loaded again from the same source.

        Raises:
            InputError: where the source is not what it was.
        """
        from pyro_disent.training.setup import load_data

        data = load_data(FitConfig.from_json(self.config["fit"]), progress)
        recorded = self.config["source"]["sha256"]
        if data.source.sha256 != recorded:
            raise InputError(
                f"{self.path} was trained on data of sha256 {recorded[:12]}, but {data.source.location} now has "
                f"{data.source.sha256[:12]}"
            )
        return data


def load(path: Path | str, checkpoint: Which = "best", device: str = "cpu") -> Run:
    """A run's model with the weights of a checkpoint, in evaluation mode.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: where the folder is not a run's, the checkpoint is damaged, or there is no such device.
    """
    from pyro_disent.training.setup import build, resolve_device

    folder = RunFolder(Path(path))
    config = folder.read_config()
    vae, objective = build(FitConfig.from_json(config["fit"]), tuple(config["image_shape"]), config["edges"])
    objective.load_state_dict(folder.weights(checkpoint))
    objective.to(resolve_device(device)).eval()
    return Run(folder.path, config, vae, objective)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a whole new one, on the disk before it is named."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        _write(partial, content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
