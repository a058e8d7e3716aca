"""Netpbm files of more than 8 bits, and PFM: numbers after some words of text. Pillow scales them, or fails."""

import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.pictures.deep.samples import Samples, of_array

_WORD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
_HEADER = 1 << 12
_CHANNELS = {b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}


def samples(file: BinaryIO) -> Samples | None:
    """The values of a PGM or PPM of more than 8 bits, or of a PFM; None of other files.

    A greatest value below 65535 is a range that the file declares.

    Raises:
        ValueError: the file is cut short, or its header is none.
    """
    file.seek(0)
    head = file.read(_HEADER)
    words, end = _words(head)
    if not _is_deep(words):
        return None
    floats = words[0] in (b"Pf", b"PF")
    shape = int(words[2]), int(words[1]), _CHANNELS[words[0]]
    if min(shape) < 1:
        raise ValueError(f"{shape[1]} x {shape[0]} pixels")
    file.seek(end + 1)  # one blank ends the header
    if floats:
        return of_array(_read(file, "<f4" if float(words[3]) < 0 else ">f4", shape)[::-1])
    top = int(words[3])
    plain = words[0] in (b"P2", b"P3")
    values = _text(file, shape) if plain else _read(file, ">u2", shape)
    return of_array(values.astype(np.uint16), declared=None if top == 65535 else (0.0, float(top)))


def is_deep(head: bytes) -> bool:
    """Whether a file that begins like this has more than 8 bits."""
    return _is_deep(_words(head)[0])


def _is_deep(words: list[bytes]) -> bool:
    if len(words) < 4 or words[0] not in _CHANNELS:
        return False
    return words[0] in (b"Pf", b"PF") or (words[3].isdigit() and 255 < int(words[3]) < 65536)


def _words(head: bytes) -> tuple[list[bytes], int]:
    """The four words of a header, and where the last one ends."""
    words: list[bytes] = []
    end = 0
    while len(words) < 4 and (word := _WORD.match(head, end)) is not None:
        words.append(word[1])
        end = word.end()
    return words, end


def size(head: bytes) -> tuple[int, int]:
    """Width and height that a header says, (0, 0) if it is none."""
    words = _WORD.findall(head)[:3]
    return (int(words[1]), int(words[2])) if len(words) == 3 and all(w.isdigit() for w in words[1:]) else (0, 0)


def _read(file: BinaryIO, kind: str, shape: tuple[int, int, int]) -> NDArray[Any]:
    count = int(np.prod(shape))
    content = file.read(count * np.dtype(kind).itemsize)
    if len(content) < count * np.dtype(kind).itemsize:
        raise ValueError(f"{count:,} values announced, {len(content) // np.dtype(kind).itemsize:,} there")
    return np.frombuffer(content, kind).reshape(shape)


def _text(file: BinaryIO, shape: tuple[int, int, int]) -> NDArray[Any]:
    words = re.sub(rb"#[^\n]*", b"", file.read()).split()
    if len(words) < np.prod(shape):
        raise ValueError(f"{np.prod(shape):,} values announced, {len(words):,} there")
    return np.array(words[: int(np.prod(shape))], dtype=np.int64).reshape(shape)
