"""The most memory that some work needs, on a CUDA device or on the host."""

import ctypes
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from vitgraft.train.cost import MIB, peak_memory_mib


@dataclass(frozen=True)
class Peak:
    """In MiB: the most that was held at any moment, and by how much that is more than before the work.

    On the host the first is the whole process, libraries and all; on a CUDA device it is tensors alone. None where
    the system does not say.
    """

    most: float | None
    growth: float | None


def peak_of(work: Callable[[], Any], device: torch.device) -> Peak:
    """What `work` needs. On the host, call it in a fresh process: memory that was used before is used again."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / MIB
        work()
        torch.cuda.synchronize(device)
    else:
        _give_back()
        reset = _forget_peak()
        before = psutil.Process(os.getpid()).memory_info().rss / MIB
        work()
        if device.type != "cpu":
            return Peak(None, None)
        if not reset:
            return Peak(peak_memory_mib(device), None)
    most = peak_memory_mib(device)
    return Peak(most, None if most is None else max(0.0, most - before))


def _give_back() -> None:
    """Return to the system what was freed, or the work would use it, and seem to need less (glibc keeps some)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> bool:
    """Make what this process holds now its peak so far; False where the system cannot (only Linux can)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
