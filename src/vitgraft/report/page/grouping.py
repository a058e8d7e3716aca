"""Which runs stand in one row of a table: those of one method, as long as no two are of one task and seed."""

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from vitgraft.results.record import Record
from vitgraft.results.store import LATER, NOT_IDENTITY

OWN = {"data", "method", "backbone", "seed", *NOT_IDENTITY}
"""Keys of a configuration that rows are named by already, or that change no result."""

LAST = ("lr", "weight_decay")
"""Keys that are chosen for each task: rows are told apart by them only where nothing else does."""


def rows(records: Sequence[Record]) -> list[str]:
    """The row of each record, by the method's text; with the backbone, and with settings, where these differ.

    Records that read the test split decide; others stand in the row that has their settings.
    """
    several = len({record.backbone.name for record in records}) > 1
    names = [record.method.spec + (f" on {record.backbone.name}" if several else "") for record in records]
    found = list(names)
    for name in dict.fromkeys(names):
        own = [index for index, other in enumerate(names) if other == name]
        keys = _telling([records[index] for index in own if records[index].test] or [records[own[0]]])
        for index in own:
            told = ", ".join(f"{key}={_short(records[index].config.get(key))}" for key in keys)
            found[index] = f"{name} ({told})" if told else name
    return found


def mixed(records: Sequence[Record]) -> list[str]:
    """Keys in which runs of one cell differ besides their seeds."""
    keys = dict.fromkeys(key for record in records for key in record.config)
    return [key for key in keys if key not in OWN and len({_value(record, key) for record in records}) > 1]


def _telling(records: Sequence[Record]) -> list[str]:
    """Keys that tell runs of one task and seed apart, as few as it takes."""
    keys = sorted((key for key in mixed(records)), key=LAST.__contains__)
    chosen: list[str] = []
    while (left := _equals(records, chosen)) and keys:
        best = min(keys, key=lambda key: _equals(records, [*chosen, key]))
        if _equals(records, [*chosen, best]) == left:
            break
        chosen.append(best)
        keys.remove(best)
    return chosen


def _equals(records: Sequence[Record], keys: Sequence[str]) -> int:
    """How many runs share task, seed and keys with one before them."""

    def place(record: Record) -> Hashable:
        return record.task.name, record.seed, *(_value(record, key) for key in keys)

    return sum(count - 1 for count in Counter(map(place, records)).values())


def _value(record: Record, key: str) -> str:
    return json.dumps(record.config.get(key, LATER.get(key)))


def _short(value: object) -> str:
    return "none" if value is None else str(value)


def common(records: Sequence[Record]) -> Mapping[str, object]:
    """Keys of the configuration that all records have alike."""
    first, *others = (record.config for record in records)
    return {
        key: value for key, value in first.items() if all(key in other and other[key] == value for other in others)
    }
