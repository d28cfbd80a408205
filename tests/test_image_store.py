"""Images on the disk: they are read as a tensor is, and stored as they were converted, or not at all."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.array_cache import CorruptCache
from pyro_disent.data.images.store import ImagesOnDisk, open_store, store
from pyro_disent.errors import InputError, StorageError
from tests.stored import BYTES, SHAPE, TOTAL, Counting, beside, but_not, names, picture, pictures


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images.bin"


# Reading.


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImagesOnDisk, torch.Tensor]:
    """Some rows of a file, in no order and one of them twice, and the same as a tensor."""
    path = tmp_path_factory.mktemp("kept") / "images.bin"
    path.write_bytes(pictures().tobytes())
    rows = torch.tensor([30, 2, 3, 4, 36, 0, 2, 17])
    return ImagesOnDisk(path, SHAPE, rows), torch.from_numpy(pictures())[rows]


INDEX = st.lists(st.integers(-8, 7), max_size=24)


@settings(deadline=None, max_examples=100)
@given(
    INDEX.map(torch.tensor).map(torch.Tensor.long)
    | st.lists(INDEX.filter(lambda row: len(row) > 2).map(lambda row: row[:3]), min_size=1, max_size=4).map(
        torch.tensor
    )
    | st.lists(st.booleans(), min_size=8, max_size=8).map(torch.tensor)
    | st.slices(8).filter(lambda part: part.step is None or part.step > 0)  # torch has no negative steps
    | st.integers(-8, 7)
    | st.integers(-8, 7).map(torch.tensor)
)
def test_indexing_is_that_of_a_tensor(kept: tuple[ImagesOnDisk, torch.Tensor], index: Any) -> None:
    mapped, tensor = kept
    assert torch.equal(mapped[index], tensor[index]) and mapped[index].dtype == torch.uint8
    assert len(mapped) == len(tensor) and mapped.shape == tensor.shape


@given(st.integers(1, 12))
def test_parts_are_those_of_a_tensor(kept: tuple[ImagesOnDisk, torch.Tensor], size: int) -> None:
    mapped, tensor = kept
    for part, expected in zip(mapped.split(size), tensor.split(size), strict=True):
        assert torch.equal(part, expected)


def test_rows_are_selected_as_those_of_a_tensor(kept: tuple[ImagesOnDisk, torch.Tensor]) -> None:
    mapped, tensor = kept
    index = torch.tensor([7, 0, 0, 3])
    assert torch.equal(mapped.index_select(0, index), tensor.index_select(0, index))
    with pytest.raises(IndexError, match="dimension 0, not 1"):
        mapped.index_select(1, index)


@pytest.mark.parametrize("index", [8, -9, torch.tensor([0, 8]), torch.tensor([-9])])
def test_an_index_out_of_range_is_refused(kept: tuple[ImagesOnDisk, torch.Tensor], index: Any) -> None:
    with pytest.raises(IndexError):
        kept[0][index]


def test_images_are_read_to_their_device_and_never_to_a_default_one(kept: tuple[ImagesOnDisk, torch.Tensor]) -> None:
    mapped, tensor = kept
    there = mapped.to("meta")
    assert there.device.type == "meta" and there[:2].is_meta and there.shape == mapped.shape
    assert mapped.device.type == "cpu"
    with torch.device("meta"):
        assert torch.equal(mapped[:], tensor)


def test_a_file_that_is_gone_or_cut_off_while_it_is_used(path: Path) -> None:
    images = ImagesOnDisk(path, SHAPE, torch.arange(TOTAL))
    with pytest.raises(StorageError, match=f"{path} cannot be read .No such file"):
        images[0]
    path.parent.mkdir()
    path.write_bytes(pictures().tobytes()[:-1])
    assert torch.equal(images[TOTAL - 2], torch.from_numpy(picture(TOTAL - 2)))
    with pytest.raises(StorageError, match="ends too early"):
        images[TOTAL - 1]


# Storing.


def test_what_is_stored_is_what_was_converted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    stored = store(path, range(TOTAL), picture, SHAPE, progress=lambda *done: seen.append(done))
    assert seen == [(done + 1, TOTAL) for done in range(TOTAL)]
    assert path.read_bytes() == pictures().tobytes()
    assert stored == (path, SHAPE, TOTAL, image_store._sha256(path), {}) and open_store(path) == stored
    again = Counting()
    assert store(path, range(TOTAL), again, SHAPE) == stored and again.items == []
    assert names(path.parent) <= {"images.bin", "images.bin.json", "images.bin.lock"}

    rows = np.array([5, 1, 36])
    in_memory = stored.images(rows)
    assert isinstance(in_memory, torch.Tensor) and np.array_equal(in_memory.numpy(), pictures()[rows])
    monkeypatch.setattr(image_store, "LARGE_BYTES", TOTAL * BYTES - 1)
    mapped = stored.images(rows)
    assert isinstance(mapped, ImagesOnDisk) and torch.equal(mapped[:], in_memory)
    monkeypatch.setattr(image_store, "LARGE_BYTES", TOTAL * BYTES)
    assert isinstance(stored.images(rows), torch.Tensor)


def test_no_images_are_stored_as_none(path: Path) -> None:
    stored = store(path, [], picture, SHAPE)
    assert stored.total == 0 and stored.images(np.zeros(0, np.int64)).shape == (0, *SHAPE)


def test_an_image_of_another_shape_is_not_written(path: Path) -> None:
    for image in (np.zeros((3, 5, 4), np.uint8), np.zeros(SHAPE, np.float32)):
        with pytest.raises(ValueError, match=r"is not uint8 \(3, 4, 5\)"):
            store(path, [image], lambda image: image, SHAPE)
    assert not path.exists()


def test_a_bad_item_is_raised_and_what_came_before_it_is_kept(path: Path) -> None:
    with pytest.raises(InputError, match="item 20 is bad"):
        store(path, range(TOTAL), but_not(20, 30), SHAPE)
    assert not path.exists()
    mended = Counting()
    assert store(path, range(TOTAL), mended, SHAPE).skipped == {}
    assert sorted(mended.items) == list(range(20, TOTAL)) and path.read_bytes() == pictures().tobytes()


def test_bad_items_are_black_rows_that_say_why(path: Path) -> None:
    stored = store(path, range(TOTAL), but_not(0, 20), SHAPE, skip_bad=True)
    expected = pictures()
    expected[[0, 20]] = 0
    assert path.read_bytes() == expected.tobytes()
    assert stored.skipped == open_store(path).skipped == {0: "item 0 is bad", 20: "item 20 is bad"}
    with pytest.raises(InputError, match="item 0 is bad"):  # who does not skip is not given black rows
        store(path, range(TOTAL), but_not(0, 20), SHAPE)


# Disks.


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_full_disk_is_said_and_gone_on_from(path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may not grow beyond 20 and a half rows: the system itself refuses, in the middle of a row."""
    monkeypatch.setattr(image_store, "SECONDS_BETWEEN_SAVES", seconds)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * BYTES + BYTES // 2, before[1]))
    try:
        with pytest.raises(InputError, match=rf"cannot write the cache file {path} .*PYRO_DISENT_CACHE"):
            store(path, range(TOTAL), picture, SHAPE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    rest = Counting()
    store(path, range(TOTAL), rest, SHAPE)
    assert sorted(rest.items) == list(range(20 if seconds == 0 else 0, TOTAL))
    assert path.read_bytes() == pictures().tobytes()


def test_a_disk_with_too_little_room_is_found_before_the_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=TOTAL * BYTES - 1))
    with pytest.raises(InputError, match=r"cannot write the cache file .* \(it needs 0 MB, and 0 MB are free\): set"):
        store(path, range(TOTAL), lambda _: pytest.fail("converted"), SHAPE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=TOTAL * BYTES))
    assert store(path, range(TOTAL), picture, SHAPE).total == TOTAL


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that this process may read and not write, whoever runs it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cache"
        store(folder / "images.bin", range(TOTAL), picture, SHAPE)
        (folder / "images.bin.lock").unlink(missing_ok=True)
        for path, mode in ((Path(name), 0o755), (folder, 0o555), *((path, 0o444) for path in folder.iterdir())):
            path.chmod(mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(user)
            folder.chmod(0o755)


def test_a_cache_that_may_only_be_read_serves_what_it_holds(read_only: Path) -> None:
    with pytest.raises(OSError):
        (read_only / "probe").touch()
    stored = store(read_only / "images.bin", range(TOTAL), picture, SHAPE)
    assert np.array_equal(stored.images(np.arange(TOTAL)).numpy(), pictures())  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"cannot write the cache file .*PYRO_DISENT_CACHE"):
        store(read_only / "others.bin", range(TOTAL), picture, SHAPE)


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="PYRO_DISENT_CACHE"):
        store(tmp_path / "file" / "images.bin", range(TOTAL), picture, SHAPE)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "has changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has changed"),
        (lambda path: path.write_bytes(b""), "has changed"),
        (lambda path: beside(path, "json").unlink(), "cannot be read"),
        (lambda path: beside(path, "json").write_text(""), "cannot be read"),
        (lambda path: beside(path, "json").write_text("[]"), "cannot be read"),
        (lambda path: beside(path, "json").write_text('{"shape": [1, 2]}'), "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_was_written(path: Path, damage: Callable[[Path], object], says: str) -> None:
    whole = store(path, range(TOTAL), picture, SHAPE)
    damage(path)
    for use in (open_store, lambda path: store(path, range(TOTAL), picture, SHAPE)):
        with pytest.raises(CorruptCache, match=rf"{path} .*{says}.*: delete") as caught:
            use(path)
        assert "\n" not in str(caught.value)
    path.unlink()  # enough, whatever lies beside it
    assert store(path, range(TOTAL), picture, SHAPE) == whole
