"""The frozen model's vector of every image, from the feature cache: of these, much can be asked about data.

A run of a linear probe has left these on disk; what is not there is computed once.
"""

from collections.abc import Generator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import ImageSource
from vitgraft.features.cache import Cache, Pictures
from vitgraft.features.caching import Caching
from vitgraft.features.feed import Feed, Reader, sent
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Display
from vitgraft.methods.linear import Linear
from vitgraft.train.batches import in_order

BATCH = 64
"""Images that are walked, or rows that are read, at a time."""


def pooled(
    backbone: Backbone,
    sources: Mapping[str, ImageSource],
    preprocessing: Preprocessing,
    wish: Caching,
    here: Placement,
    workers: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """The pooled vectors (n, D) of each source's images, by its name.

    Raises:
        ConfigError: a place for the cache that was asked for and has no room.
        DataError: an image that cannot be read.
        TrainingError: vectors that are not finite.
    """
    backbone.to(here.device)
    reader = Reader(preprocessing, workers=workers)
    pictures = [Pictures(name, images, reader) for name, images in sources.items()]
    tap = Tap(backbone.depth, "pooled")
    display = Display(1, 1)
    try:
        probe = Tuned(backbone, Linear().plan(backbone, 2))
        feeds = Cache(probe, wish, here, display, backbone.fingerprint()).feeds(pictures)
        found = {}
        for one in pictures:
            parts = in_order(len(one.images), BATCH)
            if one.name in feeds:
                stream = _read(feeds[one.name], tap, parts)
            else:
                stream = _walked(backbone, tap, one, parts, here, wish.precision, display)
            found[one.name] = np.concatenate([value.float().cpu().numpy() for value in stream])
        return found
    finally:
        display.close()


def _read(feed: Feed, tap: Tap, parts: list[Tensor]) -> Generator[Tensor]:
    """Vectors (b, D) of each part of some images, from a cache."""
    for readings in feed.stream((0, part) for part in parts):
        assert not isinstance(readings, Tensor), "a cache's feed has readings"
        yield readings[tap]


def _walked(
    backbone: Backbone,
    tap: Tap,
    pictures: Pictures,
    parts: list[Tensor],
    here: Placement,
    precision: str,
    display: Display,
) -> Generator[Tensor]:
    """Vectors (b, D) of each part of some images that no cache holds."""
    with display.work(f"features of {pictures.name}", len(pictures.images)) as advance, torch.no_grad():
        for images in pictures.stream(0, [part.tolist() for part in parts]):
            with here.autocast(precision):
                yield backbone.read(sent(images, here.device), (tap,))[tap]
            advance(len(images))
