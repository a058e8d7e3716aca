"""Opening a picture with Pillow, whatever its size: Pillow's own limit is a global of the user's."""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that are opened: what reads others may start a second program (EPS), or show a preview (PSD)."""

Factory = Callable[[BinaryIO, str], ImageFile.ImageFile]
_limit = RLock()


def open_any(file: BinaryIO, formats: Iterable[str] = FORMATS) -> ImageFile.ImageFile:
    """A picture that is opened and not decoded yet, from a file of one of Pillow's `formats`.

    It is `PIL.Image.open` without its check of the size, which is for the caller to do.

    Raises:
        UnidentifiedImageError: none of the formats fits.
        Exception: whatever a damaged file makes of Pillow's code.
    """
    Image.init()
    file.seek(0)
    prefix = file.read(16)
    for name in formats:
        if name not in Image.OPEN:  # another version of Pillow
            continue
        factory, accept = Image.OPEN[name]
        answer = accept is None or accept(prefix)
        if isinstance(answer, str) or not answer:
            continue
        try:
            return _made(factory, file, name, prefix)
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise UnidentifiedImageError("no format fits")


def _made(factory: Factory, file: BinaryIO, name: str, prefix: bytes) -> ImageFile.ImageFile:
    """What a format's own code makes of a file; that of GIF and WebP looks at the global limit, too."""
    wide = name == "GIF" and _exceeds(*struct.unpack("<HH", prefix[6:10]))
    try:
        if not wide:
            file.seek(0)
            return factory(file, "")
    except Image.DecompressionBombError:
        pass
    with _without_limit():
        file.seek(0)
        return factory(file, "")


def load(image: Image.Image) -> None:
    """Decode an image that was opened; the code of TIFF compares its tiles with the global limit."""
    if image.format == "TIFF" and _exceeds(*image.size):
        with _without_limit():
            image.load()
    else:
        image.load()


def _exceeds(width: int, height: int) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


@contextmanager
def _without_limit() -> Iterator[None]:
    """Pillow's limit lifted for the length of a block, and put back."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
