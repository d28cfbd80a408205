"""Malformed sets in their authors' formats: MNIST's IDX files, the chairs' tar, CelebA's lists and zip."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.malformed import ENDLESS, Case
from tests.malformed.whole import copied, idx

Change = Callable[[Path], None]
REST = ("--batch-size", "2", "--max-steps", "1", "--network", "mlp", "--no-compile", "--out", "new")
MNIST = ("fit", "--method", "cycle", "--data", "rotated-mnist", "--data-root", "mnist", *REST)
PREPARE = ("data", "prepare", "rotated-mnist", "--data-root", "mnist")
CHAIRS = ("fit", "--method", "cycle", "--data", "chairs", "--data-root", "chairs.tar", *REST)
CELEBA = ("fit", "--method", "vae", "--data", "celeba", "--data-root", "celeba", *REST)
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def changed(name: str, change: Change) -> Callable[[Path, Path], None]:
    return lambda folder, base: change(copied(base, name, folder))


def with_file(name: str, content: bytes) -> Change:
    return lambda root: (root / name if name else root).write_bytes(content) and None


def bomb(size: int) -> bytes:
    """gzip of so many zeros, in members that each repeat one: 10 GB take 10 MB and no time."""
    one = gzip.compress(bytes(1 << 24))
    return one * (size >> 24)


def head(*sizes: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes)


PIXELS = np.zeros((40, 28, 28), np.uint8)
IDX_IMAGES = {
    "empty": b"", "zeros": bytes(100), "a head alone": head(40, 28, 28), "cut": idx(PIXELS)[:-1], "more": idx(PIXELS) + b"\0",
    "of other sizes": head(40, 32, 32) + bytes(40 * 32 * 32), "as many as can be": head(2**32 - 1, 28, 28),
    "of huge sizes": head(2**32 - 1, 2**32 - 1, 2**32 - 1), "of floats": head(40, 28, 28, kind=13) + bytes(40 * 28 * 28 * 4),
    "of two axes": head(40, 784) + bytes(40 * 784), "fewer": idx(PIXELS[:39]), "none": head(0, 28, 28), "labels": idx(PIXELS[:, 0, 0]),
}  # fmt: skip
IDX_LABELS = {
    "empty": b"", "too large": idx(np.full(40, 99)), "fewer": idx(np.zeros(39)), "none": head(0), "cut": idx(np.zeros(40))[:-1],
    "images": idx(PIXELS), "as many as can be": head(2**32 - 1),
}  # fmt: skip
PACKED = {
    "a text": b"nothing", "cut": gzip.compress(idx(PIXELS))[:-20], "a head of gzip": gzip.compress(idx(PIXELS))[:10],
    "damaged": gzip.compress(idx(PIXELS))[:30] + bytes(9), "10 GB": bomb(10 << 30), "more after it": gzip.compress(idx(PIXELS)) + b"more",
    "10 GB after a head": gzip.compress(head(40, 28, 28)) + bomb(10 << 30), "no gzip": idx(PIXELS),
}  # fmt: skip
SPECIAL: dict[str, Change] = {
    "a pipe": lambda path: path.unlink() or os.mkfifo(path),
    "a link to what never ends": lambda path: path.unlink() or path.symlink_to(ENDLESS),
    "a link to itself": lambda path: path.unlink() or path.symlink_to(path.name),
    "a folder": lambda path: path.unlink() or path.mkdir(),
    "missing": lambda path: path.unlink(),
}


def unpacked(kind: str) -> Change:
    """One of the files in another way, where it is not packed."""

    def change(root: Path) -> None:
        plain = root / IMAGES.removesuffix(".gz")
        (root / IMAGES).rename(plain)
        SPECIAL[kind](plain)

    return change


def of_mnist() -> Iterator[Case]:
    for name, contents in ((IMAGES, IDX_IMAGES), (LABELS, IDX_LABELS)):
        for kind, content in contents.items():
            yield Case(f"IDX: {name} {kind}", MNIST, changed("mnist", with_file(name, gzip.compress(content))), "idx|digits")
    for kind, content in PACKED.items():
        for words in (MNIST, PREPARE):
            make = changed("mnist", with_file(IMAGES, content))
            yield Case(f"gzip: {words[0]} {kind}", words, make, "train-images")
    for kind in SPECIAL:
        yield Case(f"IDX: {kind}", MNIST, changed("mnist", lambda root, kind=kind: SPECIAL[kind](root / IMAGES)), "train-images")  # type: ignore[misc]
        yield Case(f"IDX unpacked: {kind}", MNIST, changed("mnist", unpacked(kind)), "train-images")
    yield Case("IDX: sparse, of 1 TB", MNIST, changed("mnist", sparse), "train-images")


def sparse(root: Path) -> None:
    """A file that says to have 1 TB and takes no room; the limit on file sizes does not count holes up to it."""
    (root / IMAGES).unlink()
    with (root / IMAGES.removesuffix(".gz")).open("wb") as file:
        file.write(head(40, 28, 28))
        file.truncate(1 << 27)


def packed(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Change:
    def change(path: Path) -> None:
        with tarfile.open(path, mode) as tar:
            for member, content in members:
                tar.addfile(member, io.BytesIO(content))

    return change


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, to
    return info, content


VIEW = "rendered_chairs/a1/renders/image_000_p020_t000_r096.png"


def with_header(**fields: object) -> Change:
    """A tar whose first header says something else."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        places = {"size": (124, 12), "mode": (100, 8), "kind": (156, 1), "name": (0, 100)}
        for field, value in fields.items():
            start, length = places[field]
            content[start : start + length] = bytes(str(value), "latin1").ljust(length, b"\0")[:length]
        content[148:156] = b" " * 8
        content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
        path.write_bytes(content)

    return change


TARS: dict[str, Change] = {
    "empty": with_file("", b""), "a text": with_file("", b"nothing" * 1000), "zeros": with_file("", bytes(10_240)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:2_000]) and None,
    "no chairs": packed(member("rendered_chairs/readme.txt", b"a")),
    "another name": packed(member("rendered_chairs/a1/renders/image_000.png", b"a")),
    "a view that is none": packed(member(VIEW.replace("t000", "t001"), b"a")),
    "up": packed(member("../" + VIEW, b"a")), "absolute": packed(member("/" + VIEW, b"a")),
    "a link": packed(member(VIEW, kind=tarfile.SYMTYPE, to="../../elsewhere")),
    "a hard link": packed(member(VIEW, kind=tarfile.LNKTYPE, to="elsewhere")),
    "a device": packed(member(VIEW, kind=tarfile.CHRTYPE)), "a pipe in it": packed(member(VIEW, kind=tarfile.FIFOTYPE)),
    "a view twice": packed(member(VIEW, b"a"), member(VIEW, b"a")), "an empty view": packed(member(VIEW)),
    "a name of 5,000 bytes": packed(member("rendered_chairs/" + "a" * 5_000 + "/renders/image_000_p020_t000_r096.png", b"a")),
    "no UTF-8": packed(member("rendered_chairs/\udce9/renders/image_000_p020_t000_r096.png", b"a")),
    "a huge size": with_header(size="77777777777"), "a size of text": with_header(size="nothing"),
    "a kind of tomorrow": with_header(kind="Z"), "damaged": lambda path: damaged(path, 300),
    "a huge view": packed(member(VIEW, zlib.compress(b"a"))), "gzip that is cut": lambda path: cut_gzip(path),
}  # fmt: skip


def damaged(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)


def cut_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:900])


def of_chairs() -> Iterator[Case]:
    for kind, change in TARS.items():
        yield Case(f"tar: {kind}", CHAIRS, changed("chairs.tar", change), "chairs")
    for kind, put in SPECIAL.items():
        yield Case(f"tar: {kind}", CHAIRS, changed("chairs.tar", put), "chairs")


ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"


def line(name: str, number: int, text: Callable[[str], str]) -> Change:
    def change(root: Path) -> None:
        lines = (root / name).read_text().splitlines()
        lines[number] = text(lines[number])
        (root / name).write_text("\n".join(lines) + "\n")

    return change


LISTS: dict[str, Change] = {
    "count of text": line(ATTRIBUTES, 0, lambda old: "nothing"), "count too large": line(ATTRIBUTES, 0, lambda old: "99"),
    "count of 5,000 digits": line(ATTRIBUTES, 0, lambda old: "9" * 5_000), "negative count": line(ATTRIBUTES, 0, lambda old: "-9"),
    "an attribute less": line(ATTRIBUTES, 1, lambda old: old.rpartition(" ")[0]),
    "another attribute": line(ATTRIBUTES, 1, lambda old: old.replace("Young", "Old")),
    "a value less": line(ATTRIBUTES, 2, lambda old: old.rpartition(" ")[0]), "a value more": line(ATTRIBUTES, 2, lambda old: old + " 1"),
    "a value of 0": line(ATTRIBUTES, 2, lambda old: old.rpartition(" ")[0] + " 0"),
    "a value of NaN": line(ATTRIBUTES, 2, lambda old: old.rpartition(" ")[0] + " nan"),
    "a line twice": line(ATTRIBUTES, 2, lambda old: old + "\n" + old), "no name": line(ATTRIBUTES, 2, lambda old: old.partition(" ")[2]),
    "a name that leads out": line(ATTRIBUTES, 2, lambda old: "../" + old),
    "a long name": line(ATTRIBUTES, 2, lambda old: "a" * 300 + old), "an empty line": line(ATTRIBUTES, 2, lambda old: ""),
    "a split of 3": line(PARTITION, 0, lambda old: old[:-1] + "3"), "a split of text": line(PARTITION, 0, lambda old: old[:-1] + "train"),
    "no split": line(PARTITION, 0, lambda old: old[:-2]), "a split twice": line(PARTITION, 0, lambda old: old + "\n" + old),
    "a split of none": line(PARTITION, 0, lambda old: "999999.jpg 0"),
    **{f"{name} {kind}": with_file(name, content)
       for name in (ATTRIBUTES, PARTITION)
       for kind, content in {"empty": b"", "zeros": bytes(5_000), "not UTF-8": b"\xff\xfe" * 99,
                             "one long line": b"a " * 200_000, "binary": bytes(range(256)) * 40}.items()},
    **{f"{name} {kind}": lambda root, name=name, put=put: put(root / name)  # type: ignore[misc]
       for name in (ATTRIBUTES, PARTITION) for kind, put in SPECIAL.items()},
    "a face is missing": lambda root: (root / "img_align_celeba/000001.jpg").unlink(),
    "a face is a pipe": lambda root: SPECIAL["a pipe"](root / "img_align_celeba/000001.jpg"),
    "a face never ends": lambda root: SPECIAL["a link to what never ends"](root / "img_align_celeba/000001.jpg"),
    "a face is damaged": lambda root: (root / "img_align_celeba/000001.jpg").write_bytes(b"nothing") and None,
    "no faces": lambda root: [path.unlink() for path in (root / "img_align_celeba").iterdir()] and None,
}  # fmt: skip


def zipped(change: Callable[[zipfile.ZipFile], None]) -> Change:
    """The faces in a zip, after all of which something else is put into it."""

    def make(root: Path) -> None:
        with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
            for path in sorted((root / "img_align_celeba").iterdir()):
                archive.write(path, f"img_align_celeba/{path.name}")
            change(archive)
        for path in (root / "img_align_celeba").iterdir():
            path.unlink()
        (root / "img_align_celeba").rmdir()

    return make


def rezipped(content: Callable[[bytes], bytes]) -> Change:
    def make(root: Path) -> None:
        zipped(lambda archive: None)(root)
        path = root / "img_align_celeba.zip"
        path.write_bytes(content(path.read_bytes()))

    return make


ZIPS: dict[str, Change] = {
    "up": zipped(lambda archive: archive.writestr("../elsewhere", b"a")),
    "a member that leaves": zipped(lambda archive: archive.writestr("/elsewhere", b"a")),
    "cut": rezipped(lambda content: content[: len(content) // 2]), "a text": rezipped(lambda content: b"nothing"),
    "empty": rezipped(lambda content: b""), "without its list": rezipped(lambda content: content[:-30]),
    "damaged": rezipped(lambda content: content[:2_000] + bytes(500) + content[2_500:]),
    "a huge size in it": rezipped(lambda content: content.replace(b"PK\1\2", b"PK\1\2" + b"\xff" * 4, 1)),
    "a pipe": lambda root: zipped(lambda archive: None)(root) or SPECIAL["a pipe"](root / "img_align_celeba.zip"),
    "never ends": lambda root: zipped(lambda archive: None)(root) or SPECIAL["a link to what never ends"](root / "img_align_celeba.zip"),
}  # fmt: skip


def of_celeba() -> Iterator[Case]:
    for kind, change in LISTS.items():
        yield Case(f"attributes: {kind}", CELEBA, changed("celeba", change), "celeba")
    for kind, change in ZIPS.items():
        yield Case(f"zip: {kind}", CELEBA, changed("celeba", change), "celeba")


def cases() -> Iterator[Case]:
    for some in (of_mnist, of_chairs, of_celeba):
        yield from some()
