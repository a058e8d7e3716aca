"""Every defect of a list in one error, so that a file is mended once and not line by line."""

from collections.abc import Iterable
from pathlib import Path

from vitgraft.errors import DataError

SHOWN = 10
"""Defects that a message lists."""


def refuse(file: Path, defects: Iterable[str]) -> None:
    """Raise DataError with what is wrong, if anything is. A defect is a sentence that begins with `file:line`."""
    found = list(dict.fromkeys(defects))
    if not found:
        return
    if len(found) == 1:
        raise DataError(found[0])
    lines = [f"  {line}" for line in found[:SHOWN]]
    more = [f"  ... and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
    raise DataError("\n".join([f"'{file}' has {len(found):,} defects.", *lines, *more]))


def some(values: Iterable[object], shown: int = 5) -> str:
    """A few of several values, as a sentence lists them."""
    found = list(values)
    told = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in found[:shown])
    return told + (f" and {len(found) - shown:,} more" if len(found) > shown else "")
