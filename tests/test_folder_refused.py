"""What is wrong with a folder of images is one sentence, or is left out and counted where that was chosen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_disent.data.own import folder
from pyro_disent.errors import InputError
from tests.people import ALL, PEOPLE, contents, everything, flat, load, people, people_of, person_and_place, picture

pytestmark = pytest.mark.usefixtures("elsewhere")


Change = Callable[[Path], object]
"""What a test does to a folder."""


def metadata(*rows: str) -> Change:
    """Puts a ``metadata.csv`` of these lines in place of the one there."""
    return lambda root: (root / "metadata.csv").write_text("\n".join(rows))


def with_row(row: str, new: str | None = None) -> Change:
    """Adds a line to ``metadata.csv``, and an image where one is named."""

    def change(root: Path) -> None:
        with (root / "metadata.csv").open("a") as file:
            file.write(row + "\n")
        if new is not None:
            picture(0, 0).save(root / new)

    return change


def write(name: str, content: bytes) -> Change:
    return lambda root: (root / name).write_bytes(content)


def nothing(root: Path) -> None:
    pass


NEVER: dict[str, tuple[Change, dict[str, Any], str]] = {
    "empty": (metadata(), {}, "metadata.csv is empty: it needs a column file_name"),
    "header only": (metadata("file_name,who"), {}, "metadata.csv names no image"),
    "no file_name": (metadata("filename,who", "a.png,1"), {}, "metadata.csv has no column file_name: .*filename, who"),
    "two columns": (metadata("file_name,a,a", "b,1,2"), {}, "metadata.csv has two columns a"),
    "nameless": (metadata(",file_name", "a,b.png"), {}, "metadata.csv has a column without a name, number 1"),
    "Latin-1": (write("metadata.csv", b"file_name,who\na.png,\xe9\n"), {}, "metadata.csv is not UTF-8"),
    "UTF-16": (write("metadata.csv", "file_name,who".encode("utf-16-le")), {}, "it seems UTF-16 without a byte order"),
    "no CSV": (metadata("file_name,who", 'a.png,"x"y'), {}, "metadata.csv is not CSV after line 1"),
    "unknown column": (
        nothing,
        {"pair_by": "Who"},
        r"`pair_by=Who`: .*metadata.csv has no such column \(did you mean who\?",
    ),
    "far off": (
        nothing,
        {"pair_by": "person"},
        r"`pair_by=person`: .* no such column; its columns are who, place, side",
    ),
    "absolute": (
        with_row("/etc/x.png,P1,1,a"),
        {},
        "line 50 of .*metadata.csv names /etc/x.png, which does not lie in",
    ),
    "upwards": (with_row("a/../../x.png,P1,1,a"), {}, r"names a/../../x.png, which does not lie in this folder"),
    "on Windows": (with_row("C:\\x.png,P1,1,a"), {}, "which does not lie in this folder"),
    "called identity": (
        metadata("file_name,identity", "00-0.png,1"),
        {},
        "a factor or column cannot be called 'identity'",
    ),
    "other metadata": (write("metadata.jsonl", b"{}"), {}, "metadata.jsonl is not read: write it as metadata.csv"),
    "size": (nothing, {"image_size": 7}, "`image_size=7` is not a whole number from 8 to 512"),
    "huge": (nothing, {"image_size": 513}, "`image_size=513`"),
    "size a fraction": (nothing, {"image_size": 16.5}, "image_size=16.5 is not a whole number"),
    "channels": (nothing, {"channels": 4}, r"`channels=4` is neither 1 \(grey\) nor 3 \(RGB\)"),
    "pair by side": (nothing, {"pair_by": "side"}, "too few values of side in .*faces: 2"),
}


@pytest.mark.parametrize(("change", "options", "says"), NEVER.values(), ids=NEVER)
def test_what_is_wrong_with_a_folder_is_one_sentence(
    change: Change, options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    root = flat(tmp_path / "faces")
    change(root)
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=says):
            load(root, skip_bad=skip_bad, **options)
    assert not (tmp_path / "cache").exists()


UNLESS_SKIPPED: dict[str, tuple[Change, str, int]] = {
    "missing": (
        lambda root: (root / "03-1.png").unlink(),
        "line 15 of metadata.csv names 03-1.png, which is not there",
        47,
    ),
    "not named": (lambda root: picture(0, 0).save(root / "new.PNG"), "new.PNG is not named in metadata.csv", 48),
    "named twice": (with_row("03-1.png,P5,1,left"), "line 50 of metadata.csv names 03-1.png a second time", 48),
    "too few cells": (with_row("03-1.png,P5"), "line 50 of metadata.csv has 2 cells instead of 4", 48),
    "too many cells": (with_row("03-1.png,P5,1,left,2"), "line 50 of metadata.csv has 5 cells instead of 4", 48),
    "no name": (with_row(",P5,1,left"), "line 50 of metadata.csv names no file", 48),
    "no identity": (
        with_row("new.png,,1,left", "new.png"),
        "line 50 of metadata.csv has no who, so new.png cannot be paired",
        48,
    ),
    "alone": (
        with_row("new.png,Nobody,1,left", "new.png"),
        "new.png is the only image of Nobody, and a pair needs two",
        48,
    ),
    "text": (write("03-1.png", b"an image"), "03-1.png is no image of a kind that is read", 47),
    "zero bytes": (write("03-1.png", b""), "03-1.png is empty", 47),
}


@pytest.mark.parametrize(("change", "says", "left"), UNLESS_SKIPPED.values(), ids=UNLESS_SKIPPED)
def test_what_is_bad_is_named_or_left_out_and_counted(change: Change, says: str, left: int, tmp_path: Path) -> None:
    root = flat(tmp_path / "faces")
    change(root)
    with pytest.raises(InputError, match=f"^in {root}, {says}.*`skip_bad=True`$"):
        load(root, pair_by="who")
    data = load(root, pair_by="who", skip_bad=True)
    assert everything(data) == [picture for picture in ALL if left == 48 or picture != (3, 1)]
    assert data.source.location.startswith(f"{root}, 1 bad image skipped ({says}")


def test_bad_images_are_skipped_and_nothing_that_was_converted_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = people(tmp_path / "faces")
    (root / "person 0" / "view_0.png").write_bytes(b"")
    (root / "person 0" / "view_4.png").mkdir()
    for view in (1, 2, 3):
        (root / "person 1" / f"view_{view}.png").write_text("no image")
    (root / "person 2" / "view_0.png").unlink()
    (root / "person 2" / "view_0.png").symlink_to("nowhere")
    picture(5, 0).save(root / "stray.png")
    with pytest.raises(InputError, match=r"stray.png lies beside sub-folders, each of which is an identity: mend"):
        load(root)
    (root / "stray.png").unlink()
    with pytest.raises(InputError, match=r"person 0/view_0.png is empty, and 5 more cannot be used either"):
        load(root)

    def converted(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was converted again")

    monkeypatch.setattr(folder, "read_image", converted)
    data = load(root, skip_bad=True)
    seen = contents(data)
    assert "7 bad images skipped (person 0/view_0.png is empty)" in data.source.location
    assert set().union(*map(people_of, seen.values())) == set(range(PEOPLE)) - {1}
    assert everything(data) == [(i, k) for i, k in ALL if i != 1 and (i, k) not in [(0, 0), (2, 0)]]
    batch = data.train.batch(torch.arange(len(data.train)), torch.Generator().manual_seed(0))
    (first, _), (second, _) = (person_and_place((view * 255).round().byte()) for view in batch.images)
    assert first == second
    with pytest.raises(InputError, match=r"person 0/view_0.png is empty"):
        load(root)


def test_identities_of_one_image_are_named_before_anything_is_converted(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    for person in (3, 7):
        for view in (1, 2, 3):
            (root / f"person {person}" / f"view_{view}.png").unlink()
    with pytest.raises(InputError, match=r"person 3/view_0.png is the only image of person 3, .* and 1 more"):
        load(root)
    assert not (tmp_path / "cache").exists()
    data = load(root, skip_bad=True)
    assert set().union(*map(people_of, contents(data).values())) == set(range(PEOPLE)) - {3, 7}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: None, r"faces holds no images of a kind that Pillow reads"),
        (lambda root: (root / "a.txt").write_text("a"), "faces holds no images"),
        (lambda root: picture(0, 0).save(root / "a.png"), "too few images in .*faces: 1, where training, validation"),
        (lambda root: (root / "a.png").write_text("a"), "too few images in .*faces: 1"),
        (lambda root: [(root / f"{i}.png").write_text("a") for i in range(4)], r"0.png is no image .* and 3 more"),
        (
            lambda root: [shutil.rmtree(path) for path in sorted(people(root).iterdir())[2:]],
            "sub-folders .*faces: 2",
        ),
        (lambda root: (root / "metadata.csv").write_text("file_name,a\nb.png,1"), "names b.png, which is not there"),
    ],
    ids=["empty", "no images", "one image", "one text", "bad ones alone", "two people", "names alone"],
)
def test_folders_that_hold_too_little(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    root.mkdir()
    make(root)
    with pytest.raises(InputError, match=says):
        load(root)
    with pytest.raises(InputError, match=r"holds no images|too few (images|sub-folders)"):
        load(root, skip_bad=True)


def test_a_column_to_pair_by_needs_metadata(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`pair_by=who` is a column of metadata.csv, and .*faces has no such file"):
        load(people(tmp_path / "faces"), pair_by="who")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    root = people(tmp_path / "faces")
    (root / "person 3").chmod(0)
    with pytest.raises(InputError, match="person 3 cannot be listed"):
        load(root)
    (root / "person 3").chmod(0o700)
