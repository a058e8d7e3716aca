"""What a task is: class names and splits of labelled images, read lazily.

Data flows from here to everything else: `Task` -> backbone -> plan -> tuned model -> record.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Labels = NDArray[np.int64]


class ImageSource(Protocol):
    """n images that can be read one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Image `index` as an upright 8-bit RGB picture."""

    def name(self, index: int) -> str:
        """What a person calls image `index`: its path, or the task, split and number."""

    def fingerprint(self) -> str:
        """A digest that changes whenever an image of this source does."""


@dataclass(frozen=True)
class Split:
    """Labelled images: `labels` is (n,) int64 over 0..C-1, aligned with `images`."""

    images: ImageSource
    labels: Labels

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.labels), "a split has one label an image"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], int(self.labels[index])


@dataclass(frozen=True)
class Task:
    """A named classification problem.

    `classes` are the C label names in label order; `splits` holds "train" and, where there are any, "val" and
    "test". `group` is the benchmark group ("natural", "specialized", "structured") or None. `skipped` names
    images that were left out on the user's word (`--skip-unreadable`), each with the reason. `copy` says how a
    benchmark's copy is kept, such as "lists, JPEG". `notes` are sentences for a person on what was found, guessed
    or left out while the data were read: whoever loads a task tells them, and a run's record keeps them.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    group: str | None = None
    skipped: tuple[tuple[str, str], ...] = field(default=())
    copy: str = ""
    notes: tuple[str, ...] = ()

    def noted(self, *lines: str) -> Self:
        """The same task with more to tell; what is told already is not told twice."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *lines))))

    def fingerprint(self) -> str:
        """A digest of labels, class names and images of every split: equal data, equal fingerprint."""
        digest = hashlib.sha256(repr((self.name, self.classes)).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(name.encode())
            digest.update(split.labels.tobytes())
            digest.update(split.images.fingerprint().encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory: `pixels` is (n, H, W, 3) uint8."""

    pixels: NDArray[np.uint8]
    label: str

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def fingerprint(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Joined:
    """Several image sources, one after the other."""

    parts: tuple[ImageSource, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Image.Image:
        part, inner = self._at(index)
        return part[inner]

    def name(self, index: int) -> str:
        part, inner = self._at(index)
        return part.name(inner)

    def fingerprint(self) -> str:
        return "+".join(part.fingerprint() for part in self.parts)

    def _at(self, index: int) -> tuple[ImageSource, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


def joined(splits: Sequence[Split]) -> Split:
    """Several splits as one, in their order."""
    images = Joined(tuple(split.images for split in splits))
    return Split(images, np.concatenate([split.labels for split in splits]))
