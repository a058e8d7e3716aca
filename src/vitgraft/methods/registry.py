"""Finding methods and reading them from text: `lora`, `lora:rank=8,places=qv`."""

import importlib
import pkgutil
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from vitgraft.errors import ConfigError, unknown
from vitgraft.methods.base import Method, PeftConfig

NOT_METHODS = ("base", "registry")


@cache
def _found() -> dict[str, type[Method]]:
    """Every method class of this package by its name."""
    package = importlib.import_module("vitgraft.methods")
    for entry in pkgutil.iter_modules(package.__path__):
        if entry.name not in NOT_METHODS:
            importlib.import_module(f"vitgraft.methods.{entry.name}")
    known: dict[str, type[Method]] = {}
    for kind in _subclasses(Method):  # type: ignore[type-abstract]
        name = kind.__dict__.get("name")
        if name is None:
            continue
        assert name not in known, f"two methods are called {name!r}: {known[name]} and {kind}"
        known[name] = kind
    return dict(sorted(known.items()))


def _subclasses(kind: type[Method]) -> list[type[Method]]:
    return [found for child in kind.__subclasses__() for found in (child, *_subclasses(child))]


def names() -> tuple[str, ...]:
    """The names of all methods that can be used as they are."""
    return tuple(name for name, kind in _found().items() if kind.whole is None)


def method_named(name: str) -> type[Method]:
    """The class of a method. Raises ConfigError with the nearest name."""
    found = _found().get(name)
    if found is None:
        raise ConfigError(unknown("method", name, _found()))
    return found


def parse(spec: "str | Mapping[str, Any] | Method | PeftConfig") -> Method:
    """A method from `name`, `name:key=value,key=value`, a mapping with the key `name`, a PeftConfig, or itself.

    Raises:
        ConfigError: an unknown method or key (with the nearest), or a value of the wrong kind.
    """
    if isinstance(spec, Method):
        return spec
    if isinstance(spec, str):
        name, _, rest = spec.partition(":")
        kind = _found().get(name.strip())
        if kind is not None and kind.whole is not None and rest.strip():
            return _build(kind, {kind.whole: rest.strip().removeprefix(f"{kind.whole}=")})
        given: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in rest.split(","))):
            key, equals, value = part.partition("=")
            if not equals:
                raise ConfigError(f"{spec!r}: {part!r} has no value. Write {name}:key=value,key=value.")
            if key.strip() in given:
                raise ConfigError(f"{spec!r} gives {key.strip()!r} twice.")
            given[key.strip()] = value.strip()
    elif isinstance(spec, PeftConfig):
        from vitgraft.methods.peft import config_of

        name, given = "peft", {"config": config_of(spec.to_dict())}
    else:
        given = dict(spec)
        if "name" not in given:
            raise ConfigError(f"A method needs a name; found only {', '.join(given) or 'nothing'}.")
        name = str(given.pop("name"))
    return _build(method_named(name.strip()), given)


def parse_saved(described: Mapping[str, Any]) -> Method:
    """A method as `describe` gave it, perhaps before some of its fields existed. Raises ConfigError."""
    kind = _found().get(str(described.get("name")))
    return parse({**({} if kind is None else kind.before), **described})


@cache
def _types(kind: type[Method]) -> dict[str, Any]:
    """The type of each field of a method."""
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _build(kind: type[Method], given: Mapping[str, Any]) -> Method:
    known, values = _types(kind), {}
    for key, value in given.items():
        if key not in known:
            if not known:
                raise ConfigError(f"{kind.name} has no fields, but {key!r} was given.")
            raise ConfigError(unknown(f"field of {kind.name}", key, known))
        values[key] = _convert(kind.name, key, value, known[key])
    if kind.whole is not None and kind.whole not in values:
        raise ConfigError(f"{kind.name} is nothing without its {kind.whole}. Write {kind.name}:FILE.")
    return kind(**values)


def _convert(method: str, key: str, value: Any, hint: Any) -> Any:
    """`value` (text, or already typed) as the field's type. Raises ConfigError."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if isinstance(value, str) and value.lower() == "none" and type(None) in options:
        return None
    if isinstance(value, list):
        value = tuple(value)
    for option in options:
        kind = get_origin(option) or option
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        if isinstance(value, str) and kind in (bool, int, float):
            converted = _from_text(value, kind)
            if converted is not None:
                return converted
    wanted = " or ".join("none" if option is type(None) else option.__name__ for option in options)
    raise ConfigError(f"{method}: {key}={value!r} is not {'an' if wanted.startswith('i') else 'a'} {wanted}.")


def _from_text(text: str, kind: type) -> Any:
    if kind is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())
    try:
        return kind(text)
    except ValueError:
        return None


def spec_of(method: Method) -> str:
    """The shortest text that `parse` reads back as `method`: only fields that differ from their defaults."""
    if method.whole is not None:
        return f"{method.name}:{getattr(method, method.whole)}"
    changed = [
        f"{item.name}={_as_text(getattr(method, item.name))}"
        for item in fields(method)
        if item.default is MISSING or getattr(method, item.name) != item.default
    ]
    return method.name + (":" + ",".join(changed) if changed else "")


def _as_text(value: Any) -> str:
    return (
        "+".join(value)
        if isinstance(value, tuple)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def describe(method: Method) -> dict[str, Any]:
    """A method as data: its name and every field, as artefacts and records hold it."""
    return {"name": method.name, **{item.name: getattr(method, item.name) for item in fields(method)}}
