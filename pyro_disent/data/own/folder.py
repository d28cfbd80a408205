"""A folder of the user's images: sub-folders are identities, or a ``metadata.csv`` describes each image.

* ``<identity>/*.png``: two images of one sub-folder are a pair and share everything but ``y``. Folders deeper down
  belong to the first one; images beside the sub-folders belong to none, and are bad.
* ``train/<identity>/*.png`` beside ``test/`` (and ``val/``; see `layout` for their names): these are the splits. A
  missing split is made of training identities.
* ``metadata.csv`` beside the images, or one in each split's folder (Hugging Face's imagefolder: a column ``file_name``
  and others): its columns become factors as `columns` says. ``pair_by`` names the column that a pair has in common,
  which is then not a factor; without it sub-folders are the identities, if there are any. A column ``split`` with
  train, validation and test is respected.
* Neither: there are no pairs, and every image is a separate identity.

Names that begin with a dot, and files that this program wrote, are ignored; files of other kinds are counted.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_disent.data.dataset import DataSet, Factor, Source
from pyro_disent.data.grouped import alone
from pyro_disent.data.images import array_cache
from pyro_disent.data.images import store as image_store
from pyro_disent.data.images.decoding import read_image
from pyro_disent.data.images.headers import Header
from pyro_disent.data.images.pixel_range import check_white
from pyro_disent.data.images.store import Stored
from pyro_disent.data.own.columns import check_kinds, column
from pyro_disent.data.own.contents import Contents, Image, contents
from pyro_disent.data.own.layout import SPLITS
from pyro_disent.data.own.listing import digest, listed, shown
from pyro_disent.data.own.metadata import METADATA
from pyro_disent.data.own.shapes import SHAPES, about_channels, about_shapes, channels_of
from pyro_disent.data.own.splits import IDENTITY, Facts, check_enough, data_set, indices_of, named_splits
from pyro_disent.data.sources import Progress, Request, absolute, cache_dir
from pyro_disent.errors import InputError, did_you_mean

FACTORS: tuple[Factor, ...] = ()
"""Each folder has its own."""
SIZES = range(8, 513)
CONVERTER_VERSION = 4
"""Version of the conversion: images are converted again when it changes."""
PRESETS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
"""preset's name -> settings of a run."""


class _Converted(NamedTuple):
    """A folder's images in the cache."""

    folder: Contents
    """Images that are the only one of their identity are left out."""
    stored: Stored
    places: dict[str, int]
    """image's name -> its row in ``stored``."""
    bad: list[str]
    channels: int
    headers: dict[str, Header]


def load(
    request: Request,
    *,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress | None = None,
    image_size: int = 64,
    channels: int | None = None,
    shape: str = "crop",
    pair_by: str | Sequence[str] | None = None,
    factors: Sequence[str] | None = None,
    skip_bad: bool = False,
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
    test_share: float | None = None,
) -> DataSet:
    """A folder's images, converted once into the cache, split by identity as `splits.data_set` says.

    Args:
        request: ``root`` is the folder.
        seed: of the split.
        limit: use this many training images at most.
        progress: called with (done, total) while images are converted.
        image_size: height and width that images get, from 8 to 512; see `read_image` for how.
        channels: 1 for grey, 3 for RGB; None: grey where every image's header says grey.
        shape: images that are not square are cropped about their center (``crop``), or kept whole between black
            margins (``pad``).
        pair_by: what images of a pair have in common: a column of ``metadata.csv``, or several kinds of pairs, drawn in
            turn, the first being the identity: ``["person", "light"]``; ``["identity", "light"]`` where identities are
            sub-folders.
        factors: columns of ``metadata.csv`` that are factors; None: all. A predictor hides them from ``z``, so leave
            out columns that describe the identity.
        skip_bad: leave out bad images instead of refusing the folder, and count them in the source's location: images
            that cannot be read, images without a row, rows without an image, damaged rows, an identity's only image.
        kinds: column's name -> its kind, see `columns`; other columns are as their values are.
        white: the value of a white pixel of grey and RGB images, where black is 0; None: the largest value that the
            file's format can hold.
        test_share: of the identities, for testing; None: a tenth.

    Raises:
        InputError: for a folder without the contents above. The first bad image is named after all others have been
            converted, so that they need not be converted again.
    """
    kinds = kinds or {}
    column, kinds_of_pairs = _pair_by(pair_by)
    folder, stored, places, bad, channels, headers = _converted(
        request, image_size, channels, shape, column, skip_bad, kinds, white, seed, test_share, progress
    )
    root = folder.root
    images = [image for image in folder.images if places[image.name] not in stored.skipped]
    lonely = _lonely(images)
    bad += lonely.values()
    _refuse(root, bad, skip_bad)
    images = [image for place, image in enumerate(images) if place not in lonely]
    rows = np.array([places[image.name] for image in images], np.int64)
    columns = _factor_columns(factors, folder)
    check_kinds(kinds, [*([column] if column else []), *columns], f"what is used of {root / METADATA}")
    facts = _facts(images, folder, columns, kinds, kinds_of_pairs)
    sha256 = array_cache.digest({**facts.arrays(), "rows": rows, "images": np.array(stored.sha256)})
    options: dict[str, Any] = {"seed": seed, "limit": limit, "image_size": image_size, "channels": channels}
    options |= {"shape": shape, "white": white, "kinds": dict(kinds), "test_share": test_share}
    data = data_set(
        root.name,
        lambda part: stored.images(rows[part]),
        facts,
        names=lambda part: [images[place].name for place in part.tolist()],
        identities=f"{folder.identities} in {root}{_skipped(bad)}",
        seed=seed,
        limit=limit,
        source=Source("local", f"{root}{_skipped(bad)}{facts.no_factors()}", sha256),
        options={**options, "pair_by": pair_by, "factors": factors and list(factors), "skip_bad": skip_bad},
        test_share=test_share,
    )
    details = (*folder.details, *_about_splits(data, facts), *data.details, about_channels(headers, channels))
    notes = (*folder.notes, *data.notes, *about_shapes(headers, image_size, shape))
    if len(kinds_of_pairs) > 1:
        notes += (f"pairs by {' or '.join(kinds_of_pairs)}; split by {kinds_of_pairs[0]}, the first of them",)
    return dataclasses.replace(data, details=details, notes=notes)


def describe(request: Request) -> str:
    """Where the folder is and how much it holds; decodes no image.

    Raises:
        InputError: where there is no such folder, or it cannot be listed.
    """
    root = _root(request)
    return f"local: {root}, {len(listed(root).images)} images"


def prepare(
    request: Request,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    image_size: int = 64,
    channels: int | None = None,
    shape: str = "crop",
    pair_by: str | Sequence[str] | None = None,
    skip_bad: bool = False,
    kinds: Mapping[str, str] | None = None,
    white: float | None = None,
) -> Path:
    """Convert the images into the cache, as `load` would; returns their file there.

    Raises:
        InputError: as `load`, as far as images cannot be read or found.
    """
    return _converted(
        request, image_size, channels, shape, _pair_by(pair_by)[0], skip_bad, kinds or {}, white, seed, None, progress
    ).stored.path


def _converted(
    request: Request,
    image_size: int,
    channels: int | None,
    shape: str,
    pair_by: str | None,
    skip_bad: bool,
    kinds: Mapping[str, str],
    white: float | None,
    seed: int,
    test_share: float | None,
    progress: Progress | None,
) -> _Converted:
    """The usable images, all of them in the cache, and why the others were left out."""
    if isinstance(image_size, bool) or image_size not in SIZES:
        raise InputError(f"`image_size={image_size}` is not a whole number from {SIZES[0]} to {SIZES[-1]}")
    if isinstance(channels, bool) or channels not in (None, 1, 3):
        raise InputError(f"`channels={channels}` is neither 1 (grey) nor 3 (RGB)")
    if shape not in SHAPES:
        raise InputError(f"`shape={shape}` is none of {', '.join(SHAPES)}")
    check_white(white)
    folder = contents(_root(request), pair_by, kinds)
    check_kinds(kinds, [*([pair_by] if pair_by else []), *folder.columns], f"{folder.root / METADATA}")
    # Refuse before hours of converting, not after.
    lonely = _lonely(folder.images)
    bad = [*folder.bad, *lonely.values()]
    _refuse(folder.root, bad, skip_bad)
    used = [image for place, image in enumerate(folder.images) if place not in lonely]
    folder = folder._replace(images=used)
    facts, identities = _facts(used, folder, (), {}), f"{folder.identities} in {folder.root}{_skipped(bad)}"
    if facts.split is None:
        check_enough(len({image.identity or image.name for image in used}), identities)
    else:
        named_splits(facts, seed, identities, test_share)
    known_headers = {name: header for name, header in folder.listing.images.items() if header is not None}
    headers = {image.name: known_headers[image.name] for image in used if image.name in known_headers}
    # All images of the folder are converted, so that other options need no second conversion.
    channels = channels or channels_of(known_headers)
    names = sorted({*folder.listing.images, *(image.name for image in used)})
    places = {name: place for place, name in enumerate(names)}
    stored = _stored(folder, names, image_size, channels, shape, white, progress)
    bad += [stored.skipped[places[image.name]] for image in used if places[image.name] in stored.skipped]
    _refuse(folder.root, bad, skip_bad)
    return _Converted(folder, stored, places, bad, channels, headers)


def _root(request: Request) -> Path:
    if request.root is None or not request.root.is_dir():
        raise InputError(f"there is no folder {request.root}")
    return absolute(request.root)


def _refuse(root: Path, bad: list[str], skip_bad: bool) -> None:
    """Raises InputError for the first bad image, unless bad images are left out."""
    if bad and not skip_bad:
        others = f", and {len(bad) - 1} more cannot be used either" if len(bad) > 1 else ""
        raise InputError(f"in {root}, {bad[0]}{others}: mend that, or leave them out by `skip_bad=True`")


def _skipped(bad: list[str]) -> str:
    """How many images were left out, as the end of a folder's name; empty where none was."""
    return f", {len(bad)} bad image{'s' * (len(bad) > 1)} skipped ({bad[0]})" if bad else ""


def _stored(
    folder: Contents,
    names: list[str],
    image_size: int,
    channels: int,
    shape: str,
    white: float | None,
    progress: Progress | None,
) -> Stored:
    """These images in the cache; bad images are black."""

    def convert(name: str) -> NDArray[np.uint8]:
        size = (image_size, image_size)
        path, pad = folder.root / name, shape == "pad"
        return read_image(path, shown(name), size=size, channels=channels, pad=pad, white=white)

    key = digest({**{name: folder.listing.states[name] for name in names}, "version": f"{CONVERTER_VERSION} {white}"})
    path = cache_dir() / f"folder-{key[:16]}-{image_size}x{channels}{'-pad' * (shape == 'pad')}.pixels"
    return image_store.store(path, names, convert, (channels, image_size, image_size), skip_bad=True, progress=progress)


def _lonely(images: list[Image]) -> dict[int, str]:
    """image's place -> why it cannot be used, for images that are the only one of their identity in their split."""
    identities = [image.identity for image in images if image.identity is not None]
    groups = indices_of([f"{image.split} {image.identity}" for image in images if image.identity is not None])
    lonely = alone([torch.from_numpy(groups)]).tolist() if identities else []
    return {
        place: f"{shown(images[place].name)} is the only image of {shown(identities[place])}"
        f"{'' if (split := images[place].split) is None else f' in {SPLITS[split]}'}, and a pair needs two"
        for place in lonely
    }


def _about_splits(data: DataSet, facts: Facts) -> list[str]:
    """The sizes of the user's splits, and which splits were made of training images, in words."""
    if facts.split is None:
        return []
    missing = [name for place, name in enumerate(SPLITS) if not (facts.split == place).any()]
    sizes = f"{len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test images"
    whom = "images" if facts.identity is None else "identities"
    from_training = f"; {' and '.join(missing)}, of which there is none, made of training {whom}" if missing else ""
    return [f"{sizes}, as their splits are named{from_training}"]


def _factor_columns(factors: Sequence[str] | None, folder: Contents) -> Sequence[str]:
    """The columns that become factors.

    Raises:
        InputError: for names that are not columns.
    """
    if factors is None:
        return folder.columns
    if unknown := [name for name in factors if name not in folder.columns]:
        hint = did_you_mean(unknown[0], folder.columns)
        raise InputError(
            f"`factors` names {', '.join(unknown)}{hint}; columns of {folder.root / METADATA} that can be factors: "
            f"{', '.join(folder.columns) or 'none'}"
        )
    return factors


def _pair_by(pair_by: str | Sequence[str] | None) -> tuple[str | None, tuple[str, ...]]:
    """The identity's column (None: sub-folders are the identities), and the names of the kinds of pairs."""
    names = (pair_by,) if isinstance(pair_by, str) else tuple(pair_by or ())
    if not names:
        return None, (IDENTITY,)
    if len(set(names)) < len(names):
        raise InputError(f"`pair_by={','.join(names)}` names one kind of pair twice")
    return (None if names[0] == IDENTITY and len(names) > 1 else names[0]), names


def _facts(
    images: list[Image],
    folder: Contents,
    factors: Sequence[str],
    kinds: Mapping[str, str],
    pair_by: tuple[str, ...] = (IDENTITY,),
) -> Facts:
    identity = [image.identity for image in images if image.identity is not None]
    splits = [image.split for image in images if image.split is not None]
    return Facts(
        len(images),
        indices_of(identity) if identity else None,
        {
            name: column(
                [image.cells[place] for image in images],
                name,
                f"column {name} of {METADATA}",
                lambda row: shown(images[row].name),
                kinds.get(name),
            )
            for place, name in enumerate(folder.columns)
            if name in factors
        },
        split=np.array(splits, np.int64) if splits else None,
        about=folder.about,
        pair_by=pair_by,
        notes=folder.spellings,
    )
