"""Makes a small run with the version of the program that is on the path: how the archives in this folder were made.

``git worktree add /tmp/then COMMIT; PYTHONPATH=/tmp/then python tests/earlier/make.py COMMIT METHOD`` leaves
``COMMIT.tar.xz``. In it are ``run``, of three steps; ``means.json``, the posterior means that this version finds for
some images; and, where no random state is saved, ``longer.safetensors``, the weights after two steps more without a
stop. It uses only what every version had.
"""

import inspect
import json
import shutil
import sys
import tarfile
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import torch
from pyro import poutine
from torch import nn

STEPS, LONGER = 3, 5  # an epoch has four


def networks() -> dict[str, nn.Module]:
    """So few weights that a run is a few kilobytes."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 4), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)), nn.Upsample(scale_factor=7.0))
    return {"encoder": encoder, "decoder": decoder}


def images() -> torch.Tensor:
    return torch.linspace(0, 1, 2 * 784).reshape(1, 2, 1, 28, 28)


def means(vae) -> dict[str, list]:  # type: ignore[no-untyped-def, type-arg]
    from pyro_disent import Batch

    with torch.no_grad():
        sites = poutine.trace(vae.guide).get_trace(Batch(images())).nodes
    return {name: sites[name]["fn"].mean.flatten().tolist() for name in ("z", "y")}


def make(name: str, method: str) -> None:
    import pyro_disent

    settings = {
        "batch_size": 16, "limit": 64, "source": "embedded", "device": "cpu", "precision": "32", "compile": False,
        "latents": {"z": 3, "y": 1}, "threads": 1,
    }  # fmt: skip
    known = inspect.signature(import_module("pyro_disent.training.config").FitConfig).parameters
    settings = {key: value for key, value in settings.items() if key in known}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for which, steps in (("run", STEPS), ("longer", LONGER)):
            runs[which] = pyro_disent.fit(
                method, "rotated-mnist", preset="quick", out=Path(folder, which), max_steps=steps,
                **networks(), **settings,
            )  # fmt: skip
        Path(folder, "means.json").write_text(json.dumps(means(runs["run"].vae)))
        kept = ["run", "means.json"]
        (last,) = Path(folder, "longer/checkpoints").glob("last-*")
        if "rng" not in torch.load(last / "state.pt", weights_only=True):
            shutil.copy(last / "weights.safetensors", Path(folder, "longer.safetensors"))
            kept.append("longer.safetensors")
        for left in (*Path(folder).glob("run/events*"), *Path(folder).glob("run/.lock")):
            left.unlink()
        shutil.rmtree(Path(folder, "run/figures"), ignore_errors=True)
        with tarfile.open(Path(__file__).parent / f"{name}.tar.xz", "w:xz", preset=9) as archive:
            for each in kept:
                archive.add(Path(folder, each), each, filter=nameless)


def nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uname = member.gname = ""
    member.uid = member.gid = member.mtime = 0
    return member


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    make(*sys.argv[1:])
