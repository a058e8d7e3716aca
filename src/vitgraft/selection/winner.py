"""The best candidate becomes the run of the folder: tested, with the table of what was tried in its record."""

import os
from dataclasses import replace
from pathlib import Path

from vitgraft.atomic import remove, write_atomically
from vitgraft.models import folder
from vitgraft.results import store
from vitgraft.results.record import Record, Selection
from vitgraft.runs.config import RunConfig


def keep(config: RunConfig, record: Record, home: Path, records: str | None, selection: Selection) -> Record:
    """Put a finished candidate, which has read the test split, in the place of what `home` holds.

    It may be called again after a kill at any moment.
    """
    chosen, place = replace(record, selection=selection), config.folder
    write_atomically(place / store.KEPT, replace(config, out=str(home), records=records).toml().encode())
    store.write(place / store.FILE, chosen)
    if records is not None:
        store.add(Path(records), chosen)
    remove(home / store.NEXT)
    os.replace(place, home / store.NEXT)
    folder.complete(home)
    remove(home / store.SEARCH)
    return chosen
