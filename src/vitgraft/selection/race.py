"""The search itself: candidates one after the other, while by prediction there is time for them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from time import perf_counter

import torch

from vitgraft.errors import DivergedError, VitgraftError, command
from vitgraft.methods import parse
from vitgraft.results.record import MAIN, ONE_CLASS, Record, Tried
from vitgraft.runs.config import RunConfig
from vitgraft.runs.run import Ready, run
from vitgraft.runs.sweep import run_together
from vitgraft.selection.candidates import Group, settings
from vitgraft.selection.ledger import Ledger
from vitgraft.selection.prices import Prices

LOG = "output.txt"
"""What candidates have said, in the search's folder."""


@dataclass
class Race:
    """Candidates of one search. `limit` and `began` are in seconds; what ran before counts (`ledger.seconds`).

    `told` is what a person was told of the search as a whole.
    """

    groups: Sequence[Group]
    ready: Ready
    prices: Prices
    ledger: Ledger
    limit: float
    began: float
    tell: Callable[[str], None]
    failures: list[VitgraftError] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Tell a person something, and remember it."""
        self.told.append(line)
        self.tell(line)

    def used(self) -> float:
        """Seconds of the search so far."""
        return self.ledger.seconds + perf_counter() - self.began

    def left(self) -> float:
        """Seconds that are left for candidates: the best one has to be tested, too."""
        return self.limit - self.used() - self.prices.testing()

    def go(self) -> None:
        """Take the groups in turn: each method's first, as they are declared, then the better methods' rest.

        Prices are looked for when they are needed, as looking takes time, too.
        """
        firsts = [one for one in self.groups if one.first]
        for group in firsts:
            if not group.in_place:
                self._take(group)
        in_place = [one for one in firsts if one.in_place]
        self._tell_of(in_place)
        for group in in_place:
            self._take(group)
        rest = [one for one in self.groups if not one.first]
        while rest:
            rest.sort(key=lambda one: -self._reached(one))  # of equals the first that is declared
            self._take(rest.pop(0))

    def _tell_of(self, in_place: Sequence[Group]) -> None:
        """Say what tuning in place would cost; where no time is left, how to ask."""
        if not in_place:
            return
        if self.left() > 0:
            self.say(f"In place a run takes, by prediction: {', '.join(map(self._cost, in_place))}.")
            return
        config = in_place[0].configs[0]
        words = ("--backbone", config.backbone, *(word for one in in_place for word in ("--method", one.entry)))
        self.say(
            f"No time was left to look at tuning in place. What it costs: {command('advise', config.data, *words)}"
        )

    def _cost(self, group: Group) -> str:
        """What a run of a group's first would take, in words."""
        config, seconds = group.configs[0], self.prices.seconds(group, 1)
        whole = (
            "; ".join(self.prices.of(config).exceeded) if seconds == float("inf") else f"{seconds / 60:.1f} min"
        )
        return f"{config.method} {whole}"

    def _reached(self, group: Group) -> float:
        return self.ledger.best_of({parse(config.method).name for config in group.configs})

    def _take(self, group: Group) -> None:
        """Train those of a group for which there is time, and remember why the others are left out."""
        waiting = [config for config in group.configs if not self.ledger.done(config.folder.name)]
        if not waiting:
            return
        left = self.left()
        counts = range(len(waiting), 0, -1) if left > 0 else ()
        fits = [count for count in counts if self.prices.seconds(group, count) <= left]
        count = fits[0] if fits else 0
        for config in waiting[count:]:
            self.ledger.put(config.folder.name, self._left_out(group, config, count, left))
        if count:
            self._train(group, waiting[:count])
        self.ledger.save(self.used())

    def _left_out(self, group: Group, config: RunConfig, count: int, left: float) -> Tried:
        if left <= 0:
            return Tried(config.method, settings(config), left_out="no time was left")
        needed = self.prices.seconds(group, count + 1)
        if needed < float("inf"):
            why = f"would take {needed:.0f} s by prediction, and {max(left, 0):.0f} s were left"
        else:
            why = "; ".join(self.prices.of(config).exceeded)
        predicted = None if needed == float("inf") else needed
        return Tried(config.method, settings(config), predicted_seconds=predicted, left_out=why)

    def _train(self, group: Group, configs: Sequence[RunConfig]) -> None:
        predicted, began = self.prices.seconds(group, len(configs)), perf_counter()
        try:
            found = self._run(configs)
        except torch.OutOfMemoryError as error:
            found = [VitgraftError(str(error).splitlines()[0])] * len(configs)
        except VitgraftError as error:
            found = [error] * len(configs)
        finally:  # it may be Ctrl-C
            self.ledger.save(self.used())
        took = perf_counter() - began
        if all(isinstance(one, Record) for one in found):
            self.prices.took(group, predicted, took)
        for config, end in zip(configs, found, strict=True):
            one = self._tried(config, end, len(configs), took, predicted)
            self.ledger.put(config.folder.name, one)
            if isinstance(end, VitgraftError):
                self.failures.append(end)
        self._tell(group, configs, took)

    def _run(self, configs: Sequence[RunConfig]) -> "list[Record | VitgraftError]":
        with _logged(self.ledger):
            if len(configs) > 1:
                return [*run_together(configs, _say, self.ready)]
            return [run(configs[0], resume=True, test=False, tell=_say, ready=self.ready)]

    def _tried(
        self, config: RunConfig, end: "Record | VitgraftError", together: int, took: float, predicted: float
    ) -> Tried:
        seconds, expected = took / together, predicted / together
        if isinstance(end, VitgraftError):
            why = "diverged" if isinstance(end, DivergedError) else "failed"
            told = f"{why}: {end}"
            return Tried(
                config.method, settings(config), None, None, seconds, expected, together=together, left_out=told
            )
        assert end.val is not None, "what is chosen among was validated"
        cost = end.cost
        return Tried(
            end.method.spec,
            settings(config),
            end.val.main,
            end.val.loss,
            seconds,
            expected,
            cost.trained_method + cost.trained_head,
            cost.kept_bytes_per_image,
            together,
        )

    def _decides(self) -> str:
        """What decides, as it is called."""
        kind = self.ready.task.kind
        return "top-1" if kind == ONE_CLASS else MAIN[kind]

    def _tell(self, group: Group, configs: Sequence[RunConfig], took: float) -> None:
        tried = [self.ledger.tried[config.folder.name] for config in configs]
        scores = [one.val_top1 for one in tried if one.val_top1 is not None]
        what = tried[0].method if len(tried) == 1 else f"{tried[0].method}, {len(tried)} candidates at once"
        found = f"val {self._decides()} {max(scores):.2f} %" if scores else tried[0].left_out
        self.tell(f"{what}: {found} in {took:.1f} s ({self.used():.0f} of {self.limit:.0f} s).")


def _say(line: str) -> None:
    print(line)


@contextmanager
def _logged(ledger: Ledger) -> Iterator[None]:
    """Send what is printed to the search's log."""
    with (ledger.folder / LOG).open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield
