"""Every defect of a list in one error, so that a file is mended once and not line by line."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vitgraft.errors import DataError

SHOWN = 10
"""Defects that a message lists."""


class Defect(NamedTuple):
    """What is wrong, beginning with `file:line`, without a full stop; and what to do about it, as sentences."""

    what: str
    fix: str


def refuse(file: Path, defects: Iterable[Defect]) -> None:
    """Raise DataError with all that is wrong, if anything is: what to do stands below, once for all like it."""
    found = list(dict.fromkeys(defects))
    if not found:
        return
    if len(found) == 1:
        raise DataError(f"{found[0].what}. {found[0].fix}")
    lines = [f"  {defect.what}" for defect in found[:SHOWN]]
    more = [f"  ... and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
    fixes = list(dict.fromkeys(defect.fix for defect in found))
    raise DataError("\n".join([f"'{file}' has {len(found):,} defects:", *lines, *more, *fixes]))


def some(values: Iterable[object], shown: int = 5) -> str:
    """A few of several values, as a sentence lists them."""
    found = list(values)
    told = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in found[:shown])
    return told + (f" and {len(found) - shown:,} more" if len(found) > shown else "")
