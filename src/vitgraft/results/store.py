"""Records on disk: one JSON file a run, named by its configuration, written so that it is whole or not there.

Of the code's version its name has what matters: the method's `revision`, which goes up when its runs come to other
numbers. All else of it (`commit`, `versions`) stands in the record, since a run that is done stays done when the
code moves on, or no table would ever be finished. Whoever doubts an old record deletes it.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vitgraft import methods
from vitgraft.atomic import json_of, write_atomically
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.errors import ConfigError, VitgraftError
from vitgraft.results.record import Record, RecordError

FILE = "record.json"
"""The name of a run's record in its own folder."""

KEPT = "run.toml"
"""The name of a run's configuration in its folder."""

NEXT = ".next"
"""Where in a folder a run is kept that is to replace what the folder holds, until it is finished."""

SEARCH = "auto"
"""Where in a folder a search for a good run (`vitgraft.selection`) keeps what it tries, until it is finished."""

PLACES = ("out", "records")
"""Keys of a configuration that say where a run was kept: of one machine, and no part of what is shared."""

NOT_IDENTITY = (
    *(*PLACES, "workers", "device", "eval_batch_size", "snapshot_seconds"),
    *("cache", "cache_limit"),
)
"""Keys of a configuration that say where and with what to run, not what: they do not enter its name."""

LATER: Mapping[str, Any] = {
    "protocol": "vitgraft",
    "train_on": "train",
    "path_column": None,
    "label_column": None,
    "split_column": "auto",
    "suffix": None,
    "pixel_range": "auto",
    "max_pixels": 1 << 28,
    "optimizer": "adamw",
    "momentum": 0.9,
    "decay": "matrices",
    "lr_changes": "step",
    "warmup_lr": None,
    "cosine": "after-warmup",
    "lag_epochs": 0,
    "head_init": "normal",
    "legacy_init": False,
    "legacy_test": False,
    "legacy_epochs": "every",
    "start_from": None,
    "labels": "auto",
    "regression_loss": "huber",
    "memory": None,
    "minutes": None,
}
"""Keys that came after the first records, and what runs without them did: only what differs enters a name.

A new key of a configuration belongs here, with the value that says what was done before there was a choice. So
records keep their names, and whoever looks for a run finds it. The value stays when the key's default changes.
"""


@dataclass(frozen=True)
class Reading:
    """What a folder holds: its records by file, and for every file that is none the reason."""

    records: dict[Path, Record]
    skipped: dict[Path, str]

    def rows(self) -> list[dict[str, Any]]:
        """A flat row a record, which `pandas.DataFrame` takes as it is; `file` names the record, for doubters."""
        return [{"file": str(path), **record.flat()} for path, record in self.records.items()]


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as a record tells it to others: without the places where a run was kept."""
    return {key: value for key, value in config.items() if key not in PLACES}


def identity(config: Mapping[str, Any]) -> str:
    """A digest of a resolved configuration: equal runs, equal digest, wherever and when they are written."""
    later = {key for key, value in LATER.items() if config.get(key, value) == value}
    told = {key: value for key, value in meant(config).items() if key not in later}
    if (revision := _revision(config)) > 1:
        told["revision"] = revision
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _revision(config: Mapping[str, Any]) -> int:
    """Of a configuration's method; 1 for one that is not known here."""
    try:
        return methods.parse(str(config.get("method", ""))).revision
    except ConfigError:
        return 1


def meant(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration says what is computed: two that are equal in it are the same run, wherever it is."""
    return {key: value for key, value in {**config, **_moved(config)}.items() if key not in NOT_IDENTITY}


def _moved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of inputs as a name tells them, so that it stays when they are moved, or another machine goes on.

    A benchmark's copy is checked to be the benchmark's, wherever it lies. Of a checkpoint, and of a backbone in a
    folder, its own name counts, since a backbone has weights of several kinds. Of a list the root says which
    images are meant.
    """
    found: dict[str, Any] = {}
    if config.get("root") is not None and mentioned(str(config.get("data", ""))) is not None:
        found["root"] = None
    kind, colon, where = str(config.get("backbone", "")).partition(":")
    if colon and kind.lower() == "local-dir":
        found["backbone"] = f"{kind}:{Path(where).name}"
    if config.get("checkpoint") is not None:
        found["checkpoint"] = Path(str(config["checkpoint"])).name
    return found


def file_name(config: Mapping[str, Any]) -> str:
    """The file name of a configuration's record: a short prefix for people, then its identity."""
    task = os.path.basename(os.path.normpath(str(config.get("data", ""))))
    backbone = os.path.basename(str(config.get("backbone", "")))  # of a path or a repository its last part
    words = (task, str(config.get("method", "")), backbone, f"s{config.get('seed', 0)}")
    prefix = "-".join(filter(None, (slug(word) for word in words)))
    return f"{prefix[:80]}-{identity(config)}.json"


def slug(text: str) -> str:
    """`text` as a piece of a file name: lower-case ASCII letters, digits, underscores and single dashes."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")


def kept_in(folder: Path) -> Path | None:
    """The configuration of the run that goes on in a folder: of one that is to replace another, if any."""
    places = (folder / SEARCH, folder / NEXT, folder)
    return next((path for place in places if (path := place / KEPT).exists()), None)


def add(folder: Path, record: Record) -> Path:
    """Write a record into a folder of records. A record of the same configuration is replaced.

    Writers may be many: each file appears whole, and the last of two equal configurations stays.
    """
    path = folder / file_name(record.config)
    write(path, record)
    return path


def beside(path: Path, name: str) -> Path:
    """Where a file that a run's method leaves is kept with the run's record at `path`."""
    return path.parent / "found" / f"{path.stem}.{name}"


def write(path: Path, record: Record) -> None:
    """Write one record to `path`, whole or not at all."""
    write_atomically(path, (json_of(record.to_json(), indent=2) + "\n").encode())


def read(path: Path) -> Record:
    """One record.

    Raises:
        RecordError: a file that is missing, unreadable, damaged, of another schema, or no record at all.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"Cannot read record '{path}': {error.strerror}. Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"'{path}' is damaged or no JSON ({error}). Run it again.") from None
    try:
        return Record.from_json(values)
    except RecordError as error:
        raise RecordError(f"'{path}': {error} Run it again, or move the file away.") from None


def find(path: Path) -> Record | None:
    """The record at `path`, if there is one. A file that cannot be read as one is told of, and taken for none."""
    if not path.exists():
        return None
    try:
        return read(path)
    except RecordError as error:
        _tell(str(error))
        return None


@cache
def _tell(reason: str) -> None:
    """Once a process, however often the file is asked for."""
    logging.getLogger(__name__).warning("Taken for a run that is not done: %s", reason)


def read_all(folder: Path | str) -> Reading:
    """Every record in a folder: its own `*.json`, and the `record.json` of the run folders directly below it.

    Files that are no records are skipped and reported, never fatal: a sweep that was killed, an editor's copy
    and a newer vitgraft all leave such files behind.

    Raises:
        RecordError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"There is no folder '{folder}' with records. Check the path.")
    records: dict[Path, Record] = {}
    skipped: dict[Path, str] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob(f"*/{FILE}")]):
        if path.name.startswith("."):  # another writer's temporary file
            continue
        try:
            records[path] = read(path)
        except VitgraftError as error:
            skipped[path] = str(error)
    return Reading(records, skipped)
