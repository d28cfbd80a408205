"""Every command, every option and every documented command line runs through the real entry point, and succeeds.

A new option needs a line here, or a test fails.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from pyro_disent.cli.main import app
from tests.mnist_files import write_mnist
from tests.test_docs import PAGES, commands

TINY = "--source embedded --limit 64 --batch-size 16 --max-steps 2 --no-compile"
FIT = (
    f"--method cycle+predictor+similarity --data rotated-mnist {TINY} --beta 2 --weight similarity=1 --guard z "
    "--hide rotation --bins 3 --bins-by quantile --opponent-lr 1e-3 --warmup-steps 1 --latent z=4 --explains z=common "
    "--predictor-side cross-entropy --predictor-on mean --network mlp --likelihood continuous-bernoulli "
    "--model factored --lr 1e-3 --schedule cosine --clip-norm 10 --seed 3 --preset paper --patience 1 --device cpu "
    "--checkpoint-minutes 0.5 --validate-every 1 --on-divergence rollback --devices 1 --accumulate 2 "
    "--precision 32 --compile-mode default --threads 1 "
    "--factors rotation --out run --quiet",
    f"--method info-nce --data rotated-mnist {TINY} --term info-nce.temperature=0.2 --data-option factors=scale "
    "--observe scale=0.5 --out run --overwrite --json",
    "--config run/config.json --out again --max-steps 1",
    "--config run/config.json --init run --out onwards --epochs 1",
    "--resume run --max-steps 3",
    "--method cycle --data chairs --data-root files --batch-size 2 --max-steps 1 --no-compile --color --out of-chairs "
    "--latent y=2:conditional,parents=azimuth",
    f"--method vae --data colored-mnist {TINY} --variance 0.05 --out of-colors",
    "--method cycle --data photos --image-size 32 --channels 1 --shape pad --pair-by person --skip-bad "
    "--kind light=number --white 255 --test-share 0.3 --batch-size 4 --max-steps 1 --no-compile --out of-photos",
)
"""In this order, in one folder."""
OF_RUNS = (
    "evaluate run again --data rotated-mnist --seed 1 --checkpoint last --device cpu --threads 1 --json",
    "swap run 0 1 --out swap.pdf --seed 1 --checkpoint last --device cpu --json",
    "traverse run --latent y --index 1 --steps 3 --out traverse.svg --seed 1 --checkpoint last --device cpu --json",
    "interpolate run 0 1 --latent y --steps 3 --out way.pdf --seed 1 --checkpoint last --device cpu --json",
    "do run 0 y=1 z[0]=-1 --out do.png --seed 1 --checkpoint last --device cpu --json",
    "encode run photos --out codes.csv --skip-bad --checkpoint last --device cpu --json",
    "encode run rotated-mnist --out codes.csv --overwrite --seed 1",
    "posterior run --images 3 --draws 4 --out draws.nc --seed 1 --checkpoint last --device cpu --json",
    "posterior run --images 2 --draws 3 --out draws.nc --overwrite --plots",
    "sample run --latent z --n 4 --index 1 --out sample.png --seed 1 --checkpoint last --device cpu --json",
    "sample of-chairs --given azimuth=0deg --n 2 --device cpu",
    "figures run --seed 1 --checkpoint last --device cpu --json",
    "methods",
    "data list --source auto --data-root files",
    "data show rotated-mnist --source embedded --out pairs.png --seed 1 --pairs 2",
    "data show chairs --data-root files --pairs 2",
    "data prepare rotated-mnist --source embedded",
    "data prepare chairs --data-root files",
)
DOCUMENTED = {"chairs": "counts=2,1,4", "celeba": "counts=64,4,4"}
"""Options of data sets that are large, which make them small."""


def flags(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], frozenset[str]]]:
    """Each command, and each of its options by all its names."""
    for name, each in getattr(command, "commands", {}).items():
        yield from flags(each, (*before, name))
    if not hasattr(command, "commands"):
        for option in command.params:
            if names := frozenset(name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")):
                yield before, names - {"--help"}


def exercised() -> dict[tuple[str, ...], set[str]]:
    """command -> the options that the lines above give it."""
    said: dict[tuple[str, ...], set[str]] = {}
    for line in (*(f"fit {line}" for line in FIT), *OF_RUNS):
        words = shlex.split(line)
        command = tuple(words[: 2 if words[0] == "data" else 1])
        said.setdefault(command, set()).update(word for word in words if word.startswith("--"))
    return said


def test_every_command_and_option_has_a_line_here() -> None:
    said, everywhere = exercised(), set().union(*exercised().values())
    of_fit = {names for command, names in flags(get_command(app)) if command == ("fit",)}
    for command, names in flags(get_command(app)):
        shared = command != ("fit",) and names in of_fit and command[0] == "data"  # one declaration for all commands
        assert not names or names & (everywhere if shared else said[command]), f"{' '.join(command)} {sorted(names)}"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five people, three images each, and what is known of the light."""
    rng, rows = np.random.default_rng(0), ["file_name,person,light"]
    for person in ("anna", "bert", "carl", "dora", "emil", "finn", "gina", "hugo", "ines", "jane"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        for number in range(3):
            name = f"{person}/{number}.png"
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "photos" / name)
            rows.append(f"{name},{person},{rng.uniform():.3f}")
    (tmp_path / "photos/metadata.csv").write_text("\n".join(rows))
    return tmp_path / "photos"


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache with few digits, for a data set that is only named: the packaged ones are 10,000."""
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    write_mnist(tmp_path / "cache/MNIST/raw", train=100, test=60)


@pytest.mark.usefixtures("small_mnist")
def test_the_lines_run(chairs: Path, photos: Path, call: Any) -> None:
    for line in (*(f"fit {line}" for line in FIT), *OF_RUNS):
        done = call(*shlex.split(line))
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert call("--version").returncode == 0


def test_every_documented_command_line_runs(photos: Path, call: Any, tmp_path: Path) -> None:
    """In the order of the pages, each made small by options beside its own."""
    for words in (words for page in PAGES for words in commands(page)):
        more = []
        if words[1] == "fit" and "--resume" not in words:
            more = shlex.split(TINY)
            if "photos" in words:
                more = shlex.split("--batch-size 4 --max-steps 1 --no-compile")
        for name, counts in DOCUMENTED.items():
            if name in words and words[1:3] != ["data", "list"] and not any("counts=" in word for word in words):
                more += ["--source", "embedded", "--data-option", counts]
        done = call(*words[1:], *more)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    assert re.search(r"chairs-cycle-1", str(sorted(tmp_path.glob("runs/*"))))
    shutil.rmtree(tmp_path / "runs")
