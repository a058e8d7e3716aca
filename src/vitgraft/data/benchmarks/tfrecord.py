"""TFRecord files without TensorFlow: where the records are, and the features of a `tf.train.Example`.

A record is its length (8 bytes, little-endian), a masked CRC-32C of these 8 bytes, the message, and a CRC of that.
The length's CRC is checked, which finds files that were cut or shifted; the message's is not, since the pictures
have their own. Of a message only the features that are asked for are decoded.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEAD, TAIL = 12, 4  # bytes before and behind a message
VARINT, WIDE, NESTED, NARROW = 0, 1, 2, 5  # protobuf's wire types


class Span(NamedTuple):
    """Bytes `start` to `stop` of a file."""

    start: int
    stop: int


def messages(data: memoryview, most: int | None = None) -> Iterator[Span]:
    """Where the messages of a TFRecord file lie, the first `most` of them.

    Raises:
        ValueError: a file that is cut short or is none.
    """
    at, count = 0, 0
    while at < len(data) and (most is None or count < most):
        if at + HEAD > len(data):
            raise ValueError(f"it is cut short behind record {count}")
        length, check = struct.unpack_from("<QI", data, at)
        if masked_crc(bytes(data[at : at + 8])) != check:
            raise ValueError(f"record {count} does not begin as a record does")
        start = at + HEAD
        at = start + length + TAIL
        if at > len(data):
            raise ValueError(f"it is cut short within record {count}")
        yield Span(start, start + length)
        count += 1


class Features:
    """The features of one example, by name: where they lie, decoded when asked for."""

    def __init__(self, data: memoryview, message: Span) -> None:
        self._data = data
        self._spans: dict[str, Span] = {}
        for number, features in _fields(data, message):
            if number == 1:
                for _, entry in _fields(data, features):
                    parts = dict(_fields(data, entry))
                    self._spans[bytes(data[slice(*parts[1])]).decode()] = parts[2]

    def integers(self, name: str) -> list[int]:
        """A feature of whole numbers. Raises ValueError."""
        found = []
        for _, span in _fields(self._data, self._values(name, 3)):
            at = span.start
            while at < span.stop:
                value, at = _varint(self._data, at)
                found.append(value - (1 << 64) if value >> 63 else value)
        return found

    def floats(self, name: str) -> NDArray[np.float32]:
        """A feature of numbers. Raises ValueError."""
        values = self._values(name, 2)
        parts = [np.frombuffer(self._data[slice(*span)], dtype="<f4") for _, span in _fields(self._data, values)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def content(self, name: str) -> Span:
        """Where the bytes of a feature lie, such as an encoded picture. Raises ValueError."""
        spans = [span for _, span in _fields(self._data, self._values(name, 1))]
        if len(spans) != 1:
            raise ValueError(f"feature {name!r} holds {len(spans)} values, expected one")
        return spans[0]

    def _values(self, name: str, kind: int) -> Span:
        """Where the list of a feature lies, nowhere if empty. `kind` is 1 for bytes, 2 floats, 3 integers."""
        if name not in self._spans:
            raise ValueError(f"a record has no feature {name!r}")
        for found, values in _fields(self._data, self._spans[name]):
            if found != kind:
                raise ValueError(f"feature {name!r} is of another kind than expected")
            return values
        return Span(0, 0)


def _fields(data: memoryview, message: Span) -> Iterator[tuple[int, Span]]:
    """The fields of a protobuf message: their numbers, and where the values lie. Packed or not is the same."""
    at, stop = message
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        start = at
        if wire == NESTED:
            length, start = _varint(data, at)
            at = start + length
        elif wire == VARINT:
            _, at = _varint(data, at)
        elif wire in (WIDE, NARROW):
            at += 8 if wire == WIDE else 4
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if at > stop:
            raise ValueError("a field reaches beyond its record")
        yield number, Span(start, at)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next one begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number does not end")


def _table() -> tuple[int, ...]:
    """CRC-32C of every byte (Castagnoli's polynomial, bits reversed)."""
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_CRC = _table()


def masked_crc(content: bytes) -> int:
    """The CRC-32C of TFRecord: rotated by 15 bits, a constant added."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def open_records(file: Path) -> memoryview:
    """A file as memory that the system pages in where it is read. An empty file cannot be mapped."""
    import mmap

    with file.open("rb") as handle:
        if file.stat().st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
