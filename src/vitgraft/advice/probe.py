"""A few images of each method's work on this machine: their seconds, and from the same look their memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Recompute
from vitgraft.data.task import Split
from vitgraft.features.feed import OnDemand, Reader
from vitgraft.machine.placement import Placement
from vitgraft.train.cost import still
from vitgraft.train.footprint import Following, Footprint
from vitgraft.train.optim import adamw
from vitgraft.train.within import Works

T = TypeVar("T")

READ = 8
"""Pictures that are decoded to see how long one takes."""

STEPS, APART = 3, 3.0
"""How often a run walks through a step to count it; without values, operations are taken apart into so many."""

AGAIN = 4.0
"""A first step that takes fewer seconds is taken again."""

MOST_BESIDE = 4.0
"""At most so many times as long as its images does a call take."""

ROUNDS = 3
"""Of which the median counts, where there is time for so many."""


@dataclass(frozen=True)
class Speed:
    """Seconds: an image's forward and backward pass, an update by the optimizer."""

    step: float
    update: float


@dataclass(frozen=True)
class Probed(Works):
    """A model's works, of which the step as it is configured is really taken, and timed. `allowed` seconds is the
    most that it should take; one step is taken in any case.
    """

    here: Placement = field(kw_only=True)
    allowed: float = field(kw_only=True)

    def step(self, recompute: Recompute) -> Footprint:
        if recompute != self.settings.recompute:
            return super().step(recompute)
        return self._once("looked", self._look)[0]

    def kept_bytes(self) -> int:
        """Bytes that autograd holds for one more image between forward and backward pass."""
        self.step(self.settings.recompute)
        return round(float(self._counted["kept"]))

    def speed(self) -> Speed:
        """How fast the step is that is taken."""
        return self._once("speed", self._measure)

    def _measure(self) -> Speed:
        footprint, batch, took = self._once("looked", self._look)
        took -= overhead() * footprint.operations
        step = timed(self._real_step, batch, took, self.settings.batch_size, self.allowed, self.here)
        return Speed(step, self._update())

    def counting(self) -> float:
        """Seconds that a run takes to count what it needs and what it has cost, on tensors without values.

        It goes through a step as often as `STEPS` says, in parts, and through two forward passes.
        """
        forward = self.evaluation().operations
        step = APART * self.step(self.settings.recompute).operations
        return float(self._counted["evaluation seconds"]) * (2 + STEPS * step / max(forward, 1))

    def evaluation(self) -> Footprint:
        began = perf_counter()
        found = super().evaluation()
        self._counted.setdefault("evaluation seconds", perf_counter() - began)
        return found

    def _look(self) -> tuple[Footprint, int, float]:
        real = Works(self.model, self.settings, self.cached, real=True, computed=self.computed)
        if self.cached:  # what readings look like is found without values, and slowly
            real._counted["form"] = self._form()
        began = perf_counter()
        footprint = real.step(self.settings.recompute)
        self.here.wait()
        self._counted["kept"] = real.kept(self.settings.recompute)
        return footprint, real.batch, perf_counter() - began

    def _real_step(self, images: int) -> None:
        with still(self.model, training=True), self.here.autocast(self.settings.precision), torch.enable_grad():
            self.take_step(images)

    def _update(self) -> float:
        """Seconds of an optimizer's step, at a rate of almost nothing."""
        values = [value for value in self.model.parameters() if value.requires_grad]
        for value in values:
            value.grad = torch.zeros_like(value)
        optimizer = adamw(self.model, lr=1e-12, weight_decay=0.0)
        try:
            return median_of(lambda: _ignore(optimizer.step()), ROUNDS, self.here)
        finally:
            for value in values:
                value.grad = None


def _ignore(result: object) -> None:
    del result


def timed(
    work: Callable[[int], None], batch: int, took: float, most: int, allowed: float, here: Placement
) -> float:
    """Seconds an image of `work` on `most` images, of which `batch` took so long at first.

    It is done again, then on up to `most` images at a time, if that takes less than what is allowed. Where it is
    done on fewer, what each call takes beside its images is shared out over `most`.
    """
    if took < AGAIN:  # the first one warmed up
        took = median_of(lambda: work(batch), 1, here)
    images = min(most, int(batch * allowed / (ROUNDS + 1) / max(took, 1e-9)))
    if images <= batch:
        return took / batch
    work(images)  # warms up
    seconds = median_of(lambda: work(images), ROUNDS, here)
    each = max((seconds - took) / (images - batch), seconds / images / MOST_BESIDE)
    return each + max(seconds - each * images, 0.0) / most


def median_of(work: Callable[[], None], rounds: int, here: Placement) -> float:
    """The median of some rounds' seconds."""
    found = []
    for _ in range(rounds):
        began = perf_counter()
        work()
        here.wait()
        found.append(perf_counter() - began)
    return sorted(found)[rounds // 2]


def walk_seconds(backbone: Backbone, precision: str, here: Placement, allowed: float) -> float:
    """Seconds of an image's forward pass through the frozen backbone."""
    weight = next(backbone.parameters())

    @torch.no_grad()
    def walk(images: int) -> None:
        shape = (images, backbone.view.channels, *backbone.view.image_size)
        with here.autocast(precision):
            backbone(torch.zeros(shape, dtype=weight.dtype, device=weight.device), tokens=False)

    walk(1)
    began = perf_counter()
    walk(2)
    here.wait()
    return timed(walk, 2, perf_counter() - began, 32, allowed, here)


def read_seconds(split: Split, reader: Reader) -> float:
    """Seconds of decoding and preparing a picture, of a few that stand apart."""
    indices = torch.linspace(0, len(split) - 1, min(READ, len(split))).long()
    feed = OnDemand(split.images, reader)
    began = perf_counter()
    for images in feed.stream([(0, indices)]):
        assert isinstance(images, Tensor)
    return (perf_counter() - began) / len(indices) / max(reader.workers, 1)


def overhead() -> float:
    """Seconds that an operation takes longer while it is followed."""
    global _OVERHEAD
    if _OVERHEAD is None:
        value, count = torch.zeros(1), 500

        def work() -> None:
            for _ in range(count):
                value.add(1)

        here = Placement(torch.device("cpu"))
        work()
        plain = median_of(work, ROUNDS, here)
        with Following(2):
            followed = median_of(work, ROUNDS, here)
        _OVERHEAD = max(followed - plain, 0.0) / count
    return _OVERHEAD


_OVERHEAD: float | None = None
