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

Command = Callable[..., None]
_TYPES: dict[str, type] = {"bool": bool, "float": float, "int": int, "str": str}


def with_choices(command: Command) -> Command:
    """A command with an option for each field of `FitConfig`; it takes the user's settings as ``overrides``."""
    fields = {**config.choices(), **{name: alias.choice for name, alias in ALIASES.items()}}
    fields = {name: choice for name, choice in fields.items() if choice.flag != ""}
    types = inspect.get_annotations(config.FitConfig)  # texts, as annotations of that module are not evaluated
    options = [_option(name, choice, types.get(name, "str")) for name, choice in fields.items()]

    def settings(values: dict[str, Any]) -> dict[str, Any]:
        read = {name: _read(name, choice, values[name]) for name, choice in fields.items()}
        return without_aliases({name: value for name, value in read.items() if value is not None})

    return with_more(command, options, "overrides", settings)


def with_more(
    command: Command, options: Iterable[inspect.Parameter], into: str, read: Callable[[dict[str, Any]], Any]
) -> Command:
    """A command with these options before those it has; what ``read`` makes of them is its argument ``into``."""
    options = list(options)
    before = inspect.signature(command, eval_str=True).parameters
    parameters = [*options, *(parameter for name, parameter in before.items() if name != into)]
    parameters.sort(key=lambda parameter: parameter.kind)  # positional ones, such as a data set's name, go first

    def with_options(**arguments: Any) -> None:
        values = {option.name: arguments.pop(option.name) for option in options}
        command(**arguments, **{into: read(values)})

    return in_place_of(command, with_options, parameters)


def in_place_of(command: Command, wrapper: Command, parameters: list[inspect.Parameter]) -> Command:
    """The wrapper under the name and the help of a command, with the parameters of which typer makes options."""
    functools.update_wrapper(wrapper, command)
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


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


def _read(name: str, choice: Choice, value: Any) -> Any:
    """A setting from its option's value, as a configuration takes it; None where the user gives none."""
    if value is None or value == []:
        return None
    return FORMS[choice.form][1](value, flag(name, choice)) if choice.form else value
