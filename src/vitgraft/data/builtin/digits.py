"""Handwritten digits that scikit-learn ships: the one built-in task of real pictures.

1,797 pictures of 8 x 8 pixels with values 0..16 (Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten
Digits", the test part), enlarged and shown as white ink on black.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitgraft.data.drawing import Pixels, stream

CLASSES = 10
TEST = 797
TASK_KEY = 14


def _enlarged(raw: NDArray[np.float64], size: int) -> Pixels:
    """Pictures (n, 8, 8) with values 0..16 as (n, size, size, 3) uint8, with a black margin of a sixteenth."""
    grey = np.clip(raw * (255 / 16) + 0.5, 0, 255).astype(np.uint8)
    margin = size // 16
    inner = size - 2 * margin
    large = np.zeros((len(raw), size, size), dtype=np.uint8)
    for page, picture in zip(large, grey, strict=True):
        ink = Image.fromarray(picture).resize((inner, inner), Image.Resampling.BICUBIC)
        page[margin : margin + inner, margin : margin + inner] = np.asarray(ink)
    return np.repeat(large[..., None], 3, axis=-1)


def _stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order in which every stretch holds the classes in their overall shares.

    Each class is shuffled and spread evenly over (0, 1); sorting by that position interleaves the classes.
    """
    rng = stream(seed, TASK_KEY)
    position = np.empty(len(labels))
    for label in range(CLASSES):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.rand()) / len(members)
    return np.argsort(position, kind="stable")


def splits(counts: dict[str, int], size: int, seed: int) -> dict[str, tuple[Pixels, NDArray[np.int64]]]:
    """Pixels (n, size, size, 3) and labels (n,) of disjoint splits, in the order and numbers of `counts`."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = np.asarray(bunch.target, dtype=np.int64)
    order = _stratified_order(labels, seed)
    parts, start = {}, 0
    for split, count in counts.items():
        chosen = order[start : start + count]
        parts[split] = _enlarged(bunch.images[chosen], size), labels[chosen]
        start += count
    return parts
