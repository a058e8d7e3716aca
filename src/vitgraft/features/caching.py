"""What a user wants kept of the frozen part, as data. It imports no torch."""

from dataclasses import dataclass

CHUNK = 32
"""Images that are walked, written and checked at a time."""


@dataclass(frozen=True)
class Caching:
    """What a user wants kept: `where` is auto, disk, ram or off, within `limit` bytes of all entries together.

    Readings are computed in `precision` and stored in `stored`; `views` of each image, 0 for none where its
    augmentation is random. `at_once` images are walked together. In a run with a limit of memory (`lean`) features
    are in memory only if that is asked for.
    """

    where: str = "auto"
    limit: int = 0
    precision: str = "fp32"
    stored: str = "fp16"
    views: int = 0
    at_once: int = CHUNK
    lean: bool = False
