"""SPT's published selections, `param_req_*.pth`, as allocations.

The files hold numpy's scalars, which torch's restricted reader does not know. It is told of stand-ins for just
these, so that nothing of the file is ever executed.
"""

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraft.core.sites import LINEAR_PLACES
from vitgraft.errors import CheckpointError
from vitgraft.search.allocation import Allocation, Candidate

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


def read_mask(file: Path | str, candidates: tuple[Candidate, ...], always: int = 0) -> PublishedMask:
    """A published file on a backbone with these candidates; `always` values are trained in any case.

    Indices within separate q, k and v are the same within our places, however the backbone stores them.

    Raises:
        CheckpointError: a file that cannot be read, is no selection, or belongs to another backbone.
    """
    path = Path(file)
    try:
        with torch.serialization.safe_globals(STAND_INS):
            values = torch.load(path, map_location="cpu", weights_only=True)
        matrices, vectors = values["tuned_matrices"], values["tuned_vectors"]
        shapes, index = values["unstructured_name_shapes"], values["unstructured_indexes"].long()
        claimed = float(values["params"])
    except OSError as error:
        raise CheckpointError(f"Cannot read '{path}': {error.strerror}. Check the path.") from None
    except pickle.UnpicklingError:  # torch's own words advise to run what is in it
        raise CheckpointError(
            f"'{path}' is damaged, or holds more than tensors and numbers: reading it would run code from the "
            "file, which vitgraft never does. Give a file param_req_*.pth of the published code."
        ) from None
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"'{path}' is no selection of SPT's ({first}). Give a file param_req_*.pth of the published code."
        ) from None
    names = {one.name: number for number, one in enumerate(candidates)}
    blocks = {one.site[0] for one in candidates if one.matrix}
    if len(matrices) != len(blocks):
        raise _other(path, f"{len(matrices)} blocks, and the backbone has {len(blocks)}")
    pairs = [(block, place) for block in range(len(matrices)) for place in LINEAR_PLACES]
    flags = [flag for row in matrices for flag in row]
    structured = {
        names[f"{block}:{place}:weight"] for (block, place), flag in zip(pairs, flags, strict=True) if flag
    }
    whole = {_find(name, names, len(blocks), path) for name in vectors}
    sparse, start = {}, 0
    for name, shape in shapes.items():
        number = _find(name, names, len(blocks), path)
        if tuple(shape) != candidates[number].shape:
            raise _other(path, f"{name} is {tuple(shape)}, and the backbone's {candidates[number].shape}")
        inside = _within(index, start, start + candidates[number].size)
        start += candidates[number].size
        if len(inside):
            sparse[number] = inside
    counts = torch.zeros(len(candidates), dtype=torch.int64)
    for number, found in sparse.items():
        counts[number] = len(found)
    chosen = Allocation(candidates, counts, frozenset(structured), frozenset(whole), sparse, always)
    return PublishedMask(chosen, claimed)


def _within(index: Tensor, start: int, stop: int) -> Tensor:
    """The positions start:stop among ascending ones, counted from `start`."""
    first, last = torch.searchsorted(index, torch.tensor([start, stop])).tolist()
    return index[first:last] - start


def _find(name: str, names: dict[str, int], depth: int, path: Path) -> int:
    """The number of the candidate that the published code calls `name`."""
    match = NAME.fullmatch(name)
    if match is not None:
        block, place, kind = match.groups()
        found = names.get(f"{depth if block is None else int(block)}:{place}:{kind}")
        if found is not None:
            return found
    raise _other(path, f"{name!r}, which the backbone does not have")


def _other(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"'{path}' was chosen on another backbone: it names {what}. The published files are for ViT-B/16."
    )
