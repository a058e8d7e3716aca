"""From an image file to an upright 8-bit RGB picture, whatever the file holds.

Decisions, each made once here:
- transparent pixels are laid over white;
- of more than 8 bits a channel, `depth` says which value is black and which is white;
- an animation is its first frame; EXIF orientation is applied; colour profiles are ignored;
- the content decides what a file is, not its name; what is not read is called what it is (`signatures`);
- a picture of more than `max_pixels` is refused, for a few kilobytes can unpack to all of the memory; one of more
  than `LARGE` is brought below that by averaging squares of pixels, long before a transform makes it small.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from vitgraft.data.pictures import depth
from vitgraft.data.pictures.deep import netpbm, pillow, tiff
from vitgraft.data.pictures.deep.opening import FORMATS, load, open_any
from vitgraft.data.pictures.deep.samples import NoPicture, Samples
from vitgraft.data.pictures.ranges import MAX_PIXELS, Ranges
from vitgraft.data.pictures.signatures import format_of, head_of, opener_of, unread
from vitgraft.errors import DataError

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
LARGE = (1 << 30) // 12
"""Pixels (89 million, Pillow's own limit) up to which a picture is kept as it is."""

RULES = 2
"""Changes when this file or `deep` begin to read or to refuse other files than before."""

SUBFILE, SUB_IFDS, DNG = 254, 330, 50706
"""Tags of TIFF by which a camera's raw file is told from a picture."""

Source = str | os.PathLike[str] | bytes | BinaryIO


class UnreadableImage(DataError):
    """An image that cannot be decoded: `reason` says why, `fix` what to do; the message names the file, too."""

    def __init__(self, message: str, reason: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message
        self.fix = fix

    @classmethod
    def of(cls, name: str, reason: str, fix: str) -> "UnreadableImage":
        return cls(f"Cannot read image '{name}': {reason}. {fix}", reason, fix)


@dataclass(frozen=True)
class Decoded:
    """A picture that was decoded: an image of 8 bits, or the numbers of one that has more, and its name."""

    name: str
    found: Image.Image | Samples

    def picture(self, ranges: Ranges | None = ()) -> Image.Image:
        """The upright 8-bit RGB picture, of which nothing but the pixels is left, with the ranges of a model.

        Raises:
            UnreadableImage: no range says which of its values is black and which is white.
        """
        if isinstance(self.found, Samples):
            try:
                picture = Image.fromarray(depth.rgb(self.found, ranges))
            except depth.UnknownRange as error:
                raise UnreadableImage.of(self.name, *error.args) from None
            turn = TURNS.get(self.found.orientation)
        else:
            picture, turn = _rgb(self.found), TURNS.get(pillow.orientation(self.found))
        if picture.width * picture.height > LARGE:
            picture = picture.reduce(ceil(sqrt(picture.width * picture.height / LARGE)))
        picture = picture if turn is None else picture.transpose(turn)
        picture.info = {}  # what was done is not to be done again
        return picture


def decode(source: Source, name: str | None = None, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode a path, the bytes of a file, or an open binary file; messages call it `name`, by default its path.

    Raises:
        UnreadableImage: a DataError that names the file, the reason and the fix.
    """
    label = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "<bytes>")
    try:
        with _opened(source) as file:
            return Decoded(label, _decoded(file, max_pixels))
    except MemoryError:
        raise
    except Exception as error:  # a decoder fed hostile bytes raises nearly anything
        raise UnreadableImage.of(label, *_reason(error, source)) from error


def read_image(
    source: Source,
    name: str | None = None,
    *,
    ranges: Ranges | None = (),
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A file as an upright 8-bit RGB picture, with the ranges of a data set or a model. Raises as `decode`."""
    return decode(source, name, max_pixels=max_pixels).picture(ranges)


def _decoded(file: BinaryIO, max_pixels: int) -> Image.Image | Samples:
    """What a file holds: an image of 8 bits that is loaded, or the numbers of one that has more.

    Raises:
        NoPicture: a file that is fine, and not read here.
        Exception: whatever a damaged file makes of a decoder.
    """
    head = head_of(file)
    if not head:
        raise UnidentifiedImageError("empty")
    name = format_of(head)
    opener = opener_of(name)
    if name is not None and opener is None:
        raise NoPicture(*unread(name))
    if name in ("netpbm", "PFM"):
        _check_size(netpbm.size(head), max_pixels)
        if (samples := netpbm.samples(file)) is not None:
            return samples
    formats = FORMATS if opener is None or opener in FORMATS else (opener,)
    try:
        image = open_any(file, formats)
    except UnidentifiedImageError:
        if name != "TIFF":
            raise
        _check_size(tiff.size(file), max_pixels)
        return tiff.samples(file)
    _check_size(image.size, max_pixels)
    _refuse_preview(image)
    samples = pillow.of_opened(image, file)
    if samples is not None:
        return samples
    load(image)
    return image


def looks_like_image(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _check_size(size: tuple[int, int], limit: int) -> None:
    """Raise NoPicture if a picture has too many pixels."""
    if size[0] * size[1] > limit:
        raise NoPicture(
            f"it unpacks to {size[0]:,} x {size[1]:,} pixels, and no more than {limit:,} are read (--max-pixels)",
            f"If you trust it, say so: --max-pixels {size[0] * size[1]} (in Python, max_pixels=...).",
        )


def _refuse_preview(image: Image.Image) -> None:
    """Raise NoPicture where a TIFF begins with the small preview of a camera's raw picture."""
    tags = getattr(image, "tag_v2", {})
    if int(tags.get(SUBFILE) or 0) & 1 and (SUB_IFDS in tags or DNG in tags):
        raise NoPicture(*unread("camera raw"))


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of 8 bits as RGB."""
    if image.mode == "La":  # premultiplied grey: Pillow only converts it to LA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """A source as an open file, which stays open if it is the caller's."""
    if isinstance(source, bytes):
        yield BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield file
    else:
        yield source


def _reason(error: Exception, source: Source) -> tuple[str, str]:
    """Why decoding failed and what to do about it."""
    again = "Copy it again from where it came, or leave it out."
    if isinstance(error, NoPicture):
        return str(error.args[0]), str(error.args[1])
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "Check the path."
    if isinstance(error, IsADirectoryError) or (isinstance(source, str | os.PathLike) and os.path.isdir(source)):
        return "it is a folder", "Name an image file."
    if isinstance(error, PermissionError):
        return "its permissions forbid reading it", "Change them, or run as a user who may read it."
    if isinstance(error, UnidentifiedImageError) and (head := head_of(source)[:12]) is not None:
        if not head:
            return "it is empty (0 bytes)", again
        if not any(head):
            return "it begins with zeros only, as a copy that was not finished", again
        if format_of(head_of(source)) is None:
            return f"it is not an image of a known format; it begins with {head!r}", again
    return f"it is cut short or damaged ({error or type(error).__name__})", again


def is_deep(path: Path) -> bool:
    """Whether a file may hold more than 8 bits a channel, by its header alone; False if it cannot be read."""
    try:
        head = head_of(path)
        name = format_of(head)
        if name == "PNG":
            return head[24:25] == b"\x10"
        if name in ("netpbm", "PFM"):
            return netpbm.is_deep(head)
        if name not in ("TIFF", "JPEG 2000"):
            return False
        with path.open("rb") as file:
            try:
                return pillow.is_deep(open_any(file))
            except UnidentifiedImageError:
                return name == "TIFF"
    except Exception:  # damage is told when the picture is read
        return False
