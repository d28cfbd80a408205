"""Where CelebA comes from: a folder, the cache, a download, or drawn faces in its place."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_disent.data.faces.celeba import FaceSplit, describe, load, prepare
from pyro_disent.data.faces.drawn import faces
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.store import ImagesOnDisk
from pyro_disent.data.sources import Request
from pyro_disent.errors import InputError
from tests.celeba_files import (
    EMBEDDED,
    NAMES,
    PICTURES,
    TINY,
    check_is_the_tiny_set,
    expected,
    generator,
    local,
    splits,
    write,
)

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "data" / "celeba")


# Places and the cache.


def test_the_environment_then_the_cache_then_drawn_faces(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(Request(), counts=TINY).source.kind == "embedded"
    with pytest.raises(InputError, match=r"holds no CelebA: looked for img_align_celeba/NNNNNN.jpg"):
        load(local(tmp_path))
    monkeypatch.setenv("PYRO_DISENT_DATA", str(folder.parent))
    assert describe(Request()) == f"local: {folder}, to be converted once"
    first = load(Request())
    assert first.source.kind == "local" and describe(Request()) == f"local: {folder}"
    assert load(Request("embedded"), counts=TINY).source.kind == "embedded"
    monkeypatch.delenv("PYRO_DISENT_DATA")
    shutil.rmtree(folder)
    cached = load(Request())
    check_is_the_tiny_set(cached)
    assert cached.source.kind == "cache" and cached.source.sha256 == first.source.sha256
    assert describe(Request()) == f"cache: {cached.source.location}" and prepare(Request()) == Path(
        cached.source.location
    )


def test_converted_once_and_again_where_a_file_changed(folder: Path) -> None:
    path = prepare(local(folder))
    before = path.stat().st_mtime_ns
    load(local(folder), progress=lambda *done: pytest.fail("converted again"))
    assert prepare(local(folder)) == path and path.stat().st_mtime_ns == before
    (folder / "img_align_celeba" / NAMES[0]).write_bytes(PICTURES[NAMES[1]])
    assert torch.equal(load(local(folder)).train.images[0], expected(NAMES[1]))


def test_an_interrupted_conversion_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(local(folder), progress=interrupt)
    assert describe(Request()).startswith("embedded")  # what is not whole serves nobody
    seen: list[int] = []
    check_is_the_tiny_set(load(local(folder), progress=lambda done, total: seen.append(done)))
    assert seen == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("suffix", [".bin", ".npz"])
def test_a_damaged_cache_is_never_trusted(folder: Path, suffix: str) -> None:
    path = prepare(local(folder)).with_suffix(suffix)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for request in (local(folder), Request()):
        with pytest.raises(InputError, match=rf"{path.name} (is damaged|has changed).*prepare celeba --data-root"):
            load(request)
    with pytest.raises(InputError, match=rf"{path.name} (is damaged|has changed)"):
        prepare(Request())
    assert path.read_bytes() == content
    prepare(local(folder))
    check_is_the_tiny_set(load(Request()))


def test_images_are_read_from_the_disk_where_they_are_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = load(local(folder))
    monkeypatch.setattr(image_store, "LARGE_BYTES", 0)
    large = load(local(folder), limit=3)
    check_is_the_tiny_set(load(local(folder)))
    index = torch.tensor([2, 0, 1, 1])
    for few, many in zip(splits(small), splits(large), strict=True):
        assert isinstance(few.images, Tensor) and isinstance(many.images, ImagesOnDisk)
        batches = [
            FaceSplit(split.images[:2], split.attributes[:2]).batch(index % 2, generator()) for split in (few, many)
        ]
        assert torch.equal(batches[0].images, batches[1].images)
        assert torch.equal(many.batch(index[1:3], generator()).images[0], few.images[:2].float() / 255)
    assert len(large.train) == 3 and len(large.test) == 3


# A download, as far as it goes without a network.


def served(monkeypatch: pytest.MonkeyPatch, folder: Path, download: Callable[..., None]) -> None:
    """Let torchvision expect our files, and gdown fetch them in a way of its own."""
    from torchvision.datasets import CelebA

    names = ("img_align_celeba.zip", "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt")
    (folder / "identity_CelebA.txt").touch()
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names}
    monkeypatch.setattr(CelebA, "file_list", [(name, md5[name], name) for name in names])
    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=download))  # type: ignore[arg-type]


def test_a_download_is_checked_converted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, asked = write(tmp_path / "origin", packed=True), []

    def download(*, id: str, output: str, **_: Any) -> None:
        asked.append(id)
        shutil.copy(origin / id, output)

    served(monkeypatch, origin, download)
    request = Request("download")
    assert describe(request).startswith("download: torchvision's address") and asked == []
    data = load(request)
    check_is_the_tiny_set(data)
    assert sorted(asked) == ["img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt"]
    assert data.source.kind == "download" and data.source.location == str(tmp_path / "cache" / "celeba")
    assert load(request).source == data.source and prepare(request).exists() and len(asked) == 3
    assert load(Request()).source.kind == "cache"


def failing(error: Exception) -> Callable[..., None]:
    def download(**_: Any) -> None:
        raise error

    return download


def other_bytes(*, output: str, **_: Any) -> None:
    Path(output).write_text("<html>Too many users have viewed or downloaded this file recently</html>")


@pytest.mark.parametrize(
    ("download", "says"),
    [
        (other_bytes, "corrupted"),
        (failing(ConnectionError("no route\nto host")), "no route to host"),
        (failing(Exception("too many users")), "too many users"),
    ],
    ids=["other bytes", "no network", "quota"],
)
def test_a_download_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: Callable[..., None], says: str
) -> None:
    served(monkeypatch, write(tmp_path / "origin", packed=True), download)
    with pytest.raises(InputError, match=rf"CelebA could not be downloaded .*{says}.*`data_root`") as caught:
        load(Request("download"))
    assert "\n" not in str(caught.value)


def test_a_download_without_gdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"could not be downloaded .*pip install gdown"):
        prepare(Request("download"))


# Drawn faces.


def test_drawn_faces_are_drawn_once_and_follow_their_seed(tmp_path: Path) -> None:
    assert "15000 drawn faces" in describe(EMBEDDED) and describe(EMBEDDED).endswith("to be drawn once")
    drawn: list[int] = []
    data = load(EMBEDDED, counts=TINY, progress=lambda done, total: drawn.append(total))
    assert drawn == [10] * 10
    again = load(EMBEDDED, counts=list(TINY), progress=lambda *done: pytest.fail("drawn again"))
    assert data.source == again.source and data.options == again.options == {
        "seed": 0,
        "limit": None,
        "counts": [4, 3, 3],
    }
    images, attributes = faces.render_faces(0, 0, 10)
    assert torch.equal(torch.cat([split.images for split in splits(data)]), torch.from_numpy(images))  # type: ignore[misc]
    assert np.array_equal(torch.cat([split.attributes for split in splits(data)]).numpy(), attributes)
    assert [len(split) for split in splits(data)] == list(TINY)
    assert len({image.numpy().tobytes() for split in splits(data) for image in split.images[:]}) == 10  # all differ
    other = load(EMBEDDED, counts=TINY, seed=1)
    assert other.source.sha256 != data.source.sha256 and not torch.equal(other.train.images[:], data.train.images[:])


def test_a_damaged_cache_of_drawn_faces_is_drawn_again() -> None:
    whole, path = load(EMBEDDED, counts=TINY), prepare(EMBEDDED, counts=TINY)
    for use in (load, prepare):
        path.write_bytes(path.read_bytes()[:-100])
        use(EMBEDDED, counts=TINY)
        again = load(EMBEDDED, counts=TINY, progress=lambda *done: pytest.fail("drawn again"))
        assert torch.equal(again.train.images[:], whole.train.images[:])


@pytest.mark.parametrize("counts", [(4, 4), (4, 4, 1), (0, 4, 4)])
def test_every_split_needs_a_pair(counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="2 or more each to be paired"):
        load(EMBEDDED, counts=counts)


def test_limit_counts_training_images(folder: Path) -> None:
    for request in (EMBEDDED, local(folder)):
        whole = load(request, counts=TINY)
        for limit in (2, 3, 4, 5, 99):
            data = load(request, counts=TINY, limit=limit)
            kept = min(limit, len(whole.train))
            assert [len(split) for split in splits(data)] == [kept, *(len(split) for split in splits(whole)[1:])]
            assert torch.equal(data.train.images[:], whole.train.images[:kept])
            assert len(data.train.attributes) == kept and data.source == whole.source  # type: ignore[attr-defined]
        for limit in (1, 0, -3):
            with pytest.raises(InputError, match=f"`limit={limit}` is too few"):
                load(request, counts=TINY, limit=limit)
