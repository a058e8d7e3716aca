"""A key of a run: its type, and its values as a command line, a TOML file and Python write them."""

import json
import types
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from vitgraft.errors import ConfigError, unknown

NONE = "none"
"""How a file or a command line says that a value is absent, where that is not the default."""


@dataclass(frozen=True)
class Key:
    """One key of a run: its type, its default (MISSING: it has none), what it means, where help lists it."""

    name: str
    hint: Any
    default: Any
    help: str
    panel: str

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its hint allows, None among them where it does."""
        if get_origin(self.hint) in (Union, types.UnionType):
            return get_args(self.hint)
        return (self.hint,)

    @property
    def wanted(self) -> str:
        """The types in words."""
        return " or ".join(_word(kind) for kind in self.kinds)


def from_text(key: Key, text: str) -> Any:
    """The value of a key as a command line writes it.

    Raises:
        ConfigError: text that is no value of the key's type.
    """
    if text.lower() == NONE and type(None) in key.kinds:
        return None
    if bool in key.kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in key.kinds:
        if kind in (int, float):
            with suppress(ValueError):
                return kind(text)
    return checked(key, text)


def checked(key: Key, value: object) -> Any:
    """`value` as the key's type. Raises ConfigError."""
    if isinstance(value, str) and value.lower() == NONE and type(None) in key.kinds:
        return None
    for kind in key.kinds:
        found = _as(kind, value)
        if found is not None:
            return found[0]
    if value is None and type(None) in key.kinds:
        return None
    choices = [choice for kind in key.kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and isinstance(value, str):
        raise ConfigError(unknown(f"value of {key.name}", value, choices))
    raise ConfigError(f"{key.name} = {value!r} is not {key.wanted}.")


def _as(kind: Any, value: object) -> tuple[Any] | None:
    """`value` as `kind`, in a tuple of one; None if it is no such thing."""
    if get_origin(kind) is Literal:
        return (value,) if value in get_args(kind) else None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return (float(value),)
    matches = isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return (value,) if matches else None


def _word(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): NONE}
    return words.get(kind, str(kind))


def to_toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    assert isinstance(value, int | float), f"no TOML for {value!r}"
    return repr(value)
