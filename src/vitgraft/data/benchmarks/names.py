"""From what a user writes to a row of a table: `vtab1k:cifar100`, in any of the spellings in use."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from vitgraft.data.benchmarks.fgvc import FGVC
from vitgraft.data.benchmarks.table import Benchmark, TaskRow, plain
from vitgraft.data.benchmarks.vtab1k import VTAB1K
from vitgraft.errors import DataError

Tables = Mapping[str, Benchmark]
TABLES: Tables = {"vtab1k": VTAB1K, "fgvc": FGVC}
BENCHMARKS = {"vtab1k": "vtab1k", "vtab": "vtab1k", "fgvc": "fgvc"}  # plain spelling -> name
RETRAIN = "trainval"
PREFIXES = ("processedvtab", "tfdsvtab", "vtab1k", "vtab")  # of OSU and VPT, in plain spelling


class Mention(NamedTuple):
    """A task that a text names; `retrain` asks for train and val together, without a val."""

    row: TaskRow
    retrain: bool = False

    @property
    def name(self) -> str:
        """The one name that all its spellings mean, such as `vtab1k:cifar100:trainval`."""
        return f"{self.row.name}:{RETRAIN}" if self.retrain else self.row.name


def mentioned(text: str, tables: Tables = TABLES) -> Mention | None:
    """The task that a text such as `vtab1k:cifar100` or `fgvc:cub200:trainval` names; None if it is another text.

    Raises:
        DataError: a benchmark with a task or an ending that it does not have.
    """
    head, colon, rest = text.partition(":")
    table = tables.get(BENCHMARKS.get(plain(head), ""))
    if not colon or table is None or "/" in head:
        return None
    name, _, ending = rest.partition(":")
    if ending not in ("", RETRAIN):
        only = f"Only {RETRAIN!r} may: train and val together, for a last training."
        raise DataError(f"{text!r}: {ending!r} follows the task. {only}")
    return Mention(_called(name, table), ending == RETRAIN)


def row_called(name: str, table: Benchmark) -> TaskRow | None:
    """The task of a benchmark that is called so in any spelling."""
    return table.by_spelling.get(_stripped(name))


def near(text: str, tables: Tables = TABLES, cutoff: float = 0.75) -> list[str]:
    """Names of tasks that look like a text which is none, the best first; `cutoff` is how like, from 0 to 1."""
    by_spelling = {spelling: row.name for table in tables.values() for spelling, row in table.by_spelling.items()}
    by_spelling |= {plain(row.name): row.name for table in tables.values() for row in table.rows}
    hits = get_close_matches(_stripped(text), by_spelling, n=3, cutoff=cutoff)
    return list(dict.fromkeys(by_spelling[hit] for hit in hits))


def asked(names: tuple[str, ...], tables: Tables = TABLES) -> list[TaskRow]:
    """The rows of names as a user lists them: tasks, groups ("natural") and benchmarks, each row once.

    Raises:
        DataError: a name that means nothing, or a task of several benchmarks.
    """
    found: dict[str, TaskRow] = {}
    for name in names:
        found |= {row.name: row for row in _meant(name, tables)}
    return list(found.values())


def _meant(name: str, tables: Tables) -> list[TaskRow]:
    if table := tables.get(BENCHMARKS.get(plain(name), "")):
        return list(table.rows)
    if mention := mentioned(name, tables):
        return [mention.row]
    if members := [row for table in tables.values() for row in table.rows if row.group == name.lower()]:
        return members
    rows = [row for table in tables.values() if (row := row_called(name, table)) is not None]
    if len(rows) > 1:
        choices = " or ".join(row.name for row in rows)
        raise DataError(f"{name!r} is a task of several benchmarks. Write {choices}.")
    if not rows:
        groups = {row.group for table in tables.values() for row in table.rows if row.group}
        keys = [row.name for table in tables.values() for row in table.rows]
        close = near(name, tables, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        what = f"There is no benchmark task {name!r}.{hint} Benchmarks: {', '.join(tables)}"
        raise DataError(f"{what}; groups: {', '.join(sorted(groups))}; tasks: {', '.join(keys)}.")
    return rows


def _called(name: str, table: Benchmark) -> TaskRow:
    row = row_called(name, table)
    if row is None:
        close = near(name, {table.name: table}, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        keys = ", ".join(row.key for row in table.rows)
        raise DataError(f"There is no {table.title} task {name!r}.{hint} Tasks: {keys}.")
    return row


def _stripped(name: str) -> str:
    found = plain(name)
    for prefix in PREFIXES:
        if found.startswith(prefix):
            return found.removeprefix(prefix)
    return found
