"""Numbers on the command line that would fill the memory, or that no generator and no converter takes: a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import TINY, assert_refused

FIT = ["fit", "--method", "cycle", *TINY, "--max-steps", "1", "--out", "run"]
HUGE = "9" * 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*FIT, "--latent", "z=100000000"], "latent 'z' has 100000000 units: at most 65536 are made"),
        ([*FIT, "--latent", "training=2"], "latent 'training': this name is taken"),
        ([*FIT, "--latent", "z=2", "--latent", "z=3"], "--latent has two values of z, 2 and 3: give one"),
        ([*FIT, "--beta", "z=2", "--beta", "z=3"], "--beta has two values of z, 2 and 3: give one"),
        ([*FIT, "--bins", "1000000000"], "--bins 1000000000 is more than the 10000 that a predictor can have"),
        ([*FIT, "--threads", "99999999"], "--threads must be from 0 to 1024, got 99999999"),
        ([*FIT, "--seed", HUGE], f"--seed must be from 0 to 4294967295, got {HUGE}"),
        (["evaluate", "run", "--seed", "-1"], "Invalid value for '--seed'"),
        (["sample", "run", "--seed", HUGE], "Invalid value for '--seed'"),
        (["data", "show", "chairs", "--seed", HUGE], "Invalid value for '--seed'"),
        (["evaluate", "run", "--threads", HUGE], "Invalid value for '--threads'"),
        (["sample", "run", "--n", HUGE], "Invalid value for '--n'"),
    ],
)
def test_it_is_refused_before_anything_is_made(arguments: list[str], says: str, call: Any, tmp_path: Path) -> None:
    assert_refused(call(*arguments), says)
    assert list(tmp_path.iterdir()) == []
