"""From an image file to an upright 8-bit RGB picture, whatever the file holds.

Decisions, each made once here:
- transparent pixels are laid over white;
- 16-bit grey is divided by 257, so 65535 becomes 255 (Pillow's own conversion clips at 255);
- 32-bit integers and floats have no known range: `_stretch` says how it is guessed;
- an animation is its first frame; EXIF orientation is applied; colour profiles are ignored;
- only the raster formats of `FORMATS` are opened, because others (EPS) would start a second program.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vitgraft.errors import DataError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
IMAGE_SUFFIXES |= {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k"}
TURNS = {  # EXIF orientation -> what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Source = str | os.PathLike[str] | bytes | BinaryIO


class UnreadableImage(DataError):
    """An image that cannot be decoded: `reason` says why, the message also names the file and the fix."""

    def __init__(self, name: str, reason: str, fix: str) -> None:
        super().__init__(f"Cannot read image '{name}': {reason}. {fix}")
        self.reason = reason


def read_image(source: Source, name: str | None = None) -> Image.Image:
    """Decode a path, the bytes of a file, or an open binary file to an upright 8-bit RGB picture.

    `name` is what messages call the image; by default its path.

    Raises:
        UnreadableImage: a DataError that names the file, the reason and the fix.
    """
    label = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "<bytes>")
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            limit = Image.MAX_IMAGE_PIXELS  # up to twice this, Pillow itself only warns
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            image.load()
            turn = _turn(image)
            picture = _rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed hostile bytes raises nearly anything
        raise UnreadableImage(label, *_reason(error, source)) from error
    return picture if turn is None else picture.transpose(turn)


def looks_like_image(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow knows: `Image.open` fails on an unknown one."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What puts a loaded picture upright, if it is not. (Loading turned a TIFF, and cleared its tag.)"""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF breaks in many ways, and the pixels are still good
        return None


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as 8-bit RGB."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image, dtype=np.float64))).convert("RGB")
    if image.mode == "La":  # premultiplied grey: Pillow only converts it to LA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey values (H, W) without a declared range as 0..255; what is not a number becomes black.

    The range is the smallest of 0..1, 0..255, 0..65535 that holds every value, else the picture's own.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= 65535:
        low, high = 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values - low) / max(high - low, 1e-30) * 255
    return (np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255) + 0.5).astype(np.uint8)


def _reason(error: Exception, source: Source) -> tuple[str, str]:
    """Why decoding failed and what to do about it."""
    again = "Copy it again or delete it."
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "Check the path."
    if isinstance(error, IsADirectoryError) or (isinstance(source, str | os.PathLike) and os.path.isdir(source)):
        return "it is a folder", "Name an image file."
    if isinstance(error, PermissionError):
        return "its permissions forbid reading it", "Change them, or run as a user who may read it."
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        fix = "Shrink it first; if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS."
        return f"it unpacks to more pixels than is safe ({error})", fix
    if isinstance(error, UnidentifiedImageError):
        start = _start(source)
        if not start:
            return "it is empty (0 bytes)", again
        return f"it is not an image of a known format; it begins with {start!r}", again
    return f"it is cut short or damaged ({error or type(error).__name__})", again


def _start(source: Source) -> bytes:
    """The first bytes of a file, for a message."""
    if isinstance(source, bytes):
        return source[:12]
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return file.read(12)
    source.seek(0)
    return source.read(12)


Picture = Image.Image | Path | str
Pictures = Picture | Iterable[Picture]
"""One picture or several, as they are or as files."""


def opened(images: Pictures) -> Iterator[Image.Image]:
    """Pictures, read where files are named. Raises UnreadableImage when it comes to one that cannot be read."""
    several = [images] if isinstance(images, Picture) else images
    return (image if isinstance(image, Image.Image) else read_image(Path(image)) for image in several)
