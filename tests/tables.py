"""Folders of small images with a table beside them, and the command line on them, without a new process."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyro_disent.cli.main import main
from pyro_disent.data import registry
from pyro_disent.data.dataset import DataSet, Split

SIZE = 8


def folder(root: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """An image for each row of a table; image ``i`` is grey with a level of ``i``, so that it is known again."""
    root.mkdir()
    names = [f"{image:03}.png" for image in range(len(next(iter(columns.values()))))]
    for image, name in enumerate(names):
        pixels = np.full((SIZE, SIZE), image, np.uint8)
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(root / name)
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *columns])
        writer.writerows(zip(names, *columns.values(), strict=True))
    return root


def load(root: Path, **options: Any) -> DataSet:
    return registry.load(str(root), **{"image_size": SIZE, "channels": 1, **options})


def shown(data: DataSet, name: str) -> dict[int, str | None]:
    """image -> how a factor's value is written in figures, for all images of all splits; None where not known."""
    factor = next(factor for factor in data.factors if factor.name == name)
    found: dict[int, str | None] = {}
    for split in (data.train, data.validation, data.test):
        for image, value in zip(images_of(split), split.factors[name].tolist(), strict=True):
            text = factor.categories[int(value)] if factor.categories and value == value else factor.written.get(value)
            found[image] = text
    return found


def images_of(split: Split) -> list[int]:
    return split.images[:][:, 0, -1, -1].tolist()


def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], where: Path, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """What the program prints and how it ends."""
    monkeypatch.chdir(where)
    monkeypatch.setattr(sys, "argv", ["pyro-disent", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capfd.readouterr()
    return subprocess.CompletedProcess(arguments, int(stop.value.code or 0), out, err)
