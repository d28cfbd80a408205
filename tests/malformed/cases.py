"""Cases by kind: each fills a folder of its own from a seed and says which command is to fail there."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import pickle
import random
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from pyro_disent.data.mnist.files import FILES
from tests import celeba_files


class Case(NamedTuple):
    arguments: list[str]
    may_succeed: bool = False
    """Whether the damage may be of no importance."""


VALUES: list[Any] = [
    None, True, -1, 0, 10**9, 10**18, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "\n", "a" * 20_000,
    "../../..", "\udcff", [], [[]], [None], [-1], ["x"] * 3, [1e9] * 3, {}, {"x": 1}, {"": {}},
]  # fmt: skip
FIT = ["fit", "--method", "vae", "--data", "rotated-mnist", "--source", "embedded", "--max-steps", "1", "--out", "run"]
OPTIONS = [
    ("--beta", ["nan", "inf", "-1", "x", "z=", "=1", "z=nan", "q=1"]),
    ("--warmup-steps", ["-1", "1.5", "x", "9" * 5000]),
    ("--latent", ["z=1e8", "z=100000000", "z=-1", "z=", "=3", "training=2", "x=2", "z=2:nothing", "a b=2",
                  "z=1:circle,q=1",
                  "é\n=1", "z=" + "9" * 5000]),
    ("--bins", ["1e9", "1000000000", "1", "-3", "x", "rotation=1", "9" * 5000]),
    ("--seed", ["-1", "4294967296", "1e3", "x", "9" * 5000]),
    ("--lr", ["nan", "inf", "0", "-1", "x"]),
    ("--batch-size", ["0", "-1", "x", "1e9"]),
    ("--max-steps", ["0", "-1", "x", "9" * 5000]),
    ("--limit", ["0", "-1", "x", "99999999999"]),
    ("--method", ["", "none", "vae+", "+", "vae+vae+x", "a" * 400]),
    ("--network", ["", "none", "../mlp"]),
    ("--likelihood", ["", "none"]),
    ("--device", ["", "none", "cuda:99", "cpu:x"]),
    ("--clip-norm", ["nan", "0", "-1"]),
    ("--weight", ["x=1", "cycle=nan", "=", "cycle"]),
    ("--term", ["x.y=1", "x=1", ".=", "cycle.x=1"]),
    ("--observe", ["nothing", "rotation=2", "rotation=nan", "=1"]),
    ("--data", ["", "nothing", "/dev/null", "/dev/zero", "a" * 300, "b/" * 2500, "\udcff\udcfe"]),
    ("--data-root", ["/dev/zero", "/dev/null", "nothing", "a" * 300]),
    ("--source", ["", "none"]),
    ("--out", ["/dev/null", "/dev/zero/run", "a" * 300, "/proc/run", ""]),
    ("--resume", ["nothing", "/dev/null", "/dev/zero", "a" * 300, "\udcff"]),
    ("--init", ["nothing", "/dev/null", "a" * 300]),
    ("--threads", ["0", "-1", "x"]), ("--patience", ["0", "x"]), ("--validate-every", ["-1", "x"]),
    ("--devices", ["0", "-1"]), ("--accumulate", ["0", "7"]), ("--checkpoint-minutes", ["-1", "nan"]),
    ("--precision", ["", "8"]), ("--preset", ["", "none"]), ("--epochs", ["0", "3"]), ("--nothing", ["1"]),
]  # fmt: skip
ON_RUN = [
    ["sample", "run", "--n", "0"], ["sample", "run", "--n", "100000"], ["sample", "run", "--seed", "-1"],
    ["sample", "run", "--seed", str(2**40)], ["sample", "run", "--latent", "q"], ["sample", "run", "--given", "q=1"],
    ["sample", "run", "--latent", "z", "--index", "99999999"], ["sample", "run", "--latent", "z", "--index", "-1"],
    ["sample", "run", "--latent", "z", "--index", "9" * 5000], ["sample", "run", "--checkpoint", "x"],
    ["sample", "run", "--device", "x"], ["sample", "run", "--threads", "0"], ["sample", "run", "--out", "/dev/null"],
    ["sample", "run", "--out", "x.txt"], ["sample", "run", "--out", "no/x.png"], ["sample", "a" * 300],
    ["sample", "run", "--out", "a" * 300 + ".png"], ["sample", "\udcff"], ["sample", "/dev/zero"], ["sample", "."],
    ["swap", "run", *["0"] * 400], ["swap", "run"], ["swap", "run", "0"], ["swap", "run", "0", "9" * 5000],
    ["swap", "run", "0", "-5"], ["swap", "run", "0", "a" * 300], ["swap", "run", "0", "/dev/zero"],
    ["swap", "run", "0", "run"], ["swap", "run", "0", "\udcff.png"], ["traverse", "run", "--steps", "1"],
    ["traverse", "run", "--steps", "1000000"], ["traverse", "run", "--latent", "q"],
    ["traverse", "run", "--seed", "99999999999"], ["interpolate", "run", "0", "x"],
    ["interpolate", "run", "0", "1", "--steps", "1000000"], ["interpolate", "run", "0", "9" * 5000],
    ["do", "run", "0", "q=1"], ["do", "run", "0", "z"], ["do", "run", "0", "z=nan"], ["do", "run", "0", "z=1,2,3,4,5"],
    ["do", "run", "0", "z[99]=1"], ["do", "run", "0", "z=" + "9" * 5000], ["do", "run", "0", "z=1", "z=2"],
    ["do", "run", "9" * 5000, "z=1"], ["encode", "run", "nothing"], ["encode", "run", "/dev/zero"],
    ["encode", "run", "a" * 300], ["posterior", "run", "--draws", "0"], ["posterior", "run", "--images", "0"],
    ["posterior", "run", "--draws", "1000000000"], ["evaluate", "run", "--seed", "-1"], ["evaluate", "nothing"],
    ["evaluate", "run", "--checkpoint", "best/../.."], ["figures", "nothing"], ["figures", "run", "--seed", "-1"],
    ["nothing"], ["data", "nothing"], ["data", "show", "nothing"], ["data", "show", "rotated-mnist", "--pairs", "0"],
    ["data", "show", "rotated-mnist", "--seed", "-1"], ["data", "prepare", "a" * 300], ["data", "prepare", "/dev/zero"],
    ["data", "show", "\udcff"], ["methods", "x"],
]  # fmt: skip


def _copied(template: Path, folder: Path) -> Path:
    return Path(shutil.copytree(template, folder / "run"))


def options(number: int, folder: Path, template: Path) -> Case:
    every = [(option, value) for option, values in OPTIONS for value in values]
    if number < len(every):
        option, value = every[number]
        return Case([*FIT, option, value], may_succeed=(option, value) in {("--limit", "99999999999")})
    return Case([*FIT, "--latent", "z=2", "--latent", "z=3"])


def on_run(number: int, folder: Path, template: Path) -> Case:
    _copied(template, folder)
    return Case(ON_RUN[number])


def _places(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [place for key in keys for place in [(*above, key), *_places(content[key], (*above, key))]]


def _damaged(content: Any, seed: int) -> Any:
    """A copy with one value of another kind, or without it."""
    draw = random.Random(seed)
    content = copy.deepcopy(content)
    *above, last = draw.choice(_places(content))
    inner = content
    for key in above:
        inner = inner[key]
    if draw.random() < 0.15:
        del inner[last]
    else:
        inner[last] = draw.choice(VALUES)
    return content


def _bytes(content: bytes, seed: int) -> bytes:
    """Cut short, longer, with other bytes, or something else."""
    draw, changed = random.Random(seed), bytearray(content)
    kind = draw.randrange(5)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        return content + draw.randbytes(50)
    if kind == 2:
        return draw.randbytes(200)
    for _ in range(1 if kind == 3 else 40):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def special(path: Path, seed: int) -> None:
    """A pipe, a socket, a link to a device, a loop of links or a folder in place of a file."""
    if path.exists():
        path.unlink()
    kind = seed % 6
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        before = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(before)
    elif kind == 5:
        path.mkdir()
    else:
        path.symlink_to(("/dev/zero", "/dev/random", path.name)[kind - 2])


def config(number: int, folder: Path, template: Path) -> Case:
    path = _copied(template, folder) / "config.json"
    content = json.loads(path.read_text())
    texts = [
        "[" * 100_000,
        '{"fit":' * 5000,
        "",
        "null",
        "[]",
        "\0",
        "9" * 5000,
        '{"fit": {}}',
        '{"a": 1' + "0" * 5000 + "}",
    ]
    path.write_text(texts[number] if number < len(texts) else json.dumps(_damaged(content, number)))
    command = ["sample", "run", "--n", "1"] if number % 3 else ["fit", "--resume", "run", "--max-steps", "3"]
    return Case(command, may_succeed=number >= len(texts))


class Harmful:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


RESUME = ["fit", "--resume", "run", "--max-steps", "3"]


def _checkpoint(run: Path, which: str = "last") -> Path:
    return run / "checkpoints" / json.loads((run / "checkpoints" / f"{which}.json").read_text())["folder"]


def state(number: int, folder: Path, template: Path) -> Case:
    path = _checkpoint(_copied(template, folder)) / "state.pt"
    if number == 0:
        path.write_bytes(pickle.dumps(Harmful()))
    elif number == 1:
        torch.save({"step": Harmful()}, path)
    elif number < 8:
        special(path, number)
    elif number % 3 == 0:
        path.write_bytes(_bytes(path.read_bytes(), number))
    else:
        torch.save(_damaged(torch.load(path, weights_only=True), number), path)
    return Case(RESUME, may_succeed=number >= 8)


def weights(number: int, folder: Path, template: Path) -> Case:
    path = _checkpoint(_copied(template, folder), "best") / "weights.safetensors"
    content, draw = path.read_bytes(), random.Random(number)
    tensors = safetensors.torch.load(content)
    name = draw.choice(sorted(tensors))
    kind, may = number % 9, False
    if kind == 0:
        path.write_bytes((draw.choice([2**30, 2**63, 0, 3])).to_bytes(8, "little") + content[8:])
    elif kind == 1:
        tensors[name] = torch.full_like(tensors[name], draw.choice([torch.nan, torch.inf]))
    elif kind == 2:
        tensors[name] = tensors[name].to(draw.choice([torch.int64, torch.bool, torch.float64, torch.float16]))
    elif kind == 3:
        del tensors[name]
    elif kind == 4:
        tensors[draw.choice(["x", "../x", "a" * 5000])] = torch.zeros(3)
    elif kind == 5:
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    elif kind == 6:
        special(path, number // 9)
    else:
        path.write_bytes(_bytes(content, number))
        may = True
    if kind in range(1, 6):
        path.write_bytes(safetensors.torch.save(tensors))
    return Case(["sample", "run", "--n", "1"], may)


def pointer(number: int, folder: Path, template: Path) -> Case:
    run = _copied(template, folder)
    path = run / "checkpoints" / "best.json"
    name = json.loads(path.read_text())["folder"]
    pointers: list[Any] = [
        *VALUES, *({"folder": value} for value in VALUES), {"folder": f"../checkpoints/{name}"}, {"folder": f"{name}/"},
        {"folder": str(run / "checkpoints" / name)}, {"folder": "best-999999999"}, {"folder": "best-" + "9" * 300},
    ]  # fmt: skip
    if number < len(pointers):
        path.write_text(json.dumps(pointers[number]))
    elif number < len(pointers) + 6:
        special(path, number - len(pointers))
    else:
        path.write_text(["", "[" * 100_000, "\0", "{"][number % 4])
    return Case(["sample", "run", "--n", "1"])


def metrics(number: int, folder: Path, template: Path) -> Case:
    path = _copied(template, folder) / "metrics.csv"
    if number < 6:
        special(path, number)
    elif number == 6:
        path.write_text("step,split\n" + "9" * 5000 + ",train\n")
    else:
        path.write_bytes(_bytes(path.read_bytes(), number))
    return Case(RESUME, may_succeed=number >= 6)


def idx(number: int, folder: Path, template: Path) -> Case:
    draw = random.Random(number)
    root = folder / "files"
    root.mkdir()
    for place, name in enumerate(FILES):
        images = place % 2 == 0
        shape = (20, 28, 28) if images else (20,)
        sizes = b"".join(size.to_bytes(4, "big") for size in shape)
        (root / name).write_bytes(bytes([0, 0, 8, len(shape)]) + sizes + bytes(int(np.prod(shape))))
    path = root / draw.choice(FILES)
    content = path.read_bytes()
    if number < 6:
        special(path, number)
    elif number < 9:
        path.unlink()
        packed = (
            gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(1 << 20)) if number < 8 else b"\x1f\x8b" + content
        )
        path.with_name(f"{path.name}.gz").write_bytes(packed)
    elif number % 3 == 0:
        path.unlink()
        path.with_name(f"{path.name}.gz").write_bytes(_bytes(gzip.compress(content), number))
    else:
        path.write_bytes(_bytes(content, number))
    return Case(["data", "prepare", "rotated-mnist", "--source", "local", "--data-root", "files"], number >= 9)


def table(number: int, folder: Path, template: Path) -> Case:
    draw = random.Random(number)
    root = folder / "faces"
    root.mkdir()
    for place in range(12):
        Image.new("L", (8, 8), place).save(root / f"{place}.png")
    lines = ["name,identity,angle", *(f"{place}.png,{place // 2},{place * 7}" for place in range(12))]
    path = root / "metadata.csv"
    if number < 6:
        special(path, number)
        return Case(["data", "prepare", "faces"], may_succeed=True)
    place = draw.randrange(len(lines))
    cells = lines[place].split(",")
    cells[draw.randrange(3)] = draw.choice(
        ["", "nan", "9" * 5000, "../x.png", "a" * 300 + ".png", '"', "\0", "1e999", "é", "x"]
    )
    lines[place] = ",".join(cells)
    content = "\n".join(lines).encode()
    path.write_bytes(_bytes(content, number) if number % 3 == 0 else content)
    return Case(["data", "prepare", "faces"], may_succeed=True)


def attributes(number: int, folder: Path, template: Path) -> Case:
    root = celeba_files.write(folder / "files" / "celeba")
    path = sorted(root.glob("list_*"))[number % 2]
    if number < 12:
        special(path, number // 2)
    else:
        path.write_bytes(_bytes(path.read_bytes(), number))
    return Case(["data", "prepare", "celeba", "--source", "local", "--data-root", "files"], number >= 12)


def tars(number: int, folder: Path, template: Path) -> Case:
    draw, content = random.Random(number), io.BytesIO()
    names = [
        f"rendered_chairs/c{chair}/renders/image_000_p020_t{angle:03d}_r096.png"
        for chair in range(3)
        for angle in (11, 23)
    ]
    odd = ["/etc/x.png", "../x.png", "a" * 300, names[0], "\udcff.png", "C:\\x.png"]
    with tarfile.open(fileobj=content, mode="w:gz" if number % 2 else "w") as tar:
        for name in [*names, draw.choice(odd)]:
            member = tarfile.TarInfo(name)
            member.size = 9
            if draw.random() < 0.2:
                member.type, member.linkname = (
                    draw.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]),
                    "/dev/zero",
                )
            tar.addfile(member, io.BytesIO(b"no image."))
    (folder / "files").mkdir()
    path = folder / "files" / "rendered_chairs.tar"
    path.write_bytes(_bytes(content.getvalue(), number) if number % 3 else content.getvalue())
    if number < 6:
        special(path, number)
    return Case(["data", "prepare", "chairs", "--source", "local", "--data-root", "files"])


KINDS: dict[str, tuple[Callable[[int, Path, Path], Case], int]] = {
    "options": (options, sum(len(values) for _, values in OPTIONS) + 1),
    "commands on runs": (on_run, len(ON_RUN)),
    "configurations": (config, 90),
    "states": (state, 50),
    "weights": (weights, 54),
    "pointers": (pointer, 66),
    "metrics": (metrics, 20),
    "IDX files": (idx, 50),
    "metadata tables": (table, 50),
    "attribute files": (attributes, 40),
    "tars": (tars, 36),
}
"""kind -> what makes a case of it from a number, and how many there are."""
