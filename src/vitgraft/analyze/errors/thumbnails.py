"""Small pictures for a page, which together never outgrow it."""

from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from vitgraft.data.task import ImageSource
from vitgraft.errors import DataError
from vitgraft.report.page import Html, h, picture

SIDE = 144
"""The longest side in pixels: sharp where it is shown at two thirds of that."""

SMALL = 72
"""A picture whose longest side is shorter is shown with larger pixels."""

BUDGET = 1_500_000
"""Bytes of all thumbnails of a page, as they stand in it."""

QUALITY = 80


@dataclass
class Album:
    """Thumbnails until `budget` bytes are used up; `left_out` counts those that were wanted after that."""

    budget: int = BUDGET
    left_out: int = 0
    _known: dict[tuple[int, int], Html] = field(default_factory=dict)

    def thumbnail(self, images: ImageSource, index: int, alt: str) -> Html:
        """An image as a small picture, or a few words in its place."""
        key = (id(images), index)
        if key in self._known:
            return self._known[key]
        if self.budget <= 0:
            self.left_out += 1
            return h("span", "not shown", class_="absent")
        try:
            content = shrunk(images[index])
        except DataError:
            return h("span", "cannot be read", class_="absent")
        self._known[key] = found = picture(content, "jpg", alt)
        self.budget -= len(found)
        return found


def shrunk(image: Image.Image) -> bytes:
    """A picture as a JPEG with no side above SIDE; tiny ones have each pixel repeated."""
    if max(image.size) > SIDE:
        image = image.convert("RGB")
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    elif (times := SMALL // max(image.size)) > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
