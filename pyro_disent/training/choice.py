"""A setting of a run, described once: from it follow its option, its help, its check and what is recorded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyro_disent.errors import InputError

_NEEDED: Any = dataclasses.MISSING


@dataclass(frozen=True)
class Choice:
    """What describes a field of `FitConfig` beside its type and default."""

    help: str
    """For the command line."""
    panel: str
    """Where the help lists it."""
    metavar: str | None = None
    """The placeholder of its value there; None: the accepted values."""
    flag: str | None = None
    """Its option on the command line, where that is not its name; empty: it has none, other options set it."""
    form: str | None = None
    """How the command line reads it, where it is not a single value: see `pyro_disent.cli.named_values.FORMS`."""
    instead: str = ""
    """The end of an error: what to hand over in place of a name."""
    one_of: Sequence[str] = ()
    above: float | None = None
    """It must be greater."""
    at_least: int | None = None
    at_most: int | None = None

    def check(self, name: str, value: Any, annotated: str) -> None:
        """Raises InputError for a value that it cannot have.

        Args:
            annotated: its annotation, as it is written.
        """
        if value is None and annotated.endswith("None"):
            return
        accepted, in_words = _KINDS.get(annotated.removesuffix(" | None"), (object, ""))
        if not isinstance(value, accepted) or (isinstance(value, bool) and accepted is not bool and in_words):
            text = getattr(value, "__name__", None) or repr(value)
            raise InputError(f"`{name}={text}` is not {in_words}{self.instead}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{name}={value}` is not a finite number")
        if self.one_of and value not in self.one_of:
            raise InputError(f"`{name}={value}` is not one of {', '.join(self.one_of)}")
        if self.above is not None and not value > self.above:
            raise InputError(f"`{name}` must be greater than {self.above:g}, got {value}")
        if self.at_most is not None and not (self.at_least or 0) <= value <= self.at_most:
            raise InputError(f"`{name}` must be from {self.at_least or 0} to {self.at_most}, got {value}")
        if self.at_least is not None and value < self.at_least:
            raise InputError(f"`{name}` must be {self.at_least} or more, got {value}")


def choice(default: Any = _NEEDED, *, factory: Any = _NEEDED, **described: Any) -> Any:
    """A field of `FitConfig` with its `Choice`."""
    return dataclasses.field(default=default, default_factory=factory, metadata={"choice": Choice(**described)})


_KINDS: dict[str, tuple[Any, str]] = {
    "bool": (bool, "True or False"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "str": (str, "a text"),
    "dict[str, Weight]": (Mapping, "a table of weights by their terms"),
    "dict[str, dict[str, Any]]": (Mapping, "a table of options by their terms"),
    "dict[str, Any]": (Mapping, "a table of options"),
    "dict[str, float]": (Mapping, "a list of factors, or a table of shares by their factors"),
}
