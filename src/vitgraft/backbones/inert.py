"""Reads a torch file that holds more than tensors, and runs nothing of it.

A pickle is a small program that calls what it names. Here every name means an inert stand-in, but for the handful
that describe tensors, and those only note where a tensor's values lie; the values are read afterwards, of those
tensors that are asked for. So an argparse.Namespace, an optimizer's state or a class that is not installed are in
nobody's way, and os.system is one more stand-in.
"""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import SEEK_CUR, BytesIO
from math import prod
from pathlib import Path
from sys import byteorder as HERE
from typing import Any, BinaryIO

import torch
from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C
"""The number with which torch's format before 1.6 begins, a pickle of its own."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


class StandIn(dict[Any, Any]):
    """Whatever a file calls by a name that is not known here: keeps what it is given, and does nothing.

    `origin` is the name; `state` what the object's attributes would be. It is a dictionary, since subclasses of
    dictionaries are among the things that training scripts save.
    """

    origin = ""
    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_: Any, **__: Any) -> "StandIn":
        return StandIn()

    def append(self, _: Any) -> None: ...

    extend = add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def is_module(self) -> bool:
        """Whether it is a whole torch module, pickled with its class."""
        return isinstance(self.state, dict) and {"_modules", "_parameters"} <= self.state.keys()


class _Known:
    """A name of which a file gets our own, harmless meaning. It cannot be changed by the file."""

    __slots__ = ("_does",)

    def __init__(self, does: Callable[..., Any]) -> None:
        self._does = does

    def __call__(self, *arguments: Any) -> Any:
        return self._does(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a function with attributes of its own")


@dataclass(frozen=True)
class Storage:
    """Where values of a type lie: under a key, from `start` on (in values; only old files have views)."""

    dtype: torch.dtype
    key: str
    start: int = 0


@dataclass(frozen=True)
class Stored:
    """A tensor as the file describes it, not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def of(self, data: bytes, swapped: bool) -> Tensor:
        """The tensor, from the bytes of its storage. Raises ValueError if they are too few."""
        whole, width = bytearray(data), self.dtype.itemsize
        first = self.offset + self.storage.start * self.storage.dtype.itemsize // width
        last = first + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if min((first, *self.size, *self.stride)) < 0:
            raise ValueError("a tensor of negative size")
        if prod(self.size) == 0:
            return torch.empty(self.size, dtype=self.dtype)
        if (last + 1) * width > len(whole):
            raise ValueError("a tensor that is larger than its values")
        flat = torch.frombuffer(whole, dtype=torch.uint8)[: len(whole) // width * width]
        if swapped:
            flat = flat.view(-1, width).flip(1).reshape(-1)
        return flat.view(self.dtype).as_strided(self.size, self.stride, first).clone()


def _stored(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Any:
    """torch's _rebuild_tensor, _rebuild_tensor_v2 and, with a type among `more`, _rebuild_tensor_v3."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without values")
    dtype = next((one for one in more if isinstance(one, torch.dtype)), storage.dtype)
    return Stored(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)), dtype)


def _pairs(pairs: Any = (), *_: Any) -> StandIn:
    made = StandIn()
    made.update(pairs if isinstance(pairs, list | tuple | dict) else ())
    return made


def _made(kind: Any, *_: Any) -> Any:
    return kind() if isinstance(kind, type) and issubclass(kind, StandIn) else _pairs()


class Reader(pickle.Unpickler):
    """The pickle of a torch file, every name in it inert or described above.

    `widths` are the bytes that a value takes in each storage that was named.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self.widths: dict[str, int] = {}
        self._kinds: dict[str, type[StandIn]] = {}
        tensors = dict.fromkeys(("tensor", "tensor_v2", "tensor_v3"), _Known(_stored))
        parameters = dict.fromkeys(("parameter", "parameter_with_state"), _Known(lambda data, *_: data))
        self._known = {
            **{f"torch._utils._rebuild_{name}": does for name, does in (tensors | parameters).items()},
            "torch._tensor._rebuild_from_type_v2": _Known(lambda make, kind, arguments, state: make(*arguments)),
            "torch.Size": _Known(lambda sizes=(): tuple(sizes)),
            "_codecs.encode": _Known(lambda text, *_: text.encode("latin1")),
            "collections.OrderedDict": _Known(_pairs),
            "collections.defaultdict": _Known(lambda *_: StandIn()),
            "copyreg.__newobj__": _Known(_made),
            "copyreg._reconstructor": _Known(_made),
            "builtins.getattr": _Known(lambda owner, name, *_: self._stand_in(f"{_told(owner)}.{name}")),
        }

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the file means: never the thing itself."""
        home = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if home.partition(".")[0] == "torch":
            found = STORAGES.get(name, getattr(torch, name, None) if home == "torch" else None)
            if isinstance(found, torch.dtype):
                return found
        return self._known.get(f"{home}.{name}") or self._stand_in(f"{home}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Where a tensor's values lie."""
        kind, *rest = pid if isinstance(pid, tuple) else (None,)
        if kind == "module" and rest:  # old files name the source text of a pickled module's class
            return rest[0]
        if kind != "storage" or len(rest) < 4 or not isinstance(rest[0], torch.dtype):
            raise pickle.UnpicklingError(f"something stored apart that is no tensor ({kind!r})")
        view = rest[4] if len(rest) > 4 else None
        start = int(view[1]) if isinstance(view, tuple) else 0
        found = Storage(rest[0], str(rest[1]), start)
        self.widths[found.key] = found.dtype.itemsize
        return found

    def _stand_in(self, origin: str) -> type[StandIn]:
        if origin not in self._kinds:
            self._kinds[origin] = type("StandIn", (StandIn,), {"origin": origin})
        return self._kinds[origin]


def _told(owner: Any) -> str:
    return getattr(owner, "origin", "") or "?"


@dataclass(frozen=True)
class Contents:
    """What a torch file holds, its tensors as `Stored`; `read` gives their values."""

    content: Any
    read: Callable[[Mapping[str, Stored]], dict[str, Tensor]]


def contents(path: Path) -> Contents:
    """A torch file's contents, whatever it was saved with, and none of it run.

    Raises:
        Exception: of whatever kind, for bytes that are damaged or no such file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            (record,) = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
            found = Reader(BytesIO(archive.read(record))).load()
        folder = record.removesuffix("data.pkl")
        return Contents(found, lambda wanted: _from_zip(path, folder, _by_storage(wanted)))
    with path.open("rb") as stream:
        if Reader(stream).load() != MAGIC:
            raise pickle.UnpicklingError("torch.save did not write it")
        _, system = Reader(stream).load(), Reader(stream).load()
        reader = Reader(stream)
        found, keys = reader.load(), Reader(stream).load()
        start = stream.tell()
    little = system.get("little_endian", True) if isinstance(system, dict) else True
    sizes = {str(key): reader.widths[str(key)] for key in keys}
    return Contents(found, lambda wanted: _from_stream(path, start, sizes, _by_storage(wanted), bool(little)))


Wanted = Mapping[str, Mapping[str, Stored]]
"""Tensors by name, by the key of their storage."""


def _by_storage(wanted: Mapping[str, Stored]) -> Wanted:
    found: dict[str, dict[str, Stored]] = {}
    for name, one in wanted.items():
        found.setdefault(one.storage.key, {})[name] = one
    return found


def _from_zip(path: Path, folder: str, wanted: Wanted) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with zipfile.ZipFile(path) as archive:
        order = f"{folder}byteorder"
        swapped = order in archive.namelist() and archive.read(order).decode() != HERE
        for key, named in wanted.items():
            data = archive.read(f"{folder}data/{key}")
            found |= {name: one.of(data, swapped) for name, one in named.items()}
    return found


def _from_stream(
    path: Path, start: int, sizes: Mapping[str, int], wanted: Wanted, little: bool
) -> dict[str, Tensor]:
    """Each storage is its number of values in eight bytes, little end first, and then they themselves."""
    found: dict[str, Tensor] = {}
    with path.open("rb") as stream:
        stream.seek(start)
        for key, width in sizes.items():
            count = int.from_bytes(stream.read(8), "little") * width
            named = wanted.get(key)
            if named is None:
                stream.seek(count, SEEK_CUR)
            else:
                data = stream.read(count)
                found |= {name: one.of(data, little != (HERE == "little")) for name, one in named.items()}
    return found
