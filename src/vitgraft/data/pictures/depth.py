"""Which of a picture's values is black and which is white, where it holds more than 8 bits a channel.

8-bit pictures are what they are: 0 is black, 255 is white. A file of 16 bits says less: cameras, microscopes and
scanners keep 10, 12 or 14 bits in it, others 8, and float and signed values have no range at all. The range is
taken to be one of the *data set*, so that no picture looks brighter or darker than its neighbours:

- `auto`, the default, looks at all training pictures of a type (uint16, int16, ..., float) together. Values that
  are none below zero have the smallest of the `TOPS` that holds them; floats 0..1 where they fill a quarter of it
  or more, else one of `FLOAT_TOPS`. Signed and other values have the range from their smallest to their greatest.
  Up to one value in 10,000 may lie outside, for a hot pixel must not darken a whole data set, and one in 500 where
  they would make the range more than eight times as wide;
- `dtype`: what the type can hold: 0..65535 for uint16, -32768..32767 for int16, 0..1 for floats;
- `LOW:HIGH`: these values, for every type but 8 bits.

What lies outside is clipped. The range is kept in a model's `Preprocessing`, and all that it is asked about later
is read with it. Types are apart: a set may hold pictures of 8 and of 16 bits.

A model that has seen no picture of a type does not know its range. Integers within 0..255 are then taken for 8-bit
values, 16-bit ones that exceed 16383 for 0..65535, floats within 0..1 for that range; other pictures are refused,
with the remedy. Pictures of graft cards without a range (`OLD`, before ranges were kept) are read as they were:
16-bit ones by 0..65535, others each by the smallest of 0..1, 0..255 and 0..65535 that holds it, or by its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.pictures.deep.samples import FLOAT, Samples
from vitgraft.data.pictures.ranges import ANY, OLD, Ranges

TOPS = (1, 3, 7, 15, 31, 63, 255, 1023, 4095, 16383, 65535)
FLOAT_TOPS = (1, 255, 1023, 4095, 16383, 65535)
FILLED = 4  # floats that fill less than a quarter of 0..1 or 0..255 have their own range
OUTSIDE = 10_000  # one value in so many may lie outside
FAR_OUTSIDE, FAR = 500, 8  # of values that make the range more than `FAR` times as wide one in so many
DIM = 16  # a picture that stays below this part of its range has next to no contrast left
KEPT = 64  # how many extreme pixels of a picture are remembered, and may lie outside
DARK = 16383  # a single 16-bit picture that does not exceed this may hold 8, 10, 12 or 14 bits


class UnknownRange(Exception):
    """Values whose range is not known: the arguments are the reason and the remedy."""


def rgb(samples: Samples, ranges: Ranges | None) -> NDArray[np.uint8]:
    """Values as a picture (H, W, 3); what is transparent is laid over white.

    Raises:
        UnknownRange: no range says what is black and white, and the values do not, either.
    """
    low, high = bounds(samples, ranges)
    if samples.alpha is None:
        grey = _scaled(samples.values, low, high)
        grey = 255 - grey if samples.inverted else grey
    else:
        light = np.clip((samples.values.astype(np.float64) - low) / (high - low), 0, 1)
        light = 1 - light if samples.inverted else light
        alpha = np.clip(samples.alpha / _opaque(samples.alpha, high), 0, 1)[..., None]
        over = (light if samples.premultiplied else light * alpha) + (1 - alpha)
        grey = (np.clip(over, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))


def _opaque(alpha: NDArray[Any], high: float) -> float:
    """The alpha of what is not transparent: the most of its type, or the range's white if none exceeds that."""
    most = float(alpha.max(initial=0))
    if alpha.dtype.kind == "f":
        return 1.0 if most <= 1 else max(high, most)
    full = float(np.iinfo(alpha.dtype).max)
    return high if most <= high < full else full


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values as 0..255, rounded; those outside are clipped."""
    if values.dtype in (np.uint16, np.int16, np.uint8, np.int8):
        table = _table(values.dtype.name, low, high)
        return np.asarray(table[values.view(f"u{values.dtype.itemsize}")])
    grey = (values.astype(np.float64) - low) * 255 / (high - low)
    return (np.clip(grey, 0, 255) + 0.5).astype(np.uint8)


@lru_cache(maxsize=8)
def _table(kind: str, low: float, high: float) -> NDArray[np.uint8]:
    """The grey of every value of an integer type, by its bits."""
    info = np.iinfo(kind)
    bits = np.arange(int(info.max) - int(info.min) + 1, dtype=f"u{info.bits // 8}")
    grey = (bits.view(kind).astype(np.float64) - low) * 255 / (high - low)
    return (np.clip(grey, 0, 255) + 0.5).astype(np.uint8)


def bounds(samples: Samples, ranges: Ranges | None) -> tuple[float, float]:
    """Which value of a picture is black and which is white, by what is known of its type. Raises UnknownRange."""
    known = {kind: (low, high) for kind, low, high in ranges or ()}
    if ANY in known:
        return known[ANY]
    if samples.declared is not None:
        return samples.declared
    if samples.kind in known:
        return known[samples.kind]
    integers = [bounds for kind, bounds in known.items() if kind != FLOAT]
    if samples.kind != FLOAT and len(set(integers)) == 1 and not Extent.of(samples).exceeds(*integers[0]):
        return integers[0]  # an array of another integer type than the files'
    low, high = float(samples.values.min()), float(samples.values.max())
    return _of_old(samples.kind, low, high) if ranges is OLD else _obvious(samples.kind, low, high)


def _of_old(kind: str, low: float, high: float) -> tuple[float, float]:
    """The range of a single picture, as it was guessed before ranges were kept."""
    if kind == "uint16":
        return 0.0, 65535.0
    if low >= 0 and high <= 65535:
        return 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    return low, high if high > low else low + 1.0


def _obvious(kind: str, low: float, high: float) -> tuple[float, float]:
    """The range of a single picture of which nothing is known but its values. Raises UnknownRange."""
    if low >= 0:
        if kind == FLOAT and high <= 1:
            return 0.0, 1.0
        if kind != FLOAT and high <= 255:
            return 0.0, 255.0
        if kind == "uint16" and high > DARK:
            return 0.0, 65535.0
    raise UnknownRange(
        f"it holds {kind} values from {low:g} to {high:g}, and which of them are black and white is not known, as "
        "no such pictures were trained on",
        f"Say what holds for all of them: --pixel-range LOW:HIGH (in Python, pixel_range='{low:g}:{high:g}').",
    )


@dataclass(frozen=True)
class Extent:
    """What of one picture decides a range: its type, its pixels, the `KEPT` smallest and greatest, sorted."""

    kind: str
    pixels: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, samples: Samples) -> "Extent":
        seen = samples.values if samples.alpha is None else samples.values[samples.alpha > 0]
        seen = seen.reshape(-1, seen.shape[-1])
        if not seen.size:  # all is transparent
            return cls(samples.kind, 0, np.empty(0), np.empty(0))
        low, high = seen.min(-1), seen.max(-1)
        if len(low) > KEPT:
            low, high = np.partition(low, KEPT - 1)[:KEPT], np.partition(high, -KEPT)[-KEPT:]
        return cls(samples.kind, len(seen), np.sort(low.astype(np.float64)), np.sort(high.astype(np.float64)))

    def exceeds(self, low: float, high: float) -> bool:
        """Whether more than a few pixels lie outside a range."""
        few = min(len(self.high) - 1, self.pixels // 50)
        return self.pixels > 0 and bool(self.low[few] < low or self.high[-1 - few] > high)

    def is_dim(self, low: float, high: float) -> bool:
        """Whether all but a few pixels lie within the lowest part of a range: nearly black, whatever they show."""
        return self.pixels > 0 and bool(
            self.high[-1 - min(len(self.high) - 1, self.pixels // 50)] < low + (high - low) / DIM
        )


def found(extents: Iterable[Extent]) -> Ranges:
    """The range of each type over the pictures of a data set."""
    by_kind: dict[str, list[Extent]] = defaultdict(list)
    for extent in extents:
        if extent.pixels:
            by_kind[extent.kind].append(extent)
    return tuple((kind, *_range(kind, some)) for kind, some in sorted(by_kind.items()))


def _range(kind: str, extents: Sequence[Extent]) -> tuple[float, float]:
    """Black and white of a type: see the top of this file."""
    counts = [extent.pixels for extent in extents]
    lowest, low, nearer_low = _ends([extent.low for extent in extents], counts)
    highest, high, nearer_high = (-end for end in _ends([-extent.high[::-1] for extent in extents], counts))
    high = nearer_high if high - nearer_low > FAR * (nearer_high - nearer_low) > 0 else high
    low = nearer_low if high - low > FAR * (high - nearer_low) > 0 else low
    slack = 1 / 255 if kind == FLOAT else 0.0  # a grey's worth of what arithmetic adds to 0..1
    top = next((top for top in (FLOAT_TOPS if kind == FLOAT else TOPS) if high <= top * (1 + slack)), None)
    if top is not None and low >= -top * slack and (kind != FLOAT or high * FILLED >= top):
        return 0.0, float(top)
    # Few values that make the range more than twice as wide are a sensor's errors; others belong to it.
    highest = high if highest - low > 2 * (high - low) > 0 else highest
    lowest = low if highest - lowest > 2 * (highest - low) > 0 else lowest
    return lowest, highest if highest > lowest else lowest + 1.0


def _ends(sorted_values: Sequence[NDArray[np.float64]], pixels: Sequence[int]) -> tuple[float, float, float]:
    """The smallest value of all pictures, and those left when one pixel in `OUTSIDE`, in `FAR_OUTSIDE` is gone.

    Of a picture's no more than one in 50 is: what is more is a part of it.
    """
    spare = [min(len(some) - 1, count // 50) for some, count in zip(sorted_values, pixels, strict=True)]
    bound = min(float(some[n]) for some, n in zip(sorted_values, spare, strict=True))
    below = np.concatenate([some[:n] for some, n in zip(sorted_values, spare, strict=True)])
    candidates = np.sort(np.append(below[below < bound], bound))
    left = [min(max(1, sum(pixels) // part), len(candidates) - 1) for part in (OUTSIDE, FAR_OUTSIDE)]
    return min(float(some[0]) for some in sorted_values), float(candidates[left[0]]), float(candidates[left[1]])
