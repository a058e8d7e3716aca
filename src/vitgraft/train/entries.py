"""Rows of features on disk: a folder an entry, filled and checked chunk by chunk. It imports no torch.

    features/<key>/card.json   what the rows are of
    features/<key>/rows.bin    the rows, one after the other
    features/<key>/checksums   a line a chunk that is written; later lines win
    features/<key>/complete    there once every chunk is; touched when the entry is used

A kill leaves whole chunks, and filling goes on with those that are missing. A lock beside the folder keeps two
processes from filling one entry; a second one waits and then finds it complete.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from vitgraft.atomic import write_atomically
from vitgraft.data.location import cache_root
from vitgraft.errors import ConfigError, DataError, unknown

SCHEMA = 1
CARD, ROWS, CHECKSUMS, COMPLETE = "card.json", "rows.bin", "checksums", "complete"
SPARE = 1 << 30
"""Bytes that stay free on the disk."""


@dataclass(frozen=True)
class Card:
    """What an entry holds: `count` rows of `row_bytes`, `chunk` of them written and checked at a time.

    `base` says what was read (backbone, images, preprocessing, ...), `columns` lists the readings side by side in
    a row, and `title` tells a person.
    """

    base: dict[str, Any]
    columns: list[dict[str, Any]]
    count: int
    row_bytes: int
    chunk: int
    title: str
    schema: int = SCHEMA

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.count * self.row_bytes

    @property
    def chunks(self) -> int:
        return -(-self.count // self.chunk)

    def span(self, chunk: int) -> tuple[int, int]:
        """Rows first:last of a chunk."""
        return chunk * self.chunk, min((chunk + 1) * self.chunk, self.count)


@dataclass(frozen=True)
class Entry:
    """One folder of features. Its methods but `lock` expect that no other process fills it."""

    folder: Path

    @classmethod
    def named(cls, key: str) -> Self:
        return cls(root() / key)

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def card(self) -> Card | None:
        """The entry's card; None if there is none that this version reads."""
        try:
            values = json.loads((self.folder / CARD).read_bytes())
            return Card(**values) if values.get("schema") == SCHEMA else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    @property
    def rows(self) -> Path:
        return self.folder / ROWS

    @property
    def complete(self) -> bool:
        """True if every row was written. Whether they are still what was written, `missing` says."""
        card = self.card
        return (
            card is not None
            and (self.folder / COMPLETE).is_file()
            and self.rows.is_file()
            and self.rows.stat().st_size == card.size
        )

    @property
    def used(self) -> float:
        """When the entry was last used, in seconds since 1970."""
        marker = self.folder / COMPLETE
        return (marker if marker.is_file() else self.folder).stat().st_mtime

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.rows.stat().st_size if self.rows.is_file() else 0

    def begin(self, card: Card) -> None:
        """Make the folder an entry of `card`; chunks of an earlier attempt stay if it was for the same."""
        if self.card is not None and asdict(self.card) == asdict(card):
            return
        self.discard()
        write_atomically(self.folder / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())

    def missing(self) -> list[int]:
        """Chunks that are not there, or not what was written. Reads the whole file."""
        card = self._card()
        known = self._checksums()
        bad = []
        with self._open() as file:
            for chunk in range(card.chunks):
                first, last = card.span(chunk)
                file.seek(first * card.row_bytes)
                data = file.read((last - first) * card.row_bytes)
                if known.get(chunk) != _checksum(data):
                    bad.append(chunk)
        return bad

    def write(self, chunk: int, data: bytes | memoryview) -> None:
        """Write the rows of one chunk."""
        card = self._card()
        (self.folder / COMPLETE).unlink(missing_ok=True)
        with self._open() as file:
            file.seek(card.span(chunk)[0] * card.row_bytes)
            file.write(data)
        with (self.folder / CHECKSUMS).open("a") as lines:
            lines.write(f"{chunk} {_checksum(data)}\n")

    def finish(self) -> None:
        """Mark the entry complete."""
        with self._open() as file:
            os.fsync(file.fileno())
        (self.folder / COMPLETE).touch()

    def discard(self) -> None:
        """Remove the entry; the marker first, so that what a kill leaves is not taken for complete."""
        (self.folder / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def lock(self, timeout: float = -1) -> Iterator[None]:
        """Keep other processes from filling or removing the entry. Raises filelock.Timeout."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f"{self.key}.lock"), timeout=timeout):
            yield

    def busy(self) -> bool:
        """True if another process holds the lock."""
        try:
            with self.lock(timeout=0):
                return False
        except Timeout:
            return True

    def _card(self) -> Card:
        assert self.card is not None, "an entry begins with its card"
        return self.card

    def _open(self) -> Any:
        return self.rows.open("r+b" if self.rows.exists() else "w+b")

    def _checksums(self) -> dict[int, str]:
        path = self.folder / CHECKSUMS
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        pairs = [line.split() for line in lines]
        return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[0].isdigit()}


def _checksum(data: bytes | memoryview) -> str:
    return f"{zlib.crc32(data):08x}-{len(data)}"


def root() -> Path:
    """Where entries are kept."""
    return cache_root() / "features"


def entries() -> list[Entry]:
    """Every entry, the last used first; folders without a readable card, too."""
    folders = root().iterdir() if root().is_dir() else ()
    found = [Entry(folder) for folder in folders if folder.is_dir()]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def holding(base: Mapping[str, Any], columns: list[dict[str, Any]]) -> Entry | None:
    """The smallest complete entry of the same `base` with all of these columns."""
    fitting = [
        entry
        for entry in entries()
        if entry.card is not None
        and entry.card.base == base
        and all(column in entry.card.columns for column in columns)
        and entry.complete
    ]
    return min(fitting, key=lambda entry: entry.size, default=None)


def room(limit: int) -> int:
    """Bytes that new entries may take: what `limit` leaves and the disk has."""
    place = root()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free - SPARE
    return min(limit - sum(entry.size for entry in entries()), free)


def remove(key: str) -> int:
    """Remove an entry and return its bytes.

    Raises:
        ConfigError: no such entry.
        DataError: a process is filling it.
    """
    found = {entry.key: entry for entry in entries()}
    if key not in found:
        raise ConfigError(unknown("cache entry", key, found))
    entry = found[key]
    try:
        with entry.lock(timeout=0):
            size = entry.size
            entry.discard()
    except Timeout:
        raise DataError(f"The cache entry {key} is being written by a run. Stop the run, or wait.") from None
    return size
