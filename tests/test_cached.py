"""Sets that are made once into the cache: chairs and faces treat a damaged file alike."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_disent.data.chairs import chairs
from pyro_disent.data.chairs.drawn.family import Counts, render_family
from pyro_disent.data.faces import celeba
from pyro_disent.data.faces.drawn.faces import render_faces
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from tests.celeba_files import write

EMBEDDED = Request("embedded")
TINY = {chairs: (1, 1, 1), celeba: (2, 2, 2)}
SETS = pytest.mark.parametrize("data", [chairs, celeba], ids=["chairs", "celeba"])
USES = pytest.mark.parametrize("use", ["load", "prepare"])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYRO_DISENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYRO_DISENT_DATA", raising=False)
    return tmp_path / "cache"


def drawn(data: Any) -> np.ndarray:
    """The images of all splits, from the generator and not from the cache."""
    if data is chairs:
        return render_family(0, Counts(*TINY[data]))["images"]
    return render_faces(0, 0, sum(TINY[data])).images


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def stop(*_: int) -> None:
    raise KeyboardInterrupt


def interrupted(use: Callable[..., Any], request: Request, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        use(request, progress=stop, **options)


@USES
@SETS
def test_a_damaged_drawn_set_is_removed_and_drawn_anew_which_is_said_once(
    data: Any, use: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = data.prepare(EMBEDDED, counts=TINY[data])
    damage(path)
    with caplog.at_level(logging.WARNING):
        interrupted(getattr(data, use), EMBEDDED, counts=TINY[data])
        assert not path.exists()  # whoever stops it finds no damaged file there
        (said,) = caplog.messages
        assert str(path) in said and "removed" in said
        getattr(data, use)(EMBEDDED, counts=TINY[data])
        again = data.load(EMBEDDED, counts=TINY[data], progress=lambda *_: pytest.fail("drawn again"))
        assert caplog.messages == [said]
    images = torch.cat([split.images[:] for split in (again.train, again.validation, again.test)])
    assert np.array_equal(images.numpy(), drawn(data))


@USES
@SETS
def test_a_damaged_file_that_cannot_be_removed_is_an_error(data: Any, use: str) -> None:
    path = data.prepare(EMBEDDED, counts=TINY[data])
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=rf"{path.name} cannot be removed .*PYRO_DISENT_CACHE"):
        getattr(data, use)(EMBEDDED, counts=TINY[data])


@SETS
def test_a_damaged_conversion_is_refused_and_prepared_anew(
    data: Any, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = request.getfixturevalue("chairs") if data is chairs else write(tmp_path / "data" / "celeba")
    local = Request("auto", root)
    path = data.prepare(local)
    whole, name = path.read_bytes(), path.name.split("-")[0]
    damage(path)
    for wanted in (local, Request()):
        with pytest.raises(InputError, match=rf"{path.name} .*pyro-disent data prepare {name} "):
            data.load(wanted)
    assert path.exists()
    with caplog.at_level(logging.WARNING):
        interrupted(data.prepare, local)
        assert not path.exists()
        assert data.prepare(local) == path
    (said,) = caplog.messages
    assert str(path) in said and "converted anew" in said
    assert path.read_bytes() == whole
