"""A conversion of images that stops goes on where it stopped, whoever takes it up."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyro_disent import files
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.store import open_store, store
from pyro_disent.errors import InputError
from tests import forked
from tests.stored import BYTES, SHAPE, TOTAL, Counting, Stop, beside, but_not, picture, pictures


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images.bin"


# Stopping and going on.


def stopping_after(count: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == count:
            raise Stop

    return progress


@pytest.mark.parametrize("count", [1, 20, TOTAL])
def test_an_interrupted_conversion_goes_on_where_it_stopped(path: Path, count: int) -> None:
    with pytest.raises(Stop):
        store(path, range(TOTAL), picture, SHAPE, progress=stopping_after(count))
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        open_store(path)
    rest, seen = Counting(), []
    store(path, range(TOTAL), rest, SHAPE, progress=lambda *done: seen.append(done))
    assert sorted(rest.items) == list(range(count - 1, TOTAL))  # the last was not yet written
    assert seen == [(done, TOTAL) for done in range(count, TOTAL + 1)]
    assert path.read_bytes() == pictures().tobytes()


def test_what_was_skipped_before_a_stop_is_known_after_it(path: Path) -> None:
    for stop in (8, 9, 10, 25):
        with pytest.raises(Stop):
            store(path, range(TOTAL), but_not(7, 8, 30), SHAPE, skip_bad=True, progress=stopping_after(stop))
    assert json.loads(beside(path, "journal").read_text())["skipped"].keys() == {"7", "8"}
    stored = store(path, range(TOTAL), but_not(7, 8, 30), SHAPE, skip_bad=True)
    assert stored.skipped == {place: f"item {place} is bad" for place in (7, 8, 30)}
    expected = pictures()
    expected[[7, 8, 30]] = 0
    assert path.read_bytes() == expected.tobytes()


def test_who_does_not_skip_goes_on_before_what_was_skipped(path: Path) -> None:
    with pytest.raises(Stop):
        store(path, range(TOTAL), but_not(7), SHAPE, skip_bad=True, progress=stopping_after(20))
    with pytest.raises(InputError, match="item 7 is bad"):
        store(path, range(TOTAL), but_not(7), SHAPE)
    assert store(path, range(TOTAL), picture, SHAPE).skipped == {}
    assert path.read_bytes() == pictures().tobytes()


@settings(deadline=None, max_examples=30)
@given(
    known=st.integers(0, TOTAL),
    more=st.integers(0, 3 * BYTES),
    lost=st.integers(0, 3 * BYTES),
    journal=st.sampled_from(["whole", "missing", "empty", "cut off", "another"]),
    leftovers=st.sets(st.sampled_from(["journal.new", "json.new", "json"])),
)
@example(known=20, more=0, lost=BYTES + 1, journal="whole", leftovers=set())
@example(known=20, more=BYTES + 1, lost=0, journal="whole", leftovers={"json"})
@example(known=TOTAL, more=0, lost=0, journal="cut off", leftovers=set())
def test_any_state_a_kill_may_leave_ends_in_the_same_file(
    known: int, more: int, lost: int, journal: str, leftovers: set[str]
) -> None:
    """Rows known to be written, bytes written after the journal or lost again, and files that were being replaced."""
    whole = pictures().tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.bin"
        written = whole[: max(0, known * BYTES - lost)] if lost else whole[: known * BYTES] + os.urandom(more)
        beside(path, "partial").write_bytes(written)
        text = json.dumps({"done": known, "skipped": {}})
        if journal != "missing":
            kinds = {"whole": text, "empty": "", "cut off": text[:-3], "another": "[1]"}
            beside(path, "journal").write_text(kinds[journal])
        for suffix in leftovers:
            beside(path, suffix).write_text('{"done": 5')
        converted = Counting()
        stored = store(path, range(TOTAL), converted, SHAPE)
        assert path.read_bytes() == whole and open_store(path) == stored
        if journal == "whole":
            start = max(0, known * BYTES - lost) // BYTES
            assert sorted(converted.items) == list(range(start, TOTAL))


def test_a_journal_left_over_says_nothing_of_a_new_file(path: Path) -> None:
    path.parent.mkdir()
    journal, known = beside(path, "journal"), []
    journal.write_text(json.dumps({"done": 30, "skipped": {"3": "item 3 was bad"}}))
    stored = store(
        path, range(TOTAL), picture, SHAPE, progress=lambda *_: known.append(json.loads(journal.read_text()))
    )
    assert known[0] == {"done": 0, "skipped": {}} and stored.skipped == {} and len(known) == TOTAL


def test_it_may_die_at_any_call_that_makes_the_disk_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fsync and every replacement in turn is the last thing that a process does."""
    monkeypatch.setattr(image_store, "SECONDS_BETWEEN_SAVES", 0.0)
    fsync, replace, left = os.fsync, Path.replace, 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stop
            return function(*arguments)

        return call

    for calls in range(1000):
        left = calls
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", dying(fsync))
            patch.setattr(Path, "replace", dying(replace))
            try:
                store(path, range(3), but_not(1), SHAPE, skip_bad=True)
                break
            except Stop:
                pass
        assert not path.exists()
        stored = store(path, range(3), but_not(1), SHAPE, skip_bad=True)
        expected = pictures(3)
        expected[1] = 0
        assert path.read_bytes() == expected.tobytes() and stored.skipped == {1: "item 1 is bad"}
        for leftover in path.parent.iterdir():
            leftover.unlink()
    assert calls > 12


def test_a_journal_is_replaced_and_never_written_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "SECONDS_BETWEEN_SAVES", 0.0)
    write, calls = files.write, 0

    def half(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls < 10:
            return write(path, content)
        path.write_bytes(content[:9])
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", half)
        with pytest.raises(Stop):
            store(path, range(TOTAL), picture, SHAPE)
    assert json.loads(beside(path, "journal").read_text()) == {"done": 8, "skipped": {}}
    rest = Counting()
    store(path, range(TOTAL), rest, SHAPE)
    assert sorted(rest.items) == list(range(8, TOTAL)) and path.read_bytes() == pictures().tobytes()


def store_slowly(path: Path, total: int, processes: int, seconds_between_saves: float) -> None:
    """What a process does once so many are ready to; it prints how many images it made, and how many it was told of."""
    image_store.SECONDS_BETWEEN_SAVES, image_store.SECONDS_BETWEEN_LOOKS = seconds_between_saves, 0.01
    made, seen = [], []

    def slow(item: int) -> NDArray[np.uint8]:
        time.sleep(0.02)
        made.append(item)
        return picture(item)

    path.parent.mkdir(exist_ok=True)
    path.with_name(f"ready-{os.getpid()}").touch()
    while len([*path.parent.glob("ready-*")]) < processes:
        time.sleep(0.005)
    store(path, range(total), slow, SHAPE, progress=lambda done, _: seen.append(done))
    print(len(made), len(seen))


def test_a_process_that_is_killed(path: Path, tmp_path: Path) -> None:
    work = partial(store_slowly, path, TOTAL, 1, 0)
    with forked.started(cwd=tmp_path, streams=tmp_path / "streams", work=work) as process:
        deadline = time.monotonic() + 60
        journal = beside(path, "journal")
        while not journal.exists() or json.loads(journal.read_text())["done"] < 5:
            assert process.exitcode is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid or 0, signal.SIGKILL)
        assert forked.ended(process) == -signal.SIGKILL
    done = json.loads(journal.read_text())["done"]
    assert 5 <= done < TOTAL and not path.exists()
    rest = Counting()
    store(path, range(TOTAL), rest, SHAPE)
    assert sorted(rest.items) == list(range(done, TOTAL)) and path.read_bytes() == pictures().tobytes()


def test_two_processes_at_once(path: Path, tmp_path: Path) -> None:
    done = forked.run_together(cwd=tmp_path, work=partial(store_slowly, path, 80, 2, 1))
    assert [each.returncode for each in done] == [0, 0], done
    results = [[int(number) for number in each.stdout.split()] for each in done]
    assert sorted(made for made, _ in results) == [0, 80]  # one worked, and the other showed how far it was
    assert all(seen > 1 for _, seen in results)
    assert path.read_bytes() == pictures(80).tobytes() and open_store(path).total == 80


def test_who_waits_is_told_and_goes_on_with_what_the_other_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "SECONDS_BETWEEN_LOOKS", 0.01)
    with pytest.raises(Stop):
        store(path, range(TOTAL), picture, SHAPE, progress=stopping_after(20))
    other, seen = filelock.FileLock(beside(path, "lock"), thread_local=False), []
    other.acquire()

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            other.release()

    store(path, range(TOTAL), picture, SHAPE, progress=progress)
    assert seen == [19, 19, 19, *range(20, TOTAL + 1)] and path.read_bytes() == pictures().tobytes()
