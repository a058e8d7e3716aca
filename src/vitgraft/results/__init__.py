"""What a run came to: its record, and folders of records, as flat rows for pandas, too.

    found = vitgraft.results.read_all("bench/records")
    frame = pandas.DataFrame(found.rows())  # file, seed, test.top1, cost.trained_method, config.lr, ...
    found.skipped  # files that are no records, and why

Reading records imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitgraft.results import record as record
    from vitgraft.results import store as store
    from vitgraft.results.record import Record as Record
    from vitgraft.results.store import Reading as Reading
    from vitgraft.results.store import read as read
    from vitgraft.results.store import read_all as read_all

_HOMES = {"Record": "record", "Reading": "store", "read": "store", "read_all": "store"}
_FILES = ("record", "store", "provenance")


def __getattr__(name: str) -> Any:
    """The files of this room, and what is asked of them most, when they are first used."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _FILES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
