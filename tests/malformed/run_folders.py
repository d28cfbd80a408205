"""Damaged run folders: what stands in config.json, checkpoints, their pointers and metrics.csv, and what lies there."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tests.malformed import ENDLESS, Case
from tests.malformed.whole import RUN, copied

READ, RESUME = ("sample", RUN, "--n", "2", "--out", "sample.png"), ("fit", "--resume", RUN, "--max-steps", "5")
AGAIN = ("fit", "--config", f"{RUN}/config.json", "--out", "again")
INIT = ("fit", "--config", f"{RUN}/config.json", "--init", RUN, "--out", "again")
MISSING = object()
ODD: dict[str, Any] = {
    "none": None,
    "a list": [1],
    "a table": {"a": 1},
    "a text": "nothing",
    "a negative": -1,
    "a huge number": 10**30,
    "a thousand million": 10**9,
    "a fraction": 0.5,
    "NaN": math.nan,
    "infinite": math.inf,
    "true": True,
    "missing": MISSING,
}
PLACES = {
    "number": "fit.lr fit.batch_size fit.warmup_steps fit.clip_norm fit.seed fit.devices fit.checkpoint_minutes "
    "fit.max_steps fit.limit fit.latents.z.units latents.z.units format",
    "text": "source.kind source.location source.sha256 device precision step minimized fit.method fit.data fit.network "
    "fit.likelihood fit.preset fit.model fit.bins_by fit.schedule fit.source fit.device fit.precision fit.compile_mode",
    "list": "image_shape factors observed handed_over pairs.kinds pairs.identities edges.rotation",
    "table": "fit source pairs latents edges units versions fit.latents fit.weights fit.terms fit.options latents.z",
    "yes or no": "compiled pairs.rest_differs fit.compile",
    "either": "fit.epochs fit.patience fit.threads fit.opponent_lr fit.beta fit.bins fit.data_root fit.observe init "
    "threads latents.z.explains",
}
"""What stands there -> keys of a record, ``fit.lr`` for one in a table."""
NEVER = {
    "number": ("a list", "a table", "a text", "NaN", "infinite", "true", "a negative"),
    "text": ("a list", "a table", "a negative", "NaN", "true"),
    "list": ("a table", "a text", "a negative", "true", "NaN"),
    "table": ("a list", "a text", "a negative", "true", "NaN"),
    "yes or no": ("a list", "a table", "a text", "a fraction", "a negative"),
    "either": ("NaN", "infinite"),
}
"""What stands there -> kinds of `ODD` values that may never stand there; the others may be harmless."""


def with_value(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *path, last = place.split(".")
        for key in path:
            content = content[key]
        content.pop(last)
        if value is not MISSING:
            content[last] = value

    return change


def config_of(folder: Path) -> Path:
    return folder / RUN / "config.json"


def configured(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    """A run whose record was changed."""

    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        content = json.loads(config_of(folder).read_text())
        change(content)
        config_of(folder).write_text(json.dumps(content))

    return make


SPECIAL: dict[str, tuple[str, Any]] = {
    "a thousand million units": ("latents", {"z": {"units": 10**9}, "y": {"units": 1}}),
    "a thousand million categories": (
        "latents",
        {"z": {"units": 3, "family": "categorical", "settings": {"values": 10**9}}, "y": {"units": 1}},
    ),
    "a latent called training": ("latents", {"training": {"units": 3}, "y": {"units": 1}}),
    "a latent with a dot": ("latents", {"a.b": {"units": 3}, "y": {"units": 1}}),
    "no latents": ("latents", {}),
    "another family": ("latents", {"z": {"units": 3, "family": "circle"}, "y": {"units": 1}}),
    "settings that no family has": ("latents", {"z": {"units": 3, "settings": {"a": 1}}, "y": {"units": 1}}),
    "a huge image": ("image_shape", [1, 10**6, 10**6]),
    "a flat image": ("image_shape", [1, 0, 28]),
    "a negative image": ("image_shape", [1, -28, -28]),
    "an image of fractions": ("image_shape", [1, 28.0, 28.0]),
    "an image of texts": ("image_shape", ["1", "28", "28"]),
    "an image of two axes": ("image_shape", [28, 28]),
    "an image of many axes": ("image_shape", [1] * 100_000),
    "an image of 64 channels": ("image_shape", [64, 28, 28]),
    "an image of another size": ("image_shape", [1, 32, 32]),
    "edges that fall": ("edges", {"rotation": [1.0, 0.0]}),
    "edges that are equal": ("edges", {"rotation": [0.0, 0.0]}),
    "edges that are texts": ("edges", {"rotation": ["a"]}),
    "edges that are NaN": ("edges", {"rotation": [math.nan]}),
    "edges without end": ("edges", {"rotation": [math.inf]}),
    "edges of no factor": ("edges", {"nothing": [0.0]}),
    "edges of tables": ("edges", {"rotation": [{}]}),
    "a hundred thousand edges": ("edges", {"rotation": [number / 1e6 for number in range(100_000)]}),
    "factors that are numbers": ("factors", [1, 2]),
    "factors twice": ("factors", ["rotation", "rotation"]),
    "kinds that are no lists": ("pairs", {"kinds": [1], "rest_differs": False, "identities": []}),
    "kinds of numbers": ("pairs", {"kinds": [[1]], "rest_differs": False, "identities": []}),
    "pairs with more": ("pairs", {"kinds": [["identity"]], "rest_differs": False, "identities": [], "more": 1}),
    "units of one number": ("units", {"rotation": [1.0]}),
    "units of scale 0": ("units", {"rotation": [0.0, 0.0]}),
    "units that are NaN": ("units", {"rotation": [math.nan, 1.0]}),
    "units that are texts": ("units", {"rotation": ["a", "b"]}),
    "an observation without a share": ("observed", [{"factor": "rotation", "latent": "y", "unit": 0}]),
    "an observation that is a text": ("observed", ["rotation"]),
    "an observation of no latent": (
        "observed",
        [{"factor": "rotation", "latent": "w", "unit": 0, "share": 1, "known": 1, "seed": 0, "values": []}],
    ),
    "an observation of no unit": (
        "observed",
        [{"factor": "rotation", "latent": "y", "unit": 7, "share": 1, "known": 1, "seed": 0, "values": []}],
    ),
    "an observation of scale 0": (
        "observed",
        [
            {"factor": "rotation", "latent": "y", "unit": 0, "share": 1.0, "known": 1.0, "seed": 0}
            | {"values": [], "scale": 0.0}
        ],
    ),
    "something else handed over": ("handed_over", ["os.system"]),
    "data handed over": ("handed_over", ["data"]),
    "everything handed over": ("handed_over", ["vae", "elbo"]),
    "more in the source": ("source", {"kind": "embedded", "location": "", "sha256": "0", "more": 1}),
    "a source that is elsewhere": ("source", {"kind": "local", "location": "nowhere", "sha256": "0"}),
    "a device that is none": ("device", "meta"),
    "a format of then": ("format", 0),
    "a format of tomorrow": ("format", 99),
    "a format that is a text": ("format", "2"),
    "a precision that is none": ("precision", "4-bit"),
    "more settings": ("fit.more", 1),
    "a method of tomorrow": ("fit.method", "cycle+tomorrow"),
    "a method of a module": ("fit.method", "os.system"),
    "a network of a module": ("fit.network", "os:system"),
    "steps without end": ("fit.max_steps", 10**18),
    "bins without end": ("fit.bins", 10**9),
    "a warm-up of texts": ("fit.beta", {"warm_up": {"weight": "a", "steps": "b"}}),
    "a warm-up without end": ("fit.beta", {"warm_up": {"weight": 1.0, "steps": -1}}),
    "weights of texts": ("fit.weights", {"predictor": "a"}),
    "weights of no term": ("fit.weights", {"nothing": 1.0}),
    "terms of no term": ("fit.terms", {"nothing": {"a": 1}}),
    "terms of texts": ("fit.terms", {"predictor": "a"}),
    "options of no data": ("fit.options", {"nothing": 1}),
}


def set_or_add(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *path, last = place.split(".")
        for key in path:
            content = content[key]
        content[last] = value

    return change


HARMLESS = {
    "steps without end", "bins without end", "a hundred thousand edges", "a source that is elsewhere",
    "an observation of scale 0", "options of no data", "an observation without a share", "units of scale 0",
}  # fmt: skip
"""What a command that does not use it need not notice, or what a run may well have."""


def of_configs() -> Iterator[Case]:
    for what, keys in PLACES.items():
        for place in keys.split():
            for kind, value in ODD.items():
                make, harmless = configured(with_value(place, value)), kind not in NEVER[what]
                yield Case(f"config resumed: {place} is {kind}", RESUME, make, "config.json", harmless)
                if place.startswith("fit."):
                    yield Case(f"config again: {place} is {kind}", AGAIN, make, "config.json", harmless)
                else:
                    yield Case(f"config read: {place} is {kind}", READ, make, "config.json", harmless)
    for name, (place, value) in SPECIAL.items():
        make, harmless = configured(set_or_add(place, value)), name in HARMLESS
        for how, words in (("resumed", RESUME), ("read", READ)):
            yield Case(f"config {how}: {name}", words, make, may_pass=harmless)


def replaced_by(name: str, content: bytes) -> Callable[[Path, Path], None]:
    """A run with another file in the place of one; ``*`` in its name is that of the checkpoint."""

    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        (path,) = (folder / RUN).glob(name)
        path.write_bytes(content)

    return make


def instead(name: str, put: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    """A run with something else in the place of a file or folder."""

    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        (path,) = (folder / RUN).glob(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        put(path)

    return make


CONFIG, METRICS = "config.json", "metrics.csv"
LAST, BEST = "checkpoints/last.json", "checkpoints/best.json"
STATE, WEIGHTS, BEST_WEIGHTS = ("checkpoints/last-*/state.pt", "checkpoints/last-*/weights.safetensors",
                                "checkpoints/best-*/weights.safetensors")  # fmt: skip
FILES = {CONFIG: (RESUME, READ, AGAIN), LAST: (RESUME,), BEST: (READ,), METRICS: (RESUME,)} | {
    STATE: (RESUME,), WEIGHTS: (RESUME,), BEST_WEIGHTS: (READ,)
}  # fmt: skip
"""A run's file -> commands that read it."""
INSTEAD: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to what never ends": lambda path: path.symlink_to(ENDLESS),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "nothing": lambda path: None,
}
CONTENTS = {
    "no bytes": b"", "zeros": bytes(100), "one byte": b"\x80", "a text": b"nothing", "no UTF-8": b'{"a": "\xff\xfe"}',
    "deep nesting": b"[" * 100_000, "deep tables": b'{"a":' * 100_000, "null": b"null", "a list": b"[]",
    "a table": b"{}", "a number of 10,000 digits": b"9" * 10_000, "a line of 300,000 bytes": b"step,split\n" + b"1" * 300_000,
    "a text of JSON": b'"fit"', "two of JSON": b"{} {}", "a byte-order mark": b'\xef\xbb\xbf{"fit": 1}',
}  # fmt: skip


def of_files() -> Iterator[Case]:
    for name, commands in FILES.items():
        for words in commands:
            how = "again" if words is AGAIN else words[0] if words is READ else "resumed"
            for kind, put in INSTEAD.items():
                # Metrics that are lost are written anew.
                harmless = name == METRICS and kind == "nothing"
                yield Case(f"run {how}: {name} is {kind}", words, instead(name, put), RUN, harmless)
            for kind, content in CONTENTS.items():
                harmless = name == METRICS and kind == "no bytes"
                yield Case(f"run {how}: {name} holds {kind}", words, replaced_by(name, content), RUN, harmless)
    for part in ("checkpoints", "checkpoints/last-*"):
        for kind, put in INSTEAD.items():
            yield Case(f"run resumed: {part} is {kind}", RESUME, instead(part, put), RUN)


NAME = "last-000000004"
POINTERS: dict[str, Any] = {
    "no object": 7, "a list": [NAME], "without a folder": {"step": 4}, "a number": {"folder": 4, "step": 4},
    "up": {"folder": "../checkpoints/" + NAME, "step": 4}, "far up": {"folder": "../" * 50 + "tmp", "step": 4},
    "absolute": {"folder": "/" + NAME, "step": 4}, "of best": {"folder": "best-000000004", "step": 4},
    "a missing one": {"folder": "last-000000009", "step": 9}, "empty": {"folder": "", "step": 4},
    "a null": {"folder": NAME + "\0", "step": 4}, "a line break": {"folder": NAME + "\n", "step": 4},
    "long": {"folder": "last-" + "0" * 300, "step": 4}, "a table": {"folder": {"a": 1}, "step": 4},
    "a step of -1": {"folder": NAME, "step": -1}, "a step of text": {"folder": NAME, "step": "4"},
    "another step": {"folder": NAME, "step": 5}, "no step": {"folder": NAME},
    "a step of yes": {"folder": NAME, "step": True}, "a huge step": {"folder": NAME, "step": 10**400},
}  # fmt: skip


def of_pointers() -> Iterator[Case]:
    for kind, pointer in POINTERS.items():
        make = replaced_by(LAST, json.dumps(pointer).encode())
        yield Case(f"pointer: {kind}", RESUME, make, "last.json")


def stated(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """A run whose state was changed, or is what the change returns."""

    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        (path,) = (folder / RUN).glob(STATE)
        state = torch.load(path, weights_only=True)
        changed = change(state)
        torch.save(state if changed is None else changed, path)

    return make


class Crafted:
    """Runs code when it is unpickled, were it unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("crafted",)


def moment(name: str, value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        first = state["optimizer"]["state"][0]
        first[name] = value(first[name])

    return change


TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "NaN": lambda tensor: torch.full_like(tensor, math.nan), "infinite": lambda tensor: torch.full_like(tensor, math.inf),
    "int64": lambda tensor: tensor.long(), "bool": lambda tensor: tensor.bool(), "half": lambda tensor: tensor.half(),
    "double": lambda tensor: tensor.double(), "cut": lambda tensor: tensor.flatten()[:-1] if tensor.dim() else tensor[None],
    "an axis more": lambda tensor: tensor[None], "empty": lambda tensor: tensor.new_zeros(0),
    "complex": lambda tensor: torch.complex(tensor, tensor), "huge": lambda tensor: tensor.new_zeros(1).expand(10**12),
}  # fmt: skip
OF_STATE: dict[str, Any] = {
    "step": (-1, 10**30, 5, 1.5, True, "4", None, math.nan, [4], MISSING),
    "best": (math.nan, -math.inf, 1, "a", None, MISSING),
    "since_best": (-1, 10**30, 1.5, "a", None),
    "feed": (None, [], {}, {"epoch": -1, "position": 0}, {"epoch": 0, "position": 99}, {"epoch": 10**30, "position": 0}, MISSING),
    "pending": ([], {}, {"names": ["a"], "values": [[1.0]]}, {"names": [1], "values": torch.zeros(0, 1)}),
    "optimizer": (None, [], {}, MISSING),
}  # fmt: skip


def of_states() -> Iterator[Case]:
    for kind, tensor in TENSORS.items():
        for name in ("exp_avg", "exp_avg_sq", "step"):
            yield Case(f"state: {name} is {kind}", RESUME, stated(moment(name, tensor)), r"state\.pt")
    for place, values in OF_STATE.items():
        for value in values:
            said = "missing" if value is MISSING else str(value)[:40]
            yield Case(f"state: {place} is {said}", RESUME, stated(with_value(place, value)), r"state\.pt")
    for kind, whole in {"a list": [], "a tensor": torch.zeros(3), "none": 7, "empty": {}}.items():
        yield Case(f"state: {kind}", RESUME, stated(lambda _, whole=whole: whole), r"state\.pt")  # type: ignore[misc]
    for kind, protocol in {"a crafted pickle": 2, "a crafted pickle of today": 5}.items():
        content = pickle.dumps({"step": Crafted()}, protocol)
        yield Case(f"state: {kind}", RESUME, replaced_by(STATE, content), r"state\.pt")
    yield Case("state: crafted, by torch", RESUME, stated(lambda _: {"step": Crafted()}), r"state\.pt")
    yield Case("state: cut", RESUME, changed_bytes(STATE, lambda content: content[: len(content) // 2]), r"state\.pt")


def changed_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        (path,) = (folder / RUN).glob(name)
        path.write_bytes(change(path.read_bytes()))

    return make


def weighed(change: Callable[[dict[str, torch.Tensor], str], Any]) -> Callable[[Path, Path], None]:
    """A run in both of whose checkpoints a tensor of the weights was changed."""

    def make(folder: Path, base: Path) -> None:
        copied(base, RUN, folder)
        for path in (folder / RUN).glob("checkpoints/*/weights.safetensors"):
            weights = safetensors.torch.load_file(path)
            name = max(weights)
            change(weights, name)
            safetensors.torch.save_file(weights, path)

    return make


def header(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


HEADERS = {
    "1 GiB of header": header(b"{}", 1 << 30), "a header without end": header(b"{}", 2**64 - 1),
    "a deep header": header(b"[" * 100_000), "no header": b"\0" * 7, "a header of text": header(b"nothing"),
    "a tensor of 1 TiB": header(b'{"a":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'),
    "a tensor of negative size": header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + bytes(4),
    "tensors that overlap": header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    ) + bytes(4),
    "a type of tomorrow": header(b'{"a":{"dtype":"F3","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
}  # fmt: skip


def of_weights() -> Iterator[Case]:
    changes: dict[str, Callable[[dict[str, torch.Tensor], str], Any]] = {
        **{
            kind: lambda weights, name, tensor=tensor: weights.update({name: tensor(weights[name]).contiguous()})
            for kind, tensor in TENSORS.items()
            if kind not in ("huge", "complex")
        },
        "missing": lambda weights, name: weights.pop(name),
        "too many": lambda weights, name: weights.update(more=torch.zeros(1)),
        "all missing": lambda weights, name: weights.clear(),
        "another name": lambda weights, name: weights.update({f"{name}.more": weights.pop(name)}),
    }  # type: ignore[misc]
    for kind, change in changes.items():
        for how, words in (("resumed", RESUME), ("read", READ), ("begun with", INIT)):
            yield Case(f"weights {how}: {kind}", words, weighed(change), RUN)
    for kind, content in HEADERS.items():
        yield Case(f"weights: {kind}", READ, replaced_by(BEST_WEIGHTS, content), r"weights\.safetensors")


TABLES = {
    "other columns": "a,b\n1,2\n", "no step": "step,split\nx,train\n", "a step of -1": "step,split,loss\n-1,train,1\n",
    "a step of 1.5": "step,split,loss\n1.5,train,1\n", "a huge step": f"step,split\n{'9' * 5_000},train\n",
    "a column twice": "step,step,split\n1,2,train\n", "more cells": "step,split\n1,train,3,4\n",
    "fewer cells": "step,split,loss\n1\n", "an empty name": "step,split,\n1,train,1\n", "a quote": 'step,split\n"1,train\n',
    "a null": "step,split\n1\0,train\n", "another split": "step,split,loss\n1,nothing,1\n",
    "a text for a number": "step,split,loss\n1,train,nothing\n", "no validation": "step,split,objective\n4,validation,x\n",
    "a validation without a number": "step,split,objective\n4,validation,\n", "steps that fall": "step,split\n4,train\n1,train\n",
    "other digits": "step,split\n\N{ARABIC-INDIC DIGIT ONE},train\n", "a hundred thousand columns": "step,split" + ",a" * 100_000,
}  # fmt: skip


def of_metrics() -> Iterator[Case]:
    for kind, table in TABLES.items():
        yield Case(f"metrics: {kind}", RESUME, replaced_by(METRICS, table.encode()), r"metrics\.csv", kind in ("fewer cells",))


def cases() -> Iterator[Case]:
    for some in (of_configs, of_files, of_pointers, of_states, of_weights, of_metrics):
        yield from some()
