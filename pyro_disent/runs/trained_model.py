"""A trained model: its folder, its record, its data and its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_disent.data.dataset import DataSet, Source, in_units
from pyro_disent.models.factored_vae import FactoredVAE
from pyro_disent.models.latents import surely_shared
from pyro_disent.models.program import usual_defaults
from pyro_disent.objectives.elbo import Objective
from pyro_disent.process import left_as_found
from pyro_disent.training.checkpoints import Which
from pyro_disent.training.datasets import load_data
from pyro_disent.training.metrics import last_step
from pyro_disent.training.record import RunRecord
from pyro_disent.training.run_files import METRICS

if TYPE_CHECKING:  # scikit-learn is imported by the method that needs it
    from pyro_disent.evaluation.evaluate import Progress
    from pyro_disent.evaluation.result import Evaluation


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, its data and its evaluation; `Run` adds figures, codes and draws."""

    path: Path
    record: RunRecord
    """The content of its ``config.json``; ``record.fit`` is the `FitConfig`."""
    vae: FactoredVAE
    objective: Objective
    checkpoint: Which = "best"
    """The checkpoint whose weights the model has."""

    def __repr__(self) -> str:
        latents = ", ".join(f"{latent.name}={latent.units}" for latent in self.vae.latents)
        return f"<Run {self.path}: {self.record.fit.method} on {self.record.fit.data}, {latents}>"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors of the data that it was trained on."""
        return self.record.factors

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the latents that its pairs share, see `surely_shared`."""
        return surely_shared(self.vae.latents, self.record.pairs.typical_pair(self.record.factors))

    def data(self, progress: Callable[[int, int], None] | None = None) -> DataSet:
        """The data set it was trained on, loaded again from the same source.

        Raises:
            InputError: where the source has changed.
        """
        return load_data(self.record.fit, progress, recorded=self.record.source)

    @left_as_found()
    @usual_defaults()
    def evaluate(
        self,
        data: DataSet | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        threads: int | None = None,
    ) -> Evaluation:
        """Measure what its latents know, see `pyro_disent.evaluate`; `write` leaves it in the run's folder.

        Args:
            data: another data set, with images of the same shape; None: its own.

        Raises:
            InputError: for data whose images are not of the model's shape.
        """
        from pyro_disent.evaluation.evaluate import check_fits, evaluate

        data = self.data() if data is None else data
        check_fits(self.vae, data, str(self.path))
        return evaluate(
            self.vae,
            in_units(data, self.record.units),  # the recorded bins of its opponents are in these units
            name=self.name,
            method=self.record.fit.method,
            objective=self.objective,
            checkpoint=self.checkpoint,
            steps=last_step(self.path / METRICS),
            handed_over=self.record.handed_over,
            seed=seed,
            progress=progress,
            threads=threads,
        )

    def write(self, evaluation: Evaluation) -> Path:
        """Write an evaluation to its `evaluation_path`, whole or not at all.

        Raises:
            OSError: where it cannot be written.
        """
        from pyro_disent.evaluation import report

        return report.write(evaluation, self._evaluation_path(evaluation.data, evaluation.source))

    def evaluation_path(self, data: DataSet | None = None) -> Path:
        """``evaluation.json`` in its folder, or ``evaluation-<data>.json`` for another data set than its own."""
        default = Path(self.record.fit.data).name, self.record.source
        return self._evaluation_path(*(default if data is None else (data.name, data.source)))

    def _evaluation_path(self, data: str, source: Source) -> Path:
        is_own = data == Path(self.record.fit.data).name and source.sha256 == self.record.source.sha256
        return self.path / ("evaluation.json" if is_own else f"evaluation-{data}.json")
