"""Files that are whole or not there, and JSON that every reader takes."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What the system says within of a full disk or the like names `path`, whatever it was of."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch says RuntimeError where a file that it writes into raised; what that was stands in the context.
        found = error if isinstance(error, OSError) else error.__context__
        if not isinstance(found, OSError) or found.errno is None:
            raise
        raise OSError(found.errno, found.strerror, str(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that becomes `path` when it is whole and on the disk; else nothing has changed.

    Readers see the old one or the whole new one. Missing folders are made.

    Raises:
        OSError: what the system says, of `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the whole new one. Missing folders are made."""
    with replacing(path) as file:
        file.write(content)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def left_over(path: Path) -> list[Path]:
    """What writers of `path` that were killed have left."""
    return list(path.parent.glob(f".{path.name}.*"))


def json_of(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON that every reader takes: a number that is not finite is null, as JSON has none."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
