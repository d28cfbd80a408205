"""An image of one color, and a folder with figures that looks as one that a training left."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, PngImagePlugin

from pyro_disent.figures.signature import signed

COLOR = (200, 120, 40)


FLAT = Image.new("RGB", (24, 24), COLOR)


def drawn(path: Path) -> None:
    """A picture with the mark of our figures."""
    path.parent.mkdir(exist_ok=True)
    info = PngImagePlugin.PngInfo()
    for key, text in signed("png")["metadata"].items():
        info.add_text(key, text)
    FLAT.save(path, pnginfo=info)


def run_folder(path: Path) -> None:
    """What `fit` leaves, without training."""
    (path / "figures").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "config.json").write_text(json.dumps({"fit": {"method": "cycle", "data": "x"}, "source": {}}))
    FLAT.save(path / "figures/swap.png")
    (path / "metadata.csv").write_text("file_name\nfigures/swap.png")
