"""Malformed folders of images and the tables beside them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.malformed import ENDLESS, Case
from tests.malformed.command_lines import LONG
from tests.malformed.whole import copied, png

FIT = ("fit", "--method", "cycle", "--data", "photos", "--image-size", "32", "--batch-size", "4", "--max-steps", "1",
       "--network", "mlp", "--no-compile", "--out", "new")  # fmt: skip
SHOW = ("data", "show", "photos", "--image-size", "32", "--out", "pairs.png")
PHOTO = "anna/0.png"
SMALL = np.zeros((32, 32, 3), np.uint8)

Change = Callable[[Path], None]


def changed(change: Change) -> Callable[[Path, Path], None]:
    def make(folder: Path, base: Path) -> None:
        change(copied(base, "photos", folder))

    return make


def with_image(content: bytes, name: str = PHOTO) -> Change:
    return lambda photos: (photos / name).unlink(missing_ok=True) or (photos / name).write_bytes(content) and None


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def large_png(width: int, height: int) -> bytes:
    """A PNG whose header says a size, with hardly any data."""
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def saved(kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SMALL).save(buffer, kind, **how)
    return buffer.getvalue()


WHOLE = png(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8))
IMAGES = {
    "empty": b"", "a text": b"nothing", "cut": WHOLE[:200], "a header alone": WHOLE[:33], "huge": large_png(100_000, 100_000),
    "long": large_png(2**31 - 1, 1), "of no width": large_png(0, 32), "as large as can be": large_png(2**31 - 1, 2**31 - 1),
    "damaged": WHOLE[:100] + bytes(50) + WHOLE[150:], "HEIC": b"\0\0\0\x18ftypheic" + bytes(100), "a PDF": b"%PDF-1.4" + bytes(99),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a GIF cut": saved("GIF")[:30],
    "a JPEG cut": saved("JPEG")[:300], "a TIFF cut": saved("TIFF")[:200], "a WebP cut": saved("WEBP")[:30],
    "a BMP cut": saved("BMP")[:60], "an ICO": b"\0\0\1\0\xff\xff" + bytes(64), "a PPM of huge size": b"P6 100000 100000 255\n",
    "a PPM of text": b"P6 a b c\n", "a PPM of negative size": b"P6 -1 5 255\n" + bytes(99), "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a TIFF of floats": b"II*\0\x08\0\0\0\0\0", "a zip": b"PK\3\4" + bytes(40), "a pickle": b"\x80\x05]\x94.",
}  # fmt: skip
INSTEAD: dict[str, Change] = {
    "a pipe": lambda photos: (photos / PHOTO).unlink() or os.mkfifo(photos / PHOTO),
    "a link to what never ends": lambda photos: (photos / PHOTO).unlink() or (photos / PHOTO).symlink_to(ENDLESS),
    "a dangling link": lambda photos: (photos / PHOTO).unlink() or (photos / PHOTO).symlink_to("nowhere"),
    "a link to itself": lambda photos: (photos / PHOTO).unlink() or (photos / PHOTO).symlink_to("0.png"),
    "a folder": lambda photos: (photos / PHOTO).unlink() or (photos / PHOTO).mkdir(),
    "missing": lambda photos: (photos / PHOTO).unlink(),
}
ROWS = [f"{person}/{number}.png" for person in ("anna", "bert", "carl", "dora", "emil", "finn") for number in range(3)]


def table(head: str, cell: Callable[[int, str], str], *, rows: list[str] | None = None) -> bytes:
    lines = [cell(place, name) for place, name in enumerate(ROWS if rows is None else rows)]
    return "\n".join([head, *lines]).encode() + b"\n"


NAMED = "file_name,person,light"
TABLES: dict[str, bytes] = {
    "empty": b"", "a head alone": NAMED.encode(), "no file_name": table("name,light", lambda place, name: f"{name},{place}"),
    "zeros": bytes(1000), "not UTF-8": b"file_name,light\n\xff\xfe\x00,1\n", "a null": table(NAMED, lambda place, name: f"{name},a\0,{place}"),
    "fewer cells": table(NAMED, lambda place, name: name), "more cells": table(NAMED, lambda place, name: f"{name},a,1,2,3"),
    "a column twice": table("file_name,light,light", lambda place, name: f"{name},{place},{place}"),
    "an empty name": table("file_name,", lambda place, name: f"{name},{place}"),
    "a file twice": table(NAMED, lambda place, name: f"{ROWS[0]},a,{place}"),
    "no such files": table(NAMED, lambda place, name: f"x/{place}.png,a,{place}"),
    "names that lead out": table(NAMED, lambda place, name: f"../{name},a,{place}"),
    "absolute names": table(NAMED, lambda place, name: f"/{name},a,{place}"),
    "long names": table(NAMED, lambda place, name: f"{LONG}{place}.png,a,{place}"),
    "no names": table(NAMED, lambda place, name: f",a,{place}"),
    "an open quote": table(NAMED, lambda place, name: f'"{name},a,{place}'),
    "a cell of 300,000 bytes": table(NAMED, lambda place, name: f"{name},{'a' * 300_000},{place}"),
    "a hundred thousand columns": ("file_name" + ",a" * 100_000 + "\n").encode(),
    "one person": table(NAMED, lambda place, name: f"{name},anna,{place}"),
    "everyone another": table(NAMED, lambda place, name: f"{name},{place},{place}"),
    "half a split": table("file_name,split", lambda place, name: f"{name},{'train' if place % 2 else 'nothing'}"),
    "one split": table("file_name,split", lambda place, name: f"{name},test"),
    "a factor called training": table("file_name,training", lambda place, name: f"{name},{place % 3}"),
    "a factor called identity": table("file_name,identity", lambda place, name: f"{name},{place}"),
}  # fmt: skip
MUST_REFUSE = {
    "a head alone", "no file_name", "zeros", "not UTF-8", "fewer cells", "more cells", "a column twice", "a file twice",
    "no such files", "names that lead out", "absolute names", "long names", "no names", "a hundred thousand columns", "half a split",
    "one split", "empty",
}  # fmt: skip
OPTIONS = (
    *(("--image-size", value) for value in ("0", "-1", "1", "3", "1000000", "9" * 5_000, "nan", "x")),
    *(("--channels", value) for value in ("0", "2", "-1", "1000000000", "x")),
    *(("--white", value) for value in ("0", "-1", "nan", "inf", "x")),
    *(("--test-share", value) for value in ("0", "1", "-1", "nan", "inf", "2", "x")),
    *(("--pair-by", value) for value in ("", "nothing", "light", "person,nothing", "identity,identity", ",", LONG)),
    *(("--kind", value) for value in ("", "light", "light=", "light=nothing", "nothing=number", "person=number", "=number")),
    *(("--shape", value) for value in ("", "nothing")),
    *(("--source", value) for value in ("download", "embedded")),
    *(("--limit", value) for value in ("0", "1", "-1")),
    ("--data-root", "photos"),
    ("--kind", "light=number", "--kind", "light=category"),
    ("--observe", "light", "--bins", "light=1000000000"),
)


def layouts(photos: Path) -> dict[str, Change]:
    return {}


def emptied(photos: Path) -> None:
    for path in sorted(photos.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def only(count: int) -> Change:
    def change(photos: Path) -> None:
        for path in sorted(photos.rglob("*.png"))[count:]:
            path.unlink()
        (photos / "metadata.csv").unlink()

    return change


def not_utf8(photos: Path) -> None:
    (photos / "metadata.csv").unlink()
    os.rename(os.fsencode(photos / "anna"), os.fsencode(photos) + b"/caf\xe9")


def with_line_breaks(photos: Path) -> None:
    (photos / "metadata.csv").unlink()
    (photos / PHOTO).write_bytes(b"nothing")
    (photos / "anna").rename(photos / "an\nna\x1b[31m")


def loop(photos: Path) -> None:
    (photos / "metadata.csv").unlink()
    (photos / "again").symlink_to(".")


def deep(photos: Path) -> None:
    (photos / "metadata.csv").unlink()
    os.chdir(photos)
    for _ in range(300):
        Path("d" * 20).mkdir()
        os.chdir("d" * 20)
    os.chdir(photos.parent)


LAYOUTS: dict[str, tuple[Change, bool]] = {
    "no images": (emptied, False), "one image": (only(1), False), "two images": (only(2), False),
    "a name that is not UTF-8": (not_utf8, True), "names with line breaks": (with_line_breaks, False),
    "a link to itself": (loop, True), "300 folders deep": (deep, True),
}  # fmt: skip


def cases() -> Iterator[Case]:
    for kind, content in IMAGES.items():
        yield Case(f"image: {kind}", FIT, changed(with_image(content)), r"anna/0\.png")
    for kind, change in INSTEAD.items():
        yield Case(f"image: {kind}", FIT, changed(change), "anna")
    for kind, content in TABLES.items():
        make, harmless = changed(with_image(content, "metadata.csv")), kind not in MUST_REFUSE
        yield Case(f"table: {kind}", FIT, make, "metadata|photos", harmless)
        yield Case(f"table paired by: {kind}", (*SHOW, "--pair-by", "person"), make, "metadata|photos|person", harmless)
    for kind in ("a pipe", "a link to what never ends", "a link to itself", "a folder"):
        make = changed(lambda photos, put=INSTEAD[kind]: in_place_of_the_table(photos, put))  # type: ignore[misc]
        yield Case(f"table: {kind}", FIT, make, "metadata")
    for words in OPTIONS:
        make = changed(lambda photos: None)
        yield Case(f"folder option: {' '.join(each[:40] for each in words)!r}", (*FIT, *words), make)
    for kind, (change, harmless) in LAYOUTS.items():
        yield Case(f"folder: {kind}", FIT, changed(change), "photos", harmless)


def in_place_of_the_table(photos: Path, put: Change) -> None:
    """As an image is replaced, at the place of the table."""
    (photos / PHOTO).rename(photos / "kept.png")
    (photos / "metadata.csv").rename(photos / PHOTO)
    put(photos)
    (photos / PHOTO).rename(photos / "metadata.csv")
    (photos / "kept.png").rename(photos / PHOTO)
