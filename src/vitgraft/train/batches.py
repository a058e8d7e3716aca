"""Which images make which step: a function of (seed, epoch), so that a resumed run meets the same ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraft.errors import DataError
from vitgraft.machine.seeds import ORDER, derive


@dataclass(frozen=True)
class Layout:
    """How n images become the steps of an epoch.

    `batch_size` images make a step; `processes` share them, each in up to `accumulate` micro-batches of at least
    `least` images. A last batch too small for that joins the one before. No image is dropped, and which images
    make a step does not depend on `accumulate`.

    Raises:
        DataError: fewer images, or smaller batches, than the processes need.
    """

    n: int
    batch_size: int
    seed: int
    accumulate: int = 1
    processes: int = 1
    least: int = 1

    def __post_init__(self) -> None:
        found = min(self.n, self.batch_size)
        if found < self.smallest:
            each = "one image" if self.least == 1 else f"{self.least} images (the model has a BatchNorm)"
            raise DataError(
                f"A step has {found} images ({self.n} to train on, batch_size {self.batch_size}), and each of "
                f"{self.processes} processes needs at least {each}. Use a larger batch_size, more images, or "
                "fewer processes."
            )

    @property
    def smallest(self) -> int:
        """The fewest images of a step."""
        return self.least * self.processes

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        full, rest = divmod(self.n, self.batch_size)
        return full + (rest >= self.smallest if full else 1)

    def epoch(self, epoch: int) -> list[Tensor]:
        """The batches of one epoch, in order: indices (b,) over 0..n-1."""
        generator = torch.Generator().manual_seed(derive(self.seed, ORDER, epoch))
        order = torch.randperm(self.n, generator=generator)
        ends = [self.batch_size * (step + 1) for step in range(self.steps - 1)]
        return list(order.tensor_split(ends))

    def shares(self, batch: Tensor, rank: int) -> list[Tensor]:
        """The micro-batches of one process, in order: parts of `batch` (b,), alike in size up to one image."""
        rounds = min(self.accumulate, len(batch) // self.smallest)
        return list(batch.tensor_split(rounds * self.processes))[rank :: self.processes]


def in_order(n: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[Tensor]:
    """Batches of 0..n-1 in order for evaluation, dealt out to processes; together they hold each image once."""
    mine = torch.arange(n)[rank::processes]
    return [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
