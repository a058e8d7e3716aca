"""Digests of files' contents, and which can be decoded: each is read once as long as it stays as it is.

What was seen of the files below a folder is kept in memory and, for later processes, in `seen` in the cache
folder. A file is known by its inode, size and times. What is kept can be lost or damaged at any time: then files
are read again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple

from vitgraft.atomic import write_atomically
from vitgraft.data.location import cache_root
from vitgraft.errors import DataError

WHOLE = 1 << 20  # files up to 1 MiB are hashed whole
CHUNK = 1 << 16  # of larger ones, 64 KiB from the start, the middle and the end
WORKERS = min(8, os.cpu_count() or 1)
ROOTS = 64  # folders of which a process remembers what it saw
SETTLED = 2 * 10**9  # nanoseconds: a file changed later than that may change again and show the same time
FOLDER = "seen"
"""The folder below the cache's root that holds what was seen."""


class Stamp(NamedTuple):
    """What a file shows without being read: inode, size in bytes, times of its last change in nanoseconds."""

    inode: int
    size: int
    modified: int
    changed: int


class Seen(NamedTuple):
    """A file as it was: its digest (32 bytes in hexadecimal), and the rules by which it was decoded ("": it was
    not)."""

    stamp: Stamp
    digest: str
    rules: str = ""


@dataclass
class Memory:
    """What was seen of files below `root`, by their paths."""

    root: Path
    file: Path
    files: dict[str, Seen] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)

    def known(self, path: str) -> Seen | None:
        """What was seen of a file, if it is as it was."""
        seen = self.files.get(path)
        try:
            return seen if seen is not None and seen.stamp == _stamp(self._at(path)) else None
        except OSError:  # it is gone, which whoever reads it will say
            return None

    def digest(self, path: str, rules: str = "") -> str:
        """The digest of a file, which is read unless it is known; `rules` says that it was just decoded by them.

        Raises:
            DataError: a file that is gone or cannot be opened.
        """
        try:
            stamp = _stamp(self._at(path))
            known = self.files.get(path)
            if known is not None and known.stamp == stamp:
                digest, rules = known.digest, rules or known.rules
            else:
                digest, known = _read(self.root / path).hex(), None
        except OSError as error:
            why = error.strerror or type(error).__name__
            what = f"Cannot read image '{self.root / path}': {why}"
            raise DataError(f"{what}. Restore it, or load again.") from error
        seen = None if stamp is None else Seen(stamp, digest, rules)
        if seen is not None and seen != known:
            self.files[path] = seen
            self.fresh.add(path)
        return digest

    def _at(self, path: str) -> str:
        """Where a file is: quicker than `root / path`, for folders of very many."""
        return os.path.join(self.root, path)

    def keep(self) -> None:
        """Write what is new for later processes, beside what others have written. That it fails does no harm."""
        if not self.fresh:
            return
        new = {path: self.files[path] for path in self.fresh}
        kept = {
            path: seen
            for path, seen in _load(self.file).items()
            if path in self.files or os.path.exists(self.root / path)
        }
        self.fresh.clear()
        with suppress(OSError):
            write_atomically(self.file, _packed(kept | new))


def memory(root: Path) -> Memory:
    """What is known of the files below a folder."""
    name = hashlib.sha256(os.path.abspath(root).encode(errors="surrogateescape")).hexdigest()[:16]
    return _memory(Path(os.path.abspath(root)), cache_root() / FOLDER / f"{name}.json")


@lru_cache(maxsize=ROOTS)
def _memory(root: Path, file: Path) -> Memory:
    return Memory(root, file, _load(file))


def digests(root: Path, paths: Sequence[str]) -> list[bytes]:
    """The digest (32 bytes) of each file's size and content; paths are below `root`, or absolute.

    Files up to 1 MiB count byte by byte. Larger ones count by size and 64 KiB from the start, the middle and the
    end: an edit that keeps the size of a large uncompressed picture can go unseen, any other not.

    Raises:
        DataError: a file that is gone or cannot be opened.
    """
    held = memory(root)
    found = {path: seen.digest for path in paths if (seen := held.known(path)) is not None}
    new = [path for path in paths if path not in found]
    with ThreadPoolExecutor(WORKERS) as pool:
        found.update(zip(new, pool.map(held.digest, new), strict=True))
    held.keep()
    return [bytes.fromhex(found[path]) for path in paths]


def kept_bytes() -> int:
    """How many bytes on disk hold what was seen."""
    return sum(file.stat().st_size for file in (cache_root() / FOLDER).glob("*.json"))


def forget() -> int:
    """Remove what was seen from the disk, and from this process; returns how many bytes that frees."""
    freed = kept_bytes()
    shutil.rmtree(cache_root() / FOLDER, ignore_errors=True)
    _memory.cache_clear()
    return freed


def _stamp(path: str) -> Stamp | None:
    """What a file shows; None if it was changed just now, so that more may follow unseen. Raises OSError."""
    info = os.stat(path)
    if time_ns() - max(info.st_mtime_ns, info.st_ctime_ns) < SETTLED:
        return None
    return Stamp(info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for start in (0,) if size <= WHOLE else (0, (size - CHUNK) // 2, size - CHUNK):
            file.seek(start)
            digest.update(file.read(WHOLE if size <= WHOLE else CHUNK))
    return digest.digest()


def _packed(files: dict[str, Seen]) -> bytes:
    """What was seen as JSON, with a digest of its own."""
    rows = json.dumps({path: [*seen.stamp, seen.digest, seen.rules] for path, seen in files.items()})
    return json.dumps({"sha256": hashlib.sha256(rows.encode()).hexdigest(), "files": rows}).encode()


def _load(file: Path) -> dict[str, Seen]:
    """What was seen by earlier processes; nothing if the file is not there, damaged, or of another kind."""
    try:
        held: Any = json.loads(file.read_bytes())
        rows = held["files"]
        if hashlib.sha256(rows.encode()).hexdigest() != held["sha256"]:
            return {}
        return {
            path: Seen(Stamp(*map(int, row[:4])), bytes.fromhex(row[4]).hex(), str(row[5]))
            for path, row in json.loads(rows).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return {}
