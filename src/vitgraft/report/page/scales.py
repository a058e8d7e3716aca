"""Axes: where a value lies between two ends, and the ticks in between."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROOM = 0.05
"""Share of an axis that is left free at either end."""

ZERO = 0.08
"""Where a logarithmic axis that has room for nothing at all at its left begins to be one."""


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; a logarithmic one may have 0, too, which stands at its end, apart.

    A `whole` one has ticks at whole numbers alone.
    """

    low: float
    high: float
    logarithmic: bool = False
    zero: bool = False
    whole: bool = False

    @classmethod
    def of(cls, values: Sequence[float], logarithmic: bool = False, room: float = ROOM) -> "Scale":
        """An axis on which all values have a place; those that are not above 0 are 0 on a logarithmic one."""
        inside = [value for value in values if value > 0] if logarithmic else list(values)
        if logarithmic and not inside:
            return cls(0.0, 1.0)
        low, high = min(inside), max(inside)
        if logarithmic:
            part = max(math.log(high / low) * room, math.log(1.2) if high == low else 0.0)
            return cls(low / math.exp(part), high * math.exp(part), True, len(inside) < len(values))
        part = (high - low) * room if high > low else abs(high) * ROOM or 1.0
        return cls(low - part, high + part)

    def at(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if not self.logarithmic:
            return (value - self.low) / (self.high - self.low)
        start = ZERO if self.zero else 0.0
        if value <= 0:
            return start / 3
        return start + (1 - start) * math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self, about: int = 6, base: int = 10) -> list[float]:
        """Some round values on the axis; powers and simple multiples of `base` on a logarithmic one."""
        if not self.logarithmic:
            return _round(self.low, self.high, about, 1.0 if self.whole else 0.0)
        return [0.0] * self.zero + _powers(self.low, self.high, about, base)


def _round(low: float, high: float, about: int, least: float = 0.0) -> list[float]:
    rough = max((high - low) / about, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    return [round(step * index, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(low: float, high: float, about: int, base: int) -> list[float]:
    """Powers of `base` where there are enough of them, else with multiples between; fewer if there are many."""
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    for times in ((1,), (1, 3), (1, 2, 5)) if base == 10 else ((1,),):
        found = [base**power * one for power in range(first, last + 1) for one in times]
        inside = [float(value) for value in found if low <= value <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / (about + 1))]
    return _round(low, high, about)


Format = Callable[[float], str]


def plain(value: float) -> str:
    """A number as short as it is round."""
    return f"{value:,.6g}"


def counted(value: float) -> str:
    """A count, with k, M or G: 37k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_three(value / size)}{unit}"
    return _three(value)


def sized(value: float) -> str:
    """Bytes in binary units."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value)} B"


def timed(value: float) -> str:
    """Seconds as people say them."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if abs(value) >= size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value)} s"


def _three(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
