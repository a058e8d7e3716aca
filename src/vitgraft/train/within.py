"""Training within a limit of memory: how many images at a time, and what is computed twice, decided by counting.

The peak of a process is what it holds before training (measured: interpreter, torch, backbone, task), the
gradients and optimizer states of what trains, and the tensors of whichever is largest: a training step on one
micro-batch, a batch of validation or test, the frozen walk that fills a cache (`footprint` counts them). Kernels'
own workspace and what a heap loses at its seams are covered by `SEAMS` and `SPARE`.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgraft.core.sites import Recompute, Tap
from vitgraft.core.tuned import Inputs, Tuned
from vitgraft.features.caching import CHUNK, Caching
from vitgraft.features.rows import Form
from vitgraft.train.batches import Layout
from vitgraft.train.cost import growing_bytes, keeping, still
from vitgraft.train.footprint import LARGE, SMALL, Following, Footprint, batch_for, unreal
from vitgraft.train.settings import Training

T = TypeVar("T")

SEAMS = 0.06
"""Memory that is lost between tensors, as a part of what they take: 2 to 5 % were measured, see the README of
benchmarks."""

SPARE = 48 << 20
"""Bytes left for libraries that load late, kernels' workspace and small objects."""

FLOAT = 4
"""Bytes of a decoded value."""

FEW = 8
"""Images of a micro-batch below which kernels are less efficient, and recomputing is tried."""

STATES = {"adamw": 2, "adam": 2, "sgd": 1}
"""Values that an optimizer keeps for each trained one."""

IMAGES_PART = 4
"""One part in so many of the room may be filled with decoded images; if they need more, epochs decode them."""

TWICE: tuple[Recompute, ...] = ("none", "mlp", "block")
"""What can be computed twice, the least first."""


@dataclass(frozen=True)
class Within:
    """What was chosen for a limit: micro-batches a step, what runs twice, images at a time in evaluation and in
    the frozen walk, bytes of decoded images that may stay; and the peak in bytes that is predicted.

    Of a run without a limit it tells the micro-batches alone, where an accelerator had no room for what was asked.
    """

    accumulate: int
    recompute: Recompute
    eval_batch_size: int
    at_once: int = CHUNK
    images_limit: int | None = None
    peak: int | None = None

    def settings(self, asked: Training) -> Training:
        """The settings with what was chosen."""
        chosen = {key: getattr(self, key) for key in ("accumulate", "recompute", "eval_batch_size")}
        return replace(asked, **chosen)

    def caching(self, asked: Training) -> Caching:
        """What of the settings a cache must know, in little memory."""
        return replace(asked.caching(), at_once=self.at_once, lean=asked.memory is not None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Works:
    """The footprints of a model's works: `step` by what is recomputed, evaluation, the frozen walk, if any.

    They are counted when they are asked for: of `real` tensors, whose work can be timed, too, or of unreal ones.
    `computed` is bf16 under autocast; `evaluated` the most images of a split that is evaluated, if that is known.
    """

    model: Tuned
    settings: Training
    cached: bool
    real: bool = False
    computed: str = "fp32"
    evaluated: int | None = None

    _counted: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step(self, recompute: Recompute) -> Footprint:
        """Forward and backward pass on images, or on readings where these are cached."""

        def count() -> Footprint:
            before, self.model.recompute = self.model.recompute, recompute
            try:
                return self.follow(self.take_step, training=True)
            finally:
                self.model.recompute = before

        return self._once(f"step, {recompute}", count)

    def evaluation(self) -> Footprint:
        """A forward pass on images, as test has them; what validation reads from a cache takes less."""
        return self._once("evaluation", lambda: self.follow(lambda n: self.model(self.images(n)), training=False))

    def walk(self) -> Footprint:
        """The frozen walk that reads what is cached."""
        frozen = self.model.backbone

        def count() -> Footprint:
            form = self._form()
            walked = self.follow(lambda batch: frozen.read(self.images(batch), form.taps), training=False)
            image = 3 * prod(frozen.view.image_size) * FLOAT
            return walked.with_(CHUNK * (form.row_bytes + 2 * image))

        return self._once("walk", count) if self.cached else Footprint()

    def inputs(self, batch: int) -> Inputs:
        """What a step reads."""
        return self.readings(batch) if self.cached else self.images(batch)

    def images(self, batch: int) -> Tensor:
        """Black images (batch, 3, H, W), stacked from as many single ones."""
        view, weight = self.model.backbone.view, next(self.model.backbone.parameters())
        shape = (view.channels, *view.image_size)
        return torch.stack([torch.zeros(shape, dtype=weight.dtype, device=weight.device) for _ in range(batch)])

    def readings(self, batch: int) -> Mapping[Tap, Tensor]:
        form, device = self._form(), self.model.backbone.device
        return {
            tap: torch.zeros(batch, *shape, dtype=form.kind, device=device)
            for tap, shape in zip(form.taps, form.shapes, strict=True)
        }

    def _form(self) -> Form:
        frozen, prefix = self.model.backbone, self.model.prefix
        assert prefix is not None, "readings are of a frozen prefix"

        def read() -> Form:
            with unreal(), torch.no_grad():
                return Form.of(frozen, prefix.taps, self.settings.cache_precision, frozen.view.image_size)

        return self._once("form", read)

    def _once(self, what: str, count: Callable[[], T]) -> T:
        """What is counted, counted once."""
        if what not in self._counted:
            self._counted[what] = count()
        found: T = self._counted[what]
        return found

    @property
    def batch(self) -> int:
        """The number of images that are looked at."""
        values = (*self.model.parameters(), *self.model.backbone.parameters())
        return batch_for([value.numel() for value in values], SMALL if self.real else LARGE)

    def kept(self, recompute: Recompute) -> float:
        """Bytes that autograd holds for one more image between the passes of a step."""
        self.step(recompute)
        found: float = self._counted[f"kept, {recompute}"]
        return found

    def take_step(self, images: int) -> None:
        """A forward and a backward pass, which leave no gradient."""
        labels = torch.zeros(images, dtype=torch.long, device=self.model.backbone.device)
        inputs = self.inputs(images)
        with keeping() as living:
            loss = F.cross_entropy(self.model(inputs), labels)
        self._counted[f"kept, {self.model.recompute}"] = growing_bytes(living, images)
        gradients = torch.autograd.grad(loss, list(self.model.parameters()), allow_unused=True)
        del gradients, inputs

    def follow(self, work: Callable[[int], Any], training: bool) -> Footprint:
        """The footprint of work on so many images, in the given mode, with gradients if that is training's."""
        model, frozen = self.model, self.model.backbone
        batch = self.batch
        dtype = torch.bfloat16 if self.computed == "bf16" else None
        following = Following(batch)
        with (
            still(model, training),
            nullcontext() if self.real else unreal(),
            torch.autocast(frozen.device.type, dtype=dtype, enabled=dtype is not None),
            torch.set_grad_enabled(training),
            following,
        ):
            work(batch)
        return following.found


def trained_bytes(model: Tuned) -> int:
    """Of the values that train."""
    return sum(value.nbytes for value in model.parameters() if value.requires_grad)


def standing(model: Tuned, settings: Training) -> int:
    """Bytes that training holds throughout: optimizer states, gradients, the values that are best so far.

    The probe before it, which takes a step and undoes it, needs as much.
    """
    copies = STATES[settings.optimizer] + 1 + max(settings.select == "best", 1)
    return copies * trained_bytes(model)


def needs(counted: float) -> float:
    """Bytes that a process grows by for tensors of so many."""
    return counted * (1 + SEAMS) + SPARE


def room_of(limit: float, before: float) -> float:
    """Bytes of tensors for which a process has room that holds `before` and may hold `limit`: `needs` reversed."""
    return (limit - before - SPARE) / (1 + SEAMS)


@dataclass(frozen=True)
class Choice:
    """What fits, and the bytes of tensors that it needs; or nothing, and what the least would need."""

    within: Within | None
    needed: float


def choose(works: Works, layout: Layout, room: float, images: int = 0) -> Choice:
    """What fits into `room` bytes of tensors, of which decoded images take `images` if that leaves enough.

    A step is as asked unless only a few images fit at a time; then what is computed twice goes up.
    """
    settings, model = works.settings, works.model
    always = standing(model, settings)
    kept = images if images <= max(room - always, 0) / IMAGES_PART else 0
    walk, evaluation = works.walk(), works.evaluation().with_(always + kept)
    share = -(-max(len(batch) for batch in layout.epoch(0)) // layout.processes)
    most, recompute, step = _step(works, room, share, always + kept)
    eval_batch, at_once = evaluation.images(room, settings.eval_batch_size), walk.images(room, CHUNK)
    if most < layout.least or not eval_batch or not at_once:
        return Choice(None, max(evaluation.bytes(1), walk.bytes(1), step.bytes(layout.least)))
    accumulate = max(-(-share // most), settings.accumulate)
    micro = -(-share // min(accumulate, share // layout.least))
    if micro > most:  # an odd image more, which no micro-batch can do without
        return Choice(None, step.bytes(micro))
    met = eval_batch if works.evaluated is None else min(eval_batch, works.evaluated)
    peak = max(step.bytes(micro), evaluation.bytes(met), walk.bytes(at_once))
    return Choice(Within(accumulate, recompute, eval_batch, at_once, kept), peak)


def _step(works: Works, room: float, share: int, always: float) -> tuple[int, Recompute, Footprint]:
    """The most images of a micro-batch, up to `share`; what is computed twice for it; and its footprint."""
    found: list[tuple[int, Recompute, Footprint]] = []
    for recompute in _variants(works.settings.recompute, works.model):
        step = works.step(recompute).with_(always)
        found.append((step.images(room, share), recompute, step))
        if found[-1][0] >= min(FEW, share):
            return found[-1]
    return max(found, key=lambda one: (one[0], -one[2].bytes(1)))


def _variants(asked: Recompute, model: Tuned) -> tuple[Recompute, ...]:
    """What may run twice: at least what was asked for, and more where gradients cross blocks."""
    crossed = model.frozen_depth < model.backbone.depth
    return TWICE[TWICE.index(asked) :] if crossed else (asked,)
