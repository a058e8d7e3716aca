"""Where a place's values stand among a library's parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Linear(Protocol):
    """A linear map: torch's own module, or several of a library's parameters that work as one."""

    @property
    def weight(self) -> Any: ...

    @property
    def bias(self) -> Any: ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class Values:
    """Lines start:stop of the parameter `name` of one library module."""

    module: nn.Module
    name: str
    start: int
    stop: int

    @property
    def whole(self) -> Tensor:
        """The parameter itself, or what it is lent for the length of a call."""
        found: Tensor = getattr(self.module, self.name)
        return found

    @property
    def part(self) -> Tensor:
        """The lines alone."""
        return self.whole[self.start : self.stop]


@dataclass(frozen=True)
class Rows:
    """Output rows start:stop of what runs at a place, `module`; where their weight stands, and their bias if any.

    `module` is one of the view's `linears` for a linear place, and the library's own module for another one.
    """

    module: Any
    start: int
    stop: int
    weight: Values
    bias: Values | None = None

    def __len__(self) -> int:
        return self.stop - self.start


def rows_of(module: nn.Module | None, start: int = 0, stop: int | None = None) -> tuple[Rows, ...]:
    """Rows of a module, all unless told; none if it has no weight, as an Identity or a norm without scale."""
    weight = getattr(module, "weight", None)
    if module is None or weight is None:
        return ()
    end = weight.shape[0] if stop is None else stop
    bias = None if getattr(module, "bias", None) is None else Values(module, "bias", start, end)
    return (Rows(module, start, end, Values(module, "weight", start, end), bias),)


def inputs_of(rows: tuple[Rows, ...]) -> int:
    """How many values a linear place reads."""
    return int(rows[0].weight.whole.shape[1])


def outputs_of(rows: tuple[Rows, ...]) -> int:
    """How many values a place gives."""
    return sum(map(len, rows))
