"""Pictures that are read with a range of values which is hardly theirs: counted, and told once."""

from collections.abc import Iterator

import numpy as np

from vitgraft.data.pictures.decode import Decoded
from vitgraft.data.pictures.deep.samples import Samples
from vitgraft.data.pictures.depth import DIM, Extent, UnknownRange, bounds
from vitgraft.data.pictures.ranges import Ranges

RANGE = (
    "that is the range of training, or asked for. If theirs is another, say --pixel-range LOW:HIGH (in Python, "
    "pixel_range=)."
)
CLIPPED = f"many values outside {{low:g}}:{{high:g}}, which are clipped; {RANGE}"
BLACK = f"hardly a value above the darkest {DIM}th of {{low:g}}:{{high:g}}, which is nearly black; {RANGE}"
HALVED = (
    "8 bits and no value above {high:g} / 256, which is nearly black. Where Pillow opens 16-bit colour it keeps "
    "the upper 8 bits only: give the file itself, its path or its bytes."
)


class Doubts:
    """What a model is asked about, as it comes, from any thread, and which of that its range hardly fits."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, float, float]] = []

    def look(self, picture: Decoded, ranges: Ranges | None) -> None:
        """Remember a picture if more than a few of its values are clipped, or all but a few nearly black."""
        found = picture.found
        if not ranges or (isinstance(found, Samples) and found.declared is not None):
            return
        if isinstance(found, Samples):
            self._look_deep(picture.name, found, ranges)
            return
        high = next((high for kind, _, high in ranges if kind == "uint16"), 65535.0)
        most = int(np.max(np.array(found.convert("RGB").getextrema())))
        if high < 1 << 14 and most <= high / 256:
            self._found.append((HALVED, picture.name, 0.0, high))

    def _look_deep(self, name: str, found: Samples, ranges: Ranges) -> None:
        try:
            low, high = bounds(found, ranges)
        except UnknownRange:  # told when it is read
            return
        extent = Extent.of(found)
        if extent.exceeds(low, high):
            self._found.append((CLIPPED, name, low, high))
        elif extent.is_dim(low, high):
            self._found.append((BLACK, name, low, high))

    def lines(self) -> Iterator[str]:
        """What there is to tell, a sentence a kind."""
        for kind in (CLIPPED, BLACK, HALVED):
            if some := [one for one in self._found if one[0] is kind]:
                _, name, low, high = some[0]
                whose = f"{len(some):,} pictures ('{name}' first) have" if len(some) > 1 else f"'{name}' has"
                yield f"{whose} {kind.format(low=low, high=high)}"
