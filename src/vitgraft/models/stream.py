"""Asking several grafts about many image files: read ahead by threads, answered batch by batch, told one by one.

However many files there are, a batch or two of preprocessed images are in memory, and as many pictures as threads.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vitgraft.core.shared import answers
from vitgraft.data.doubts import Doubts
from vitgraft.data.pictures.decode import Decoded, decode
from vitgraft.data.pictures.ranges import MAX_PIXELS
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ImageSource, ranged
from vitgraft.data.transforms import evaluation
from vitgraft.errors import DataError, Told
from vitgraft.machine.placement import Placement, place
from vitgraft.models.model import Model

AHEAD = 2
"""Batches that are read before they are asked for: the next one while this one is computed."""

Prepared = tuple[Tensor, ...]
"""One picture as each group of grafts that preprocess alike sees it, (3, H, W) each."""


Item = tuple[str, Callable[[], Prepared]]
"""What an image is called, and what reads it, in any thread."""


@dataclass(frozen=True)
class Answer:
    """What is known of one image: by the graft's name its classes and probabilities (C,), or its numbers and their
    names, or an error."""

    image: str
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
        self.doubts = Doubts()
        self._seen = [(evaluation(one), one.pixel_range) for _, one in groups]

    def prepared(self, picture: Decoded) -> Prepared:
        """A picture as each group sees it. Raises UnreadableImage."""
        for _, ranges in self._seen:
            self.doubts.look(picture, ranges)
        return tuple(transform(picture.picture(ranges)) for transform, ranges in self._seen)

    def files(self, paths: Iterable[Path], max_pixels: int = MAX_PIXELS) -> Iterator[Item]:
        """Image files, to be read when their turn comes."""

        def read(path: Path) -> Prepared:
            return self.prepared(decode(path, max_pixels=max_pixels))

        return ((str(path), partial(read, path)) for path in paths)

    def images(self, source: ImageSource) -> Iterator[Item]:
        """Images of a task, each as each group sees it."""
        seen = [(transform, ranged(source, ranges)) for transform, ranges in self._seen]

        def read(index: int) -> Prepared:
            return tuple(transform(images[index]) for transform, images in seen)

        return ((source.name(index), partial(read, index)) for index in range(len(source)))

    @torch.no_grad()
    def answers(self, batch: Sequence[Prepared]) -> dict[str, Tensor]:
        """Answers (n, C) about pictures by the graft's name, on the CPU: calibrated probabilities, or numbers."""
        found: dict[str, Tensor] = {}
        for names, images in zip(self.groups, zip(*batch, strict=True), strict=True):
            inputs = torch.stack(images).to(self.here.device)
            with self.here.autocast(self.precision):
                some = answers([self.members[name].tuned for name in names], inputs)
            divided = ((one.float() / self.members[name].divisor) for name, one in zip(names, some, strict=True))
            found |= {
                name: self.members[name].target.answers(one) for name, one in zip(names, divided, strict=True)
            }
        return {name: found[name] for name in self.members}


def stream(asker: Asker, items: Iterable[Item], *, batch_size: int = 64, workers: int = 0) -> Iterator[Answer]:
    """An answer for every image, in order and as soon as its batch is; `workers` threads read ahead.

    An image that cannot be read has an answer that says why, and does not stop the others. At the end a warning
    (`Told`) names those that the models' ranges of values hardly fit.
    """
    left = _ahead(items, AHEAD * batch_size, workers) if workers else ((name, _read(one)) for name, one in items)
    while batch := list(islice(left, batch_size)):
        good = [one for _, one in batch if not isinstance(one, str)]
        found = asker.answers(good) if good else {}
        number = 0
        for image, one in batch:
            if isinstance(one, str):
                yield Answer(image, error=one)
            else:
                yield _answer(image, asker.members, {name: some[number] for name, some in found.items()})
                number += 1
    for line in asker.doubts.lines():
        warnings.warn(line, Told, stacklevel=2)


def _answer(image: str, members: Mapping[str, Model], found: Mapping[str, Tensor]) -> Answer:
    """What is known of an image; an answer that is not finite is none."""
    for name, probabilities in found.items():
        if not probabilities.isfinite().all():
            told = "its trained values or the picture's are not, or --precision is too low"
            return Answer(image, error=f"{image}: the answer of {name} is not finite: {told}.")
    return Answer(image, {name: (model.class_names, found[name]) for name, model in members.items()})


def _read(read: Callable[[], Prepared]) -> Prepared | str:
    """What an image gives, or why it cannot be read."""
    try:
        return read()
    except DataError as error:
        return str(error)


def _ahead(items: Iterable[Item], ahead: int, workers: int) -> Iterator[tuple[str, Prepared | str]]:
    """Images and what reading them gives, in order; at most `ahead` are read before they are asked for."""
    waiting: deque[tuple[str, Future[Prepared | str]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for name, read in items:
            waiting.append((name, pool.submit(_read, read)))
            if len(waiting) >= ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
