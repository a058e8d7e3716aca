"""VTAB-1k from what TensorFlow Datasets wrote to disk, without TensorFlow: the original pictures, losslessly.

An export is `<dataset>[/<config>]/<version>/` with `dataset_info.json` and TFRecord files, as TFDS's
`download_and_prepare` leaves it. Splits are slices of the records in their order on disk, as task_adaptation takes
them, and labels are computed from the features as it does.
"""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitgraft.data.benchmarks.lists import DIGITS
from vitgraft.data.benchmarks.table import Broken, Export, Part, Problem, Slice
from vitgraft.data.benchmarks.tfrecord import Features, messages, open_records
from vitgraft.data.pictures.decode import read_image
from vitgraft.data.task import Split
from vitgraft.errors import DataError

INFO = "dataset_info.json"
FORMAT = "tfrecord"
DAMAGED = (ValueError, KeyError, IndexError, struct.error)
VEHICLES = 3  # types 0 to 2 of KITTI: car, van, truck
FEWEST = 3  # objects in a picture of CLEVR
NOWHERE = 1000.0  # metres to a vehicle that is not there


def _nearest(depths: NDArray[np.float32], edges: tuple[float, ...]) -> int:
    """The number of edges strictly below the smallest depth."""
    return sum(bool(edge < depths.min()) for edge in edges)


def _vehicle(features: Features) -> int:
    """Near, middle, far, or no vehicle: by the z of the nearest one."""
    kinds = np.array(features.integers("objects/type")[:], dtype=np.int64)
    depths = features.floats("objects/location").reshape(-1, 3)[:, 2]
    return _nearest(np.append(depths[kinds < VEHICLES], np.float32(NOWHERE)), (8, 20, 999))


def _object(features: Features) -> int:
    """Six distances: by the depth of the object nearest to the camera."""
    return _nearest(features.floats("objects/pixel_coords").reshape(-1, 3)[:, 2], (8, 8.5, 9, 9.5, 10))


RULES: dict[str, Callable[[Features], int]] = {
    "number of objects": lambda features: len(features.integers("objects/size")) - FEWEST,
    "nearest object": _object,
    "nearest vehicle": _vehicle,
}


@dataclass(frozen=True)
class Shard:
    """A file of records and how many it must hold."""

    file: Path
    count: int


@dataclass(frozen=True)
class RecordImages:
    """Encoded pictures within files: picture i is bytes `spans[i]` (2,) of `files[owner[i]]`."""

    files: tuple[Path, ...]
    owner: NDArray[np.int64]
    spans: NDArray[np.int64]
    label: str
    gain: int = 1

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, index: int) -> Image.Image:
        picture = read_image(self._bytes(index), name=self.name(index))
        return (
            picture if self.gain == 1 else picture.point([min(255, value * self.gain) for value in range(256)] * 3)
        )

    def name(self, index: int) -> str:
        return f"{self.label}[{index}] in {self.files[int(self.owner[index])]}"

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(hashlib.sha256(self._bytes(index)).digest())
        return digest.hexdigest()[:16]

    def listed(self) -> list[tuple[str, str]]:
        """What each picture is called within its export, and a digest of its content."""
        contents = (hashlib.sha256(self._bytes(index)).hexdigest()[:16] for index in range(len(self)))
        return [(f"{self.label}[{index}]", digest) for index, digest in enumerate(contents)]

    def _bytes(self, index: int) -> bytes:
        start, stop = (int(value) for value in self.spans[index])
        try:
            with self.files[int(self.owner[index])].open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            raise DataError(f"Cannot read {self.name(index)}: {error.strerror}. Restore it.") from error


def find_export(root: Path, export: Export) -> Path | None:
    """The folder of an export below `root`: the version in the table if it is there, else the newest."""
    home = root / export.dataset / export.config
    versions = {info.parent.name: info.parent for info in home.glob(f"*/{INFO}")}
    return versions.get(export.version) or (versions[max(versions, key=_version)] if versions else None)


def read_export(folder: Path, export: Export, name: str) -> tuple[dict[Part, Split], list[Problem]]:
    """The splits of an export that can be read, and what is wrong with the others."""
    splits: dict[Part, Split] = {}
    problems = []
    for part, wanted in export.slices().items():
        try:
            shards = _shards(folder, export, wanted.split)
            splits[part] = _read(shards, wanted, export, f"{name}/{part}")
        except Broken as error:
            if error.problem not in problems:  # two slices of one split share its faults
                problems.append(error.problem)
    return splits, problems


def again(export: Export) -> str:
    """How an export is made, for messages."""
    return f"the export: download_and_prepare() of tfds.builder('{export.spec}'), or of a later version"


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in name.split("."))


def _shards(folder: Path, export: Export, split: str) -> list[Shard]:
    """The files of a split, in order. Raises Broken."""
    info = _info(folder)
    if (kind := info.get("fileFormat") or FORMAT) != FORMAT:
        what = f"'{folder}' holds {kind} files, and only {FORMAT} is read here"
        raise Broken(Problem("wrong", f"{what}. Export again with file_format='{FORMAT}'.", again(export)))
    listed = info.get("splits")
    listed = listed if isinstance(listed, list) else []
    splits = {str(item.get("name")): item for item in listed if isinstance(item, dict)}
    if split not in splits:
        what = f"'{folder / INFO}' has no split {split}, only {', '.join(splits) or 'none'}."
        raise Broken(Problem("wrong", what, again(export)))
    lengths = splits[split].get("shardLengths")
    if not isinstance(lengths, list) or not lengths or not all(map(_is_count, lengths)):
        what = f"'{folder / INFO}' does not say how many records the files of {split} hold."
        raise Broken(Problem("wrong", what, again(export)))
    names = [f"{export.dataset}-{split}.{FORMAT}-{i:05d}-of-{len(lengths):05d}" for i in range(len(lengths))]
    return [Shard(folder / file, int(length)) for file, length in zip(names, lengths, strict=True)]


def _is_count(length: object) -> bool:
    text = str(length)
    return text.isascii() and text.isdigit() and len(text) < DIGITS


def _info(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / INFO).read_bytes())
    except (OSError, ValueError) as error:
        raise Broken(Problem("corrupt", f"'{folder / INFO}' cannot be read: {error}.", INFO)) from None
    if not isinstance(value, dict):
        raise Broken(Problem("corrupt", f"'{folder / INFO}' holds no object.", INFO))
    return value


def _read(shards: list[Shard], wanted: Slice, export: Export, label: str) -> Split:
    """The records of a slice as a split, which is shorter where the export's split ends early. Raises Broken."""
    labels: list[int] = []
    owner: list[int] = []
    spans: list[tuple[int, int]] = []
    first = 0
    total = sum(shard.count for shard in shards)
    stop = total if wanted.stop is None else min(wanted.stop, total)
    for number, shard in enumerate(shards):
        inner = max(0, wanted.start - first), min(shard.count, stop - first)
        first += shard.count
        if inner[0] < inner[1]:
            found = _pictures(shard, inner, export)
            labels += [one for one, _ in found]
            spans += [span for _, span in found]
            owner += [number] * len(found)
    images = RecordImages(
        files=tuple(shard.file for shard in shards),
        owner=np.array(owner, dtype=np.int64),
        spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
        label=label,
        gain=export.gain,
    )
    return Split(images, np.array(labels, dtype=np.int64))


def _pictures(shard: Shard, inner: tuple[int, int], export: Export) -> list[tuple[int, tuple[int, int]]]:
    """Labels and places of the pictures of records `inner` of a file. Raises Broken."""
    name = shard.file.name
    if not shard.file.is_file():
        raise Broken(Problem("missing", f"'{shard.file}' is missing.", name))
    found: list[tuple[int, tuple[int, int]]] = []
    try:
        data = open_records(shard.file)
        whole = inner[1] == shard.count  # then its end is read, and the count can be checked
        number = -1
        for number, message in enumerate(messages(data, None if whole else inner[1])):
            if inner[0] <= number < inner[1]:
                features = Features(data, message)
                start, stop = features.content("image")
                found.append((_label(features, export), (start, stop)))
    except DAMAGED as error:
        what = f"'{shard.file}' is damaged: {error}."
        raise Broken(Problem("corrupt", what, name)) from None
    if whole and number + 1 != shard.count:
        what = f"'{shard.file}' holds {number + 1} records, not {shard.count} as {INFO} says."
        raise Broken(Problem("corrupt", what, name))
    return found


def _label(features: Features, export: Export) -> int:
    if export.label in RULES:
        return RULES[export.label](features)
    values = features.integers(export.label)
    if len(values) != 1:
        raise ValueError(f"feature {export.label!r} holds {len(values)} values, expected one")
    return int(values[0] // export.divisor)
