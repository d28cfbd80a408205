"""What the names of sub-folders mean in a user's folder: wrappers, splits, and identities."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pyro_disent.data.own.listing import shown, some
from pyro_disent.errors import InputError

SPLITS = ("train", "validation", "test")
_KEYWORDS = {
    "train": 0,
    "training": 0,
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "holdout", "gallery", "query", "probe"), 2),
}
"""Hugging Face's names of splits, and those of benchmarks for recognizing people."""
_SHORT = {"tr": 0, "va": 1, "te": 2}
"""Names of splits, but only where all folders beside each other have such names."""
_SET = r"(?:set|data|images?|imgs?|split)"
_SPLIT = re.compile(rf"(?:{_SET}[-_. ]?)?({'|'.join(_KEYWORDS)})(?:[-_. ]?(?:{_SET}|\d+))?")
"""A folder whose name is a split and nothing else: train, Test_set, images-val, train2017."""
_PART = re.compile(r"([Tt]rain|[Tt]est|TRAIN|TEST)(?:[A-Z]?\d*|[-_].+)|([Vv]al|VAL)[A-Z]")
"""A folder whose name is a part of a split: trainA, test_old. Val_Kilmer is a person."""


class Layout(NamedTuple):
    """What the folders above each image mean."""

    splits: dict[str, int]
    """image's name -> its split's place in `SPLITS`; empty where no folders are splits."""
    identities: dict[str, str]
    """image's name -> the folder of its identity; images that lie in none are left out."""
    deeper: int
    """How many folders lie below those of identities; they have no meaning."""
    recurring: tuple[str, ...]
    """Names of deeper folders that occur below several identities."""
    notes: tuple[str, ...]
    """What else was taken for what, in words."""


def split_named(name: str) -> int | None:
    """The place in `SPLITS` of the split that a folder or a cell names, in upper or lower case."""
    match = _SPLIT.fullmatch(name.strip().lower())
    return None if match is None else _KEYWORDS[match[1]]


def _split_in(name: str) -> int | None:
    """The split that is one word of a folder's name, as in faces_train."""
    words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)}
    places = {_KEYWORDS[word] for word in words if word in _KEYWORDS}
    return places.pop() if len(places) == 1 else split_named(name)


def _places(folders: Collection[str]) -> dict[str, int | None]:
    """The splits that folders beside each other name."""
    if all(folder.lower() in _SHORT for folder in folders):
        return {folder: _SHORT[folder.lower()] for folder in folders}
    return {folder: _split_in(folder) for folder in folders}


def arranged(names: Collection[str], root: Path) -> Layout:
    """The layout that the names of images imply.

    A single folder around all images is a wrapper. Where every folder of the first level, or every one of the second,
    names a split, these folders are the splits. The next level is the identities; deeper folders belong to them.

    Raises:
        InputError: where only some folders of the first level name splits, where none of them names training, and where
            two name one split.
    """
    notes: list[str] = []
    above = _unwrapped({name: name.split("/")[:-1] for name in names}, notes)
    splits: dict[str, int] = {}
    for level in (0, 1):
        at_level = {folders[level] if len(folders) > level else "" for folders in above.values() if folders}
        if (level == 1 and len(at_level) < 2) or not _are_splits(at_level, root, is_first=level == 0):
            continue
        places = _places(at_level)
        splits = {name: places[folders[level]] or 0 for name, folders in above.items() if folders}
        notes.append(f"splits by the folders {some(sorted(at_level))}")
        above = {name: folders[:level] + folders[level + 1 :] for name, folders in above.items()}
        above = _unwrapped(above, notes)
        break
    identities = {name: folders[0] for name, folders in above.items() if folders}
    deeper = {tuple(folders[:2]) for folders in above.values() if len(folders) > 1}
    below = Counter(folder for _, folder in deeper)
    recurring = sorted(folder for folder, count in below.items() if count > 1)
    return Layout(splits, identities, len(deeper), tuple(recurring), tuple(notes))


def _unwrapped(above: dict[str, list[str]], notes: list[str]) -> dict[str, list[str]]:
    """The folders above each image, without those that lie around all of them."""
    around: list[str] = []
    while len({folders[0] if folders else "" for folders in above.values()}) == 1 and all(above.values()):
        around.append(next(iter(above.values()))[0])
        above = {name: folders[1:] for name, folders in above.items()}
    if around:
        notes.append(f"all images lie in {shown('/'.join(around))}, which says nothing of them")
    return above


def _are_splits(folders: Collection[str], root: Path, *, is_first: bool) -> bool:
    """Whether these folders beside each other are splits; on the first level, only some of them is an error."""
    place_of = _places(folders)
    places = list(place_of.values())
    if folders and None not in places and 0 in places:
        for place, split in enumerate(SPLITS):
            if places.count(place) > 1:
                same = some(sorted(folder for folder in folders if place_of[folder] == place))
                raise InputError(
                    f"in {root}, the folders {same} are called after one split, {split}: join them, or rename what is "
                    "an identity"
                )
        return True
    alike = sorted(folder for folder in folders if split_named(folder) is not None or _PART.fullmatch(folder))
    if alike and is_first:
        others = some(sorted({*folders} - {*alike})) or "none that is for training"
        raise InputError(
            f"in {root}, folders are called as splits are ({some(alike)}), and beside them {others}: put all images "
            "below folders train, validation and test, or rename what is an identity"
        )
    return False
