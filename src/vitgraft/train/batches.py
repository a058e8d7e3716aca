"""Which images make which step: a function of (seed, epoch), so that a resumed run meets the same ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraft.errors import DataError
from vitgraft.train.seeds import ORDER, derive


@dataclass(frozen=True)
class Layout:
    """How n images become the steps of an epoch.

    `batch_size` images make a step, computed in `parts` parts (micro-batches times processes) that differ by at
    most one image. No part has fewer than `least` images: a batch too small for that, at the end of an epoch,
    joins the one before. No image is dropped.

    Raises:
        DataError: fewer images, or smaller batches, than the parts need.
    """

    n: int
    batch_size: int
    seed: int
    parts: int = 1
    least: int = 1

    def __post_init__(self) -> None:
        found = min(self.n, self.batch_size)
        if found < self.parts * self.least:
            each = (
                "at least one image" if self.least == 1 else f"at least {self.least} images (it has a BatchNorm)"
            )
            raise DataError(
                f"A step has {found} images ({self.n} to train on, batch_size {self.batch_size}) for {self.parts} "
                f"parts (micro-batches times processes), and the model needs {each} in each. Use a larger "
                "batch_size, a smaller accumulate, or more images."
            )

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (rest >= self.parts * self.least if full else 1)

    def epoch(self, epoch: int) -> list[Tensor]:
        """The batches of one epoch, in order: indices (b,) over 0..n-1."""
        generator = torch.Generator().manual_seed(derive(self.seed, ORDER, epoch))
        order = torch.randperm(self.n, generator=generator)
        ends = [self.batch_size * (step + 1) for step in range(self.steps - 1)]
        return list(order.tensor_split(ends))

    def shares(self, batch: Tensor, rank: int, processes: int) -> list[Tensor]:
        """The micro-batches of one process: parts of `batch` (b,), in order."""
        return list(batch.tensor_split(self.parts))[rank::processes]


def in_order(n: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[Tensor]:
    """Batches of 0..n-1 in order for evaluation, dealt out to processes; together they hold each image once."""
    mine = torch.arange(n)[rank::processes]
    return [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
