"""Options that a function declares by its signature, and texts read as what they are annotated with."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pyro_disent.errors import InputError, did_you_mean

_REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One parameter of a function, by which a user changes what it does."""

    name: str
    kinds: tuple[Any, ...]
    """What it is annotated with, each part of a union by itself."""
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is _REQUIRED

    def __str__(self) -> str:
        """As a list of options shows it: ``side=entropy|cross-entropy``, its default first where it is of a few."""
        if self.is_required:
            return f"{self.name}=..."
        if choices := self._choices():
            others = [choice for choice in choices if choice != self.default]
            return f"{self.name}={'|'.join(map(str, [self.default, *others]))}"
        return self.name if self.default in (None, ()) else f"{self.name}={_written(self.default)}"

    def _choices(self) -> list[Any]:
        return [choice for kind in self.kinds if get_origin(kind) is Literal for choice in get_args(kind)]

    def read(self, value: Any, of: str) -> Any:
        """A value as the function takes it; texts, as a command line has them, by what it is annotated with.

        Args:
            of: whose option it is, as messages call it.

        Raises:
            InputError: for a text that is not what it is to be, and what is none of a few choices.
        """
        if choices := self._choices():
            if value not in choices and not (value is None and type(None) in self.kinds):
                raise InputError(f"{of}: {self.name}={value} is not one of {', '.join(map(str, choices))}")
            return value
        if not isinstance(value, str) or any(kind in (str, Any, _REQUIRED) for kind in self.kinds):
            return value
        for kind in self.kinds:
            with contextlib.suppress(ValueError):
                return _read(kind, value)
        wanted = " or ".join(dict.fromkeys(_called(kind) for kind in self.kinds if kind is not type(None)))
        raise InputError(f"{of}: {self.name}={value} is not {wanted}")


def options(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, Option] | None:
    """The options of a function or class by name, but those named; None where it takes any."""
    found = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if name not in without and parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = Option(name, _kinds(parameter.annotation), parameter.default)
    return found


def checked(accepted: Mapping[str, Option] | None, said: Mapping[str, Any], of: str) -> dict[str, Any]:
    """What was said of options, as their function takes it.

    Args:
        accepted: the options there are; None: any, which are handed on as they are.
        of: whose they are, as messages call it: ``data set chairs``.

    Raises:
        InputError: for an option that does not exist, with those that do, and for values that it cannot have.
    """
    if accepted is None:
        return dict(said)
    for name in said:
        if name not in accepted:
            there_are = f"its options are {', '.join(accepted)}" if accepted else "it has no options of its own"
            raise InputError(f"{of} has no option {name}{did_you_mean(name, accepted)}: {there_are}")
    return {name: accepted[name].read(value, of) for name, value in said.items()}


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _read(kind: Any, text: str) -> Any:
    """ValueError where a text is not of this kind."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower()) if text.lower() in ("true", "false") else _no()
    if kind in (int, float):
        return kind(text)
    if kind is type(None):
        return None if text.lower() == "none" else _no()
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Mapping):
        parts = [part.rpartition(":") for part in text.split(",")]  # a key may hold the sign
        return {key: value for key, colon, value in parts if (key and colon and value) or _no()}
    if isinstance(origin, type) and issubclass(origin, Iterable):
        inner = next((each for each in get_args(kind) if each is not Ellipsis), str)
        parts_ = [part.strip() for part in text.split(",")]
        return [part if inner is str else _read(inner, part) for part in parts_]
    return text  # of a kind that no text is: whoever takes it says so


def _no() -> Any:
    raise ValueError


def _called(kind: Any) -> str:
    origin = get_origin(kind) or kind
    plain = {bool: "true or false", int: "a whole number", float: "a number"}
    if kind in plain:
        return plain[kind]
    return "a list NAME:VALUE,..." if isinstance(origin, type) and issubclass(origin, Mapping) else "a list A,B,..."


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
