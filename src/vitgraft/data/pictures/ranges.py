"""What a user may say of how pictures are read: black and white of more than 8 bits, how many pixels."""

import re

from vitgraft.errors import ConfigError

Ranges = tuple[tuple[str, float, float], ...]
"""(type, black, white) of each type of values that is known; the type `ANY` stands for all. See `depth`."""

ANY = "any"
OLD: None = None
"""In the place of ranges: the rules of before there were ranges."""

AUTO, DTYPE = "auto", "dtype"
_SIGNED = [(f"int{bits}", -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) for bits in (8, 16, 32)]
TYPES: Ranges = (("uint16", 0.0, 2.0**16 - 1), ("uint32", 0.0, 2.0**32 - 1), *_SIGNED, ("float", 0.0, 1.0))
"""What each type can hold."""

MAX_PIXELS = 1 << 28
"""Pixels that a picture may have unless the user says otherwise: 1 GiB in memory, more than any phone's 200 MP."""


def asked(text: str) -> Ranges | None:
    """The ranges that a user names; None for auto.

    Raises:
        ConfigError: neither auto nor dtype nor LOW:HIGH, or LOW is not below HIGH.
    """
    if text == AUTO:
        return None
    if not isinstance(text, str):
        raise _neither(text)
    if text == DTYPE:
        return TYPES
    number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
    found = re.fullmatch(f"{number}:{number}", text)
    low, high = map(float, found.groups()) if found else (0.0, 0.0)
    if not low < high < float("inf") or low == -float("inf"):
        raise _neither(text)
    return ((ANY, low, high),)


def _neither(text: object) -> ConfigError:
    return ConfigError(
        f"pixel_range {text!r}: expected auto, dtype, or the values that are black and white, as 0:4095 (the "
        "smaller one first)."
    )


def merged(known: Ranges, own: Ranges) -> Ranges:
    """`known`, and of `own` the types that it says nothing about."""
    if any(kind == ANY for kind, _, _ in known):
        return known
    names = {kind for kind, _, _ in known}
    return (*known, *(one for one in own if one[0] not in names and one[0] != ANY))
