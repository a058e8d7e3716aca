"""Draws the built-in tasks, once: each is kept as one compressed npz in the cache folder.

A cache file is never trusted and never needed. It appears whole or not at all (written under another name, then
moved), so processes that start together at worst draw the same pictures twice; a damaged one is drawn again; a
folder that cannot be written costs the time of drawing and a warning.
"""

import importlib
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.builtin.registry import TRAIN, VAL, TaskInfo, info
from vitgraft.data.drawing import Pixels, stream
from vitgraft.data.labelling import labelling
from vitgraft.data.location import cache_root
from vitgraft.data.task import ArrayImages, Labels, Split, Task
from vitgraft.errors import ConfigError
from vitgraft.kinds import checked

SPLITS = {"train": 0, "val": 1, "test": 2}  # the numbers are part of every picture's seed
SMALLEST, LARGEST = 8, 512  # sides in pixels
Arrays = dict[str, tuple[Pixels, Labels]]

_log = logging.getLogger(__name__)


@checked
def load(name: str, *, size: int = 32, seed: int = 0, test: int = 1000, root: Path | None = None) -> Task:
    """The task, from the cache or drawn now. See `vitgraft.data.builtin.load`."""
    task = info(name)
    _check("size", size, SMALLEST, LARGEST)
    _check("seed", seed, 0, 2**32 - 1)
    _check("test", test, 1, 100_000)
    counts = {"train": TRAIN, "val": VAL, "test": min(test, task.most_test or test)}
    path = (cache_root() if root is None else root) / "builtin" / _file_name(task, counts, size, seed)
    arrays = _read(path, task, counts, size)
    if arrays is None:
        arrays = generate(task, counts, size=size, seed=seed)
        _write(path, arrays)
    splits = {
        split: Split(ArrayImages(pixels, f"{name}/{split}"), labels, kind=task.kind)
        for split, (pixels, labels) in arrays.items()
    }
    return Task(name, task.classes, splits, group=task.group)


def generate(task: TaskInfo, counts: dict[str, int], *, size: int, seed: int) -> Arrays:
    """Pixels (n, size, size, 3) and labels (n, ...) of each split in `counts`, drawn without the cache.

    Picture i of a split depends on (seed, task, split, i) alone, so the first pictures of a longer split are
    those of a shorter one.
    """
    if task.most_test is not None:
        given: Arrays = _generator(task.generator)(counts, size, seed)
        return given
    with _progress(f"drawing {task.name}", sum(counts.values())) as advance:
        return {split: _draw(task, split, count, size, seed, advance) for split, count in counts.items()}


def _draw(
    task: TaskInfo, split: str, count: int, size: int, seed: int, advance: Callable[[], None]
) -> tuple[Pixels, Labels]:
    draw = _generator(task.generator if split == "train" else task.unseen or task.generator)
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    labels = []
    for index in range(count):
        pixels[index], label = draw(stream(seed, task.key, SPLITS[split], index), size)
        labels.append(label)
        advance()
    return pixels, labelling(task.kind).of(labels, len(task.classes))


def _generator(source: str) -> Callable[..., Any]:
    module, function = source.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"vitgraft.data.builtin.{module}"), function)
    return found


def _check(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"Built-in tasks: {what} is {value}, but must be from {least} to {most}.")


def _file_name(task: TaskInfo, counts: dict[str, int], size: int, seed: int) -> str:
    return f"{task.name}-v{task.version}-{size}px-seed{seed}-test{counts['test']}.npz"


def _read(path: Path, task: TaskInfo, counts: dict[str, int], size: int) -> Arrays | None:
    """The cached splits, or None if there is no file or it does not hold what it should."""
    if not path.is_file():
        return None
    arrays: Arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for split, count in counts.items():
                pixels, labels = archive[f"{split}_pixels"], archive[f"{split}_labels"]
                _verify(pixels, labels, (count, size, size, 3), task)
                arrays[split] = pixels, labels
    except Exception as reason:  # zip, zlib and npy each fail in their own ways, and all mean: draw again
        _log.warning("The cache file %s is damaged (%s); drawing %s again.", path, reason, task.name)
        return None
    return arrays


def _verify(pixels: NDArray[Any], labels: NDArray[Any], shape: tuple[int, ...], task: TaskInfo) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 {shape}")
    kind, classes = labelling(task.kind), len(task.classes)
    right = kind.of([], classes)
    if labels.dtype != right.dtype or labels.shape != (shape[0], *right.shape[1:]):
        raise ValueError(
            f"labels are {labels.dtype} {labels.shape}, not {right.dtype} {right.shape[1:]} a picture"
        )
    if kind.wrong(labels, classes).any():
        raise ValueError(f"labels reach {labels.min()}..{labels.max()} of {classes} classes")


def _write(path: Path, arrays: Arrays) -> None:
    flat: dict[str, NDArray[Any]] = {}
    for split, (pixels, labels) in arrays.items():
        flat |= {f"{split}_pixels": pixels, f"{split}_labels": labels}
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("xb") as file:
                np.savez_compressed(file, **flat)  # type: ignore[arg-type]
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as reason:
        _log.warning("Cannot keep %s in the cache (%s); it will be drawn again next time.", path.name, reason)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr that vanishes when done; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(what, total=total)
        yield lambda: bar.advance(row)
