"""What candidates will take, by the advice that `vitgraft advise` gives, and by what their like have taken."""

from dataclasses import dataclass, field
from typing import Any

from vitgraft.advice.advise import Adviser, Price
from vitgraft.methods import parse
from vitgraft.runs.config import RunConfig
from vitgraft.selection.candidates import Group

MORE = 0.3
"""A further candidate's part of one's time where several train at once (README, many configurations at once)."""


@dataclass
class Prices:
    """Prices of candidates; with `shared` their readings are there already."""

    adviser: Adviser
    shared: bool = False
    _known: dict[Any, Price] = field(default_factory=dict)
    _times: dict[str, float] = field(default_factory=dict)

    def of(self, config: RunConfig) -> Price:
        """The price of a run, looked for once for all that differ by rates alone."""
        training = config.training
        key = (config.method, training.epochs, training.batch_size, training.precision)
        if key not in self._known:
            self._known[key] = self.adviser.under(training).price(parse(config.method), None)
        return self._known[key]

    def seconds(self, group: Group, count: int | None = None) -> float:
        """What so many candidates of a group take together, or all; infinite where none can be had."""
        price = self.of(group.configs[0])
        if price.seconds is None or any(one.startswith("memory") for one in price.exceeded):
            return float("inf")
        together = 1 + MORE * ((len(group.configs) if count is None else count) - 1)
        one = price.seconds
        walked = 0.0 if self.shared else one.caching
        return self._times.get(group.entry, 1.0) * (one.start + one.looking + walked + one.training * together)

    def took(self, group: Group, predicted: float, seconds: float) -> None:
        """Learn from what a group has taken."""
        before = self._times.get(group.entry, 1.0)
        self._times[group.entry] = before * seconds / max(predicted, 1e-9)

    def testing(self) -> float:
        """Seconds that the best one will take to read the test images."""
        machine, counts = self.adviser.machine, self.adviser.counts
        return counts.test * (machine.read + machine.walk)

    def caching(self) -> float:
        """Seconds of the frozen part of all images that are trained and chosen on."""
        machine, counts = self.adviser.machine, self.adviser.counts
        return (counts.train + counts.val) * (machine.read + machine.walk)
