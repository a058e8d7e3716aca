"""What a page is made of, read from disk: records, logs of their runs, and what could not be read."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitgraft.errors import ConfigError, VitgraftError, command
from vitgraft.report.page import shown
from vitgraft.report.page.shown import Shown
from vitgraft.results import store
from vitgraft.results.record import Record

LOG = "log.jsonl"
"""A run's log in its folder: one JSON object an epoch."""

INNER = "records"
"""The folder of records within one in which suites keep their runs."""

Epochs = Sequence[Mapping[str, Any]]
"""A run's log: what was measured in each epoch."""


@dataclass
class Gathered:
    """Records by file; logs of those in a run's folder; figures; what was skipped, by its name, and why."""

    records: dict[Path, Record] = field(default_factory=dict)
    logs: dict[Path, Epochs] = field(default_factory=dict)
    figures: list[Shown] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(paths: Iterable[Path]) -> Gathered:
    """All records and figures in run folders, files, and folders of either; of equal runs the last.

    A folder is searched as `store.read_all` does, and the folder `records` within it where it has no record.

    Raises:
        ConfigError: a path that does not exist, or nowhere a record.
    """
    found = Gathered()
    for path in paths:
        if not path.exists():
            raise ConfigError(f"There is no '{path}'. Name run folders, records, or folders of records.")
        _add(found, path)
    _drop_equals(found)
    if not found.records:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(found.skipped.items())[:3])
        raise ConfigError(f"There is no record of a finished run here. {why or 'Name run folders or records.'}")
    return found


def label(path: Path) -> str:
    """What a page calls a record's file: no folders of the machine, but for a run's own."""
    return f"{path.parent.name}/{path.name}" if path.name == store.FILE else path.name


def _add(found: Gathered, path: Path) -> None:
    if path.is_file():
        _read(found, path)
    elif (path / store.FILE).exists():
        _read(found, path / store.FILE)
    elif (path / LOG).exists() or (path / store.KEPT).exists():
        _skip(
            found,
            path,
            f"The run has not ended. Go on: {command('fit', '--config', path / store.KEPT, '--resume')}",
        )
    else:
        _add_folder(found, path)


def _add_folder(found: Gathered, folder: Path) -> None:
    reading = store.read_all(folder)
    if not reading.records and (folder / INNER).is_dir():
        folder = folder / INNER
        reading = store.read_all(folder)
    for path, record in reading.records.items():
        _keep(found, path, record)
    for path, reason in reading.skipped.items():
        _figure(found, path) if shown.is_card(path) else _skip(found, path, reason)
    begun = [path.parent for path in sorted(folder.glob(f"*/{LOG}")) if not (path.parent / store.FILE).exists()]
    for path in begun:
        _add(found, path)
    if not reading.records and not reading.skipped and not begun:
        _skip(found, folder, "There is no record in this folder, nor in one directly below it.")


def _figure(found: Gathered, path: Path) -> None:
    try:
        found.figures.append(shown.read(path))
    except (VitgraftError, OSError) as error:
        _skip(found, path, str(error))


def _read(found: Gathered, path: Path) -> None:
    if shown.is_card(path):
        return _figure(found, path)
    try:
        _keep(found, path, store.read(path))
    except VitgraftError as error:
        _skip(found, path, str(error))


def _keep(found: Gathered, path: Path, record: Record) -> None:
    found.records[path] = record
    if path.name == store.FILE and (path.parent / LOG).exists():
        try:
            found.logs[path] = _log(path.parent / LOG)
        except (OSError, ValueError) as error:
            _skip(found, path.parent / LOG, f"The log cannot be read ({error}). Its curves are the record's.")


def _log(path: Path) -> Epochs:
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is no JSON object")
    return lines


def _skip(found: Gathered, path: Path, reason: str) -> None:
    """Tell of a file in the log with its path, and in the page without it."""
    logging.getLogger(__name__).warning("Skipped '%s': %s", path, reason)
    found.skipped[label(path)] = reason.replace(f"'{path}': ", "").replace(str(path), path.name)


def _drop_equals(found: Gathered) -> None:
    """Keep of several records of one configuration the one that ended last."""
    last: dict[str, Path] = {}
    for path, record in sorted(found.records.items(), key=lambda item: item[1].ended):
        last[store.file_name(record.config)] = path
    dropped = len(found.records) - len(last)
    if dropped:
        found.notes.append(
            f"{dropped} records are of configurations that others here have, too: the last of each counts."
        )
        kept = set(last.values())
        found.records = {path: record for path, record in found.records.items() if path in kept}
