"""Where tables are printed."""

from __future__ import annotations

from rich.console import Console

UNWATCHED_WIDTH = 200


def table_console() -> Console:
    """Standard output; no line is folded at a width that nobody looks at."""
    console = Console()
    return console if console.is_terminal else Console(width=UNWATCHED_WIDTH)
