"""How many threads compute: chosen by what is fastest now, said, recorded, and put back."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from threadpoolctl import threadpool_info

from pyro_disent import threads
from pyro_disent.data.threads import in_threads
from pyro_disent.errors import InputError
from pyro_disent.evaluation import evaluate as evaluation
from pyro_disent.threads import available_cores, choose, using
from pyro_disent.training import datasets
from pyro_disent.training.run_folder import RunFolder
from pyro_disent.training.train import train
from tests.dials import a_run, dials, reading_vae
from tests.table import tiny
from tests.test_cli import TINY, assert_refused
from tests.test_empty_latents import Listening


def machine(monkeypatch: pytest.MonkeyPatch, cores: int, rates: dict[int, float] | None = None) -> list[list[int]]:
    """A machine of so many cores, on which so many threads are so fast; which numbers were tried."""
    tried: list[list[int]] = []

    def measured(_: int, counts: list[int]) -> dict[int, float]:
        tried.append(counts)
        assert rates is not None, "nothing was to be tried"
        return {count: rates[count] for count in counts}

    torch.set_num_threads(cores)
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(threads, "_rates", measured)
    return tried


@pytest.mark.parametrize(
    ("cores", "rates", "number", "why"),
    [
        (2, {1: 100, 2: 190}, 2, "all there are"),
        (2, {1: 100, 2: 3}, 1, "of 2, which were 0.03 times as fast"),
        (2, {1: 100, 2: 109}, 1, "1.1 times"),  # a thread that brings less than a tenth is left to others
        (2, {1: 100, 2: 111}, 2, "all there are"),
        (6, {1: 100, 2: 190, 4: 300, 6: 310}, 4, "of 6"),
        (8, {1: 100, 2: 190, 4: 300, 8: 500}, 8, "all there are"),
        (8, {1: 100, 2: 80, 4: 70, 8: 105}, 1, "of 8"),
    ],
)
def test_the_fewest_threads_that_are_about_as_fast_as_any(
    cores: int, rates: dict[int, float], number: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = machine(monkeypatch, cores, rates)
    chosen = choose(64)
    assert chosen.number == number and why in str(chosen) and tried == [list(rates)]
    assert torch.get_num_threads() == cores


def test_no_more_than_torch_or_the_container_has(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 8, {1: 1, 2: 2, 3: 3})
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)  # affinity or quota
    assert choose(64).number == 3
    torch.set_num_threads(2)  # the user's own choice, or OMP_NUM_THREADS
    assert choose(64).number == 2
    torch.set_num_threads(1)
    machine(monkeypatch, 1)
    assert choose(64).number == 1


@pytest.mark.parametrize(("cores", "processes", "number"), [(8, 2, 4), (2, 2, 1), (2, 3, 1)])
def test_processes_share_the_cores(cores: int, processes: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cores)
    assert choose(64, processes=processes).number == number


@pytest.mark.parametrize(
    ("recorded", "rates", "number", "says"),
    [
        (2, {1: 100, 2: 180}, 2, "as recorded"),
        (1, {1: 100, 2: 180}, 1, "as recorded"),
        (2, {1: 100, 2: 4}, 2, "1 would be 25 times as fast just now: `threads=1`"),
        (16, {1: 100, 2: 180}, 2, "all there are"),  # not here
    ],
)
def test_a_run_that_goes_on_keeps_its_threads_and_is_told_what_that_costs(
    recorded: int, rates: dict[int, float], number: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 2, rates)
    chosen = choose(64, recorded=recorded)
    assert chosen.number == number and says in str(chosen)
    assert ("`threads=" in str(chosen)) == ("`threads=" in says)


def test_trying_gives_a_rate_for_each_number_and_moves_no_random_state() -> None:
    state = torch.get_rng_state()
    rates = threads._rates(8, [1, 2])
    assert rates.keys() == {1, 2} and all(rate > 0 for rate in rates.values())
    assert torch.equal(torch.get_rng_state(), state)


def test_using_reaches_torch_scikit_learn_and_our_own_and_puts_all_back() -> None:
    import sklearn.ensemble  # noqa: F401  # loads its OpenMP

    def pools() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info()]

    torch.set_num_threads(2)
    before = pools()
    with pytest.raises(RuntimeError, match="in between"), using(1):
        assert torch.get_num_threads() == 1 and available_cores() == 1 and set(pools()) == {1}
        names = list(in_threads(lambda _: threading.current_thread().name, range(40), 40))
        assert len(set(names)) == 1
        with using(None):
            assert available_cores() == 1
        raise RuntimeError("in between")
    assert torch.get_num_threads() == 2 and pools() == before
    assert available_cores() == joblib.cpu_count()


def test_fit_uses_says_and_records_its_threads_and_puts_them_back(tmp_path: Path, monkeypatch: Any) -> None:
    machine(monkeypatch, 2, {1: 100, 2: 4})
    folder, heard, used = RunFolder(tmp_path / "run"), Listening(), []
    look = lambda _: used.append(torch.get_num_threads())  # noqa: E731
    train(tiny(), folder, reporter=heard, on_validation=look)
    assert set(used) == {1} and torch.get_num_threads() == 2
    assert "threads  1 (of 2, which were 0.04 times as fast just now)" in heard.said
    record = folder.read_record()
    assert record.threads == 1 and record.fit.threads is None

    used.clear()
    machine(monkeypatch, 2, {1: 100, 2: 190})
    again = Listening()
    train(replace(record.fit, max_steps=9), folder, resume=True, reporter=again, on_validation=look)
    assert set(used) == {1} and "threads  1 (as recorded)" in again.said


def test_fit_takes_the_threads_it_is_told_for_the_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    load, seen, used = datasets.load_data, [], []

    def loading(*arguments: Any, **options: Any) -> Any:
        seen.append(available_cores())
        return load(*arguments, **options)

    monkeypatch.setattr(datasets, "load_data", loading)
    folder = RunFolder(tmp_path / "run")
    train(tiny(threads=1), folder, on_validation=lambda _: used.append(torch.get_num_threads()))
    assert seen == [1] and set(used) == {1} and torch.get_num_threads() == 2
    assert folder.read_record().threads == 1


def test_threads_are_put_back_after_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2, {1: 100, 2: 4})

    def fail(_: object) -> None:
        raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        train(tiny(), RunFolder(tmp_path / "run"), on_validation=fail)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("said", "number"), [(None, 1), (2, 2)])
def test_evaluate_uses_and_says_its_threads(said: int | None, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 3, {1: 100, 2: 4, 3: 3})
    told: list[str] = []
    used: list[int] = []

    def metric(_: object) -> Any:
        used.append(torch.get_num_threads())
        return iter(())

    monkeypatch.setattr(evaluation, "METRICS", (metric,))
    run = a_run(reading_vae(z=[0]), dials((2, 2, 2)))
    run.evaluate(threads=said, progress=lambda *step: told.append(step[-1]))
    assert used == [number] and f"threads: {number} (" in told[0] and torch.get_num_threads() == 3


def test_threads_on_the_command_line(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_disent.figures.of_run.draw_figures", lambda *_: None)
    machine(monkeypatch, 2)
    fitted = call("fit", "--method", "vae", *TINY, "--max-steps", "4", "--threads", "2", "--out", "run")
    assert fitted.returncode == 0 and "threads  2 (as set)" in fitted.stdout
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"max_steps": 4', '"max_steps": 5'))
    resumed = call("fit", "--resume", "run", "--threads", "1")
    assert resumed.returncode == 0 and "threads  1 (as set)" in resumed.stdout, resumed.stderr
    monkeypatch.setattr(evaluation, "METRICS", ())
    evaluated = call("evaluate", "run", "--threads", "1")
    assert evaluated.returncode == 0 and "threads: 1 (as set)" in evaluated.stderr


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_threads_that_make_no_sense_are_refused(command: str, call: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`threads` must be greater than 0, got 0"), using(0):
        pass
    with pytest.raises(InputError, match="`threads` must be greater than 0, got 0"):
        tiny(threads=0)
    if command == "fit":
        assert_refused(
            call("fit", "--method", "vae", *TINY, "--threads", "0", "--out", "run"), "--threads must be greater than 0"
        )
        assert list(tmp_path.iterdir()) == []
