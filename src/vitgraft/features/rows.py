"""Readings as rows: one row an image, its taps side by side, in memory or mapped from a file."""

import mmap
import warnings
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Tap
from vitgraft.errors import TrainingError, option
from vitgraft.features.feed import Chunk

KINDS = {"fp16": torch.float16, "fp32": torch.float32}
"""What readings are stored in.

fp32 leaves training as it is: within 1e-5 of the logits at every step. fp16 rounds each value by up to 0.05 %,
and training moves by a little. Measured at every step of short runs as the largest change of a logit: on tiny
models up to 1e-4, for mlp 1.2e-3 (logits to 0.65; tests/test_cache.py); on the built-in backbone (digits, 12 steps
of 64 images, AdamW at each method's own rate) 0.01 to 0.4 % of the largest logit, for mlp, whose BatchNorm scales
small differences up, 1.3 %. Validation accuracy was the same, but for one of 150 images with mlp.
"""


@dataclass(frozen=True)
class Form:
    """What a row holds: `shapes` has one image's shape a tap, (N, D) or (D,); `precision` is a key of `KINDS`."""

    taps: tuple[Tap, ...]
    shapes: tuple[tuple[int, ...], ...]
    precision: str

    @classmethod
    def of(cls, backbone: Backbone, taps: Iterable[Tap], precision: str, size: tuple[int, int]) -> Self:
        """The form of a backbone's readings of images of `size` (H, W); a black one goes through it."""
        order = tuple(sorted(taps))
        view, weight = backbone.view, next(backbone.parameters())
        black = torch.zeros(1, view.channels, *size, dtype=weight.dtype, device=weight.device)
        readings = backbone.read(black, order)
        return cls(order, tuple(tuple(readings[tap].shape[1:]) for tap in order), precision)

    @classmethod
    def from_columns(cls, columns: Iterable[Mapping[str, Any]]) -> Self:
        """The inverse of `columns`."""
        listed = tuple(columns)
        taps = tuple(Tap(item["block"], item["place"], item["reduction"], item["size"]) for item in listed)
        return cls(taps, tuple(tuple(item["shape"]) for item in listed), listed[0]["precision"])

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The form as JSON values, one dict a tap."""
        return [
            {**vars(tap), "shape": list(shape), "precision": self.precision}
            for tap, shape in zip(self.taps, self.shapes, strict=True)
        ]

    @property
    def kind(self) -> torch.dtype:
        return KINDS[self.precision]

    @property
    def values(self) -> int:
        """Values of a row."""
        return sum(map(prod, self.shapes))

    @property
    def row_bytes(self) -> int:
        return self.values * self.kind.itemsize

    def pack(self, readings: Mapping[Tap, Tensor]) -> Tensor:
        """Readings (b, ...) as rows (b, values) on the CPU.

        Raises:
            TrainingError: a reading that is not finite, or beyond what the stored type can hold.
        """
        some = next(iter(readings.values()))
        rows = some.new_empty(len(some), self.values, dtype=self.kind)
        for tap, (first, last, _) in self.spans().items():
            part = rows[:, first:last].copy_(readings[tap].flatten(1))
            if not part.isfinite().all():
                raise TrainingError(self._not_held(tap, readings[tap]))
        return rows.cpu()

    def _not_held(self, tap: Tap, value: Tensor) -> str:
        what = f"What block {tap.block} gives at {tap.place!r}"
        if not value.isfinite().all():
            return f"{what} is not finite. Check the backbone's weights and the images' preprocessing."
        return (
            f"{what} reaches {float(value.abs().max()):.3g}, which {self.precision} cannot hold. Cache it in 32 "
            f"bits, {option('cache_precision', 'fp32')}, or not at all, {option('cache', 'off')}."
        )

    def spans(self) -> dict[Tap, tuple[int, int, tuple[int, ...]]]:
        """Where a tap's values stand in a row, first:last, and their shape."""
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        starts = [0, *ends[:-1]]
        return {tap: span for tap, *span in zip(self.taps, starts, ends, self.shapes, strict=True)}  # type: ignore[misc]


@dataclass(frozen=True)
class Rows:
    """Rows (count, values) in memory, on an accelerator, or mapped from a file (then `pages` is the mapping)."""

    values: Tensor
    form: Form
    pages: mmap.mmap | None = None

    @classmethod
    def mapped(cls, file: Path, form: Form, count: int) -> Self:
        """The first `count` rows in a file, which is read as they are asked for."""
        with file.open("rb") as handle:
            # Read-only: of a writable private mapping the system wants that it would fit into memory.
            pages = mmap.mmap(handle.fileno(), count * form.row_bytes, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            values = torch.frombuffer(pages, dtype=form.kind).unflatten(0, (count, form.values))
        return cls(values, form, pages)

    def take(
        self, indices: Tensor, taps: Iterable[Tap], held: dict[Tap, Tensor] | None = None
    ) -> dict[Tap, Tensor]:
        """Readings (b, ...) of some rows, `indices` (b,), as stored.

        If `held` is given, they are written into its memory, which grows as it must: fresh memory costs more than
        the copy.
        """
        spans = self.form.spans()
        where, found = indices.to(self.values.device), {}
        for tap in taps:
            first, last, shape = spans[tap]
            columns = self.values[:, first:last]
            if held is None:
                found[tap] = columns[where].unflatten(1, shape)
                continue
            if tap not in held or len(held[tap]) < len(where):
                held[tap] = columns.new_empty(len(where), last - first)
            memory = held[tap][: len(where)]
            found[tap] = torch.ops.aten.index.Tensor_out(columns, [where], out=memory).unflatten(1, shape)
        if self.pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)  # the system keeps the pages; this process need not count them
        return found


@dataclass(frozen=True)
class Frozen:
    """A feed of readings, from the rows of one or of several views of the same images; epochs take turns.

    Readings come as stored. A batch's memory serves the next batch again: it is good until that is drawn.
    """

    views: tuple[Rows, ...]
    taps: tuple[Tap, ...]

    def stream(self, chunks: Iterable[Chunk]) -> Generator[dict[Tap, Tensor]]:
        """Readings (b, ...) of each chunk, in order."""
        held: dict[Tap, Tensor] = {}
        for epoch, indices in chunks:
            yield self.views[epoch % len(self.views)].take(indices, self.taps, held)
