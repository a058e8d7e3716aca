"""The numbers of what Pillow opens: 16-bit grey as it is, both bytes of 16-bit colour, 32 bits and floats."""

import re
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from vitgraft.data.pictures.deep import tiff
from vitgraft.data.pictures.deep.opening import load, open_any
from vitgraft.data.pictures.deep.samples import NoPicture, Samples, of_array
from vitgraft.data.pictures.signatures import head_of

GREYS = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
"""Pillow's modes of more than 8 bits."""

_SIXTEEN = re.compile(r"(.*);16([LBN])$")  # raw modes of which Pillow keeps one byte in two
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
PHOTOMETRIC, BITS, SIGN, PLANES = 262, 258, 339, 284
"""Tags of TIFF."""


def of_opened(image: Image.Image, file: BinaryIO | None) -> Samples | None:
    """The samples of a picture of more than 8 bits; None if it has no more.

    `file` holds what `image` was opened from, and was not loaded from yet; None if that is not at hand.
    """
    if file is not None and image.format == "TIFF" and _loses(image):
        return tiff.samples(file)
    tile = getattr(image, "tile", None) or [None]
    raw = _raw_mode(tile[0])
    if file is not None and raw is not None and _SIXTEEN.match(raw) and image.mode in ("RGB", "RGBA"):
        return _both_bytes(image, file, raw)
    if image.mode not in GREYS:
        if file is not None and image.format == "JPEG2000" and _precision(file) == 16:
            _refuse_dark(image)
        return None
    load(image)
    values = np.asarray(image)
    if image.mode == "I":
        values = _integers(image, values)
    key = image.info.get("transparency")
    alpha = None if not isinstance(key, int) else np.where(values == key, 0, 65535).astype(np.uint16)
    scaled = image.format in ("PPM", "JPEG2000") and image.mode != "F"  # by Pillow, to what 16 bits hold
    declared = (0.0, 65535.0) if scaled and not (file is not None and _precision(file) == 16) else None
    return of_array(
        values, alpha, inverted=_tag(image, PHOTOMETRIC) == 0, declared=declared, orientation=orientation(image)
    )


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is opened and not loaded has more than 8 bits a channel."""
    raw = _raw_mode((getattr(image, "tile", None) or [None])[0])
    return image.mode in GREYS or _loses(image) or (raw is not None and _SIXTEEN.match(raw) is not None)


def _integers(image: Image.Image, values: NDArray[Any]) -> NDArray[Any]:
    """Pillow's 32-bit integers as what the file has."""
    kinds = {(16, 2): np.int16, (32, 1): np.uint32}
    kind: Any = kinds.get((_tag(image, BITS), _tag(image, SIGN)), np.int32)
    if image.format == "PNG":
        kind, values = np.uint16, np.clip(values, 0, 65535)
    found: NDArray[Any] = values.astype(kind)
    return found


def _tag(image: Image.Image, tag: int) -> Any:
    """The first value of a TIFF's tag; None if there is none. A sample format that is not said is 1."""
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(tag, 1 if tag == SIGN else None)
    return value[0] if isinstance(value, tuple) and value else value


def _raw_mode(tile: Any) -> str | None:
    arguments = None if tile is None else tile[3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else None


def _loses(image: Image.Image) -> bool:
    """Whether Pillow opens a TIFF in a way that loses something: signed bytes, planes of 16 bits."""
    deep = (_tag(image, BITS) or 1) > 8
    return (_tag(image, SIGN) == 2 and _tag(image, BITS) == 8) or (deep and _tag(image, PLANES) == 2)


def _both_bytes(image: Image.Image, file: BinaryIO, raw: str) -> Samples:
    """16-bit colour, perhaps with alpha, of which Pillow decodes a byte at a time."""
    bands = raw.split(";")[0]
    (upper, turn), (lower, _) = (_bytes(file, image.format or "", raw, part) for part in (False, True))
    whole = upper.astype(np.uint16) << 8 | lower
    if bands == "LA":
        return of_array(whole[..., 0], whole[..., 1], orientation=turn)
    colours = whole[..., :3]
    key = image.info.get("transparency")
    if isinstance(key, tuple):
        hidden = (colours == np.array(key[:3], np.uint16)).all(-1)
        return of_array(colours, np.where(hidden, 0, 65535).astype(np.uint16), orientation=turn)
    alpha = whole[..., 3] if bands in ("RGBA", "RGBa") else None
    return of_array(colours, alpha, premultiplied=bands == "RGBa", orientation=turn)


def _bytes(file: BinaryIO, format: str, raw: str, lower: bool) -> tuple[NDArray[np.uint8], int]:
    """The upper or the lower byte of each value, (H, W, C), and the orientation that is left."""
    image = open_any(file, (format,))
    bands, order = raw.split(";16")
    byte = _OTHER[order] if lower else order
    image.tile = [_with_raw(tile, bands, byte) for tile in image.tile]
    if bands == "LA":
        image._mode = "RGBA"  # its four bytes a pixel are read as they are
    load(image)
    values = np.asarray(image)
    return values[..., int(lower) :: 2] if bands == "LA" else values, orientation(image)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of a loaded picture. (Loading turned a TIFF, and cleared its tag.)"""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF breaks in many ways, and the pixels are still good
        return 1


def _with_raw(tile: Any, bands: str, byte: str) -> Any:
    """A tile that is decoded by another raw mode."""
    name = {"LA": "RGBA", "RGBa": f"RGBA;16{byte}"}.get(bands, f"{bands};16{byte}")
    arguments = (name, *tile[3][1:]) if isinstance(tile[3], tuple) else name
    return type(tile)(*tile[:3], arguments) if hasattr(tile, "_fields") else (*tile[:3], arguments)


def _precision(file: BinaryIO) -> int:
    """Bits a channel of a JPEG 2000 file; 0 of others."""
    head = head_of(file)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 0


def _refuse_dark(image: Image.Image) -> None:
    """Raise NoPicture where the 8 of 16 bits that Pillow keeps of JPEG 2000 in colour hold next to nothing."""
    load(image)
    most = max(high for _, high in np.atleast_2d(np.array(image.getextrema())))
    if 0 < most < 64:
        raise NoPicture(
            "it is JPEG 2000 in colour of 16 bits that uses the lower ones only, and the upper 8 can be read",
            "Convert it to a 16-bit TIFF: opj_decompress -i in.jp2 -o out.tif.",
        )
