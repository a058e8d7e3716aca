"""Files of pictures of more than 8 bits, written byte by byte, so that no reader tests itself."""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's colour type
FORMATS = {"u": 1, "i": 2, "f": 3}  # numpy's kind -> TIFF's sample format


def png16(values: NDArray[Any], *chunks: tuple[bytes, bytes]) -> bytes:
    """A 16-bit PNG of (H, W) or (H, W, C), C of 1 to 4, filtered as writers do; `chunks` go before the data."""
    height, width, channels = (*values.shape, 1)[:3]
    rows = np.asarray(values).astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    step = 2 * channels
    left = np.concatenate([np.zeros((height, step), int), rows[:, :-step]], axis=1)
    filtered = ((rows - left) % 256).astype(np.uint8)  # filter 1: the difference to the pixel on the left
    raw = b"".join(b"\1" + row.tobytes() for row in filtered)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(
    values: NDArray[Any],
    *,
    order: str = "<",
    photometric: int | None = None,
    extra: int | None = None,
    planes: bool = False,
    deflate: bool = False,
    orientation: int = 1,
) -> bytes:
    """A TIFF of (H, W) or (H, W, C) of any type, in one strip (or one a plane)."""
    values = values if values.ndim == 3 else values[..., None]
    height, width, channels = values.shape
    data = np.moveaxis(values, -1, 0) if planes else values[None]
    strips = [part.astype(values.dtype.newbyteorder(order)).tobytes() for part in data]
    strips = [zlib.compress(strip) if deflate else strip for strip in strips]
    first = 8
    offsets = [first + sum(map(len, strips[:n])) for n in range(len(strips))]
    colours = 3 if channels >= 3 else 1
    tags: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [values.dtype.itemsize * 8] * channels),
        (259, 3, [8 if deflate else 1]),
        (262, 3, [(2 if colours == 3 else 1) if photometric is None else photometric]),
        (273, 4, offsets),
        (274, 3, [orientation]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, list(map(len, strips))),
        (284, 3, [2 if planes else 1]),
        *([(338, 3, [extra])] if extra is not None else []),
        (339, 3, [FORMATS[values.dtype.kind]] * channels),
    ]
    start = first + sum(map(len, strips))
    after = start + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, kind, content in tags:
        packed = struct.pack(f"{order}{len(content)}{'H' if kind == 3 else 'I'}", *content)
        where = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", after + len(more))
        more += packed if len(packed) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, kind, len(content)) + where
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    body = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return head + b"".join(strips) + body + more
