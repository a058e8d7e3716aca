"""Pictures with any number of labels, or with numbers: each of three channels bright or not, and how bright."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("blue", "green", "red")
CHANNEL = {"red": 0, "green": 1, "blue": 2}
SIZE = 16


def drawn(root: Path, n: int, seed: int = 0) -> list[dict[str, float]]:
    """`n` pictures in a folder `im`; how bright each channel is, 100 more where its label is there."""
    generator = np.random.default_rng(seed)
    found = []
    (root / "im").mkdir(parents=True, exist_ok=True)
    for index in range(n):
        pixels = generator.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        there = {name: index % 4 != 0 and bool(generator.random() < 0.5) for name in NAMES}
        for name, bright in there.items():
            pixels[..., CHANNEL[name]] += 100 * bright
        Image.fromarray(pixels).save(root / "im" / f"{seed}-{index}.png")
        found.append({name: float(pixels[..., CHANNEL[name]].mean()) for name in NAMES})
    return found


def bright(means: dict[str, float]) -> list[str]:
    """The labels of a picture."""
    return [name for name in NAMES if means[name] > 80]


def table(root: Path, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    lines = [",".join(map(str, row)) for row in (header, *rows)]
    file = root / name
    file.write_text("\n".join(lines) + "\n")
    return file


def in_one_cell(root: Path, n: int = 40, seed: int = 0, name: str = "a.csv") -> Path:
    """A list with labels such as `blue|red` in one column."""
    means = drawn(root, n, seed)
    rows = [(f"im/{seed}-{index}.png", "|".join(bright(one))) for index, one in enumerate(means)]
    return table(root, name, ("path", "label"), rows)


def in_columns(root: Path, n: int = 40, seed: int = 0, name: str = "b.csv") -> Path:
    """A list with a column of 0 and 1 for each label."""
    means = drawn(root, n, seed)
    rows = [
        (f"im/{seed}-{index}.png", *(int(one in bright(found)) for one in CHANNEL))
        for index, found in enumerate(means)
    ]
    return table(root, name, ("path", *CHANNEL), rows)


def numbers(root: Path, n: int = 40, seed: int = 0, name: str = "c.csv") -> Path:
    """A list with two numbers a picture, of very different size."""
    means = drawn(root, n, seed)
    rows = [
        (f"im/{seed}-{index}.png", 2000 + 7.5 * one["red"], round(one["green"] / 1000, 6))
        for index, one in enumerate(means)
    ]
    return table(root, name, ("path", "heat", "moss"), rows)
