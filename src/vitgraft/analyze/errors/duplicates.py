"""Pictures that are nearly the same, within and across splits: alike in their features, then in their pixels.

Features alone do not tell: of a data set of textures, or on a backbone that was trained on something else, all
pictures may look alike to them. So pairs are sought by the cosine of their features, and looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST = 5000
"""Pairs that are looked at: reading pictures takes its time."""

SIDE, ALIKE = 32, 0.9
"""Pixels a side of the pictures that are compared, and the correlation of their shades from which they are
alike."""

MEMORY = 32 << 20
"""Bytes of cosines that are held at a time; all n x n never are."""

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Images `first` and `second`, by their numbers, and the cosine of their features."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True)
class Near:
    """`pairs` have the highest cosines, at most as many as were wanted; `count` counts all above the threshold."""

    pairs: tuple[Pair, ...]
    count: int


def directions(features: NDArray[np.floating]) -> Single:
    """Features (n, D) around their mean, as vectors of length 1; one that is the mean itself stays 0.

    What all images share says nothing of two of them, and some backbones have much of it.
    """
    centred = features.astype(np.float32) - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    found: Single = centred / np.where(lengths > 0, lengths, 1)
    return found


def near(
    vectors: Single,
    threshold: float,
    *,
    most: int = MOST,
    memory: int = MEMORY,
    done: Callable[[int], None] = lambda images: None,
) -> Near:
    """Pairs of images whose vectors (n, D), of length 1, have a cosine of at least `threshold`.

    `done` is told how many more images were compared with all others. It takes O(n^2 D) operations, and O(n D)
    memory and a few times `memory` bytes.
    """
    n = len(vectors)
    step = max(1, memory // max(1, 4 * n))
    best, count = np.empty((0, 3)), 0
    for start in range(0, n, step):
        stop = min(start + step, n)
        cosines = vectors[start:stop] @ vectors[start:].T
        rows, columns = np.nonzero(cosines >= threshold)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        values = cosines[rows, columns]
        first, second = rows + start, columns + start
        count += len(rows)
        best = _best(np.concatenate([best, np.column_stack([first, second, values])]), most)
        done(stop - start)
    pairs = tuple(Pair(int(a), int(b), min(1.0, float(value))) for a, b, value in best)
    return Near(pairs, count)


def grey(image: Image.Image) -> Single:
    """A picture as SIDE x SIDE shades around their mean, flat, of length 1; 0 for one of a single shade."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values: Single = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean(dtype=np.float32)
    length = np.float32(np.linalg.norm(values))
    return values / length if length > 0 else values


def confirmed(pairs: Sequence[Pair], shades: Callable[[int], Single | None]) -> list[Pair]:
    """Pairs whose pictures are alike, too: their shades have a correlation of at least ALIKE, or both have a
    single shade. `shades` gives those of an image, None where it cannot be read.
    """
    found = []
    for pair in pairs:
        one, other = shades(pair.first), shades(pair.second)
        if one is not None and other is not None:
            flat = not one.any() and not other.any()
            if flat or float(one @ other) >= ALIKE:
                found.append(pair)
    return found


def beside(pairs: Sequence[Pair], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of n images is in a pair with one of each group: (n, G), for groups (n,) of 0 to G - 1."""
    found = np.zeros((len(groups), int(groups.max()) + 1), dtype=bool)
    for pair in pairs:
        found[pair.first, groups[pair.second]] = True
        found[pair.second, groups[pair.first]] = True
    return found


def _best(pairs: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The pairs with the highest cosines, highest first; of equals those of the first images."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -pairs[:, 2]))
    return pairs[order[:most]]
