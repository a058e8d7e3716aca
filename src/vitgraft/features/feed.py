"""From images to preprocessed batches: once into memory if every epoch gives the same tensors, else as needed."""

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitgraft.core.tuned import Inputs
from vitgraft.data.augment import deterministic
from vitgraft.data.labelling import CLASS, labelling
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ImageSource, Split, ranged
from vitgraft.data.transforms import training
from vitgraft.errors import DataError
from vitgraft.machine.seeds import PICTURE, derive, picture_seed

MEMORY_LIMIT = 2 << 30
"""Bytes up to which preprocessed images are kept (2 GiB: about 3,500 images of 224 pixels)."""

Chunk = tuple[int, Tensor]
"""An epoch and the indices (b,) of images wanted in it."""


class Feed(Protocol):
    """Preprocessed images of one split, or readings of the plain model in their stead."""

    def stream(self, chunks: Iterable[Chunk]) -> Generator[Inputs]:
        """Images (b, 3, H, W), or readings of them, of each chunk, in order."""


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """Images or readings on a device."""
    if isinstance(inputs, Tensor):
        return sent(inputs, device)
    return {tap: sent(value, device) for tap, value in inputs.items()}


def sent(value: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. Only CUDA copies aside safely: others read memory that may be written anew by then."""
    if device.type == "mps" and value.dtype == torch.float64:
        value = value.float()  # it has no other
    return value.to(device, non_blocking=device.type == "cuda")


@dataclass(frozen=True)
class Reader:
    """How a split's pictures are read: what happens to them, and by how many processes."""

    preprocessing: Preprocessing
    augment: str = "none"
    seed: int = 0
    workers: int = 0
    pin: bool = False

    def size_of(self, n: int) -> int:
        """Bytes of n preprocessed images."""
        height, width = self.preprocessing.size
        return n * 3 * height * width * 4

    def feed(self, images: ImageSource, limit: int = MEMORY_LIMIT) -> Feed:
        """In memory if that takes no more than `limit` bytes and each epoch is alike, else read on demand."""
        if deterministic(self.augment) and self.size_of(len(images)) <= limit:
            return Kept(self._read_all(images))
        return OnDemand(images, self)

    def _read_all(self, images: ImageSource) -> Tensor:
        transform = training(self.preprocessing, self.augment)
        images = ranged(images, self.preprocessing.pixel_range)
        height, width = self.preprocessing.size
        kept = torch.empty(len(images), 3, height, width)

        def read(index: int) -> None:
            kept[index] = transform(images[index])

        if self.workers:
            # Decoding and resizing release the interpreter's lock, so threads are enough.
            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(read, range(len(images))))
        else:
            for index in range(len(images)):
                read(index)
        return kept


@dataclass(frozen=True)
class Kept:
    """Images (n, 3, H, W) in memory."""

    images: Tensor

    def stream(self, chunks: Iterable[Chunk]) -> Generator[Tensor]:
        for _, indices in chunks:
            yield self.images[indices]


@dataclass(frozen=True)
class OnDemand:
    """Images that are decoded when their turn comes, by worker processes if there are any."""

    images: ImageSource
    reader: Reader

    def stream(self, chunks: Iterable[Chunk]) -> Generator[Tensor]:
        reader = self.reader
        images = ranged(self.images, reader.preprocessing.pixel_range)
        pictures = _Pictures(images, training(reader.preprocessing, reader.augment), reader.seed)
        loader = DataLoader(
            pictures,
            batch_sampler=_Keys(chunks),
            num_workers=reader.workers,
            collate_fn=_collate,
            pin_memory=reader.pin,
            worker_init_fn=_leave_signals_alone,
            generator=torch.Generator(),  # else the loader would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise DataError(batch)
            yield batch


Key = tuple[int, int]


class _Keys:
    """Chunks as the lists of (epoch, index) that a `DataLoader` asks of its sampler."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch, indices in self.chunks:
            yield [(epoch, index) for index in indices.tolist()]


class _Pictures(Dataset[Tensor | str]):
    """Pictures by (epoch, index). Augmentation is seeded by both, so no other picture and no worker matters."""

    def __init__(self, images: ImageSource, transform: Callable[..., Tensor], seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, key: Key) -> Tensor | str:
        epoch, index = key
        try:
            with picture_seed(derive(self.seed, PICTURE, epoch, index)):
                return self.transform(self.images[index])
        except DataError as error:
            return str(error)  # an exception with other arguments would not survive the way from a worker


def _leave_signals_alone(worker: int) -> None:
    """Ctrl-C is for the parent, which then ends its workers; a worker forked from it has the parent's handlers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _collate(items: Sequence[Tensor | str]) -> Tensor | str:
    broken = [item for item in items if isinstance(item, str)]
    return broken[0] if broken else torch.stack(list(items))  # type: ignore[arg-type]


def check_labels(name: str, split: Split, classes: int) -> None:
    """Raise DataError unless `split` has images, all with a label that a model with so many outputs can learn."""
    if len(split) == 0:
        raise DataError(f"The {name} split is empty. Give it at least one image.")
    wrong = labelling(split.kind).wrong(split.labels, classes)
    if wrong.any() and split.kind != CLASS.name:
        raise DataError(
            f"The {name} images have {split.labels.shape[1]} labels each, and the model has {classes} outputs: "
            "build it for as many as the task has (in Python, classes=task.classes)."
        )
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(
            f"{int(wrong.sum())} {name} images have a label outside 0 to {classes - 1}, such as "
            f"{split.images.name(index)!r} with {int(split.labels[index])}. The model has {classes} classes: "
            "build it for as many as the task has."
        )
