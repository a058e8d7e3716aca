"""Memory as people write it, what this process holds of it, and a C library that gives back what is freed.

It imports no torch until it is asked of an accelerator.
"""

import ctypes
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

import psutil

from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    import torch

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b)", re.IGNORECASE)

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt."""

RETURNED = 1 << 20
"""Bytes from which a freed tensor goes back to the system at once, if that is asked for."""


def bytes_of(text: str) -> int:
    """`4GiB`, `500 MiB` or `8GB` in bytes. Raises ConfigError."""
    match = WRITTEN.fullmatch(str(text).strip())
    unit = UNITS.get(match[2].upper()) if match else None
    found = round(float(match[1]) * unit) if match and unit else 0
    if not found:
        raise ConfigError(f"memory={text!r} is no amount of memory. Write 4GiB, 500MiB or 8GB.")
    return found


def written(count: float) -> str:
    """Bytes as people read them, in binary units."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def held(device: "torch.device") -> int:
    """Bytes that this process holds now: of a CUDA device, or, where it computes on a CPU, of the host.

    Raises:
        ConfigError: another accelerator, of which nobody says.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.memory_allocated(device))
    if device.type != "cpu":
        raise ConfigError(
            f"A limit of memory can be held on a CPU or with CUDA, not on {device.type}. Leave it out."
        )
    return int(psutil.Process().memory_info().rss)


def free(device: "torch.device") -> int:
    """Bytes that a process could still take: of a CUDA device, or of the host."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@cache
def give_back() -> bool:
    """Have the C library return large freed blocks at once, for the rest of the process; True if it does.

    glibc keeps them in a heap that tensors of many sizes fragment: a training process then holds up to half as
    much again as its tensors take. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, RETURNED) and mallopt(TRIM_THRESHOLD, RETURNED))
