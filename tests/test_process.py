"""The process is left as it was found by everything public: `fit`, `load`, queries, evaluation, figures."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_disent
from pyro_disent.errors import Diverged, InputError
from pyro_disent.evaluation import evaluate as evaluate_module
from pyro_disent.evaluation.bounds import elbo
from pyro_disent.figures import reconstructions, sample_latents, samples, save, swap_matrix, traversal
from pyro_disent.process import left_as_found
from pyro_disent.runs.run import Run
from pyro_disent.training import loop

TINY: dict[str, Any] = {"source": "embedded", "limit": 64, "batch_size": 16, "max_steps": 4, "preset": "quick"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pyro_disent.fit("cycle+predictor", "rotated-mnist", out=tmp_path_factory.mktemp("runs") / "run", **TINY)


def found() -> dict[str, Any]:
    """All that a process shares, as values that can be compared."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "matplotlib": dict(matplotlib.rcParams),
        "filters": list(warnings.filters),
        "formatwarning": warnings.formatwarning,
        "showwarning": warnings.showwarning,
        "pyro": pyro.settings.get(),
        "store": {name: id(value) for name, value in pyro.get_param_store().named_parameters()},
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "excepthook": sys.excepthook,
    }


@pytest.fixture
def unusual() -> Any:
    """A process in which nothing is as it is by default."""
    torch.manual_seed(11)
    np.random.seed(12)  # noqa: NPY002
    random.seed(13)
    pyro.param("mine", torch.ones(2))
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with (
            warnings.catch_warnings(),
            matplotlib.rc_context({"font.size": 7, "image.cmap": "hot"}),
            pyro.settings.context(cholesky_relative_jitter=8.0, validate_distributions_torch=False),
        ):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "mine")
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def images(run: Run) -> torch.Tensor:
    return run.data().test.examples(0).images[:4]


PUBLIC: dict[str, Callable[[Run, Path], Any]] = {
    "fit": lambda run, path: pyro_disent.fit("cycle+similarity", "rotated-mnist", out=path / "run", **TINY),
    "fit, overwriting": lambda run, path: [
        pyro_disent.fit("vae", "rotated-mnist", out=path / "run", overwrite=True, **TINY | {"max_steps": 1})
        for _ in range(2)
    ],
    "fit on arrays": lambda run, path: pyro_disent.fit(
        "cycle",
        pyro_disent.from_arrays(torch.rand(40, 1, 8, 8, generator=torch.Generator()), identity=[*range(10)] * 4),
        out=path / "run",
        network="mlp",
        **{name: value for name, value in TINY.items() if name not in ("source", "limit")},
    ),
    "load": lambda run, path: pyro_disent.load(run.path),
    "data": lambda run, path: run.data(),
    "encode": lambda run, path: run.vae.encode(images(run)),
    "codes": lambda run, path: run.vae.decode(run.vae.codes(images(run))),
    "prior": lambda run, path: run.vae.prior_sample(3, torch.Generator()),
    "evaluate": lambda run, path: run.evaluate(),
    "elbo": lambda run, path: elbo(run.vae, images(run)),
    "draw": lambda run, path: run.draw(),
    "figures": lambda run, path: [
        save(figure, path / f"{number}.pdf")
        for number, figure in enumerate(
            [
                samples(run.vae, 3, torch.Generator()),
                sample_latents(run.vae, images(run)[0], ["y"], 3, torch.Generator()),
                swap_matrix(run.vae, images(run), images(run), shared=["z"]),
                traversal(run.vae, images(run)[0], "y"),
                reconstructions(run.vae, images(run)),
            ]
        )
    ],
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_process_is_left_as_it_was_found(name: str, run: Run, unusual: None, tmp_path: Path) -> None:
    before = found()
    PUBLIC[name](run, tmp_path)
    after = found()
    assert {key for key in before if before[key] != after[key]} == set()


@pytest.mark.parametrize("ends", [Diverged("no"), InputError("no"), KeyboardInterrupt(), RuntimeError("no")], ids=repr)
def test_the_process_is_left_as_it_was_found_by_an_exception(
    ends: BaseException, unusual: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        torch.rand(3)
        raise ends

    monkeypatch.setattr(loop, "validate", fail)
    before = found()
    with pytest.raises(type(ends)):
        PUBLIC["fit"](None, tmp_path)  # type: ignore[arg-type]
    assert {key for key, value in found().items() if before[key] != value} == set()


def test_what_is_changed_inside_is_put_back() -> None:
    before = found()
    with pytest.raises(ZeroDivisionError), left_as_found():
        torch.rand(2), np.random.rand(2), random.random()  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        warnings.simplefilter("ignore")
        warnings.formatwarning = str  # type: ignore[assignment]
        pyro.enable_validation(False)
        pyro.settings.set(cholesky_relative_jitter=1.0)
        raise ZeroDivisionError
    assert found() == before


def test_two_experiments_after_two_fits_differ_as_they_would_have_without(tmp_path: Path) -> None:
    def experiment() -> tuple[float, float, float]:
        return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    def seeded() -> None:
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002

    seeded()
    without = [experiment() for _ in range(3)]
    seeded()
    results = [experiment()]
    for number in range(2):
        run = pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / str(number), seed=3, **TINY)
        pyro_disent.load(run.path)
        results.append(experiment())
    assert results == without and len({*results}) == 3


def test_a_run_follows_from_its_seed_whatever_was_drawn_before(tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        run = pyro_disent.fit("vae", "rotated-mnist", out=tmp_path / str(number), seed=seed, **TINY)
        weights.append(torch.cat([parameter.flatten() for parameter in run.vae.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_cuda_is_not_seeded_where_it_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` would seed every CUDA device, those that are first used later as well."""

    def seeded(*_: Any) -> None:
        raise AssertionError("CUDA was seeded")

    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seeded)
    run = pyro_disent.fit("cycle+predictor", "rotated-mnist", out=tmp_path / "run", **TINY)
    monkeypatch.setattr(evaluate_module, "METRICS", (evaluate_module.bounds, evaluate_module.opponents))
    run.evaluate()
    run.vae.prior_sample(2, torch.Generator())


def test_the_users_own_model_is_trained_as_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyro's store is the user's: what lies in it is used by their SVI after ours has been called."""
    monkeypatch.setattr(evaluate_module, "METRICS", (evaluate_module.bounds, evaluate_module.opponents))
    pyro.clear_param_store()

    def model() -> None:
        pyro.sample("x", dist.Normal(pyro.param("mean", torch.zeros(())), 1.0), obs=torch.ones(()))

    svi = pyro.infer.SVI(model, lambda: None, pyro.optim.SGD({"lr": 0.5}), pyro.infer.Trace_ELBO())
    svi.step()
    run.evaluate()
    svi.step()
    assert pyro.param("mean").item() == pytest.approx(0.75)
    assert list(pyro.get_param_store()) == ["mean"]


def test_importing_leaves_warnings_as_they_are() -> None:
    code = (
        "import warnings, torch, numpy, pyro, matplotlib.figure, sympy\n"
        "before = warnings.formatwarning, warnings.showwarning, list(warnings.filters)\n"
        "import pyro_disent\n"
        "[getattr(pyro_disent, name) for name in pyro_disent.__all__]\n"
        "after = warnings.formatwarning, warnings.showwarning, list(warnings.filters)\n"
        "assert after == before, [each for each in after[2] if each not in before[2]]\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
