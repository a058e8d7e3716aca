"""Digests of files' contents, each file read once as long as it stays as it is."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from time import time_ns

from vitgraft.errors import DataError

WHOLE = 1 << 20  # files up to 1 MiB are hashed whole
CHUNK = 1 << 16  # of larger ones, 64 KiB from the start, the middle and the end
WORKERS = min(8, os.cpu_count() or 1)
REMEMBERED = 1 << 18  # files whose digest a process keeps, a few hundred bytes each
SETTLED = 2 * 10**9  # nanoseconds: a file changed later than that may change again and show the same time


def digests(paths: Iterable[Path]) -> list[bytes]:
    """The digest (32 bytes) of each file's size and content.

    Files up to 1 MiB count byte by byte. Larger ones count by size and 64 KiB from the start, the middle and the
    end: an edit that keeps the size of a large uncompressed picture can go unseen, any other not.

    Raises:
        DataError: a file that is gone or cannot be opened.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> bytes:
    try:
        info = os.stat(path)
        changed = max(info.st_mtime_ns, info.st_ctime_ns)
        if time_ns() - changed < SETTLED:
            return _read(path)
        return _remembered(path, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DataError(f"Cannot read image '{path}': {why}. Restore it, or load again.") from error


@lru_cache(maxsize=REMEMBERED)
def _remembered(path: Path, *_as_it_is: int) -> bytes:
    """The digest of a file whose inode, size and times are these."""
    return _read(path)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for start in (0,) if size <= WHOLE else (0, (size - CHUNK) // 2, size - CHUNK):
            file.seek(start)
            digest.update(file.read(WHOLE if size <= WHOLE else CHUNK))
    return digest.digest()
