"""A benchmark's task as a `Task`: only from a copy that is what its row says."""

import os
from collections.abc import Mapping
from pathlib import Path

from vitgraft.data.benchmarks.copy import JPEG, OWN_CUT, OWN_TENTH, Copy, look
from vitgraft.data.benchmarks.names import TABLES, Mention, Tables
from vitgraft.data.benchmarks.pictures import open_pictures
from vitgraft.data.reading.options import Reading
from vitgraft.data.reading.split_names import FRACTION
from vitgraft.data.task import Split, Task, joined
from vitgraft.errors import ConfigError, DataError, command, option

SHOWN = 5
FIXED = ("val_fraction", "test_fraction", "skip_unreadable")  # of Reading: a benchmark's splits are given


def load(mention: Mention, root: object, options: Mapping[str, object], tables: Tables = TABLES) -> Task:
    """The task from the copy in `root`, with train, val and test; or with `mention.retrain` train (both) and test.

    `options` are fields of `Reading`: those that would change the splits are refused.
    Every listed picture must be there, and a sample of each split is opened (`check=False` opens none). `seed`
    draws val where a FGVC data set comes without VPT's lists.

    Raises:
        DataError: no root, or a copy that is not what the table says; the message tells what to fetch.
        ConfigError: an option that does not exist, or one that would change the splits.
    """
    row, reading = mention.row, Reading.of(options)
    for key in FIXED:
        if getattr(reading, key) not in (getattr(Reading(), key), FRACTION):
            flag = f"--{key.replace('_', '-')}"
            raise ConfigError(f"{row.name} has its own splits, which must stay whole: remove {key} ({flag}).")
    if not isinstance(root, str | os.PathLike):
        raise DataError(
            f"{row.name} is read from a copy of yours. Name the folder that holds it: {option('root', 'FOLDER')}."
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{row.name}: there is no folder '{folder}'. Check {option('root')}.")
    copy = look(row, tables[row.benchmark], folder, reading.seed or 0)
    problems = copy.problems or (open_pictures(copy).problems if reading.check else ())
    if problems:
        raise DataError(_refusal(copy, folder, [problem.what for problem in problems]))
    splits = _retraining(copy) if mention.retrain else {str(part): split for part, split in copy.splits.items()}
    kept = f"{copy.layout}, JPEG" if JPEG in copy.notes else copy.layout
    idle = reading.seed is not None and not {OWN_CUT, OWN_TENTH} & set(copy.notes)
    told = (
        (f"split_seed = {reading.seed} (--split-seed) has no effect: {row.name} has its own splits.",)
        if idle
        else ()
    )
    notes = (*_incomparable(copy, mention.retrain), *told)
    return Task(row.name, copy.classes, splits, group=row.group, copy=kept, notes=notes)


def _refusal(copy: Copy, root: Path, what: list[str]) -> str:
    where = f" in '{copy.folder}'" if copy.folder else ""
    lines = [f"  {line}" for line in what[:SHOWN]]
    more = [f"  ... and {len(what) - SHOWN} more"] if len(what) > SHOWN else []
    fix = f"What to fetch: {command('data', 'check', root, copy.row.name)}"
    return "\n".join([f"The copy of {copy.row.name}{where} is not what it must be. {fix}", *lines, *more])


def _incomparable(copy: Copy, retrain: bool) -> tuple[str, ...]:
    """What would silently make results incomparable."""
    telling = {JPEG} if retrain else {JPEG, OWN_CUT, OWN_TENTH}
    return tuple(f"{copy.row.name}: {note}" for note in copy.notes if note in telling)


def _retraining(copy: Copy) -> dict[str, Split]:
    """Train and val as one, and the test. There is no val: it would be a part of train, and select nothing."""
    return {"train": joined([copy.splits["train"], copy.splits["val"]]), "test": copy.splits["test"]}
