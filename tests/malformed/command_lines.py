"""Malformed command lines: numbers out of range, names that are none, things said twice, and what a shell hands on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.malformed import Case, nothing
from tests.malformed.whole import OF_DIGITS, RUN, copied

FIT = ("fit", "--method", "cycle+predictor", *OF_DIGITS, "--network", "mlp", "--out", "new")
NO_NUMBERS = ("", "x", "1x", "nan", "inf", "-inf", "1e999", "1_000", "0x10", "\N{ARABIC-INDIC DIGIT ONE}", "9" * 5_000)
LONG = "n" * 300
ODD_NAMES = {
    "over 255 bytes": LONG,
    "not UTF-8": "caf\udce9",
    "with a line break": "a\nb",
    "with an escape": "a\x1b[31mb",
    "with a null": "a\0b",
    "deep": "/".join("d" * 200 for _ in range(40)),
}
"""What no file or data set is called, or none should be."""

WHOLE = {
    "--seed": ("-1", str(2**32), str(2**64), "1.5"),
    "--batch-size": ("0", "-1", "1.5", "1000000000"),
    "--epochs": ("0", "-1", "1.5"),
    "--max-steps": ("0", "-1", "1.5"),
    "--warmup-steps": ("-1", "1.5", "1000000000000"),
    "--patience": ("0", "-1"),
    "--threads": ("0", "-1", "1000000000"),
    "--devices": ("0", "-1", "1.5", "1000000"),
    "--limit": ("0", "-1", "1.5", "3"),
    "--bins": ("0", "1", "-1", "1000000000", "9" * 400, "rotation=1", "rotation=1e9", "nothing=3", "rotation"),
}
NUMBERS = {
    "--lr": ("0", "-1"),
    "--opponent-lr": ("0", "-1"),
    "--clip-norm": ("0", "-1"),
    "--checkpoint-minutes": ("-1",),
    "--beta": ("-1", "z=-1", "z=nan", "z=inf", "nothing=2", "z=", "=2", "z"),
}
"""option of fit -> values that are out of range; no number of `NO_NUMBERS` is accepted either."""
NAMES = {
    "--method": ("", "nothing", "cycle+", "+", "cycle+cycle", "cycle+nothing"),
    "--data": ("", "nothing", "rotated-mnist/", ".."[:1] + "/nothing"),
    "--network": ("", "nothing"),
    "--likelihood": ("", "nothing"),
    "--model": ("", "nothing"),
    "--preset": ("", "nothing"),
    "--schedule": ("", "nothing"),
    "--device": ("", "gpu", "cuda", "cuda:0", "cuda:-1", "cpu:1", "meta", "cuda:" + "9" * 5_000),
    "--precision": ("", "8", "float32"),
    "--compile-mode": ("", "nothing"),
    "--bins-by": ("", "nothing"),
    "--source": ("", "nothing", "download"),
    "--predictor-side": ("", "nothing"),
    "--predictor-on": ("", "nothing"),
    "--guard": ("", "nothing"),
    "--hide": ("", "nothing"),
    "--observe": ("", "nothing", "rotation=0", "rotation=2", "rotation=nan", "rotation=x", "rotation=", "=1"),
    "--weight": ("", "nothing=1", "predictor", "predictor=", "predictor=x", "predictor=nan", "predictor=-1", "=1"),
    "--term": ("", "predictor", "predictor.side", "predictor.side=", "predictor.nothing=1", "nothing.side=1", ".=1"),
    "--data-option": ("", "nothing=1", "factors", "factors=nothing", "seed=1", "request=1", "progress=1"),
    "--latent": (
        *("", "z", "z=", "=1", "z=-1", "z=1.5", "z=1e8", "z=100000000", "z=9" + "9" * 5_000, "z=x", "z=1:", "z=1:nothing"),
        *("z=1:normal,", "z=1:normal,a", "z=1:normal,a=1", "z=1:mixture,components=0", "z=1:mixture,components=1e9"),
        *("z=1:mixture,components=1000000000", "z=1:categorical,values=1", "z=1:categorical,values=1000000000"),
        *("z=1:conditional", "z=1:conditional,parents=z", "z=1:conditional,parents=nothing", "training=3", "parameters=3"),
        *("a.b=3", "a b=3", "a/b=3", "x=3", "buffers=2", "forward=2", "_modules=2", "z\n=1", f"{LONG}=1", "=", "z=0"),
    ),
    "--explains": ("", "z", "z=", "z=nothing", "z=each:", "z=each:nothing", "nothing=common", "z=common,rest"),
}
TWICE = ("--latent", "z=3"), ("--beta", "z=2"), ("--weight", "predictor=2"), ("--term", "predictor.side=entropy")


def of_fit() -> Iterator[tuple[str, tuple[str, ...]]]:
    for option, values in {**WHOLE, **NUMBERS}.items():
        yield from ((f"{option} {value[:40]!r}", (*FIT, option, value)) for value in (*values, *NO_NUMBERS[:6]))
        yield f"{option} of 5,000 digits", (*FIT, option, "9" * 5_000)
    for option, values in NAMES.items():
        yield from ((f"{option} {value[:40]!r}", (*FIT, option, value)) for value in values)
    for option in ("--method", "--data", "--network", "--data-root", "--out", "--config", "--init"):
        for kind, name in ODD_NAMES.items():
            if option != "--out" or kind in ("over 255 bytes", "with a null", "deep"):
                yield f"{option} {kind}", (*FIT, option, name)
    for option, value in TWICE:
        yield f"{option} {value} twice", (*FIT, option, value, option, value.replace("2", "4").replace("3", "4"))
        yield f"{option} {value} and otherwise", (*FIT, option, value, option, f"{value.partition('=')[0]}=5")
    yield "epochs beside steps", (*FIT, "--epochs", "1", "--max-steps", "1")
    yield "nothing to train", ("fit",)
    yield "no data", ("fit", "--method", "vae")
    yield "no method", ("fit", "--data", "rotated-mnist")
    yield "an unknown option", (*FIT, "--nothing", "1")
    yield "an option without its value", (*FIT, "--seed")
    yield "a word too many", (*FIT, "more")
    yield "resume and more", ("fit", "--resume", "nothing", "--lr", "1")
    yield "resume of nothing", ("fit", "--resume", "nothing")
    yield "config of nothing", ("fit", "--config", "nothing")
    yield "an unknown command", ("nothing",)
    yield "a null for a command", ("a\0b",)
    yield "without latents", (*FIT, "--latent", "z=0", "--latent", "y=0")
    yield "10,000 latents", (*FIT, *(word for number in range(10_000) for word in ("--latent", f"l{number}=100000")))


SEEDED = {
    "evaluate": ("evaluate", RUN),
    "swap": ("swap", RUN, "0", "1"),
    "traverse": ("traverse", RUN),
    "interpolate": ("interpolate", RUN, "0", "1"),
    "do": ("do", RUN, "0", "y=1"),
    "encode": ("encode", RUN, "rotated-mnist", "--out", "codes.csv"),
    "posterior": ("posterior", RUN),
    "sample": ("sample", RUN),
    "figures": ("figures", RUN),
    "data show": ("data", "show", "rotated-mnist", "--source", "embedded"),
}
SEEDS = ("-1", str(2**32), str(2**63), str(2**64), "9" * 5_000, "1.5", "x")
ON_A_RUN: dict[str, tuple[tuple[str, ...], ...]] = {
    "sample": (
        *(("--n", value) for value in ("0", "-1", "10000", "1000000000", "9" * 5_000, "x")),
        *(("--latent", value) for value in ("", "nothing", LONG, "a\0b")),
        *(("--given", value) for value in ("", "a", "a=", "rotation=1", "nothing=1")),
    ),
    "traverse": (
        *(("--steps", value) for value in ("0", "1", "-1", "102", "1000000000", "9" * 5_000)),
        *(("--latent", value) for value in ("", "nothing", LONG)),
    ),
    "interpolate": (*(("--steps", value) for value in ("0", "1", "1000000000")), ("--latent", "nothing")),
    "posterior": (
        *((option, value) for option in ("--images", "--draws") for value in ("0", "-1", "1000000000", "9" * 5_000)),
        ("--out", "draws.txt"),
        ("--out", "nowhere/draws.nc"),
    ),
    "encode": (("--out", "codes.txt"), ("--out", "nowhere/codes.csv"), ("--out", f"{LONG}.csv"), ("--out", ".")),
    "data show": (*(("--pairs", value) for value in ("0", "-1", "401", "9" * 5_000)),),
    "evaluate": (("--threads", "0"), ("--threads", "-1"), ("--data", "nothing"), ("--data", LONG), ("--data", "a\0b")),
    "figures": (),
    "swap": (),
    "do": (),
}
OUT = ("", "nowhere/out.png", "out.txt", f"{LONG}.png", "a\0b.png", ".", "out")
INDICES = ("-1", "1000000000", "9" * 5_000, "1.5", "", "x", LONG, "a\0b", "\udcff", "0x1", "1e3", "metadata.csv")
SET = ("y", "y=", "=1", "y=x", "y=nan", "y=inf", "y=1e999", "y=1,2", "y[1]=1", "y[-1]=1", "y[9]=1", "y[x]=1", "nothing=1", "y=1e300")


def of_runs() -> Iterator[tuple[str, tuple[str, ...]]]:
    for command, words in SEEDED.items():
        yield from ((f"{command} --seed {seed[:40]}", (*words, "--seed", seed)) for seed in SEEDS)
        for more in ON_A_RUN[command]:
            yield f"{command} {' '.join(each[:40] for each in more)!r}", (*words, *more)
        if command != "data show":
            yield f"{command} --checkpoint", (*words, "--checkpoint", "nothing")
            yield f"{command} --device", (*words, "--device", "cuda:0")
        if command in ("swap", "traverse", "interpolate", "do", "sample", "data show"):
            yield from ((f"{command} --out {out[:40]!r}", (*words, "--out", out)) for out in OUT)
    for index in INDICES:
        yield f"swap of {index[:40]!r}", ("swap", RUN, "0", index)
        yield f"interpolate to {index[:40]!r}", ("interpolate", RUN, "0", index)
        yield f"do of {index[:40]!r}", ("do", RUN, index, "y=1")
    for index in INDICES[:4]:
        yield f"traverse --index {index[:40]}", ("traverse", RUN, "--index", index)
        yield f"sample --index {index[:40]}", ("sample", RUN, "--latent", "z", "--index", index)
    yield "swap of one image", ("swap", RUN, "0")
    yield "swap of 400 images", ("swap", RUN, *map(str, range(400)))
    yield "swap of 10,000 images", ("swap", RUN, *["0"] * 10_000)
    yield from ((f"do {value}", ("do", RUN, "0", value)) for value in SET)
    yield "do the same twice", ("do", RUN, "0", "y=1", "y=2")
    for kind, name in ODD_NAMES.items():
        yield f"evaluate {kind}", ("evaluate", name)
        yield f"encode of {kind}", ("encode", RUN, name, "--out", "codes.csv")


def with_run(folder: Path, base: Path) -> None:
    copied(base, RUN, folder)


def cases() -> Iterator[Case]:
    for name, words in of_fit():
        yield Case(f"command line: {name}", words, nothing)
    for name, words in of_runs():
        yield Case(f"command on a run: {name}", words, with_run)
