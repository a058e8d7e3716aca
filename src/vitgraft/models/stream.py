"""Asking several grafts about many image files: read ahead by threads, answered batch by batch, told one by one.

However many files there are, a batch or two of preprocessed images are in memory, and as many pictures as threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vitgraft.core.shared import answers
from vitgraft.data.decode import Decoded, decode
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.ranges import MAX_PIXELS
from vitgraft.data.transforms import evaluation
from vitgraft.errors import DataError
from vitgraft.machine.placement import Placement, place
from vitgraft.models.model import Model

AHEAD = 2
"""Batches that are read before they are asked for: the next one while this one is computed."""

Prepared = tuple[Tensor, ...]
"""One picture as each group of grafts that preprocess alike sees it, (3, H, W) each."""


@dataclass(frozen=True)
class Answer:
    """What is known of one image file: by the graft's name its classes and probabilities (C,), or an error."""

    path: Path
    by_run: Mapping[str, tuple[Sequence[str], Tensor]] = field(default_factory=dict)
    error: str | None = None


class Asker:
    """Grafts on a device, ready to be asked; those that stand on one backbone and preprocess alike share a pass.

    Raises:
        ConfigError: a device that this machine does not have.
    """

    def __init__(self, members: Mapping[str, Model], device: str = "auto", precision: str = "fp32") -> None:
        self.members, self.precision = members, precision
        self.here = Placement(place(device).device)
        groups: dict[tuple[int, Preprocessing], list[str]] = {}
        for name, model in members.items():
            model.tuned.to(self.here.device).eval()
            groups.setdefault((id(model.backbone), model.preprocessing), []).append(name)
        self.groups: Sequence[list[str]] = list(groups.values())
        self._seen = [(evaluation(one), one.pixel_range) for _, one in groups]

    def prepared(self, picture: Decoded) -> Prepared:
        """A picture as each group sees it. Raises UnreadableImage."""
        return tuple(transform(picture.picture(ranges)) for transform, ranges in self._seen)

    @torch.no_grad()
    def answers(self, batch: Sequence[Prepared]) -> dict[str, Tensor]:
        """Probabilities (n, C) of some pictures by the graft's name, on the CPU."""
        found: dict[str, Tensor] = {}
        for names, images in zip(self.groups, zip(*batch, strict=True), strict=True):
            inputs = torch.stack(images).to(self.here.device)
            with self.here.autocast(self.precision):
                some = answers([self.members[name].tuned for name in names], inputs)
            found |= {name: one.float().softmax(1).cpu() for name, one in zip(names, some, strict=True)}
        return {name: found[name] for name in self.members}


def stream(
    asker: Asker,
    paths: Iterable[Path],
    *,
    batch_size: int = 64,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Answer]:
    """An answer for every file, in order and as soon as its batch is; `workers` threads read ahead.

    A file that cannot be read has an answer that says why, and does not stop the others.
    """

    def read(path: Path) -> Prepared | str:
        try:
            return asker.prepared(decode(path, max_pixels=max_pixels))
        except DataError as error:
            return str(error)

    left = _ahead(read, paths, AHEAD * batch_size, workers) if workers else ((path, read(path)) for path in paths)
    while batch := list(islice(left, batch_size)):
        good = [one for _, one in batch if not isinstance(one, str)]
        found = asker.answers(good) if good else {}
        number = 0
        for path, one in batch:
            if isinstance(one, str):
                yield Answer(path, error=one)
            else:
                members = asker.members.items()
                yield Answer(path, {name: (model.class_names, found[name][number]) for name, model in members})
                number += 1


def _ahead(
    read: Callable[[Path], Prepared | str], paths: Iterable[Path], ahead: int, workers: int
) -> Iterator[tuple[Path, Prepared | str]]:
    """Files and what reading them gives, in order; at most `ahead` are read before they are asked for."""
    waiting: deque[tuple[Path, Future[Prepared | str]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for path in paths:
            waiting.append((path, pool.submit(read, path)))
            if len(waiting) >= ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
