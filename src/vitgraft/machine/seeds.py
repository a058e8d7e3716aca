"""Everything random in training is a function of (seed, epoch, step, ...), so nothing random need be stored."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

ORDER, DROPOUT, PICTURE, PROBE, DRAW, INITIAL = range(6)
"""What a seed is for, so that no two purposes share one."""


def derive(*key: int) -> int:
    """The seed, 0 to 2⁶³ - 1, named by non-negative integers such as (seed, purpose, epoch, step)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def seed_all(seed: int, device: torch.device) -> None:
    """Seed the global generators of Python, numpy, and torch on the CPU and on `device`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed takes a millisecond for accelerators that are not in use, and remembers every call.
    torch.default_generator.manual_seed(seed)
    if device.type == "mps":
        torch.mps.manual_seed(seed)
    elif device.type != "cpu":
        module = torch.get_device_module(device)
        with module.device(device):
            module.manual_seed(seed)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the caller's generators (Python, numpy, torch on the CPU and on `device`) their states back."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [_index(device)] if device.type in ("cuda", "xpu") else []
    kind = device.type if devices else "cuda"
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _index(device: torch.device) -> int:
    """The number of an accelerator's device; one without a number is the current one."""
    return torch.accelerator.current_device_index() if device.index is None else device.index


@contextmanager
def picture_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator alone, for one picture's augmentation."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
