"""Small copies of benchmark tasks, written as the published converters write them, and tables that expect them.

Nothing here uses the readers: formats are written from their descriptions, byte by byte.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pictures import encoded
from vitgraft.data.benchmarks.fgvc import FGVC
from vitgraft.data.benchmarks.load import load
from vitgraft.data.benchmarks.names import Tables, mentioned
from vitgraft.data.benchmarks.table import Benchmark, Export, Part, Slice, TaskRow
from vitgraft.data.benchmarks.vtab1k import VTAB1K
from vitgraft.data.task import Task

COUNTS: dict[Part, int] = {"train": 8, "val": 4, "test": 6}
CLASSES = 3
SIDE = 6  # pixels
VTAB_LISTS: dict[Part, str] = {"train": "train800", "val": "val200", "trainval": "train800val200", "test": "test"}


def shrunk(row: TaskRow, **changes: object) -> TaskRow:
    """A row of the same names with 8 + 4 + 6 images of 6 x 6 pixels in three classes."""
    small: dict[str, object] = {"counts": COUNTS, "classes": CLASSES, "pixels": (SIDE, SIDE), "occurring": {}}
    if row.export is not None:
        small["export"] = _shrunk_export(row.export)
    return replace(row, **(small | changes))  # type: ignore[arg-type]


def _shrunk_export(export: Export) -> Export:
    """Train is the first 8 of its split; val is 10 to 14 of it or the first 4 of another; test is what follows."""
    val = Slice("train", 10, 14) if export.val.split == "train" else export.val._replace(stop=4)
    start = 0 if export.test.start == 0 else 20 if export.test.split == "train" else 4
    return replace(export, train=Slice("train", 0, 8), val=val, test=export.test._replace(start=start))


def small(table: Benchmark, **changes: object) -> Benchmark:
    return replace(table, rows=tuple(shrunk(row, **changes) for row in table.rows))


VTAB = small(VTAB1K)
BIRDS_AND_CARS = small(FGVC)
SMALL: Tables = {"vtab1k": VTAB, "fgvc": BIRDS_AND_CARS}


def row(key: str, tables: Tables = SMALL) -> TaskRow:
    return next(one for table in tables.values() for one in table.rows if one.key == key)


def colour(part: str, index: int) -> tuple[int, int, int]:
    """A picture's own colour, far enough from the others' to survive JPEG."""
    return 20 * index, {"train": 0, "val": 80, "test": 160}[part], 40


def draw(part: str, index: int, side: int = SIDE) -> Image.Image:
    return Image.new("RGB", (side, side), colour(part, index))


def labels(count: int, classes: int = CLASSES, shift: int = 0) -> list[int]:
    return [(index + shift) % classes for index in range(count)]


def of_part(part: Part) -> list[tuple[str, int]]:
    """Which pictures a list names: (part, index)."""
    parts: tuple[Part, ...] = ("train", "val") if part == "trainval" else (part,)
    return [(one, index) for one in parts for index in range(COUNTS[one])]


def label_of(part: str, index: int) -> int:
    return (index + {"train": 0, "val": 1, "test": 2}[part]) % CLASSES


def save(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


# VTAB-1k


def noah(folder: Path, suffix: str = ".jpg") -> Path:
    """What NOAH's get_vtab1k.py writes: four lists, four folders of pictures, names counted in each."""
    for part, name in VTAB_LISTS.items():
        lines = []
        for number, (home, index) in enumerate(of_part(part)):
            path = f"images/{name}/{number:06d}{suffix}"
            save(folder / path, draw(home, index))
            lines.append(f"{path} {label_of(home, index)}\n")
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def synqt(folder: Path) -> Path:
    """PNG with two JSON lists, of train and val together and of test; paths are below images/."""
    both: tuple[Part, ...] = ("trainval", "test")
    for part in both:
        entries = []
        for number, (home, index) in enumerate(of_part(part)):
            path = f"{VTAB_LISTS[part]}/{number:06d}.png"
            save(folder / "images" / path, draw(home, index))
            entries.append({path: label_of(home, index)})
        (folder / f"{VTAB_LISTS[part]}.json").write_text(json.dumps(entries))
    return folder


# TFRecord and tf.train.Example

Value = bytes | Sequence[int] | Sequence[float]


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + masked(length) + message + masked(message)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def nested(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: Value) -> bytes:
    if not value:
        return b""
    if isinstance(value, bytes):
        return nested(1, nested(1, value))
    if any(isinstance(one, float) for one in value):
        return nested(2, nested(1, struct.pack(f"<{len(value)}f", *value)))
    return nested(3, nested(1, b"".join(varint(int(one)) for one in value)))


def example(features: Mapping[str, Value]) -> bytes:
    entries = [nested(1, nested(1, name.encode()) + nested(2, feature(value))) for name, value in features.items()]
    return nested(1, b"".join(entries))


Features = Callable[[int], Mapping[str, Value]]


def tfds(root: Path, export: Export, splits: Mapping[str, list[Mapping[str, Value]]], shards: int = 2) -> Path:
    """An export: records in files of nearly equal length, and what dataset_info.json says of them."""
    folder = root / export.dataset / export.config / export.version
    folder.mkdir(parents=True)
    told = []
    for split, examples in splits.items():
        edges = np.linspace(0, len(examples), shards + 1).astype(int).tolist()
        for shard in range(shards):
            inner = examples[edges[shard] : edges[shard + 1]]
            name = f"{export.dataset}-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
            (folder / name).write_bytes(b"".join(record(example(one)) for one in inner))
        lengths = [str(edges[shard + 1] - edges[shard]) for shard in range(shards)]
        told.append({"name": split, "numBytes": "1", "shardLengths": lengths})
    info = {"fileFormat": "tfrecord", "name": export.dataset, "splits": told, "version": export.version}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return folder


def cifar_export(root: Path) -> Path:
    """CIFAR-100 as TFDS keeps it: train holds train and val, which begins at 10; between them lie others."""
    export = row("cifar100").export
    assert export is not None
    places = {
        **{index: ("train", index) for index in range(8)},
        **{10 + index: ("val", index) for index in range(4)},
    }
    train: list[Mapping[str, Value]] = [_plain(*places.get(index, ("test", 5))) for index in range(16)]
    return tfds(root, export, {"train": train, "test": [_plain("test", index) for index in range(6)]})


def flowers_export(root: Path) -> Path:
    """Oxford Flowers as TFDS keeps it: the official splits."""
    export = row("flowers102").export
    assert export is not None
    names: dict[Part, str] = {"train": "train", "val": "validation", "test": "test"}
    return tfds(
        root, export, {name: [_plain(part, i) for i in range(COUNTS[part])] for part, name in names.items()}
    )


def _plain(part: str, index: int) -> dict[str, Value]:
    picture = encoded(draw(part, index), "PNG")
    return {"id": b"train_00001", "image": picture, "label": [label_of(part, index)], "coarse_label": [0]}


# FGVC


def vpt(folder: Path, images: str = "", first: int = 1) -> Path:
    """VPT's splits: an object of paths and class ids a split; ids need not count from 0."""
    for part in COUNTS:
        entries = {}
        for home, index in of_part(part):
            path = f"{label_of(home, index):03d}.bird/{part}_{index}.jpg"
            save(folder / images / path, draw(home, index))
            entries[path] = label_of(home, index) + first
        (folder / f"{part}.json").write_text(json.dumps(entries))
    return folder


# Reading them


def task(name: str, root: Path, **options: object) -> Task:
    """A task of the small tables."""
    mention = mentioned(name, SMALL)
    assert mention is not None
    return load(mention, root, options, SMALL)


def colours(task: Task, split: str) -> list[tuple[int, ...]]:
    return [task.splits[split].images[index].getpixel((0, 0)) for index in range(len(task.splits[split]))]  # type: ignore[misc]
