"""Cell: one method of a suite on one task, what of it was run, what was chosen, what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vitgraft.bench.suite import Choice, Entry, Suite
from vitgraft.config import RunConfig
from vitgraft.results import store
from vitgraft.results.record import Record


@dataclass(frozen=True)
class Home:
    """A folder in which suites keep their runs and, apart from them, the records.

    Both are named by configurations, so that suites share what they have in common.
    """

    folder: Path

    @property
    def records(self) -> Path:
        return self.folder / "records"

    def placed(self, config: RunConfig) -> RunConfig:
        """The same run, to be written here."""
        name = Path(store.file_name(config.table())).stem
        return replace(config, out=str(self.folder / "runs" / name), records=str(self.records))

    def record(self, config: RunConfig) -> Record | None:
        """The record of a run, if there is one."""
        path = self.records / store.file_name(config.table())
        return store.read(path) if path.exists() else None


Job = tuple[RunConfig, bool]
"""A run, and whether it reads the test split."""


@dataclass(frozen=True)
class Cell:
    """One entry of a suite on one task: candidates tried with the first seed, the chosen one run with all."""

    suite: Suite
    home: Home
    task: str
    name: str

    @property
    def entry(self) -> Entry:
        return self.suite.entries[self.name]

    def choice(self) -> Choice | None:
        """What was chosen by accuracy on validation (among equals by loss); None while that is not known."""
        if self.entry.chosen_by is not None:
            return Cell(self.suite, self.home, self.task, self.entry.chosen_by).choice()
        left = self._left()
        return left[0] if len(left) == 1 else None

    def chosen(self) -> list[RunConfig]:
        """The runs that count, one a seed; none while nothing is chosen."""
        choice = self.choice()
        return [] if choice is None else [self._run(choice, seed) for seed in self.suite.seeds]

    def missing(self) -> list[Job]:
        """What is to be run next."""
        chosen = self.chosen()
        if chosen:
            found = [(config, self.home.record(config)) for config in chosen]
            return [(config, True) for config, record in found if record is None or record.test is None]
        if self.entry.chosen_by is not None:
            return []
        *_, (shorter, candidates) = self._rounds()
        first = [self._run(choice, self.suite.seeds[0], shorter) for choice in candidates]
        return [(config, False) for config in first if self.home.record(config) is None]

    def tested(self) -> list[Record]:
        """Records of the runs that count, as far as they have read the test split."""
        found = [self.home.record(config) for config in self.chosen()]
        return [record for record in found if record is not None and record.test is not None]

    def found(self, name: str) -> list[Path]:
        """Files of a name that the methods of the runs that count have left beside their records."""
        records = [self.home.records / store.file_name(config.table()) for config in self.chosen()]
        return [path for path in (store.beside(record, name) for record in records) if path.exists()]

    def size(self) -> int:
        """How many runs there are in all."""
        seeds, count = len(self.suite.seeds), len(self.entry.choices())
        if count == 1 or self.entry.chosen_by is not None:
            return seeds
        halves = [count]
        while len(halves) <= self.suite.halving and halves[-1] > 1:
            halves.append((halves[-1] + 1) // 2)
        return sum(halves) + seeds - 1

    def done(self) -> int:
        """How many of them are done; one that is to read the test split and has not is not."""
        if self.chosen():
            return self.size() - len(self.missing())
        if self.entry.chosen_by is not None:
            return 0
        tried = [
            self._run(choice, self.suite.seeds[0], round[0]) for round in self._rounds() for choice in round[1]
        ]
        return sum(self.home.record(config) is not None for config in tried)

    def _run(self, choice: Choice, seed: int, shorter: int = 1) -> RunConfig:
        return self.home.placed(self.suite.run(self.task, self.entry, choice, seed, shorter))

    def _left(self) -> list[Choice]:
        """Candidates that may still be chosen: all, until those of a round are done."""
        return self._after(*self._rounds()[-1])

    def _rounds(self) -> list[tuple[int, list[Choice]]]:
        """How much shorter than a whole run each round is that was begun, and its candidates."""
        shorter = 2**self.suite.halving
        rounds = [(shorter, self.entry.choices())]
        while shorter > 1:
            better = self._after(*rounds[-1])
            if len(better) == len(rounds[-1][1]) > 1:
                break
            shorter //= 2
            rounds.append((shorter, better))
        return rounds

    def _after(self, shorter: int, candidates: list[Choice]) -> list[Choice]:
        """What a finished round leaves: the better half, the last one the best; all, if it is not finished."""
        if len(candidates) == 1:
            return candidates
        records = [self.home.record(self._run(choice, self.suite.seeds[0], shorter)) for choice in candidates]
        scores = [(record.val.top1, -record.val.loss) for record in records if record and record.val]
        if len(scores) < len(candidates):
            return candidates
        order = sorted(range(len(candidates)), key=lambda i: scores[i], reverse=True)
        kept = 1 if shorter == 1 else (len(candidates) + 1) // 2
        return [candidates[i] for i in order[:kept]]


def cells(
    suite: Suite, home: Home, tasks: Iterable[str] | None = None, names: Iterable[str] | None = None
) -> list[Cell]:
    """Cells of a suite, of some tasks and entries if these are given."""
    return [
        Cell(suite, home, task, name)
        for task in tasks or suite.tasks
        for name in (suite.entries if names is None else names)
    ]
