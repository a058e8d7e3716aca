"""Values of the kinds that annotations name: checked where a user's values come in, told in a sentence.

`checked` holds a public function to its own annotations, `check_fields` a dataclass to its. What is meant the same
is taken: numpy's numbers as Python's, a list for a tuple. Nothing that is wrong comes through to fail further in.
"""

import inspect
import math
import os
import reprlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from vitgraft.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_NAME = 255
"""Bytes of a file's name, on every common file system."""

LARGEST = 2**63 - 1
"""The largest whole number that files and torch's generators hold."""

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
    Path: "a path",
}

PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}

MAKERS = {
    "Backbone": "load_backbone(...) makes one",
    "Model": "graft(...) or load(...) makes one",
    "Preprocessing": "model.preprocessing is one",
    "Split": 'load_task(...).splits["train"] is one',
    "Training": "Training(epochs=50) is one",
}
"""Where a user finds an instance of a class."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with arguments of other kinds than it is annotated with refused.

    The wrapper raises ConfigError for a value of a wrong kind; a missing or unknown keyword stays Python's own
    TypeError.
    """
    signature = inspect.signature(function)
    kinds = {name: one.annotation for name, one in signature.parameters.items()}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            kind = kinds[name]
            if kind is not inspect.Parameter.empty and signature.parameters[name].kind not in _VARIABLE:
                bound.arguments[name] = converted(name, value, kind)
        return function(*bound.args, **bound.kwargs)

    return call


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_fields(values: Any, owner: str = "") -> None:
    """Hold a dataclass's fields to their annotations, and store what was converted. `owner` begins the message.

    Raises:
        ConfigError: a field of a wrong kind.
    """
    owned_by: type = type(values)
    for name, kind in _kinds(owned_by).items():
        given = getattr(values, name)
        value = converted(f"{owner}{name}", given, kind)
        if value is not given:
            object.__setattr__(values, name, value)


@cache
def _kinds(owner: Any) -> dict[str, Any]:
    hints = get_type_hints(owner)
    return {item.name: hints[item.name] for item in fields(owner)}


def converted(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`. Raises ConfigError, which calls it `name`."""
    found = fitting(value, kind)
    if found is not None:
        return found[0]
    flaw = _flaw(os.fspath(value), True) if isinstance(value, str | Path) else ""
    why = f"expected {wanted(kind)}" if not flaw else f"it {flaw}"
    raise ConfigError(f"{name}={shown(value)}: {why}.{_maker(kind)}")


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """`value` as a whole number from `least` to `most`. Raises ConfigError."""
    found = fitting(value, int)
    if found is None or not least <= found[0] <= most:
        upto = "" if most < LARGEST or found is None or found[0] <= most else " and below 2**63"
        bounds = f"from {least} to {most}" if most < LARGEST else f"of at least {least}{upto}"
        raise ConfigError(f"{name}={shown(value)}: expected a whole number {bounds}.")
    return int(found[0])


def fitting(value: Any, kind: Any) -> tuple[Any] | None:
    """`value` as `kind`, an annotation, in a tuple of one; None if it is no such thing."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return (value,)
    if origin in (Union, types.UnionType):
        if isinstance(value, str) and Path in inner and _flaw(value, True):
            return None
        return next((found for one in inner if (found := fitting(value, one)) is not None), None)
    if origin is Literal:
        return next(((one,) for one in inner if type(value) is type(one) and value == one), None)
    if origin is not None:
        return _holding(value, origin, inner)
    if kind in _SIMPLE:
        return _SIMPLE[kind](value)
    return (value,) if isinstance(value, kind) else None


def _holding(value: Any, origin: Any, inner: tuple[Any, ...]) -> tuple[Any] | None:
    """A mapping, or a sequence of things; things that come one by one are left to whoever takes them."""
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or any(fitting(key, inner[0]) is None for key in value):
            return None
        return (value,) if all(fitting(one, inner[1]) is not None for one in value.values()) else None
    if isinstance(value, str | bytes | Mapping):
        return None
    if not issubclass(origin, Sequence):
        return (value,) if isinstance(value, origin) else None
    if not isinstance(value, Sequence):
        return None
    several = len(inner) == 1 or inner[-1] is Ellipsis
    if not several and len(value) != len(inner):
        return None
    found = [fitting(one, inner[0] if several else inner[index]) for index, one in enumerate(value)]
    things = [one[0] for one in found if one is not None]
    if len(things) < len(found):
        return None
    return (tuple(things) if origin is tuple else things if origin is list else value,)


def _whole(value: Any) -> tuple[int] | None:
    return (int(value),) if isinstance(value, Integral) and not isinstance(value, bool) else None


def _number(value: Any) -> tuple[float] | None:
    """A number that is neither NaN nor infinite: no setting means one of these."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    with suppress(OverflowError):
        number = float(value)
        return (number,) if math.isfinite(number) else None
    return None


def _path(value: Any) -> tuple[Path] | None:
    if not isinstance(value, os.PathLike) or not isinstance(text := os.fspath(value), str):
        return None
    return (value if isinstance(value, Path) else Path(text),) if not _flaw(text, True) else None


def _text(value: Any) -> tuple[str] | None:
    return (value,) if isinstance(value, str) and not _flaw(value) else None


def _flaw(text: str, path: bool = False) -> str:
    """Why a text cannot be written into a file or, as a path, name one; empty if nothing is wrong with it."""
    try:
        coded = os.fsencode(text)
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate), which no file can hold"
    if b"\0" in coded:
        return "holds a NUL character"
    if path and not text:
        return "is empty"
    if path and max(map(len, coded.split(os.fsencode(os.sep)))) > LONGEST_NAME:
        return f"holds a name of more than {LONGEST_NAME} bytes, which file systems do not take"
    return ""


def _boolean(value: Any) -> tuple[bool] | None:
    is_numpy = type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy"
    return (bool(value),) if isinstance(value, bool) or is_numpy else None


_SIMPLE: dict[Any, Callable[[Any], tuple[Any] | None]] = {
    bool: _boolean,
    int: _whole,
    float: _number,
    str: _text,
    Path: _path,
    type(None): lambda value: (value,) if value is None else None,
}


def finite(value: Any) -> bool:
    """True for a number that is neither NaN nor infinite."""
    return _number(value) is not None


def wanted(kind: Any) -> str:
    """A kind in words: `a whole number or a list of texts`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        options = [one for one in inner if not (one is str and Path in inner)]  # a path may be a text
        *most, last = dict.fromkeys(map(wanted, options))
        return f"{', '.join(most)} or {last}" if most else last
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Collection | Iterable):
        if origin is tuple and inner[-1] is not Ellipsis:
            return f"({', '.join(map(_short, inner))})"
        return f"a list of {_several(inner[0])}" if inner else "a list"
    return WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _short(kind: Any) -> str:
    return wanted(kind).removeprefix("a ")


def _several(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_several, get_args(kind)))
    return PLURALS.get(kind) or f"{getattr(kind, '__name__', kind)}s"


def _maker(kind: Any) -> str:
    names = [getattr(one, "__name__", "") for one in (kind, *get_args(kind))]
    found = next((MAKERS[name] for name in names if name in MAKERS), None)
    return "" if found is None else f" {found}."


def shown(value: Any) -> str:
    """A value as a message shows it, in one short line."""
    brief = reprlib.Repr()
    brief.maxother = brief.maxstring = 60
    brief.maxlong = 24
    return " ".join(brief.repr(value).split())
