"""What a picture says of who wrote it."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image

from pyro_disent.files import WRITTEN_BY

_TIMELESS: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Of formats that would note the time: the same figure is the same file."""


def signed(kind: str) -> dict[str, Any]:
    """What `Figure.savefig` takes so that a picture names this program: nobody's data set shall be made of it.

    Args:
        kind: the format, by its suffix in small letters; those that are no images to a data set need no name.
    """
    if kind == "png":
        return {"metadata": {"Software": WRITTEN_BY}}
    if kind in ("jpg", "jpeg", "tif", "tiff", "webp"):
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = WRITTEN_BY
        return {"pil_kwargs": {"exif": exif.tobytes()}}
    return {"metadata": _TIMELESS.get(kind)}
