"""The mark in a picture file that names the program which wrote it."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image

from pyro_disent.files import WRITTEN_BY

_TIMELESS: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Formats that would record the time: without it, equal figures give equal files."""


def signed(kind: str) -> dict[str, Any]:
    """Arguments of `Figure.savefig` that mark a picture as ours, so that no data set takes it for one of its images.

    Args:
        kind: the format, by its suffix in small letters. Formats that no data set reads need no mark.
    """
    if kind == "png":
        return {"metadata": {"Software": WRITTEN_BY}}
    if kind in ("jpg", "jpeg", "tif", "tiff", "webp"):
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = WRITTEN_BY
        return {"pil_kwargs": {"exif": exif.tobytes()}}
    return {"metadata": _TIMELESS.get(kind)}
