"""Where memory goes: every tensor that torch makes in a piece of work, followed from its birth to its death.

Work on b images holds `constant + per_image b` bytes at each moment; what it needs is the largest of these sums.
Both parts come from one look at a batch whose size is a prime that divides no size of the model: a tensor whose
bytes it divides grows with the images. So one look tells of every batch. What a kernel takes for itself is not
seen.

The look needs no values: `unreal()` makes tensors that have a shape and nothing else.
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

HARMLESS = 0.01
"""Part of a model's values that may look as if they grew with the images."""

SMALL, LARGE = (5, 7, 11, 13, 17, 19), (31, 37, 41, 43, 47, 53)
"""Batches to look at, the first that fits: of real work, which takes time, and of unreal work."""


@dataclass(frozen=True)
class Footprint:
    """What work needs beyond what was there: at each moment that matters (constant, per_image) bytes.

    `operations` counts calls of torch's kernels in it.
    """

    moments: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    operations: int = 0

    def bytes(self, images: int) -> float:
        """The most that is held at one moment of work on so many images."""
        return max(constant + each * images for constant, each in self.moments)

    def images(self, room: float, most: int) -> int:
        """The most images, up to `most`, that need no more than `room` bytes; 0 if one does not fit."""
        fits = [most if each == 0 else int((room - constant) // each) for constant, each in self.moments]
        there = all(constant <= room for constant, _ in self.moments)
        return max(min(most, *fits), 0) if there else 0

    def with_(self, constant: float = 0.0, per_image: float = 0.0) -> "Footprint":
        """The same work while so much more is held."""
        moments = tuple((base + constant, each + per_image) for base, each in self.moments)
        return Footprint(moments, self.operations)

    def or_(self, *others: "Footprint") -> "Footprint":
        """One work after the other, on the same images."""
        everything = (self, *others)
        return Footprint(
            _highest(moment for one in everything for moment in one.moments),
            sum(one.operations for one in everything),
        )


def batch_for(sizes: Iterable[int], primes: Sequence[int]) -> int:
    """The number of images to look at, for a model whose tensors have these many values each.

    A small tensor whose size it divides, such as a classifier of ten classes, does no harm.
    """
    sizes = list(sizes)

    def harm(prime: int) -> int:
        return sum(size for size in sizes if size % prime == 0)

    return next((prime for prime in primes if harm(prime) <= HARMLESS * sum(sizes)), primes[-1])


class Following(TorchDispatchMode):
    """While entered, follows the tensors that are made; `batch` images are worked on, see `batch_for`."""

    def __init__(self, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch, self.operations = batch, 0
        self.constant, self.per_image = 0.0, 0.0
        self._living: dict[int, _Held] = {}
        self._moments: dict[float, float] = {0.0: 0.0}

    @property
    def found(self) -> Footprint:
        """What was seen so far."""
        moments = ((constant, each) for each, constant in self._moments.items())
        return Footprint(_highest(moments), self.operations)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        results = out if isinstance(out, tuple | list) else (out,)
        for result, told in zip(results, _returns(func, len(results)), strict=True):
            if isinstance(result, Tensor) and told.alias_info is None:
                self._born(result.untyped_storage())
        return out

    def _born(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._living or not size:
            return
        grows = size % self.batch == 0
        held = _Held(weakref.ref(storage, lambda _: self._died(key)), size / self.batch if grows else size, grows)
        self._living[key] = held
        self._add(held, 1)
        if self.constant > self._moments.get(self.per_image, -1.0):
            self._moments[self.per_image] = self.constant

    def _died(self, key: int) -> None:
        self._add(self._living.pop(key), -1)

    def _add(self, held: "_Held", sign: int) -> None:
        if held.grows:
            self.per_image += sign * held.size
        else:
            self.constant += sign * held.size


@dataclass(frozen=True)
class _Held:
    reference: "weakref.ref[torch.UntypedStorage]"
    size: float
    grows: bool


def _returns(func: Any, count: int) -> list[Any]:
    """What an operation's schema says of each of its results; a list of tensors is one of them."""
    told = func._schema.returns
    return list(told) if len(told) == count else [told[0]] * count


def _highest(moments: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Those of some (constant, per_image) than which no other is higher in both."""
    kept: list[tuple[float, float]] = []
    for constant, each in sorted(set(moments), key=lambda moment: (-moment[1], -moment[0])):
        if not kept or constant > kept[-1][0]:
            kept.append((constant, each))
    return tuple(kept)


@contextmanager
def unreal() -> Iterator[None]:
    """Within, new tensors have a shape and no values, and real ones act as if they had none."""
    _settle_autograd()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@cache
def _settle_autograd() -> None:
    """Take a first backward pass, in which autograd starts its threads, one a device.

    Tensors without values bring a device that is not there. If it were counted, no fork could train any more.
    """
    torch.autograd.backward(torch.zeros(1, requires_grad=True).sum())
