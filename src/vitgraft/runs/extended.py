"""TOML files that stand on others: `extends = "base.toml"`, beside the file that says so, or a list of such.

What a file says wins over what it extends, and a later one of a list over those before it. Tables are merged key
by key; a `method` is one value, whose fields mean nothing for another method.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitgraft.errors import ConfigError

EXTENDS = "extends"

WHOLE = ("method",)
"""Tables that are one value."""


def layers(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A file's table, and before it those of the files that it extends, each with its path.

    Raises:
        ConfigError: a file that is missing or no TOML, that extends itself, or whose `extends` names no file.
    """
    return _layers(path, ())


def merged(tables: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """What several tables say together, later ones winning."""
    found: dict[str, Any] = {}
    for _, table in tables:
        found = _over(found, table)
    return found


def _layers(path: Path, within: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    if path.resolve() in within:
        raise ConfigError(f"'{path}' extends itself. Take one of its {EXTENDS} out.")
    table = _table(path)
    names = table.pop(EXTENDS, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"'{path}': {EXTENDS}={names!r}: expected a file's name, or several in a list.")
    found: list[tuple[Path, dict[str, Any]]] = []
    for name in names:
        base = path.parent / Path(name).expanduser()
        if not base.is_file():
            raise ConfigError(f"'{path}' extends '{name}', and there is no file '{base}'. Check the path.")
        found += _layers(base, (*within, path.resolve()))
    return [*found, (path, table)]


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read configuration '{path}': {error.strerror}. Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration '{path}' is no TOML: {error}.") from None


def _over(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in table.items():
        before = {} if key in WHOLE else found.get(key, {})
        merge = isinstance(before, dict) and isinstance(value, dict)
        found[key] = _over(before, value) if merge else value
    return found
