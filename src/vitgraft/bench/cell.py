"""Cell: one method of a suite on one task, what of it was run, what was chosen, what is missing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from vitgraft.bench.suite import Choice, Entry, Suite
from vitgraft.results import store
from vitgraft.results.record import Record
from vitgraft.runs import alike, protocols
from vitgraft.runs.config import RunConfig

DIVERGED = "diverged.txt"
"""Why a run that was tried did not end, beside the place that its record would have."""

NOWHERE = (0.0, -math.inf)
"""Accuracy and, negative, loss or rate of a run that diverged: worse than any other's."""


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

    def path(self, config: RunConfig) -> Path:
        """Where the record of a run is that was placed here."""
        return self.records / f"{config.folder.name}.json"

    def record(self, config: RunConfig) -> Record | None:
        """The record of a run that was placed here, if there is one that can be read."""
        return store.find(self.path(config))

    def diverged(self, config: RunConfig) -> bool:
        """True if a run was tried here that diverged, as it would again."""
        return store.beside(self.path(config), DIVERGED).exists()


class Job(NamedTuple):
    """A run, whether it reads the test split, and others that train with it at once."""

    config: RunConfig
    test: bool
    others: tuple[RunConfig, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One entry of a suite on one task: candidates tried with the first seed, the chosen one run with all.

    Where the chosen values are retrained on train and val together, runs that were tried count for nothing.
    What was found out once is remembered, since a suite asks its cells anew whenever a run has ended.
    """

    suite: Suite
    home: Home
    task: str
    name: str
    _memory: "_Memory" = field(default_factory=lambda: _Memory(), init=False, repr=False, compare=False)

    @property
    def entry(self) -> Entry:
        return self.suite.entries[self.name]

    def choice(self) -> Choice | None:
        """What was chosen by accuracy on validation, ties as the protocol says; None while not known."""
        left = self._chooser()._left()
        return left[0] if len(left) == 1 else None

    def hopeless(self) -> bool:
        """True if there is nothing to choose, as every candidate diverged."""
        return not self._chooser()._left()

    def chosen(self) -> list[RunConfig]:
        """The runs that count, one a seed; none while nothing is chosen."""
        choice = self.choice()
        if choice is None:
            return []
        if not self._memory.runs:
            runs = (self.suite.run(self.task, self.entry, choice, seed) for seed in self.suite.seeds)
            self._memory.runs = [self.home.placed(run) for run in runs]
        return self._memory.runs

    def missing(self) -> list[Job]:
        """What is to be run next."""
        chosen = self.chosen()
        if chosen:
            return [Job(config, True) for config in chosen if not self._is_tested(config)]
        if self.entry.chosen_by is not None:
            return []
        *_, (shorter, candidates) = self._rounds()
        trials = [self._trial(choice, shorter) for choice in candidates]
        missing = [config for config in trials if not self._is_there(config)]
        return [Job(first, False, tuple(others)) for first, *others in alike.groups(missing)]

    def tested(self) -> list[Record]:
        """Records of the runs that count, as far as they have read the test split."""
        found = [self.home.record(config) for config in self.chosen()]
        return [record for record in found if record is not None and record.test is not None]

    def found(self, name: str) -> list[Path]:
        """Files of a name that the methods of the runs that count have left beside their records."""
        records = [self.home.path(config) for config in self.chosen()]
        return [path for path in (store.beside(record, name) for record in records) if path.exists()]

    def one(self) -> RunConfig:
        """One of the runs, for what all of a cell have in common."""
        return self.suite.run(self.task, self.entry, self._choices()[0], self.suite.seeds[0])

    def records(self) -> list[Record]:
        """Records of its runs, of those that were tried, too."""
        tried = [self._trial(choice, shorter) for shorter, candidates in self._rounds() for choice in candidates]
        found = [self.home.record(config) for config in (*tried, *self.chosen())]
        return [record for record in found if record is not None]

    def size(self) -> int:
        """How many runs there are in all."""
        seeds, choices = len(self.suite.seeds), self._choices()
        if len(choices) == 1 or self.entry.chosen_by is not None:
            return seeds
        rounds = [len(choices)]
        while len(rounds) <= self.suite.halving and rounds[-1] > 1:
            rounds.append((rounds[-1] + 1) // 2)
        counts = rounds[-1] > 1 and self._counts(choices[0])
        return sum(tried for tried in rounds if tried > 1) + seeds - counts

    def done(self) -> int:
        """How many of them are done; one that is to read the test split and has not is not."""
        if self.chosen():
            return self.size() - len(self.missing())
        if self.entry.chosen_by is not None:
            return 0
        tried = [self._trial(choice, shorter) for shorter, candidates in self._rounds() for choice in candidates]
        return sum(self._is_there(config) for config in tried)

    def _choices(self) -> list[Choice]:
        if not self._memory.choices:
            self._memory.choices = self.suite.choices(self.name, self.task)
        return self._memory.choices

    def _chooser(self) -> "Cell":
        """The cell whose choice counts here."""
        if self.entry.chosen_by is None:
            return self
        if self._memory.other is None:
            self._memory.other = Cell(self.suite, self.home, self.task, self.entry.chosen_by)
        return self._memory.other

    def _trial(self, choice: Choice, shorter: int) -> RunConfig:
        key = (shorter, repr(choice))
        if key not in self._memory.trials:
            self._memory.trials[key] = self.home.placed(self.suite.trial(self.task, self.entry, choice, shorter))
        return self._memory.trials[key]

    def _is_there(self, config: RunConfig) -> bool:
        """True if a run that is tried is done, be it that it diverged."""
        name = config.folder.name
        if name not in self._memory.there:
            if self.home.record(config) is None and not self.home.diverged(config):
                return False
            self._memory.there.add(name)
        return True

    def _is_tested(self, config: RunConfig) -> bool:
        """True if a run that counts is done, and has read the test split."""
        seed = config.training.seed
        if seed not in self._memory.tested:
            record = self.home.record(config)
            if record is None or record.test is None:
                return False
            self._memory.tested.add(seed)
        return True

    def _counts(self, choice: Choice) -> bool:
        """True if a run that is tried for all of its epochs counts when it is chosen."""
        first = self.suite.run(self.task, self.entry, choice, self.suite.seeds[0])
        return first == self.suite.trial(self.task, self.entry, choice)

    def _left(self) -> list[Choice]:
        """Candidates that may still be chosen: all, until those of a round are done; none if all diverged."""
        return self._after(*self._rounds()[-1])

    def _rounds(self) -> list[tuple[int, list[Choice]]]:
        """How much shorter than a whole run each round is that was begun, and its candidates."""
        shorter = 2**self.suite.halving
        rounds = [(shorter, self._choices())]
        while shorter > 1:
            better = self._after(*rounds[-1])
            if len(better) == len(rounds[-1][1]) > 1:
                break
            shorter //= 2
            rounds.append((shorter, better))
        return rounds

    def _after(self, shorter: int, candidates: list[Choice]) -> list[Choice]:
        """What a finished round leaves: the better half, the last one the best; all, if it is not finished.

        The last one leaves none if all diverged.
        """
        if len(candidates) == 1:
            return candidates
        if shorter in self._memory.left:
            return self._memory.left[shorter]
        runs = [self._trial(choice, shorter) for choice in candidates]
        if not all(self._is_there(run) for run in runs):
            return candidates
        scores = [self._score(run) for run in runs]
        order = sorted(range(len(candidates)), key=lambda i: scores[i], reverse=True)
        kept = (len(candidates) + 1) // 2
        if shorter == 1:
            kept = 0 if scores[order[0]] == NOWHERE else 1
        self._memory.left[shorter] = [candidates[i] for i in order[:kept]]
        return self._memory.left[shorter]

    def _score(self, config: RunConfig) -> tuple[float, float]:
        """Of a run that was tried, the higher the better; one that diverged is worse than any."""
        record = self.home.record(config)
        scores = record and record.val
        if not scores or not math.isfinite(scores.loss):
            return NOWHERE
        smaller = protocols.named(config.protocol).ties == protocols.SMALLER_RATE
        return scores.main, -config.table()["lr"] if smaller else -scores.loss


@dataclass
class _Memory:
    """What a cell has found out: its runs, which are done, what rounds have left, which seeds have read test."""

    choices: list[Choice] = field(default_factory=list)
    trials: dict[tuple[int, str], RunConfig] = field(default_factory=dict)
    left: dict[int, list[Choice]] = field(default_factory=dict)
    runs: list[RunConfig] = field(default_factory=list)
    tested: set[int] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    other: Cell | None = None


def choosers(suite: Suite, names: Iterable[str]) -> list[str]:
    """Names of entries, and before them of those that choose for them."""
    wanted = list(names)
    others = (suite.entries[name].chosen_by for name in wanted)
    return list(dict.fromkeys([*(name for name in others if name is not None), *wanted]))


def cells(
    suite: Suite, home: Home, tasks: Iterable[str] | None = None, names: Iterable[str] | None = None
) -> list[Cell]:
    """Cells of a suite, of some tasks and entries if these are given."""
    return [
        Cell(suite, home, task, name)
        for task in tasks or suite.tasks
        for name in (suite.entries if names is None else names)
    ]
