"""Rows of features on disk: a folder an entry, filled and checked chunk by chunk. It imports no torch.

    features/<key>/card.json   what the rows are of; the key is its digest
    features/<key>/rows.bin    the rows, one after the other
    features/<key>/checksums   a line a chunk that is written; later lines win
    features/<key>/complete    there once every chunk is; touched when the entry is used

A kill leaves whole chunks, and filling goes on with those that are missing. A lock beside the folder keeps two
processes from filling one entry; a second one waits and then finds it complete. Who reads needs no lock once the
rows are mapped: removing an entry takes its name, and the system keeps the file until the last reader is done.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from vitgraft.atomic import write_atomically
from vitgraft.data.location import cache_root
from vitgraft.errors import ConfigError, DataError, option, unknown

SCHEMA = 1
CARD, ROWS, CHECKSUMS, COMPLETE = "card.json", "rows.bin", "checksums", "complete"
SPARE = 1 << 30
"""Bytes that stay free on the disk."""


@dataclass(frozen=True)
class Card:
    """What an entry holds: `count` rows of `row_bytes`, `chunk` of them written and checked at a time.

    `base` says what was read (backbone, images, preprocessing, ...), `columns` lists the readings side by side in
    a row, and `title` tells a person. All but the title are JSON values.
    """

    base: dict[str, Any]
    columns: list[dict[str, Any]]
    count: int
    row_bytes: int
    chunk: int
    title: str
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """The entry's name. It stands for everything but the title, so that a damaged card is seen."""
        form = [self.columns, self.count, self.row_bytes, self.chunk, self.schema]
        return f"{digest(self.base, 12)}-{digest(form, 8)}"

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

    def holds(self, wanted: "Card") -> bool:
        """True if all that `wanted` asks for is among this."""
        same = self.base == wanted.base and self.count == wanted.count
        return same and all(column in self.columns for column in wanted.columns)


@dataclass(frozen=True)
class Entry:
    """One folder of features. Its methods that write raise DataError where they cannot.

    All but `lock` expect that no other process fills it.
    """

    folder: Path

    @classmethod
    def of(cls, card: Card) -> Self:
        return cls(root() / card.key)

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def card(self) -> Card | None:
        """The entry's card; None if there is none that this version reads, or not as it was written."""
        try:
            card = Card(**json.loads((self.folder / CARD).read_bytes()))
            return card if card.key == self.key and card.schema == SCHEMA else None
        except (OSError, ValueError, TypeError):
            return None

    @property
    def rows(self) -> Path:
        return self.folder / ROWS

    @property
    def complete(self) -> bool:
        """True if every row was written. Whether they are still what was written, `missing` says."""
        card = self.card
        return card is not None and (self.folder / COMPLETE).is_file() and self.size == card.size

    @property
    def used(self) -> float:
        """When the entry was last used, in seconds since 1970; 0 if it is gone."""
        found = _stat(self.folder / COMPLETE) or _stat(self.folder)
        return found.st_mtime if found else 0.0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        found = _stat(self.rows)
        return found.st_size if found else 0

    def begin(self, card: Card) -> None:
        """Make the folder the entry of `card`, whose key it has; chunks of an earlier attempt stay."""
        if self.card is None:
            self.discard()
            with _writing():
                write_atomically(self.folder / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())

    def missing(self) -> list[int]:
        """Chunks that are not there, or not what was written. Reads the whole file."""
        card = self._card()
        known = self._checksums()
        if not self.rows.is_file():
            return list(range(card.chunks))
        bad = []
        with self.rows.open("rb") as file:
            for chunk in range(card.chunks):
                first, last = card.span(chunk)
                file.seek(first * card.row_bytes)
                if known.get(chunk) != _checksum(file.read((last - first) * card.row_bytes)):
                    bad.append(chunk)
        return bad

    def write(self, chunk: int, data: bytes | memoryview) -> None:
        """Write the rows of one chunk, given as bytes."""
        card = self._card()
        with _writing():
            (self.folder / COMPLETE).unlink(missing_ok=True)
            with self.rows.open("r+b" if self.rows.exists() else "w+b") as file:
                file.seek(card.span(chunk)[0] * card.row_bytes)
                file.write(data)
            with (self.folder / CHECKSUMS).open("a") as lines:
                lines.write(f"\n{chunk} {_checksum(data)}")  # begins a line, for a kill may have cut the last one

    def finish(self) -> None:
        """Mark the entry complete."""
        with _writing():
            with self.rows.open("r+b") as file:
                if self.size > self._card().size:
                    file.truncate(self._card().size)
                os.fsync(file.fileno())
            (self.folder / COMPLETE).touch()

    def discard(self) -> None:
        """Remove the entry; the marker first, so that what a kill leaves is not taken for complete."""
        with _writing():
            (self.folder / COMPLETE).unlink(missing_ok=True)
            if self.folder.exists():
                shutil.rmtree(self.folder)

    @contextmanager
    def lock(self, busy: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from filling or removing the entry; `busy` is called before a wait for one."""
        with _writing():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder.with_name(f"{self.key}.lock"))
            free = _acquired(lock)
        if not free:
            busy()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _card(self) -> Card:
        card = self.card
        assert card is not None, "an entry begins with its card"
        return card

    def _checksums(self) -> dict[int, str]:
        path = self.folder / CHECKSUMS
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        pairs = [line.split() for line in lines]
        return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[0].isdecimal()}


def digest(value: Any, length: int) -> str:
    """`length` hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]


def _checksum(data: bytes | memoryview) -> str:
    return f"{zlib.crc32(data):08x}-{len(data)}"


def _stat(path: Path) -> os.stat_result | None:
    """None if there is no such file, which another process may just have removed."""
    try:
        return path.stat()
    except OSError:
        return None


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


@contextmanager
def _writing() -> Iterator[None]:
    """What the file system refuses, in a sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The feature cache in {root()} cannot be changed: {error.strerror or error}. Free some space "
            f"(vitgraft cache rm), choose another place (VITGRAFT_CACHE), or use {option('cache', 'ram')} or "
            "off. What was written is kept."
        ) from error


def root() -> Path:
    """Where entries are kept."""
    return cache_root() / "features"


def entries() -> list[Entry]:
    """Every entry, the last used first; folders without a readable card, too."""
    folders = root().iterdir() if root().is_dir() else ()
    found = [Entry(folder) for folder in folders if folder.is_dir()]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def holding(wanted: Card) -> Entry | None:
    """The smallest complete entry that holds what `wanted` asks for."""
    cards = ((entry, entry.card) for entry in entries())
    fitting = [entry for entry, card in cards if card is not None and card.holds(wanted) and entry.complete]
    return min(fitting, key=lambda entry: entry.size, default=None)


def room(limit: int) -> int:
    """Bytes that new entries may take: what `limit` leaves and the disk has; 0 where nothing can be written."""
    place = next((folder for folder in (root(), *root().parents) if folder.exists()), None)
    if place is None or not place.is_dir() or not os.access(place, os.W_OK):
        return 0
    free = shutil.disk_usage(place).free - SPARE
    return max(min(limit - sum(entry.size for entry in entries()), free), 0)


def remove(keys: Iterable[str]) -> int:
    """Remove entries and return their bytes. What a process is filling stays, and the others go all the same.

    Raises:
        ConfigError: no such entry; nothing has been removed then.
        DataError: an entry that a process is filling, or that cannot be removed.
    """
    found = {entry.key: entry for entry in entries()}
    chosen = list(dict.fromkeys(keys))
    for key in chosen:
        if key not in found:
            raise ConfigError(unknown("cache entry", key, found))
    size, busy = 0, []
    for key in chosen:
        try:
            size += _removed(found[key])
        except BlockingIOError:
            busy.append(key)
    if busy:
        raise DataError(f"In use by a run, and left: {', '.join(busy)}. Stop the run, or wait until it is done.")
    return size


def _removed(entry: Entry) -> int:
    def refuse() -> None:
        raise BlockingIOError

    with entry.lock(busy=refuse):
        size = entry.size
        entry.discard()
    return size
