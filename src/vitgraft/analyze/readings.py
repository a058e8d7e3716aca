"""What blocks of a frozen backbone say of images, as arrays: one pass, kept where runs keep theirs."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitgraft.core.backbone import Backbone
from vitgraft.core.plan import Plan
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Split
from vitgraft.features.cache import Cache, Pictures
from vitgraft.features.feed import Reader, moved
from vitgraft.heads.linear import LinearHead
from vitgraft.machine.placement import Placement, place
from vitgraft.machine.progress import Display
from vitgraft.train.batches import in_order
from vitgraft.train.settings import Training

BATCH = 64

Array = NDArray[np.float32]


def readings(
    frozen: Backbone,
    taps: Iterable[Tap],
    splits: Mapping[str, Split],
    preprocessing: Preprocessing,
    settings: Training,
) -> dict[str, dict[Tap, Array]]:
    """What each tap reads of each split's images, (n, ...) float32, in the order of the images.

    They are computed once and stored in fp32 (`settings.cache` says where): a pass that was stopped goes on, and a
    later one reads. `settings` are device, workers, cache and its limit.

    Raises:
        DataError: an image that cannot be read, or a disk that cannot be written to.
    """
    wanted = frozenset(taps)
    here = Placement(place(settings.device).device)
    model = Tuned(frozen, Plan(LinearHead(frozen.width, 2), taps=wanted)).to(here.device)
    reader = Reader(preprocessing, workers=settings.workers)
    pictures = [Pictures(name, split.images, reader) for name, split in splits.items()]
    display = Display(1, 1)
    with closing(display):
        wish = replace(settings.caching(), stored="fp32", precision="fp32")
        feeds = Cache(model, wish, here, display, frozen.fingerprint()).feeds(pictures)
        found = {}
        for one in pictures:
            feed = feeds.get(one.name) or reader.feed(one.images, limit=0)
            spans = in_order(len(one.images), BATCH)
            parts: dict[Tap, list[Array]] = {tap: [] for tap in wanted}
            for inputs in feed.stream((0, span) for span in spans):
                batch = moved(inputs, here.device)
                read = frozen.read(batch, wanted) if isinstance(batch, torch.Tensor) else batch
                for tap in wanted:
                    parts[tap].append(read[tap].detach().float().cpu().numpy().copy())
            found[one.name] = {tap: np.concatenate(part) for tap, part in parts.items()}
    return found
