"""A limit of memory in the hands of a training run: what is decided before it begins, refused, and told."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from vitgraft.core.backbone import Edits
from vitgraft.core.plan import Plan
from vitgraft.core.tuned import Tuned
from vitgraft.data.augment import deterministic
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.errors import ConfigError, option
from vitgraft.features.feed import MEMORY_LIMIT, Reader
from vitgraft.heads.linear import LinearHead
from vitgraft.machine.memory import bytes_of, give_back, held, written
from vitgraft.machine.placement import Placement
from vitgraft.train.batches import Layout
from vitgraft.train.footprint import Footprint
from vitgraft.train.gradients import batch_loss
from vitgraft.train.settings import Training
from vitgraft.train.within import Within, Works, choose, needs, room_of


def would_cache(model: Tuned, settings: Training) -> bool:
    """Whether training reads the frozen part from a cache, if that has room."""
    fixed = deterministic(settings.augment) or settings.views > 0
    return model.prefix is not None and settings.cache != "off" and fixed


def image_bytes(splits: Mapping[str, Split | None], preprocessing: Preprocessing) -> int:
    """Of all decoded images, or as many as are kept at most."""
    count = sum(len(split) for split in splits.values() if split is not None)
    return min(Reader(preprocessing).size_of(count), MEMORY_LIMIT)


def normalises(model: nn.Module) -> bool:
    """Whether what a model gives for an image depends, in training, on the others of a micro-batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def decide(works: Works, layout: Layout, here: Placement, images: int) -> Within | None:
    """What a run does to stay within the memory of its settings; None if they have no limit.

    `images` are the bytes of all decoded images that training would keep.

    Raises:
        ConfigError: not even the least fits.
    """
    if works.settings.memory is None:
        return None
    limit = bytes_of(works.settings.memory)
    give_back()
    works.step(works.settings.recompute)  # what looking needs is loaded before it is measured what is held
    before = held(here.device)
    choice = choose(works, layout, room_of(limit, before), images)
    if choice.within is None:
        raise ConfigError(_refusal(works, layout, limit, before, choice.needed))
    return replace(choice.within, peak=round(before + needs(choice.needed)))


def evaluated_at_once(model: Tuned, settings: Training, here: Placement) -> int:
    """Images of a batch of validation outside training, within the memory of the settings."""
    if settings.memory is None:
        return settings.eval_batch_size
    works = Works(model, settings, cached=False, computed=here.arithmetic(settings.precision))
    found = works.evaluation().images(_room(settings.memory, works, here), settings.eval_batch_size)
    return max(found, 1)


def looked_at_once(model: Tuned, batch: int, settings: Training, here: Placement) -> int | None:
    """Images of which gradients of all weights are computed together, within the memory of the settings.

    None for whole batches.

    Raises:
        ConfigError: not even one image fits.
    """
    if settings.memory is None:
        return None
    works = Works(model, settings, cached=False)
    footprint, room = look(model), _room(settings.memory, works, here)
    found = footprint.images(room, batch)
    if not found:
        enough = _enough(held(here.device), footprint.bytes(1))
        raise ConfigError(
            f"{option('memory', settings.memory)}: a look at the data needs gradients of all weights, and has no "
            f"room for those of one image. Give it {option('memory', f'{enough}MiB')}, or use a "
            "method that does not look at the data."
        )
    return None if found == batch else found


def look(model: Tuned) -> Footprint:
    """What the gradients of all weights need, with their sums and those of a batch's images so far."""
    frozen = model.backbone
    names = frozen.parameter_names()

    def take(batch: int) -> None:
        values = {name: frozen.parameter(name).detach().requires_grad_() for name in names}
        images, labels = works.images(batch), torch.zeros(batch, dtype=torch.long, device=frozen.device)
        torch.autograd.grad(
            batch_loss(model, Edits(model.plan.grafts, values), images, labels), list(values.values())
        )

    works = Works(model, Training(), cached=False)
    weights = sum(frozen.parameter(name).nbytes for name in names)
    return works.follow(take, training=True).with_(2 * weights)


def _room(memory: str, works: Works, here: Placement) -> float:
    """Bytes of tensors for which there is room now."""
    give_back()
    works.evaluation()  # what counting needs is loaded before it is measured what is held
    return room_of(bytes_of(memory), held(here.device))


def _enough(before: float, needed: float) -> int:
    """MiB that are enough, with a little more: what a process holds differs from start to start."""
    return 32 * (int((before + needs(needed)) / 2**20) // 32 + 1)


def _refusal(works: Works, layout: Layout, limit: int, before: int, needed: float) -> str:
    """What would fit, where nothing does."""
    frozen = works.model.backbone
    heads = Tuned(frozen, Plan(LinearHead(frozen.width, works.model.classes)))
    cached = would_cache(heads, works.settings)
    least = choose(replace(works, model=heads, cached=cached), replace(layout, least=1), 0.0).needed
    enough, linear = (_enough(before, one) for one in (needed, least))
    rather = f", or train a classifier alone (--method linear), for which {linear}MiB are enough"
    return (
        f"{option('memory', works.settings.memory)}: the process holds {written(before)} of these "
        f"{written(limit)} before it trains (interpreter, torch, backbone, task), and one image at a time, with "
        f"all that can be computed twice, needs {written(needs(needed))} more. Give it "
        f"{option('memory', f'{enough}MiB')}{rather if linear < enough else ''}; a smaller backbone or image "
        "size needs less, too."
    )


def told(within: Within, layout: Layout, normalises: bool) -> str:
    """What was decided, in a line for a person."""
    micro = -(-min(layout.batch_size, layout.n) // (within.accumulate * layout.processes))
    parts = f"{within.accumulate} micro-batches of up to {micro} images a step"
    exact = (
        "whose gradients add up to those of the whole batch"
        if not normalises
        else ("whose BatchNorm sees no more than these, so that the result is not quite the whole batch's")
    )
    steps = f"{parts}, {exact}" if within.accumulate > 1 else "whole batches"
    twice = {"none": "", "mlp": "; mlps are computed twice", "block": "; blocks are computed twice"}
    peak = "" if within.peak is None else f"; a peak of at most {written(within.peak)} is predicted"
    return (
        f"To stay within memory: {steps}{twice[within.recompute]}; evaluation by {within.eval_batch_size}{peak}."
    )
