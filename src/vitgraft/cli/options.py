"""Options that commands share: those of every key of a run, and those that some function makes something of."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Annotated, Any, get_args

import typer

from vitgraft.runs.config import DATA, from_text, keys
from vitgraft.runs.keys import Key

SHORT = {"start_from": ("--from",)}
"""Other names of options."""

ARGUMENT = "data"
"""The key that is given as the command's argument."""


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """`command(given, ...)` as one that also takes every key of a run; `given` holds those that were named."""
    return _taking(keys(), command)


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """`command(given, ...)` as one that also takes those keys of a run that say which images are meant."""
    return _taking({name: key for name, key in keys().items() if key.panel == DATA}, command)


def _taking(taken: Mapping[str, Key], command: Callable[..., None]) -> Callable[..., None]:
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(**values: Any) -> None:
        given = _given({name: values.pop(name) for name in taken})
        command(given, **values)

    parameters = [_parameter(key) for key in taken.values()]
    arguments = [one for one in parameters if one.name == ARGUMENT]
    options = [one for one in parameters if one.name != ARGUMENT]
    return _signed(run, command, [*arguments, *own, *options])


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those keys of a run that were named, with values of their types."""
    named = {name: value for name, value in values.items() if value is not None}
    return {name: from_text(name, value) if isinstance(value, str) else value for name, value in named.items()}


def read_as(**values: Any) -> dict[str, Any]:
    """A maker for `given_by`: those keys of a run that say how data are read, for commands that take several."""
    return _given(values)


def given_by(*makers: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: `command(made, ...)` as one that takes its makers' options, too, for what they make of them."""
    shared = [list(inspect.signature(make, eval_str=True).parameters.values()) for make in makers]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[len(makers) :]

        def run(**values: Any) -> None:
            made = [
                make(**{one.name: values.pop(one.name) for one in taken})
                for make, taken in zip(makers, shared, strict=True)
            ]
            command(*made, **values)

        return _signed(run, command, [*(one for taken in shared for one in taken), *own])

    return decorate


def typed(given: Mapping[str, Any]) -> list[str]:
    """Keys and values of a run as options that one types, but for the data, which are an argument."""
    words = []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif name != ARGUMENT:
            words += [option, "none" if value is None else str(value)]
    return words


def _signed(
    run: Callable[..., None], command: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """`run` under the name of `command` and with its help, as something that takes `parameters`."""
    everything = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in everything}
    return run


def _parameter(key: Key) -> inspect.Parameter:
    """A key as a parameter that is None unless given. Text is converted by the same rules as a file's values."""
    name = key.name.replace("_", "-")
    help = key.help if key.default in (None, MISSING) else f"{key.help} (default {_shown(key.default)})"
    kind: Any = bool if key.hint is bool else str
    info: Any
    if key.name == ARGUMENT:
        info = typer.Argument(help=help, show_default=False)
    elif kind is bool:
        info = typer.Option(f"--{name}/--no-{name}", help=help, show_default=False, rich_help_panel=key.panel)
    else:
        names = (f"--{name}", *SHORT.get(key.name, ()))
        info = typer.Option(
            *names, help=help, show_default=False, metavar=_metavar(key), rich_help_panel=key.panel
        )
    annotation = Annotated[kind | None, info]
    return inspect.Parameter(key.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _metavar(key: Key) -> str:
    choices = [choice for kind in key.kinds for choice in get_args(kind)]
    words = {int: "N", float: "NUMBER", str: "TEXT"}
    return "|".join(choices) or next(words[kind] for kind in key.kinds if kind in words)


_READING = [_parameter(key) for name, key in keys().items() if key.panel == DATA and name != ARGUMENT]
read_as.__signature__ = inspect.Signature(_READING)  # type: ignore[attr-defined]
