"""A run's folder: configuration, checkpoints, metrics. Every write leaves the old state or the new one, whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from torch import Tensor

from pyro_disent import files
from pyro_disent.errors import InputError, StorageError
from pyro_disent.training import checkpoints, metrics, run_files
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.metrics import Row
from pyro_disent.training.record import RunRecord

REPLACES = "replaces"
"""In ``config.json`` of a run that replaced another: the sha256 of that one's ``config.json``."""


class RunFolder:
    """Everything that is written into one run's folder.

    * ``config.json``: what the run is (`RunRecord`), written once; a resumed run changes what may change.
    * ``checkpoints/``: ``best.json`` and ``last.json`` name a folder each, with weights and state (`checkpoints`).
    * ``metrics.csv`` and ``events.*``: losses and held-out objectives by step (`metrics`, `log`).
    * ``evaluation*.json``: what ``evaluate`` measured (`evaluation.report`).
    * ``figures/`` and ``posterior.nc``: pictures, and draws for ArviZ (`figures`, `queries.draws`).
    * ``.lock``: held by the process that writes.

    A kill between any two system calls leaves the old checkpoint or the new one (see `checkpoints`). A run that was to
    be replaced is then in ``.NAME.replaced`` beside its place, and comes back when a training next uses the place.
    A process that writes holds a lock on the folder, from `create` or `open` to the end of ``with folder``.
    """

    def __init__(self, path: Path, *, numbered: bool = False) -> None:
        self.path = path
        self._numbered = numbered
        self._lock: FileLock | None = None
        self._replaces: RunFolder | None = None

    @property
    def config_file(self) -> Path:
        return self.path / run_files.CONFIG

    @property
    def metrics_file(self) -> Path:
        return self.path / run_files.METRICS

    @property
    def checkpoints(self) -> Path:
        return self.path / run_files.CHECKPOINTS

    @property
    def figures(self) -> Path:
        return self.path / run_files.FIGURES

    @property
    def aside(self) -> RunFolder:
        """Where the run that was here is kept until the one that replaces it has a checkpoint."""
        place = self.path.absolute()
        return RunFolder(place.parent / f".{place.name}.replaced")

    @property
    def kept(self) -> Path | None:
        """The place of the run that this one is to replace, as long as this one has no checkpoint."""
        return None if self._replaces is None else self._replaces.path

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint to resume from; a run that was killed before its first one starts anew."""
        return os.path.lexists(self.checkpoints / "last.json")

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
        """Put back what a killed run was to replace; then raise InputError for what may not be overwritten.

        The folder of a run that was killed before it had a configuration is removed: there is nothing in it.
        """
        if self._numbered:
            return
        came_back = self._recover()
        if run_files.was_cut_short(self.path):
            lock = _locked(self.path)
            run_files.dissolve(self.path, into=self.path)
            _unlock(lock)
        if not os.path.lexists(self.path):
            return
        if not overwrite:
            what = ", put back after a run that was to replace it" if came_back else ""
            try:
                self._check_replaceable()
                instead = ["`overwrite` it"]
            except InputError:
                what, instead = what if self.config_file.exists() else " and is not a run's folder", []
            if instead and (checkpoints.exist(self.checkpoints) or not self.has_begun):
                instead.append("`resume` it")
            raise InputError(f"{self.path} exists already{what}: {', or '.join(['choose another `out`', *instead])}")
        self._check_replaceable()

    def _check_replaceable(self) -> None:
        if self.path.is_symlink():
            raise InputError(f"{self.path} is a link, so it is not overwritten: name the folder that it leads to")
        try:
            self.read_record()
        except InputError as error:
            raise InputError(f"{self.path} is not a run's folder, so it is not overwritten") from error
        if Path.cwd().is_relative_to(self.path.resolve()):
            raise InputError(f"{self.path} is the folder you are in, or above it, so it is not overwritten")
        if os.path.lexists(self.path / run_files.LOCK):
            _unlock(_locked(self.path))  # a run in training is refused before anything is prepared in its place

    def create(self, record: RunRecord, *, overwrite: bool = False) -> None:
        """Make the folder and its record. A run that it replaces is put `aside` until this one has a checkpoint.

        Raises:
            InputError: where something is there that may not be overwritten, and where the folder cannot be made.
        """
        config = record.to_json()
        try:
            if overwrite and not self._numbered and os.path.lexists(self.path):
                config = {**config, REPLACES: self._put_aside()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    self.path.mkdir()  # fails if it exists: nothing else can tell that it did not
                    break
                except FileExistsError:  # made meanwhile by somebody else
                    if not self._numbered:
                        raise InputError(f"{self.path} exists already: choose another `out`") from None
                    self._next_number()
            self._lock = _locked(self.path)
            self.checkpoints.mkdir()
            files.write_atomically(self.config_file, json.dumps(config, indent=2).encode())
        except OSError as error:
            raise InputError(f"{self.path} cannot be made: {error}") from error

    def open(self) -> None:
        """Go on in the folder.

        Raises:
            InputError: where another process uses it, or a part of it is a link: nothing is written through links.
        """
        named = [self.checkpoints / f"{which}.json" for which in ("last", "best")]
        for part in (self.config_file, self.metrics_file, self.checkpoints, *named, self.figures):
            if part.is_symlink():
                raise InputError(f"{part} is a link, and nothing is written through links: put back what it leads to")
        self._lock = _locked(self.path)

    def close(self) -> str | None:
        """Release the folder; where it has no checkpoint, the run that it was to replace comes back.

        Returns:
            Where that run is now, in words.
        """
        message = None
        if (before := self._replaces) is not None:
            self._replaces = None
            try:
                self._put_back(before, mine=self._lock is not None)
                message = f"the run that was at {self.path} is there again"
            except OSError as error:
                message = f"the run that was at {self.path} lies in {before.path}: {error}"
            _unlock(before._lock)
        _unlock(self._lock)
        self._lock = None
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        message = self.close()
        if message and error:
            error.add_note(message)

    def _put_aside(self) -> str:
        """Move the run that is here aside, under its lock; returns its fingerprint."""
        self._check_replaceable()
        aside = self.aside
        if os.path.lexists(aside.path):
            raise InputError(f"{self.path} is not overwritten, as {aside.path} lies there from before: move that away")
        lock = _locked(self.path)
        try:
            self.path.rename(aside.path)
            try:
                aside.read_record()
            except InputError:  # it was exchanged for something else after the check
                aside.path.rename(self.path)
                raise
        except BaseException:
            _unlock(lock)
            raise
        aside._lock, self._replaces = lock, aside
        return aside._fingerprint()

    def _put_back(self, before: RunFolder, *, mine: bool) -> None:
        """Remove this run, if it is ``mine``, and put the one before in its place; OSError where that is taken."""
        if mine:
            run_files.dissolve(self.path, into=before.path)
        if os.path.lexists(self.path):
            raise FileExistsError(f"there is something else at {self.path}")
        before.path.rename(self.path)

    def _recover(self) -> bool:
        """Finish after a kill: a run put aside comes back, or is removed where its successor has a checkpoint."""
        aside = self.aside
        run_files.remove_empty(aside.path)  # left by a kill between the last two steps
        if aside.path.is_symlink() or not aside.config_file.is_file() or self.path.is_symlink():
            return False
        lock = _locked(aside.path)
        try:
            mine = self._config().get(REPLACES) == aside._fingerprint() or run_files.has_just_begun(self.path)
            if mine and checkpoints.exist(self.checkpoints):
                run_files.dissolve(aside.path, into=self.path)
            elif mine or not os.path.lexists(self.path):
                with contextlib.suppress(OSError):  # something else lies there: the caller reports it
                    self._put_back(aside, mine=mine)
                    return True
            return False
        finally:
            _unlock(lock)

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.config_file.read_bytes()).hexdigest()

    def _config(self) -> dict[str, Any]:
        try:
            content = json.loads(files.read_regular(self.config_file, 1 << 24))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _where_aside(self) -> str:
        """Where the run lies that was here before one that has no checkpoint, in words."""
        return f"; the run that was there lies in {self.aside.path}" if self.aside.config_file.is_file() else ""

    def read_record(self) -> RunRecord:
        """What the run is, from ``config.json``.

        Raises:
            InputError: where the folder is not a run's.
        """
        before = self._where_aside()
        if not self.path.exists() or (before and not self.config_file.exists()):
            raise InputError(f"there is no run at {self.path}{before}")
        if not self.config_file.exists():
            raise InputError(f"{self.path} is not a run's folder: {self._describe()}")
        return RunRecord.read(self.config_file)

    def _describe(self) -> str:
        """What the folder is instead of a run's, and which runs lie in it."""
        if not self.path.is_dir():
            return "it is a file"
        runs = ", ".join(sorted(config.parent.name for config in self.path.glob(f"[!.]*/{run_files.CONFIG}")))
        if run_files.was_cut_short(self.path):
            return "it was stopped before it had a configuration; start it as it was started"
        return f"it has no {run_files.CONFIG}" + (f"; runs in it: {runs}" if runs else "")

    def change_record(self, record: RunRecord) -> None:
        """Write down what has changed since the run began."""
        with self._storage():
            content = {**self._config(), **record.to_json()}
            files.write_atomically(self.config_file, json.dumps(content, indent=2).encode())

    def save(self, which: Which, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, see `checkpoints.save`; a run that this one replaces has then been replaced.

        Raises:
            StorageError: where that fails; the checkpoint before it is still named and whole.
        """
        with self._storage():
            checkpoints.save(self.checkpoints, which, step, tensors, state)
            if (before := self._replaces) is not None:
                self._replaces = None
                run_files.dissolve(before.path, into=self.path)
                _unlock(before._lock)

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
        named = checkpoints.named(self.checkpoints, which)
        if named is None:
            raise InputError(f"{self.path} has no {which} checkpoint that can be read{self._where_aside()}")
        return self.checkpoints / named

    def weights(self, which: Which) -> dict[str, Tensor]:
        """The tensors of a checkpoint, on the CPU."""
        return checkpoints.weights(self.checkpoint(which))

    def state(self, which: Which) -> dict[str, Any]:
        """Optimizer, step, random state and position in the data of a checkpoint."""
        return checkpoints.state(self.checkpoint(which))

    def write_metrics(self, row: Row) -> None:
        """Append a row to ``metrics.csv``; a new number gets a column."""
        with self._storage():
            metrics.append(self.metrics_file, row)

    def metrics(self) -> list[dict[str, str]]:
        """The rows of ``metrics.csv``."""
        return metrics.read(self.metrics_file)

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows of steps that a resumed run will take again, and one that was cut off."""
        with self._storage():
            metrics.forget_after(self.metrics_file, step)


def _locked(run: Path) -> FileLock:
    """The lock of a run's folder, held by a process that writes there; the system releases that of a killed one.

    Raises:
        InputError: where another process holds it, and where nothing can be written.
    """
    lock = FileLock(run / run_files.LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is training in {run} at this moment") from None
    except OSError as error:
        raise InputError(f"{run} cannot be written: {error}") from error
    return lock


def _unlock(lock: FileLock | None) -> None:
    if lock is not None:
        lock.release()
