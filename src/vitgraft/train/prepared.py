"""What a run begins with: its steps, its settings within a limit of memory, its data, cached where they can be."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.features.cache import Cache, Kept, Pictures
from vitgraft.features.feed import MEMORY_LIMIT, Reader
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Display
from vitgraft.train import limit
from vitgraft.train.batches import Layout
from vitgraft.train.session import Data
from vitgraft.train.settings import Training
from vitgraft.train.state import State
from vitgraft.train.within import Within, Works


def layout_of(model: Tuned, n: int, settings: Training, here: Placement) -> Layout:
    """How n images become steps; a BatchNorm needs two in each micro-batch."""
    least = 2 if limit.normalises(model) else 1
    return Layout(n, settings.batch_size, settings.seed, settings.accumulate, here.processes, least)


def prepared(
    model: Tuned,
    splits: Mapping[str, Split | None],
    settings: Training,
    preprocessing: Preprocessing,
    state: State,
    here: Placement,
    display: Display,
    backbone: str,
) -> tuple[Training, dict[str, Data], Kept]:
    """Settings as a limit of memory has them, if there is one; the data; what of them was cached.

    A run that goes on does as it did.
    """
    layout = layout_of(model, len(splits["train"] or ()), settings, here)
    images, cached, again = (
        limit.image_bytes(splits, preprocessing),
        limit.would_cache(model, settings),
        state.within,
    )

    def decided(cached: bool) -> Within | None:
        works = Works(model, settings, cached, computed=here.arithmetic(settings.precision))
        found = here.agreed(lambda: limit.decide(works, layout, here, images))
        if found is not None:
            display.say(limit.told(found, layout, limit.normalises(model)))
        return found

    within = decided(cached) if again is None else Within(**again)
    cache = Cache(
        model, settings.caching() if within is None else within.caching(settings), here, display, backbone
    )
    data = data_of(splits, settings, preprocessing, here, cache, None if within is None else within.images_limit)
    if cached and cache.kept.place == "off" and again is None and within is not None:  # it had no room
        within = decided(False)
    state.within = None if within is None else within.to_json()
    return settings if within is None else within.settings(settings), data, cache.kept


def data_of(
    splits: Mapping[str, Split | None],
    settings: Training,
    preprocessing: Preprocessing,
    here: Placement,
    cache: Cache,
    images_limit: int | None = None,
) -> dict[str, Data]:
    """The splits there are: readings of the frozen part where it is cached, else images, in memory while it lasts.

    Validation comes first, for it is never augmented. Test comes last and is not cached: it may be a hundred times
    the rest.
    """
    plain = Reader(preprocessing, workers=settings.workers, pin=here.device.type == "cuda")
    augmented = replace(plain, augment=settings.augment, seed=settings.seed)
    readers = {"val": plain, "train": augmented, "test": plain}
    there = {name: split for name in readers if (split := splits.get(name)) is not None}
    pictures = [Pictures(name, split.images, readers[name]) for name, split in there.items() if name != "test"]
    feeds = cache.feeds(pictures)
    left = MEMORY_LIMIT if images_limit is None else images_limit
    data = {}
    for name, split in there.items():
        if name not in feeds:
            feeds[name] = readers[name].feed(split.images, left)
            left -= readers[name].size_of(len(split))
        data[name] = Data(feeds[name], torch.tensor(split.labels))
    return data
