"""Options of ``fit``, made from the fields of its configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from pyro_disent.cli.named_values import FORMS
from pyro_disent.training import config
from pyro_disent.training.aliases import ALIASES, without_aliases
from pyro_disent.training.choice import Choice

_TYPES: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str}


def with_choices(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each field of `FitConfig`, which is handed what was said as ``said``."""
    fields = {**config.choices(), **{name: alias.choice for name, alias in ALIASES.items()}}
    fields = {name: choice for name, choice in fields.items() if choice.flag != ""}
    types = inspect.get_annotations(config.FitConfig)  # texts, as annotations of that module are not evaluated
    options = [_option(name, choice, types.get(name, "str")) for name, choice in fields.items()]

    def said(given: dict[str, Any]) -> dict[str, Any]:
        read = {name: _read(name, choice, given[name]) for name, choice in fields.items()}
        return without_aliases({name: value for name, value in read.items() if value is not None})

    return with_more(command, options, "said", said)


def with_more(
    command: Callable[..., None],
    options: Iterable[inspect.Parameter],
    into: str,
    read: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """A command with more options, before its own: it is handed what was said of them, read, as one argument."""
    options = list(options)
    own = inspect.signature(command, eval_str=True)
    parameters = [*options, *(parameter for name, parameter in own.parameters.items() if name != into)]
    parameters.sort(key=lambda parameter: parameter.kind)  # positional ones, such as a data set's name, go first

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        of_these = {option.name: given.pop(option.name) for option in options}
        command(**given, **{into: read(of_these)})

    # What typer reads a command's options from.
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def flag(name: str, choice: Choice) -> str:
    """The option of a setting."""
    return "/".join(f"--{each}" for each in (choice.flag or name.replace("_", "-")).split("/"))


def _option(name: str, choice: Choice, annotated: str) -> inspect.Parameter:
    kind = FORMS[choice.form][0] if choice.form else _TYPES[annotated.partition(" | ")[0]]
    option = typer.Option(
        flag(name, choice),
        metavar=choice.metavar or "|".join(choice.one_of) or None,
        help=choice.help,
        rich_help_panel=choice.panel,
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _read(name: str, choice: Choice, given: Any) -> Any:
    """What was said of a setting, as a configuration takes it; None where nothing was."""
    if given is None or given == []:
        return None
    return FORMS[choice.form][1](given, flag(name, choice)) if choice.form else given
