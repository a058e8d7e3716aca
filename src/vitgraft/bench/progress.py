"""What a person sees of a suite that runs: a bar on a terminal, elsewhere a line a run."""

import sys
from time import perf_counter
from types import TracebackType
from typing import Self

from vitgraft.bench.cell import Cell
from vitgraft.bench.runner import Outcome
from vitgraft.runs.config import RunConfig


class Progress:
    """Runs that are done, of all, and the time that the rest will take if it goes on like this."""

    def __init__(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._began, self._done, self._total = perf_counter(), done, total
        self._first = done
        self._told: set[str] = set()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("runs"), TimeRemainingColumn())
        self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bars.add_task("", total=total, completed=done)
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._shown:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bars.stop()

    def tell(self, cell: Cell, config: RunConfig, outcome: Outcome, waiting: int) -> None:
        """A run has ended."""
        if outcome.failed is None and str(config.folder) not in self._told:  # a test that is read later is no run
            self._told.add(str(config.folder))
            self._done = min(self._done + 1, self._total)
        record = cell.home.record(config)
        scores = None if record is None else record.test or record.val
        kind = "" if record is None else "test" if record.test else "val"
        ended = "diverged" if cell.home.diverged(config) else "done"
        said = outcome.failed or (f"{kind} {scores.main:.1f} %" if scores else ended)
        line = f"{cell.task}  {cell.name}  seed {config.training.seed}  lr {config.table()['lr']:g}  {said}"
        self._say(f"{line}  {outcome.seconds:.0f} s")

    def _say(self, line: str) -> None:
        if self._shown:
            self._bars.update(self._task, completed=self._done)
            self._bars.console.print(line, highlight=False, markup=False)
            return
        done = self._done - self._first
        left = (perf_counter() - self._began) / done * (self._total - self._done) if done else 0.0
        ahead = f"  {left / 60:.0f} min left" if left > 0 else ""
        print(f"[{self._done}/{self._total}] {line}{ahead}", file=sys.stderr, flush=True)
