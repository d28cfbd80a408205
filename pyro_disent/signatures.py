"""Options that a function declares by its signature, and texts read as what they are annotated with."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
            InputError: for what is not of a kind that it is annotated with, where these are plain ones, and for what is
                none of a few choices.
        """
        if isinstance(value, tuple):
            value = list(value)  # as a record has it
        for kind in sorted(self.kinds, key=lambda kind: kind is not type(None)):  # "none" is None before it is a text
            with contextlib.suppress(ValueError):
                return _read(kind, value)
        if choices := self._choices():
            others = [
                _called(kind) for kind in self.kinds if kind is not type(None) and get_origin(kind) is not Literal
            ]
            wanted = " or ".join([f"one of {', '.join(map(str, choices))}", *others])
        else:
            wanted = " or ".join(dict.fromkeys(_called(kind) for kind in self.kinds if kind is not type(None)))
        raise InputError(f"{of}: {self.name}={value} is not {wanted}")


def options(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, Option] | None:
    """The options of a function or class by name, but those named; None where it takes any.

    Where annotations are missing or cannot be evaluated (what is imported for types only), a default says the kind.
    """
    names = vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if name not in without and parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = Option(name, _kinds(parameter, names), parameter.default)
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


def _kinds(parameter: inspect.Parameter, names: dict[str, Any]) -> tuple[Any, ...]:
    """The parts of its annotation; where there is none that can be read, the kind of its default."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, dict(names))  # as `inspect.signature` does, but for one at a time
        except Exception:  # whatever somebody else's annotation raises
            annotation = parameter.empty
    if annotation is parameter.empty:
        return (type(parameter.default),) if isinstance(parameter.default, bool | int | float | str) else (Any,)
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _read(kind: Any, value: Any) -> Any:
    """A value as one of this kind; ValueError where it is none. A kind that no text says takes anything."""
    if get_origin(kind) is Literal:
        return _choice(kind, value)
    if kind is type(None):
        return None if value is None or (isinstance(value, str) and value.lower() == "none") else _no()
    if kind in (bool, int, float, str):
        return _plain(kind, value)
    if not isinstance(value, str):
        return value
    if kind is Path:
        return Path(value)
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Mapping):
        parts = [part.rpartition(":") for part in value.split(",")]  # a key may hold the sign
        return {key: text for key, colon, text in parts if (key and colon and text) or _no()}
    if isinstance(origin, type) and issubclass(origin, Iterable):
        inner = next((each for each in get_args(kind) if each is not Ellipsis), str)
        # A list whatever the annotation, as a record has it.
        return [part.strip() if inner is str else _read(inner, part.strip()) for part in value.split(",")]
    return value


def _choice(kind: Any, value: Any) -> Any:
    for choice in get_args(kind):
        if value == choice or (isinstance(value, str) and value == str(choice)):
            return choice
    raise ValueError


def _plain(kind: type, value: Any) -> Any:
    if isinstance(value, str):
        if kind is bool:
            return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else _no()
        return kind(value)
    fits = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    return value if fits else _no()


def _no() -> Any:
    raise ValueError


def _called(kind: Any) -> str:
    origin = get_origin(kind) or kind
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if kind in plain:
        return plain[kind]
    return "a list NAME:VALUE,..." if isinstance(origin, type) and issubclass(origin, Mapping) else "a list A,B,..."


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
