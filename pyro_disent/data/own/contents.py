"""The images of a user's folder, and what files, tables and layout together say of each."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pyro_disent.data.own.columns import identity_column
from pyro_disent.data.own.file_names import FileNames
from pyro_disent.data.own.layout import SPLITS, Layout, arranged, split_named
from pyro_disent.data.own.listing import TABLE_SUFFIXES, Listing, listed, shown, some
from pyro_disent.data.own.metadata import METADATA, NAME, Table, read_metadata
from pyro_disent.data.own.splits import check_names
from pyro_disent.data.own.values import is_missing
from pyro_disent.data.sources import leads_out
from pyro_disent.errors import InputError

_READ = (".csv", ".tsv")


class Image(NamedTuple):
    """One image, and what the user says of it."""

    name: str
    """Its path below the folder."""
    identity: str | None = None
    cells: tuple[str, ...] = ()
    """Its row of the metadata, in the order of `Contents.columns`."""
    split: int | None = None
    """Its place in `SPLITS`, where the user names it."""


class Contents(NamedTuple):
    """What a folder holds, before any image is read."""

    listing: Listing
    images: list[Image]
    """In the order of identities and names."""
    columns: tuple[str, ...]
    bad: list[str]
    """Why images, or rows of the metadata, cannot be used: the start of a sentence each."""
    identities: str
    """What messages call the identities."""
    details: list[str]
    """What was taken for what, in words."""
    notes: list[str]
    """What was left aside, or may not be what the user meant, a sentence each."""
    about: str
    """What the column that pairs have in common was taken for, in words."""
    spellings: tuple[str, ...]
    """What the user may not have meant by that column, a sentence each."""

    @property
    def root(self) -> Path:
        return self.listing.root


class _Described(NamedTuple):
    """What tables say."""

    images: list[Image]
    columns: tuple[str, ...]
    bad: list[str]
    details: list[str]
    notes: list[str]
    has_splits: bool


def contents(root: Path, pair_by: str | None, kinds: Mapping[str, str] | None = None) -> Contents:
    """What a folder holds, read from its files' names, its tables and the headers of its images.

    Raises:
        InputError: for a folder without images, tables that cannot be read or contradict each other, a missing column
            to pair by, and sub-folders of which only some have names of splits.
    """
    listing = listed(root)
    tables = _tables(listing)
    if tables:
        described = _described(listing, tables, pair_by, is_text=(kinds or {}).get(pair_by or "") == "text")
    elif pair_by is not None:
        raise InputError(f"`pair_by={pair_by}` is a column of {METADATA}, and {root} has no such file")
    else:
        described = _Described([Image(name) for name in listing.images], (), [], [], _tables_aside(listing), False)
    if not described.images and not described.bad:
        here = [listing.written_here(), listing.left_aside()]
        raise InputError("; ".join([f"{root} holds no images of a kind that Pillow reads", *filter(None, here)]))
    layout = _layout(root, described)
    about, spellings = "", tuple[str, ...]()
    if pair_by is not None:
        described, about, spellings = _paired(described, pair_by, kinds or {})
    images, bad = _placed(described, layout, paired_by_column=pair_by is not None)
    by_folder = pair_by is None and bool(layout.identities)
    what = f"values of {pair_by}" if pair_by is not None else "sub-folders with images" if by_folder else "images"
    details = [*described.details, *layout.notes, *([_about_folders(images, layout.deeper)] if pair_by is None else [])]
    notes = [*described.notes, *_in_several_splits(images)]
    if pair_by is None and layout.recurring:
        notes.append(
            f"folders of one name lie below several identities ({some(layout.recurring)}), and are not told apart: if "
            f"they are the identities, pair by a column of {METADATA}"
        )
    notes += filter(None, (listing.without_images(), listing.left_aside(), listing.written_here()))
    return Contents(listing, images, described.columns, described.bad + bad, what, details, notes, about, spellings)


def _tables(listing: Listing) -> list[str]:
    """The metadata files that are read.

    Raises:
        InputError: for a file that is not CSV, two files in one folder, and a file below another one's folder.
    """
    for name in listing.tables:
        if not name.lower().endswith(_READ):
            raise InputError(f"{listing.root / name} is not read: write it as {METADATA}, with a column {NAME}")
    by_folder = sorted(listing.tables, key=_folder)
    for one, other in itertools.pairwise(by_folder):  # sub-folders come right after their folder
        if _folder(other).startswith(_folder(one)):
            raise InputError(
                f"in {listing.root}, both {one} and {other} speak of the images below {_folder(other) or 'it'}: "
                "join them in one"
            )
    return listing.tables


def _folder(name: str) -> str:
    """The folder of a file, ending in ``/``; empty for the root."""
    return name[: name.rfind("/") + 1]


def _described(listing: Listing, tables: Sequence[str], pair_by: str | None, *, is_text: bool) -> _Described:
    """Images as the tables name them."""
    root = listing.root
    read = {name: read_metadata(root / name) for name in tables}
    columns = list(dict.fromkeys(column for table in read.values() for column in table.columns if column != NAME))
    where = root / tables[0] if len(tables) == 1 else f"{root}: {some(tables)}"
    if pair_by is not None and pair_by not in columns:
        close = difflib.get_close_matches(pair_by, columns, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise InputError(
            f"`pair_by={pair_by}`: {where} has no such column{hint}; its columns are {', '.join(columns) or 'none'}"
        )
    split_by = _split_column(read, pair_by)
    others = tuple(column for column in columns if column not in (pair_by, split_by))
    check_names(others)
    images: dict[str, Image] = {}
    bad: list[str] = []
    files = FileNames(root, listing.states)
    with_row: set[str | None] = set()
    without_file = 0
    for name, table in read.items():
        reading = _Reading(files, name, table.columns, others, pair_by, is_text, split_by)
        for line, row in table.rows:
            with_row.add(file := reading.file(row))
            without_file += file is None
            image = reading.image(line, row)
            if isinstance(image, str):
                bad.append(image)
            elif image.name in images:
                bad.append(f"line {line} of {name} names {shown(image.name)} a second time")
            else:
                images[image.name] = image
    unnamed = [f"{shown(name)} is not named in {some(tables)}" for name in listing.images if name not in with_row]
    bad += unnamed[without_file:]  # a row without a file and a file without a row count as one image
    details = [note for table in read.values() for note in table.notes]
    if split_by is not None:
        details.append(f"splits by the column {split_by}")
    return _Described(list(images.values()), others, bad, details, [], split_by is not None)


class _Reading(NamedTuple):
    """How the rows of a table are read."""

    files: FileNames
    table: str
    columns: Sequence[str]
    others: Sequence[str]
    """Columns that an image keeps."""
    pair_by: str | None
    is_text: bool
    """Whether ``pair_by`` keeps every spelling as a name, also the marker of a missing value."""
    split_by: str | None

    def file(self, row: Sequence[str]) -> str | None:
        """The file that a row names, whatever else is wrong with it."""
        place = self.columns.index(NAME)
        return self.files.find(row[place], _folder(self.table)) if len(row) > place else None

    def image(self, line: int, row: Sequence[str]) -> Image | str:
        """The image that a row speaks of, or why it cannot be used."""
        here = f"line {line} of {self.table}"
        if len(row) != len(self.columns):
            return f"{here} has {len(row)} cells instead of {len(self.columns)}"
        cells = dict(zip(self.columns, row, strict=True))
        file = self.file(row)
        if file is None:
            return f"{here} {self._why_none(line, cells[NAME])}"
        identity = None if self.pair_by is None else cells.get(self.pair_by, "")
        if identity is not None and is_missing(identity, is_text=self.is_text):
            marker = f" ({identity}; `kinds={{{self.pair_by!r}: 'text'}}` takes it for a name)" if identity else ""
            return f"{here} has no {self.pair_by}{marker}, so {shown(file)} cannot be paired"
        split = None if self.split_by is None else split_named(cells.get(self.split_by, ""))
        if self.split_by is not None and split is None:
            return f"{here} has no {self.split_by}, where other lines have one"
        return Image(file, identity, tuple(cells.get(column, "") for column in self.others), split)

    def _why_none(self, line: int, name: str) -> str:
        """Why a row's name is that of no file, after the row's place."""
        if not name:
            return "names no file"
        if leads_out(name):
            raise InputError(
                f"line {line} of {self.files.root / self.table} names {name}, which does not lie in this folder: paths "
                "lead down"
            )
        below = _folder(self.table)
        if (self.files.root / below / name).is_file():
            return f"names {shown(name)}, which is hidden, or written by this program"
        return f"names {shown(name)}, {self.files.why_not(name, below)}"


def _split_column(read: dict[str, Table], pair_by: str | None) -> str | None:
    """The column ``split``, where its cells are names of splits.

    Raises:
        InputError: where only some cells are.
    """
    for name, table in read.items():
        for place, column in enumerate(table.columns):
            if column.lower() != "split" or column == pair_by:
                continue
            cells = {row[place] for _, row in table.rows if len(row) > place and not is_missing(row[place])}
            others = sorted(cell for cell in cells if split_named(cell) is None)
            if cells and not others:
                return column
            if len(others) < len(cells):
                raise InputError(
                    f"the column {column} of {name} names splits, but not everywhere: {some(others)} is none of "
                    f"{', '.join(SPLITS)}"
                )
    return None


def _tables_aside(listing: Listing) -> list[str]:
    tables = [name for name in listing.others if name.lower().endswith(TABLE_SUFFIXES)]
    return [f"{some(tables)}: not looked at, as what is known of images stands in {METADATA}"] if tables else []


def _layout(root: Path, described: _Described) -> Layout:
    """What folders mean; a column of splits takes precedence over folders whose names only look like splits."""
    try:
        layout = arranged([image.name for image in described.images], root)
    except InputError:
        if not described.has_splits:
            raise
        return Layout(
            {}, {image.name: image.name.split("/")[0] for image in described.images if "/" in image.name}, 0, (), ()
        )
    if described.has_splits:
        for image in described.images:
            if layout.splits.get(image.name, image.split) != image.split:
                raise InputError(
                    f"in {root}, {shown(image.name)} lies in a folder of one split, and by the column split it is in "
                    f"{SPLITS[image.split or 0]}: they must agree"
                )
    return layout


def _placed(described: _Described, layout: Layout, *, paired_by_column: bool) -> tuple[list[Image], list[str]]:
    """Images in order, with the identities and splits of their folders, and why other images have none."""
    placed, bad = [], []
    by_folder, split_by_folder = bool(layout.identities), bool(layout.splits)
    for name, identity, cells, split in described.images:
        if split_by_folder and not described.has_splits:
            split = layout.splits.get(name)
            if split is None:
                bad.append(f"{shown(name)} lies beside folders that are splits, and in none")
                continue
        if by_folder and not paired_by_column:
            identity = layout.identities.get(name)
            if identity is None:
                beside = "beside sub-folders, each of which" if split is None else "in no sub-folder, each of which"
                bad.append(f"{shown(name)} lies {beside} is an identity")
                continue
        placed.append(Image(name, identity, cells, split))
    return sorted(placed, key=lambda image: (image.identity or "", image.name)), bad


def _paired(described: _Described, pair_by: str, kinds: Mapping[str, str]) -> tuple[_Described, str, tuple[str, ...]]:
    """Images with one name for each identity, however the table spells it."""
    images = described.images
    members, about = identity_column(
        [image.identity or "" for image in images],
        pair_by,
        f"column {pair_by} of {METADATA}",
        lambda place: shown(images[place].name),
        kinds.get(pair_by),
    )
    renamed = [image._replace(identity=members.names[code]) for image, code in zip(images, members.codes, strict=True)]
    return described._replace(images=renamed), about, members.notes


def _about_folders(images: Sequence[Image], deeper: int) -> str:
    """The identities that folders name, in words."""
    names = sorted({image.identity for image in images if image.identity is not None})
    if not names:
        return (
            "no identities: nothing says which images belong together, so there are no pairs: put the images of "
            "each into a sub-folder, or name a column that says it by `pair_by=COLUMN`"
        )
    below = f"; the {deeper} folders below them are not told apart" if deeper else ""
    return f"{len(names)} identities, by folder: {some(names)}{below}"


def _in_several_splits(images: Sequence[Image]) -> list[str]:
    splits: dict[str, set[int | None]] = {}
    for image in images:
        if image.identity is not None:
            splits.setdefault(image.identity, set()).add(image.split)
    several = sorted(identity for identity, places in splits.items() if len(places) > 1)
    if not several:
        return []
    return [
        f"{len(several)} identities lie in more than one split ({some(several)}): what is held out are images of them, "
        "and not identities that were never seen"
    ]
