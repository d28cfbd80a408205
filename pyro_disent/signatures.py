"""Options that a function declares by its signature, and text converted to the annotated types."""

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
    """One parameter of a function that a user can set."""

    name: str
    kinds: tuple[Any, ...]
    """The parts of its annotation: the members of a union, or the annotation itself."""
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is _REQUIRED

    def __str__(self) -> str:
        """As a list of options shows it: ``side=entropy|cross-entropy``, the default first."""
        if self.is_required:
            return f"{self.name}=..."
        if choices := self._choices():
            others = [choice for choice in choices if choice != self.default]
            return f"{self.name}={'|'.join(map(str, [self.default, *others]))}"
        return self.name if self.default in (None, ()) else f"{self.name}={_written(self.default)}"

    def _choices(self) -> list[Any]:
        return [choice for kind in self.kinds if get_origin(kind) is Literal for choice in get_args(kind)]

    def read(self, value: Any, of: str) -> Any:
        """A value converted for the function; text, as from a command line, is converted by the annotation.

        Args:
            of: the owner's name in messages.

        Raises:
            InputError: for a value that fits none of the annotated plain types, and none of the choices.
        """
        if isinstance(value, tuple):
            value = list(value)  # JSON records have lists
        for kind in sorted(self.kinds, key=lambda kind: kind is not type(None)):  # try None first: "none" also fits str
            with contextlib.suppress(ValueError):
                return _read(kind, value)
        if choices := self._choices():
            others = [
                _called(kind) for kind in self.kinds if kind is not type(None) and get_origin(kind) is not Literal
            ]
            accepted = " or ".join([f"one of {', '.join(map(str, choices))}", *others])
        else:
            accepted = " or ".join(dict.fromkeys(_called(kind) for kind in self.kinds if kind is not type(None)))
        raise InputError(f"{of}: {self.name}={value} is not {accepted}")


def options(function: Callable[..., Any], *, without: Iterable[str] = ()) -> dict[str, Option] | None:
    """The options of a function or class by name, except ``without``; None where it takes any.

    If an annotation is missing or cannot be evaluated (types imported for type checking only), the default's type
    decides.
    """
    names = vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    result = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if name not in without and parameter.kind is not parameter.VAR_POSITIONAL:
            result[name] = Option(name, _kinds(parameter, names), parameter.default)
    return result


def checked(accepted: Mapping[str, Option] | None, values: Mapping[str, Any], of: str) -> dict[str, Any]:
    """Values of options, converted to the types that their function takes.

    Args:
        accepted: the existing options; None: any, and values are passed on unchanged.
        of: the owner's name in messages, such as ``data set chairs``.

    Raises:
        InputError: for an option that does not exist, listing those that do, and for invalid values.
    """
    if accepted is None:
        return dict(values)
    for name in values:
        if name not in accepted:
            choices = f"its options are {', '.join(accepted)}" if accepted else "it has no options of its own"
            raise InputError(f"{of} has no option {name}{did_you_mean(name, accepted)}: {choices}")
    return {name: accepted[name].read(value, of) for name, value in values.items()}


def _kinds(parameter: inspect.Parameter, names: dict[str, Any]) -> tuple[Any, ...]:
    """The parts of a parameter's annotation; if that cannot be evaluated, the type of its default."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, dict(names))  # `inspect.signature` would fail for all if one annotation fails
        except Exception:  # another package's annotation can raise anything
            annotation = parameter.empty
    if annotation is parameter.empty:
        return (type(parameter.default),) if isinstance(parameter.default, bool | int | float | str) else (Any,)
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _read(kind: Any, value: Any) -> Any:
    """Convert a value to this kind, or raise ValueError. A kind that text cannot express takes anything."""
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
        parts = [part.rpartition(":") for part in value.split(",")]  # a key may contain a colon
        return {key: text for key, colon, text in parts if (key and colon and text) or _no()}
    if isinstance(origin, type) and issubclass(origin, Iterable):
        inner = next((each for each in get_args(kind) if each is not Ellipsis), str)
        # A list even if the annotation is a tuple, because JSON records have lists.
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
