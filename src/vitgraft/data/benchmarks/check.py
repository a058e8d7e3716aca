"""Is a benchmark copy what it must be? Every task asked for is looked at, whatever is wrong with the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitgraft.data.benchmarks.copy import Copy, look
from vitgraft.data.benchmarks.find import find, has_lists, named_folders
from vitgraft.data.benchmarks.names import TABLES, Tables, asked, row_called
from vitgraft.data.benchmarks.pictures import open_pictures, resized
from vitgraft.data.benchmarks.table import Benchmark, Part, Problem, TaskRow
from vitgraft.data.benchmarks.verify import APART
from vitgraft.errors import DataError, command


@dataclass(frozen=True)
class Finding:
    """A task as it was found, and how many of its pictures were opened."""

    copy: Copy
    opened: int = 0

    @property
    def right(self) -> bool:
        return self.copy.state == "complete"

    def found(self, part: Part) -> int:
        """Images that a split lists."""
        return len(self.copy.labels.get(part, ()))

    @property
    def labels(self) -> list[int]:
        """The labels that occur, as the copy writes them, sorted."""
        return sorted({int(label) for values in self.copy.labels.values() for label in values})

    @property
    def majority(self) -> float | None:
        """The share of the most frequent class of the test, in percent: what a constant answer reaches."""
        test = self.copy.labels.get("test", ())
        return 100 * int(np.unique(test, return_counts=True)[1].max()) / len(test) if len(test) else None

    def to_json(self) -> dict[str, Any]:
        row, copy = self.copy.row, self.copy
        return {
            "task": row.name,
            "group": row.group,
            "state": copy.state,
            "folder": None if copy.folder is None else str(copy.folder),
            "layout": copy.layout or None,
            "images": {part: {"found": self.found(part), "expected": row.expected(part)} for part in APART},
            "classes": {"found": len(self.labels), "expected": row.classes},
            "labels": [self.labels[0], self.labels[-1]] if self.labels else None,
            "majority": self.majority,
            "opened": self.opened,
            "problems": [{"kind": one.kind, "what": one.what, "fetch": one.fetch} for one in copy.problems],
            "notes": list(copy.notes),
        }


@dataclass(frozen=True)
class Report:
    """What a check found, task by task."""

    root: Path
    findings: tuple[Finding, ...]
    tables: tuple[Benchmark, ...]

    @property
    def right(self) -> bool:
        """Whether everything asked for is as it must be."""
        return all(finding.right for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.root),
            "right": self.right,
            "tasks": [finding.to_json() for finding in self.findings],
            "sources": {table.name: list(table.sources) for table in self.tables},
        }


def check(root: str | Path, names: Sequence[str] = (), *, deep: bool = False, tables: Tables = TABLES) -> Report:
    """Look at the tasks called `names` in `root`; without names, at all tasks of the benchmarks that are there.

    Tasks, groups and benchmarks are names. `deep` opens every picture, else a sample of each split is opened.

    Raises:
        DataError: no such folder, a name that means nothing, or nothing to look at.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'. Name the folder that holds the tasks' folders.")
    rows = asked(tuple(names), tables) if names else _rows_in(folder, tables)
    findings = _twins([_examined(row, tables[row.benchmark], folder, deep) for row in rows])
    used = {row.benchmark for row in rows}
    return Report(folder, tuple(findings), tuple(table for name, table in tables.items() if name in used))


def _examined(row: TaskRow, table: Benchmark, root: Path, deep: bool) -> Finding:
    copy = look(row, table, root)
    opened = open_pictures(copy, deep)
    note = resized(copy, opened.sizes)
    notes = copy.notes if note is None else (*copy.notes, note)
    return Finding(replace(copy, problems=copy.problems + opened.problems, notes=notes), opened.count)


def _rows_in(root: Path, tables: Tables) -> list[TaskRow]:
    """The task whose folder this is, of each benchmark; else all of the benchmarks of which it holds a task."""
    called = [(table, row_called(root.resolve().name, table)) for table in tables.values()]
    own = [row for table, row in called if row is not None and find(row, table, root) is not None]
    if own:
        return own
    found: list[TaskRow] = []
    for table in tables.values():
        if has_lists(root, table):
            what = f"'{root}' holds lists of a {table.title} task, but its name does not say which"
            raise DataError(f"{what}. Name it: {command('data', 'check', root, table.rows[0].name)}")
        if any(find(row, table, root) is not None for row in table.rows):
            found += table.rows
    if not found:
        raise DataError(_nothing(root, tables))
    return found


def _nothing(root: Path, tables: Tables) -> str:
    """What was looked for, what is there, and where it may be."""
    titles = " or ".join(table.title for table in tables.values())
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    called = sorted({entry.name for table in tables.values() for entry, _ in named_folders(root, table)})
    inner = [str(one) for one in folders if any(named_folders(one, table) for table in tables.values())]
    names = ", ".join([entry.name for entry in folders[:5]] + ["..."] * (len(folders) > 5))
    seen = f"there is only {names}" if folders else "it has no folders"
    what = f"'{root}' holds no copy of {titles}: {seen}"
    if called:
        what = f"'{root}' has folders called like tasks ({', '.join(called[:5])}), but none holds the lists of one"
    hint = f" Did you mean '{inner[0]}'?" if inner else ""
    like = "such as cifar/train800.txt, CUB_200_2011/train.json or cifar100/3.0.2/dataset_info.json"
    fix = "name the folder that they are in, or say what should be there (vtab1k, fgvc, a task)"
    return f"{what}.{hint} A copy has files {like}: {fix}."


def _twins(findings: list[Finding]) -> list[Finding]:
    """Tasks of one data set with the same test labels: one's lists were copied over the other's."""
    told = []
    for finding in findings:
        problems = [
            Problem(
                "wrong",
                f"its test labels are those of {other.copy.row.name}: one was copied over the other.",
                f"all of {finding.copy.row.folder}/ and {other.copy.row.folder}/",
            )
            for other in findings
            if other is not finding and _same_test(finding.copy, other.copy)
        ]
        told.append(replace(finding, copy=replace(finding.copy, problems=(*finding.copy.problems, *problems))))
    return told


def _same_test(one: Copy, other: Copy) -> bool:
    if one.row.export is None or other.row.export is None or one.row.export.dataset != other.row.export.dataset:
        return False
    test, theirs = one.labels.get("test"), other.labels.get("test")
    return test is not None and theirs is not None and len(test) > 0 and np.array_equal(test, theirs)
