"""What a user wants kept of the frozen part, as data. It imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caching:
    """What a user wants kept: `where` is auto, disk, ram or off, within `limit` bytes of all entries together.

    Readings are computed in `precision` and stored in `stored`; `views` of each image, 0 for none where its
    augmentation is random.
    """

    where: str = "auto"
    limit: int = 0
    precision: str = "fp32"
    stored: str = "fp16"
    views: int = 0
