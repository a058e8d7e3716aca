"""Pictures as users have them: files, opened images, arrays, tensors. All are read as `read_image` reads a file.

- a path, the bytes of a file, or a file that is open for reading;
- a `PIL.Image`: its EXIF orientation is applied, transparency is laid over white, and its depth is minded, as in a
  file. One that was opened and not loaded yet is read from its file;
- a NumPy array (H, W) or (H, W, 1) in grey, (H, W, 3) RGB, (H, W, 4) RGBA, or several in (n, H, W, C): of uint8
  0..255, bool, or other integers and floats, which are read as a file of that type is (floats by the model's range
  of floats, 0..1 where it has none);
- a tensor (3, H, W) or (1, H, W), or several in (n, 3, H, W) or (n, 1, H, W): uint8 0..255, or floats 0..1.

Everything else is refused, normalised tensors among it: these are what a model is called with.
"""

import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from vitgraft.data.doubts import Doubts
from vitgraft.data.pictures.decode import Decoded, UnreadableImage, decode
from vitgraft.data.pictures.deep import pillow
from vitgraft.data.pictures.deep.samples import NoPicture, of_array
from vitgraft.data.pictures.ranges import MAX_PIXELS, Ranges
from vitgraft.data.pictures.signatures import format_of, head_of
from vitgraft.errors import DataError, Told
from vitgraft.kinds import shown

Picture = Image.Image | str | PathLike[str] | bytes | BinaryIO | NDArray[Any] | Tensor
"""One picture: see the top of this file."""

Pictures = Picture | Iterable[Picture]
"""One picture, or several."""

ARRAYS = (
    "Arrays are (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, or (n, H, W, 1, 3 or 4) for several, of uint8 0..255, "
    "bool, another integer type, or floats"
)
TENSORS = "Tensors are (3, H, W) or (n, 3, H, W), or of 1 channel, of uint8 0..255 or floats 0..1"


def taken(picture: Picture, max_pixels: int = MAX_PIXELS) -> Decoded:
    """One picture, decoded.

    Raises:
        DataError: no picture; an array or tensor of another layout, type or range.
        UnreadableImage: a file or an image that cannot be read.
    """
    if isinstance(picture, np.ndarray | Tensor):
        found = list(_several(picture))
        if len(found) != 1:
            raise DataError(f"{_what(picture)} is {len(found)} pictures, and one is wanted here.")
        return found[0]
    if isinstance(picture, Image.Image):
        return _of_image(picture, max_pixels)
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode(bytes(picture), max_pixels=max_pixels)
    if isinstance(picture, str | PathLike):
        return decode(Path(picture), max_pixels=max_pixels)
    if hasattr(picture, "read") and hasattr(picture, "seek"):
        return decode(picture, str(getattr(picture, "name", "<file>")), max_pixels=max_pixels)
    raise DataError(
        f"{shown(picture)} is no picture. Give a path, the bytes of a file, a PIL image, an array or a tensor. "
        f"{ARRAYS}. {TENSORS}."
    )


def each(pictures: Pictures, max_pixels: int = MAX_PIXELS) -> Iterator[Decoded]:
    """Pictures of one or of several, each decoded when it is asked for. Raises what `taken` does."""
    if isinstance(pictures, np.ndarray | Tensor):
        yield from _several(pictures)
    elif isinstance(pictures, Iterable) and not _is_one(pictures):
        several: Iterable[Any] = pictures
        for picture in several:
            yield taken(picture, max_pixels)
    else:
        yield taken(pictures, max_pixels)  # type: ignore[arg-type]


def opened(images: Pictures, ranges: Ranges | None = (), max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Pictures as upright 8-bit RGB, read when they are asked for; see the top of this file.

    A warning (`Told`) names those that the ranges hardly fit.

    Raises:
        DataError: when it comes to what is no picture, or cannot be read.
    """
    doubts = Doubts()
    for found in each(images, max_pixels):
        doubts.look(found, ranges)
        yield found.picture(ranges)
    for line in doubts.lines():
        warnings.warn(line, Told, stacklevel=2)


def _several(pictures: NDArray[Any] | Tensor) -> Iterator[Decoded]:
    array = _of_tensor(pictures) if isinstance(pictures, Tensor) else _of_array(pictures)
    return (_of_values(one, _what(pictures)) for one in array)


def _of_values(values: NDArray[Any], what: str) -> Decoded:
    """A picture of an array (H, W, C), C of 1, 3 or 4."""
    values = values.astype(np.uint8) * 255 if values.dtype == bool else values
    if values.dtype == np.uint8:
        values = np.ascontiguousarray(values)
        return Decoded(what, Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values))
    colours, alpha = (values[..., :3], values[..., 3]) if values.shape[-1] == 4 else (values, None)
    try:
        return Decoded(what, of_array(colours, alpha))
    except NoPicture as error:
        raise UnreadableImage.of(what, *error.args) from None


def _of_image(image: Image.Image, max_pixels: int) -> Decoded:
    name = str(getattr(image, "filename", "") or "<PIL image>")
    try:
        content = _untouched(image)
        if content is None:
            image.load()
            samples = pillow.of_opened(image, None)
            return Decoded(name, image if samples is None else samples)
    except MemoryError:
        raise
    except NoPicture as error:
        raise UnreadableImage.of(name, *error.args) from None
    except Exception as error:  # Pillow, fed a damaged or a closed file
        reason = f"it is cut short, damaged or closed ({error or type(error).__name__})"
        raise UnreadableImage.of(name, reason, "Open it again, or give its path.") from error
    return decode(content, name, max_pixels=max_pixels)


def _is_one(pictures: object) -> bool:
    file = hasattr(pictures, "read") and hasattr(pictures, "seek")
    return file or isinstance(pictures, Image.Image | str | PathLike | bytes | bytearray | memoryview)


def _untouched(image: Image.Image) -> bytes | None:
    """The file of an image that was opened and not loaded or changed since; None if there is none.

    A colour image of 16 bits that was loaded has lost half of them; its file has them, if it shows the same.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format is None:
        return None
    if not image.tile or image.fp is None:
        return _deep_file(image)
    if (getattr(image, "is_animated", False) and image.tell() != 0) or image.fp.closed:
        return None
    where = image.fp.tell()
    try:
        image.fp.seek(0)
        content = bytes(image.fp.read())
    finally:
        image.fp.seek(where)
    with Image.open(BytesIO(content), formats=[image.format]) as fresh:
        same = (fresh.size, fresh.mode) == (image.size, image.mode)  # else `draft` was called
    return content if same else None


def _deep_file(image: ImageFile.ImageFile) -> bytes | None:
    path = getattr(image, "filename", "")
    if (
        image.format not in ("PNG", "TIFF")
        or image.mode not in ("RGB", "RGBA")
        or not path
        or not Path(path).is_file()
    ):
        return None
    head = head_of(path)
    if format_of(head) == "PNG" and head[24] != 16:
        return None
    content = Path(path).read_bytes()
    with Image.open(BytesIO(content), formats=[image.format]) as fresh:
        deep = ";16" in str(fresh.tile[0][3]) if fresh.tile else False
        same = deep and fresh.size == image.size and fresh.tobytes() == image.tobytes()
    return content if same else None


def _what(pictures: NDArray[Any] | Tensor) -> str:
    kind = "a tensor" if isinstance(pictures, Tensor) else "an array"
    return f"{kind} {tuple(pictures.shape)} of {str(pictures.dtype).removeprefix('torch.')}"


def _of_array(array: NDArray[Any]) -> NDArray[Any]:
    """An array as pictures (n, H, W, C). Raises DataError."""
    if array.dtype.kind not in "buif":
        raise DataError(f"{_what(array)} is no picture. {ARRAYS}.")
    shaped = array
    if array.ndim == 2:
        shaped = array[None, ..., None]
    elif array.ndim == 3:
        shaped = array[None]
    if shaped.ndim != 4 or shaped.shape[-1] not in (1, 3, 4) or 0 in shaped.shape[1:]:
        first = array.ndim in (3, 4) and array.shape[-3] in (1, 3, 4)
        hint = " Channels come last: numpy.moveaxis(array, -3, -1) puts them there." if first else ""
        raise DataError(f"{_what(array)} is no picture. {ARRAYS}.{hint}")
    return shaped


def _of_tensor(tensor: Tensor) -> NDArray[Any]:
    """A tensor as pictures (n, H, W, C) of uint8. Raises DataError."""
    if tensor.layout != torch.strided or tensor.is_meta:
        raise DataError(f"{_what(tensor)} is sparse or has no values. {TENSORS}.")
    shaped = tensor.detach()[None] if tensor.ndim == 3 else tensor.detach()
    if shaped.ndim != 4 or shaped.shape[1] not in (1, 3) or 0 in shaped.shape[2:]:
        last = tensor.ndim in (3, 4) and tensor.shape[-1] in (1, 3, 4)
        hint = " Channels come first in tensors: tensor.movedim(-1, -3) puts them there." if last else ""
        raise DataError(f"{_what(tensor)} is no picture. {TENSORS}.{hint}")
    if shaped.is_floating_point():
        shaped = shaped.float()
        if not bool(((shaped >= 0) & (shaped <= 1)).all()):  # NaN is neither
            low, high = (float(end) for end in shaped.aminmax())
            raise DataError(
                f"{_what(tensor)} has values from {low:.4g} to {high:.4g}. {TENSORS}. What is normalised already "
                "is what the model itself is called with: model(tensor)."
            )
        shaped = (shaped * 255).round().byte()
    elif str(shaped.dtype) != "torch.uint8":
        raise DataError(f"{_what(tensor)} is of a type without a range. {TENSORS}.")
    return np.asarray(shaped.movedim(1, -1).cpu().numpy())
