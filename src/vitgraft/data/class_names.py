"""Class names as people give them: names in order, or a mapping between names and numbers, either way round."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from vitgraft.data.reading.lists.defects import some
from vitgraft.errors import ConfigError
from vitgraft.kinds import shown

WAYS = (
    "Give names in the order of their numbers, or a mapping such as {0: 'cat', 1: 'dog'} or {'cat': 0, 'dog': 1}"
)


def numbered_names(classes: object) -> dict[int, str]:
    """Names by their numbers, in the order of the numbers.

    `classes` are names in order (numbered from 0), or a mapping from numbers to names or from names to numbers.
    Numbers may be NumPy's or of a tensor, names may be whole numbers, too.

    Raises:
        ConfigError: anything else; a number or name that is there twice; a mapping that can be read both ways.
    """
    if isinstance(classes, str | bytes):
        raise ConfigError(f"classes={shown(classes)} is one name. {WAYS}.")
    if isinstance(classes, Mapping):
        return dict(sorted(_mapped(classes).items()))
    if isinstance(classes, set | frozenset):
        raise ConfigError(f"classes is a set, which has no order. {WAYS}.")
    if not isinstance(classes, Iterable):
        raise ConfigError(f"classes={shown(classes)}: expected names. {WAYS}.")
    try:
        names = [_name(item) for item in classes]
    except TypeError:  # such as a tensor without a dimension
        raise ConfigError(f"classes={shown(classes)}: expected names. {WAYS}.") from None
    return dict(enumerate(names))


def names_in_order(classes: object) -> tuple[str, ...]:
    """Names of classes 0 to C-1, in order: see `numbered_names`.

    Raises:
        ConfigError: also where the numbers are not 0 to C-1.
    """
    found = numbered_names(classes)
    if list(found) != list(range(len(found))):
        raise ConfigError(
            f"classes has the numbers {some(found)}; a model's classes count from 0 to {len(found) - 1}. {WAYS}."
        )
    return tuple(found.values())


def as_whole(value: object) -> int | None:
    """`value` as a whole number, if it is one: Python's, NumPy's, a tensor's, or a float without a fraction."""
    shape, dtype = getattr(value, "shape", ()), str(getattr(value, "dtype", ""))
    if isinstance(value, bool | str | bytes) or len(shape) > 0 or "bool" in dtype:
        return None
    number: Any = value
    try:
        return operator.index(number)
    except (TypeError, ValueError):
        pass
    try:
        return int(number) if float(number) == int(number) else None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _name(value: object) -> str:
    """A class name, or a whole number as one. Raises ConfigError."""
    if isinstance(value, str):
        return str(value)
    number = as_whole(value)
    if number is None:
        raise ConfigError(f"classes has {shown(value)}, which is no name. {WAYS}.")
    return str(number)


def _mapped(classes: Mapping[Any, Any]) -> dict[int, str]:
    """A mapping as names by number, whichever way round it is."""
    keys, values = list(classes), list(classes.values())
    for told in (keys, values):
        if len(told) != len(set(map(str, told))):
            twice = next(value for value in told if list(map(str, told)).count(str(value)) > 1)
            raise ConfigError(f"classes has {twice!r} twice. Every class has one number and one name.")
    for numbers in (_numbers, _numerals):
        to_names, to_numbers = numbers(keys), numbers(values)
        if to_names is not None and to_numbers is not None:
            raise ConfigError(
                f"classes={shown(dict(classes))} can be read both ways: numbers stand for numbers. Give the names "
                "in order instead, as a list."
            )
        if to_names is not None:
            return dict(zip(to_names, map(_name, values), strict=True))
        if to_numbers is not None:
            return dict(zip(to_numbers, map(_name, keys), strict=True))
    raise ConfigError(f"classes={shown(dict(classes))} has whole numbers neither as keys nor as values. {WAYS}.")


def _numbers(values: list[Any]) -> list[int] | None:
    found = [as_whole(value) for value in values]
    known = [number for number in found if number is not None and number >= 0]
    return known if len(known) == len(values) else None


def _numerals(values: list[Any]) -> list[int] | None:
    """Texts that are whole numbers, as the keys of a JSON object are."""
    if all(
        isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value
        for value in values
    ):
        return [int(value) for value in values]
    return None
