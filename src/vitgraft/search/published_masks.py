"""SPT's published selections, `param_req_*.pth`, as allocations.

The files hold numpy's scalars, which torch's restricted reader does not know. It is told of stand-ins for just
these, so that nothing of the file is ever executed. A file says the same in several ways: matrices, vectors and
names that must make up the whole backbone, and three counts. All of them must agree.
"""

import math
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraft.core.sites import LINEAR_PLACES
from vitgraft.errors import CheckpointError, Told
from vitgraft.search.allocation import Allocation, Candidate, Rule

ORDERS = (
    ("norm1", "norm2", *LINEAR_PLACES, "norm"),
    ("norm1", "q", "k", "v", "proj", "norm2", "fc1", "fc2", "norm"),
)
"""In which order files name a block's parts: where an index points follows from the order alone."""

MOST_RANK = 256
"""Up to this rank is looked for the one that a file's count is of."""

NAME = re.compile(r"(?:blocks\.(\d+)\.)?(?:attn\.|mlp\.)?(\w+)\.(weight|bias)")


@dataclass(frozen=True)
class PublishedMask:
    """A published selection: an allocation, and the number of values that its authors counted (in millions)."""

    allocation: Allocation
    claimed: float


class _Kind:
    """Stands in for numpy's dtype: eight-byte integers alone."""

    def __init__(self, code: str, *_: object) -> None:
        if code != "i8":
            raise pickle.UnpicklingError(f"a number of type {code}")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like, which are always the same here."""


def _number(kind: _Kind, data: bytes) -> int:
    """Stands in for numpy's scalar."""
    return int.from_bytes(data, "little", signed=True)


STAND_INS: list[Any] = [
    (_Kind, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]


def read_mask(
    file: Path | str,
    candidates: tuple[Candidate, ...],
    rule: Rule,
    always: int = 0,
    kinds: Mapping[str, Callable[[int], Rule]] | None = None,
) -> PublishedMask:
    """A published file on a backbone with these candidates; `always` values are trained in any case.

    `rule` prices the modules; `kinds` gives those of other methods by rank, to name the one that a file is of.
    Indices within separate q, k and v are the same within our places, however the backbone stores them. Unsorted
    ones are sorted, which a warning says (`Told`).

    Raises:
        CheckpointError: a file that cannot be read, is no selection, contradicts itself or the `rule`, or belongs
            to another backbone.
    """
    path = Path(file)
    values = _values(path)
    try:
        mask = _Mask(path, candidates, values)
        structured, whole, sparse = mask.structured(), mask.whole(), mask.sparse()
        counts = torch.zeros(len(candidates), dtype=torch.int64)  # of a module or whole vector, the file says none
        for number, found in sparse.items():
            counts[number] = len(found)
        allocation = Allocation(candidates, counts, structured, whole, sparse, always)
        claimed = mask.number("params")
        mask.check_complete(allocation)
        mask.check_counts(allocation, rule, kinds or {})
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _no_selection(path, error) from None
    return PublishedMask(allocation, claimed)


def claimed(file: Path | str) -> int:
    """How many values a published file says that it trains. Raises CheckpointError."""
    path = Path(file)
    values = _values(path)
    try:
        return round(_number_of(path, values, "params") * 1e6)
    except (LookupError, OverflowError) as error:
        raise _no_selection(path, error) from None


def _number_of(path: Path, values: Mapping[str, Any], key: str) -> float:
    value = values[key]
    found = value.item() if isinstance(value, Tensor) and value.dim() == 0 else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise _contradicts(path, f"{key} is no number")
    return float(found)


def _contradicts(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"'{path}' contradicts itself: {what}. Fetch it again, or give another published file.")


def _values(path: Path) -> Mapping[str, Any]:
    """The dictionary in a file. Raises CheckpointError."""
    try:
        with torch.serialization.safe_globals(STAND_INS):
            values = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(values, dict):
            raise TypeError(f"it holds a {type(values).__name__}")
    except OSError as error:
        raise CheckpointError(f"Cannot read '{path}': {error.strerror}. Check the path.") from None
    except pickle.UnpicklingError:  # torch's own words advise to run what is in it
        raise CheckpointError(
            f"'{path}' is damaged, or holds more than tensors and numbers: reading it would run code from the "
            "file, which vitgraft never does. Give a file param_req_*.pth of the published code."
        ) from None
    except Exception as error:  # damaged bytes make torch's reader stumble anywhere
        raise _no_selection(path, error) from None
    return values


class _Mask:
    """The parts of one file, each read in its own way and held against the others."""

    def __init__(self, path: Path, candidates: tuple[Candidate, ...], values: Mapping[str, Any]) -> None:
        self.path, self.candidates, self.values = path, candidates, values
        self.numbers = {one.name: number for number, one in enumerate(candidates)}
        self.depth = len({one.site[0] for one in candidates if one.matrix})

    def structured(self) -> frozenset[int]:
        """The matrices that are tuned by modules."""
        rows = self.values["tuned_matrices"]
        if not isinstance(rows, list | tuple) or not all(isinstance(row, list | tuple) for row in rows):
            raise self.wrong("tuned_matrices is no list of a row for each block")
        if len(rows) != self.depth:
            raise self.other(f"{len(rows)} blocks, and the backbone has {self.depth}")
        flags = [flag for row in rows for flag in row]
        if {len(row) for row in rows} != {len(LINEAR_PLACES)} or not all(flag in (0, 1) for flag in flags):
            raise self.wrong(f"tuned_matrices has not {len(LINEAR_PLACES)} numbers for each block, each 0 or 1")
        sites = [(block, place) for block in range(self.depth) for place in LINEAR_PLACES]
        return frozenset(
            self.numbers[f"{block}:{place}:weight"]
            for (block, place), flag in zip(sites, flags, strict=True)
            if flag
        )

    def whole(self) -> frozenset[int]:
        """The vectors that are tuned whole."""
        names = self.values["tuned_vectors"]
        if not isinstance(names, list | tuple):
            raise self.wrong("tuned_vectors is no list of names")
        found = [self.find(name) for name in names]
        if twice := sorted({str(name) for name in names if list(names).count(name) > 1}):
            raise self.wrong(f"tuned_vectors names {', '.join(twice)} twice")
        if matrices := [name for name, number in zip(names, found, strict=True) if self.candidates[number].matrix]:
            raise self.wrong(f"tuned_vectors names {', '.join(matrices)}, which is no vector")
        return frozenset(found)

    def sparse(self) -> dict[int, Tensor]:
        """The positions of entries that are tuned by themselves, ascending."""
        spans = self._spans()
        index = self._index(sum(self.candidates[number].size for number in spans))
        found, start = {}, 0
        for number in spans:
            stop = start + self.candidates[number].size
            first, last = torch.searchsorted(index, torch.tensor([start, stop])).tolist()
            if last > first:
                found[number] = index[first:last] - start
            start = stop
        return found

    def _spans(self) -> list[int]:
        """The candidates into whose values the indices point, one after the other."""
        shapes = self.values["unstructured_name_shapes"]
        if not isinstance(shapes, dict):
            raise self.wrong("unstructured_name_shapes is no dictionary of shapes")
        numbers = [self.find(name) for name in shapes]
        for name, number in zip(shapes, numbers, strict=True):
            if tuple(shapes[name]) != self.candidates[number].shape:
                own = self.candidates[number].shape
                raise self.other(f"{name} is {tuple(shapes[name])}, and the backbone's {own}")
        sizes = self.values.get("unstructured_name_shapes_int")
        if sizes is not None and dict(sizes) != {
            name: self.candidates[number].size for name, number in zip(shapes, numbers, strict=True)
        }:
            raise self.wrong("unstructured_name_shapes_int has other sizes than unstructured_name_shapes")
        sites = [(self.candidates[number].site, self.candidates[number].kind) for number in numbers]
        keys = [
            [(block, order.index(place), kind == "bias") for (block, place), kind in sites] for order in ORDERS
        ]
        if not any(key == sorted(key) for key in keys):
            raise self.wrong(
                "unstructured_name_shapes is not in the order of the model, so that its indices point elsewhere"
            )
        return numbers

    def _index(self, size: int) -> Tensor:
        """The indices, ascending, each once and below `size`."""
        index = self.values["unstructured_indexes"]
        whole = isinstance(index, Tensor) and index.dim() == 1 and index.dtype in (torch.int64, torch.int32)
        if not whole:
            raise self.wrong("unstructured_indexes is no list of whole numbers")
        index = index.long()
        ascending: Tensor = index.sort().values
        if len(index) and (int(ascending[0]) < 0 or int(ascending[-1]) >= size):
            bad = int(ascending[0]) if int(ascending[0]) < 0 else int(ascending[-1])
            raise self.wrong(f"an index is {bad:,}, and must be from 0 to {size - 1:,}")
        if twice := len(index) - len(ascending.unique_consecutive()):
            raise self.wrong(f"{twice:,} of its {len(index):,} indices are there more than once")
        if not torch.equal(index, ascending):
            told = f"'{self.path}': its {len(index):,} indices were not in order, and were sorted."
            warnings.warn(told, Told, stacklevel=2)
        return ascending

    def number(self, key: str) -> float:
        """One of the file's counts."""
        return _number_of(self.path, self.values, key)

    def check_complete(self, allocation: Allocation) -> None:
        """Raise CheckpointError unless the file says of every candidate just once what becomes of it."""
        named = [*allocation.structured, *allocation.whole, *self._spans()]
        said = {number: named.count(number) for number in range(len(self.candidates))}
        for times, what in ((0, "says nothing of"), (2, "says two things of")):
            wrong = [self.candidates[number].name for number, count in said.items() if min(count, 2) == times]
            if wrong:
                raise self.wrong(f"it {what} {len(wrong)} of the backbone's values, such as {wrong[0]}")

    def check_counts(self, allocation: Allocation, rule: Rule, kinds: Mapping[str, Callable[[int], Rule]]) -> None:
        """Raise CheckpointError unless all of the file's counts are those of its choices."""
        own = sum(map(len, allocation.sparse.values()))
        if "unstructured_params" in self.values and self.number("unstructured_params") != own:
            told = f"{self.number('unstructured_params'):,.0f}"
            raise self.wrong(f"it holds {own:,} single entries, and says that there are {told}")
        total, said = allocation.total(rule), round(self.number("params") * 1e6)
        if total != said:
            raise self._of_another_kind(allocation, total, said, kinds) or self.wrong(
                f"it counts {said:,} values, and what it chooses trains {total:,}"
            )
        modules = total - own - allocation.always
        if "structured_params" in self.values and self.number("structured_params") != modules:
            told = f"{self.number('structured_params'):,.0f}"
            raise self.wrong(f"its modules and vectors are {modules:,} values, and it says that they are {told}")

    def _of_another_kind(
        self, allocation: Allocation, total: int, said: int, kinds: Mapping[str, Callable[[int], Rule]]
    ) -> CheckpointError | None:
        """The error for a file whose count is that of another method or rank; None if it is of none."""
        for name, of_rank in kinds.items():
            for rank in range(1, MOST_RANK + 1):
                if allocation.total(of_rank(rank)) == said:
                    return CheckpointError(
                        f"'{self.path}' is a selection for {name} of rank {rank}, by its count of {said:,} "
                        f"values; as asked for it would train {total:,}. Give it as "
                        f"{name}:rank={rank},mask={self.path}."
                    )
        return None

    def find(self, name: object) -> int:
        """The number of the candidate that the published code calls `name`."""
        match = NAME.fullmatch(name) if isinstance(name, str) else None
        if match is not None:
            block, place, kind = match.groups()
            found = self.numbers.get(f"{self.depth if block is None else int(block)}:{place}:{kind}")
            if found is not None:
                return found
        raise self.other(f"{name!r}, which the backbone does not have")

    def wrong(self, what: str) -> CheckpointError:
        return _contradicts(self.path, what)

    def other(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"'{self.path}' was chosen on another backbone: it names {what}. The published files are for ViT-B/16."
        )


def _no_selection(path: Path, error: Exception) -> CheckpointError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    why = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else first
    return CheckpointError(
        f"'{path}' is no selection of SPT's ({why}). Give a file param_req_*.pth of the published code."
    )
