"""A folder of the user's images: sub-folders as identities, or a ``metadata.csv`` that says what is known of each.

* ``<identity>/*.png``: images of one sub-folder are a pair and share everything but ``y``. Folders deeper down belong
  to the first one; images beside the sub-folders belong to none, and are bad.
* ``metadata.csv`` beside the images (Hugging Face's imagefolder: a column ``file_name`` and others, UTF-8): its columns
  become factors as `pyro_disent.data.columns` says. ``pair_by`` names the column that a pair has in common, which
  is then no factor; without it sub-folders are the identities, if there are any.
* Neither: there are no pairs, and every image is an identity of its own.

Names that begin with a dot, and files of other kinds, are not looked at.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_disent.data import array_cache, image_store
from pyro_disent.data.columns import check_kinds, column, identities
from pyro_disent.data.dataset import DataSet, Factor, Source
from pyro_disent.data.grouped import alone
from pyro_disent.data.image_files import SUFFIXES, read_image
from pyro_disent.data.image_store import Stored
from pyro_disent.data.metadata import METADATA, NAME, read_metadata
from pyro_disent.data.pixel_range import check_white
from pyro_disent.data.sources import Progress, Request, cache_dir, leads_out
from pyro_disent.data.splits import Known, check_enough, check_names, data_set, numbered
from pyro_disent.data.values import is_missing
from pyro_disent.errors import InputError

FACTORS: tuple[Factor, ...] = ()
"""Each folder has its own."""
SIZES = range(8, 513)
CONVERTER_VERSION = 2
"""Of what a converted image looks like: another one converts again."""


class _Image(NamedTuple):
    """One image that was found, and what is said of it."""

    name: str
    """Its path below the folder."""
    identity: str | None
    cells: tuple[str, ...]
    """Its row of the metadata, in the order of `_Listing.columns`."""


class _Listing(NamedTuple):
    """What a folder holds, before any image is read."""

    root: Path
    images: list[_Image]
    """In the order of identities and names."""
    columns: tuple[str, ...]
    bad: list[str]
    """Why images, or rows of the metadata, cannot be used: one sentence's start each."""
    identities: str
    """What messages call the identities."""
    states: dict[str, str]
    """image's name -> what changes when the file does."""
    about: str = ""
    """What the identities were taken for, in words."""
    notes: tuple[str, ...] = ()
    """What of them may not be as it was meant, a sentence each."""


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
    image_size: int = 64,
    channels: int = 3,
    pair_by: str | None = None,
    factors: Sequence[str] | None = None,
    skip_bad: bool = False,
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
    test_share: float | None = None,
) -> DataSet:
    """A folder's images, converted once into the cache, split by identity as `pyro_disent.data.splits.data_set` says.

    Args:
        request: ``root`` is the folder.
        seed: of the split.
        limit: use this many training images at most.
        progress: called with (done, total) while images are converted.
        image_size: height and width that images get, from 8 to 512; see `read_image` for how.
        channels: 1 for grey, 3 for RGB.
        pair_by: the column of ``metadata.csv`` that images of a pair have in common.
        factors: columns of ``metadata.csv`` that are factors, the others being ignored; None: all. A predictor hides
            them from ``z``, which is not what is wanted of what belongs to an identity.
        skip_bad: leave out, and count in the source's location, what would be refused otherwise: images that cannot be
            read, images and rows of the metadata without each other, rows that are no rows, an identity's only image.
        kinds: column's name -> its kind, see `pyro_disent.data.columns`; the others are as their values are.
        white: the value of a white pixel of grey and RGB images, black being 0; None: the largest one that the file's
            format can hold.
        test_share: of the identities, for testing; None: a tenth.

    Raises:
        InputError: for a folder that does not hold what is described above; the first bad image is named, after all
            others have been converted, so that they need not be again.
    """
    kinds = kinds or {}
    listing, stored, bad = _converted(request, image_size, channels, pair_by, skip_bad, kinds, white, progress)
    root = listing.root
    rows = np.array([row for row in range(stored.total) if row not in stored.skipped], np.int64)
    lonely = _lonely([listing.images[row] for row in rows])
    bad += lonely.values()
    _refuse(root, bad, skip_bad)
    rows = np.delete(rows, list(lonely))
    chosen = _chosen(factors, listing)
    check_kinds(kinds, [*([pair_by] if pair_by else []), *chosen], f"what is used of {root / METADATA}")
    known = _known([listing.images[row] for row in rows], listing, chosen, kinds)
    sha256 = array_cache.digest({**known.arrays(), "rows": rows, "images": np.array(stored.sha256)})
    options: dict[str, Any] = {
        "seed": seed,
        "limit": limit,
        "image_size": image_size,
        "channels": channels,
        "white": white,
    }
    options |= {"kinds": dict(kinds), "test_share": test_share}
    return data_set(
        root.name,
        lambda part: stored.images(rows[part]),
        known,
        names=lambda chosen: [listing.images[row].name for row in rows[chosen].tolist()],
        identities=f"{listing.identities} in {root}{_skipped(bad)}",
        seed=seed,
        limit=limit,
        source=Source("local", f"{root}{_skipped(bad)}{known.no_factors()}", sha256),
        options={**options, "pair_by": pair_by, "factors": factors and list(factors), "skip_bad": skip_bad},
        test_share=test_share,
    )


def describe(request: Request) -> str:
    """Where the folder is and how much it holds; reads no image.

    Raises:
        InputError: where there is no such folder, or it cannot be listed.
    """
    root = _root(request)
    return f"local: {root}, {sum(1 for name, _ in _files(root) if _is_image(name))} images"


def prepare(
    request: Request,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    image_size: int = 64,
    channels: int = 3,
    pair_by: str | None = None,
    skip_bad: bool = False,
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
) -> Path:
    """Convert the images into the cache, as `load` would; returns their file there.

    Raises:
        InputError: as `load`, as far as images cannot be read or found.
    """
    return _converted(request, image_size, channels, pair_by, skip_bad, kinds or {}, white, progress)[1].path


def _converted(
    request: Request,
    image_size: int,
    channels: int,
    pair_by: str | None,
    skip_bad: bool,
    kinds: Mapping[str, str],
    white: float | None,
    progress: Progress | None,
) -> tuple[_Listing, Stored, list[str]]:
    """What can be used as far as names tell, all of it in the cache, and why the rest was left out."""
    if isinstance(image_size, bool) or image_size not in SIZES:
        raise InputError(f"--image-size {image_size} is not a whole number from {SIZES[0]} to {SIZES[-1]}")
    if isinstance(channels, bool) or channels not in (1, 3):
        raise InputError(f"--channels {channels} is neither 1 (grey) nor 3 (RGB)")
    check_white(white)
    listing = _listed(_root(request), pair_by, kinds)
    # Before hours of converting: what would be refused after them.
    check_kinds(kinds, [*([pair_by] if pair_by else []), *listing.columns], f"{listing.root / METADATA}")
    lonely = _lonely(listing.images)
    bad = [*listing.bad, *lonely.values()]
    _refuse(listing.root, bad, skip_bad)
    used = [image for place, image in enumerate(listing.images) if place not in lonely]
    listing = listing._replace(images=used)
    check_enough(
        len({image.identity or image.name for image in used}), f"{listing.identities} in {listing.root}{_skipped(bad)}"
    )
    stored = _stored(listing, image_size, channels, white, progress)
    bad += stored.skipped.values()
    _refuse(listing.root, bad, skip_bad)
    return listing, stored, bad


def _root(request: Request) -> Path:
    if request.root is None or not request.root.is_dir():
        raise InputError(f"there is no folder {request.root}")
    return request.root.absolute()


def _refuse(root: Path, bad: list[str], skip_bad: bool) -> None:
    """Raises InputError for the first that is bad, unless those are left out."""
    if bad and not skip_bad:
        more = f", and {len(bad) - 1} more cannot be used either" if len(bad) > 1 else ""
        raise InputError(f"in {root}, {bad[0]}{more}: mend that, or leave them out by --skip-bad")


def _skipped(bad: list[str]) -> str:
    """How many were left out, as the end of a folder's name; empty where none was."""
    return f", {len(bad)} bad image{'s' * (len(bad) > 1)} skipped ({bad[0]})" if bad else ""


def _listed(root: Path, pair_by: str | None, kinds: Mapping[str, str]) -> _Listing:
    states = dict(_files(root))
    for other in ("metadata.jsonl", "metadata.parquet"):
        if other in states:
            raise InputError(f"{root / other} is not read: write it as {METADATA}, with a column {NAME}")
    if METADATA in states:
        listing = _with_metadata(root, states, pair_by, kinds)
    elif pair_by is not None:
        raise InputError(f"--pair-by {pair_by} is a column of {METADATA}, and {root} has no such file")
    else:
        found = [_Image(name, None, ()) for name in sorted(states) if _is_image(name)]
        listing = _arranged(_Listing(root, found, (), [], "images", states))
    if not listing.images and not listing.bad:
        raise InputError(f"{root} holds no images: looked for {', '.join(SUFFIXES)}")
    return listing


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder that is not hidden: its path from there, and what changes when it does.

    A folder named like an image is no folder that anybody meant: it is given as a file, which cannot be read.
    """

    def below(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder} cannot be listed ({error.strerror or error})") from error
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere
                yield name, "missing"
                continue
            if entry.is_dir() and not _is_image(name):
                here = (status.st_dev, status.st_ino)
                if here in above:
                    raise InputError(f"{folder / entry.name} is a link to a folder that it lies in")
                yield from below(folder / entry.name, f"{name}/", (*above, here))
            else:
                # The mode, as a file that could not be read may be readable now.
                yield name, f"{status.st_size} {status.st_mtime_ns} {status.st_mode}"

    status = root.stat()
    return below(root, "", ((status.st_dev, status.st_ino),))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _arranged(listing: _Listing) -> _Listing:
    """A listing with sub-folders as identities, where there are any."""
    within = [image for image in listing.images if "/" in image.name]
    if not within:
        return listing
    bad = [
        f"{_shown(image.name)} lies beside sub-folders, each of which is an identity"
        for image in listing.images
        if "/" not in image.name
    ]
    return listing._replace(
        images=_sorted([image._replace(identity=image.name.split("/")[0]) for image in within]),
        bad=listing.bad + bad,
        identities="sub-folders with images",
    )


def _sorted(images: Iterable[_Image]) -> list[_Image]:
    return sorted(images, key=lambda image: (image.identity or "", image.name))


def _with_metadata(root: Path, states: dict[str, str], pair_by: str | None, kinds: Mapping[str, str]) -> _Listing:
    """Images as the metadata names them."""
    path = root / METADATA
    columns, rows = read_metadata(path)
    described = [column for column in columns if column != NAME]
    if pair_by is not None and pair_by not in described:
        close = difflib.get_close_matches(pair_by, described, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise InputError(
            f"--pair-by {pair_by}: {path} has no such column{hint}; its columns are {', '.join(described) or 'none'}"
        )
    images: dict[str, _Image] = {}
    bad = []
    for line, row in rows:
        if len(row) != len(columns):
            bad.append(f"line {line} of {METADATA} has {len(row)} cells instead of {len(columns)}")
            continue
        cells = dict(zip(columns, row, strict=True))
        # As files are listed: a/b.png for ./a//b.png.
        name = str(PurePosixPath(cells.pop(NAME))) if cells[NAME] else ""
        identity = None if pair_by is None else cells.pop(pair_by)
        if leads_out(name):
            raise InputError(f"line {line} of {path} names {name}, which does not lie in this folder: paths lead down")
        if not name:
            bad.append(f"line {line} of {METADATA} names no file")
        elif name not in states:
            bad.append(f"line {line} of {METADATA} names {_shown(name)}, which is not there")
        elif name in images:
            bad.append(f"line {line} of {METADATA} names {_shown(name)} a second time")
        elif identity is not None and is_missing(identity, is_text=kinds.get(str(pair_by)) == "text"):
            marker = f" ({identity}; --kind {pair_by}=text takes it for a name)" if identity else ""
            bad.append(f"line {line} of {METADATA} has no {pair_by}{marker}, so {_shown(name)} cannot be paired")
        else:
            images[name] = _Image(name, identity, tuple(cells.values()))
    place = columns.index(NAME)
    named = {str(PurePosixPath(row[place])) for _, row in rows if len(row) > place}
    unnamed = sorted(name for name in states if _is_image(name) and name not in named)
    bad += [f"{_shown(name)} is not named in {METADATA}" for name in unnamed]
    others = tuple(column for column in described if column != pair_by)
    check_names(others)
    listing = _Listing(root, _sorted(images.values()), others, bad, "images", states)
    return _arranged(listing) if pair_by is None else _paired(listing, pair_by, kinds)


def _paired(listing: _Listing, pair_by: str, kinds: Mapping[str, str]) -> _Listing:
    """A listing whose identities have one name each, however they are spelled."""
    images = listing.images
    found, about = identities(
        [image.identity or "" for image in images],
        pair_by,
        f"column {pair_by} of {METADATA}",
        lambda place: _shown(images[place].name),
        kinds.get(pair_by),
    )
    named = [image._replace(identity=found.names[code]) for image, code in zip(images, found.codes, strict=True)]
    listing = listing._replace(images=_sorted(named), identities=f"values of {pair_by}")
    return listing._replace(about=about, notes=found.notes)


def _shown(name: str) -> str:
    """A file's name as it can be printed, also where its bytes are no text."""
    return name.encode(errors="backslashreplace").decode()


def _stored(
    listing: _Listing, image_size: int, channels: int, white: float | None, progress: Progress | None
) -> Stored:
    """All images in the cache, with those that are bad left black."""
    names = [image.name for image in listing.images]

    def convert(name: str) -> NDArray[np.uint8]:
        size = (image_size, image_size)
        return read_image(listing.root / name, _shown(name), size=size, channels=channels, white=white)

    key = hashlib.sha256(f"version {CONVERTER_VERSION} of {len(names)} images, white {white}".encode())
    for name in names:
        key.update(b"\0" + os.fsencode(name) + b"\0" + listing.states[name].encode())
    path = cache_dir() / f"folder-{key.hexdigest()[:16]}-{image_size}x{channels}.pixels"
    shape = (channels, image_size, image_size)
    return image_store.store(path, names, convert, shape, skip_bad=True, progress=progress)


def _lonely(images: list[_Image]) -> dict[int, str]:
    """Which of these images have no other of their identity, by their places, and what to say of them."""
    names = [image.identity for image in images if image.identity is not None]
    lonely = alone([torch.from_numpy(numbered(names))]).tolist() if names else []
    return {
        place: f"{_shown(images[place].name)} is the only image of {_shown(names[place])}, and a pair needs two"
        for place in lonely
    }


def _chosen(factors: Sequence[str] | None, listing: _Listing) -> Sequence[str]:
    """The columns that are to be factors.

    Raises:
        InputError: for names that are no columns.
    """
    if factors is None:
        return listing.columns
    if unknown := [name for name in factors if name not in listing.columns]:
        raise InputError(
            f"--factors names {', '.join(unknown)}; columns of {listing.root / METADATA} that can be factors: "
            f"{', '.join(listing.columns) or 'none'}"
        )
    return factors


def _known(images: list[_Image], listing: _Listing, factors: Sequence[str], kinds: Mapping[str, str]) -> Known:
    identity = [image.identity for image in images if image.identity is not None]
    return Known(
        len(images),
        numbered(identity) if identity else None,
        {
            name: column(
                [image.cells[place] for image in images],
                name,
                f"column {name} of {METADATA}",
                lambda row: _shown(images[row].name),
                kinds.get(name),
            )
            for place, name in enumerate(listing.columns)
            if name in factors
        },
        about=listing.about,
        notes=listing.notes,
    )
