"""VTAB-1k from exports of TensorFlow Datasets, read without it."""

import base64
import json
import pickle
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark_copies import (
    COUNTS,
    SIDE,
    VTAB,
    Value,
    cifar_export,
    colour,
    colours,
    draw,
    example,
    label_of,
    record,
    row,
    shrunk,
    task,
    tfds,
)
from tests.pictures import encoded, sizes
from vitgraft.data.benchmarks.copy import look
from vitgraft.data.benchmarks.export import RecordImages, read_export
from vitgraft.data.benchmarks.table import Slice
from vitgraft.data.benchmarks.tfrecord import Features, masked_crc, messages, open_records
from vitgraft.errors import DataError

WRITTEN_BY_TFDS = """
c-mXX$N&ZhocWJ(t!Cyj;1bAB%1TWxDb~-)Pfje!%+C{&5t8DPU|?vl2dZ;mU|8UQV0$=n$#C&!<|d}6>ZfJqq{inZ=B5g9a<Ox<Ch8UB
rE{5Z@xaVWO3JSgQV~+(Qec1skU3zpQ21O*TtYBiMfoLQSHxEe@d$Boallk^Ng-UCpPZainv$9##3seU#RQZK<zfZ9NyvxGi_4=kz|Wl*
s2-?`*VDr#2uK4JF)(s~$ZCfdcYzeYr;B3<$IRp>PoAVCBmf1bGRSIf=J^A%%G1@)Wt~$(6PFmmGbNP;sSxX!8Mzd>1mWUErFp<$1G)v(
wMGaZrDW!&<`o0IRE!+5n3zkJix;LRF{dCS5!FbJn%9BG(AeV&pU}g#feGk9%-CZRV!#<kN#HmVLW?7i4hgI=0Fn{I67Eb=3|wKbF!$y1
=JLc6<{-B+fx}$vv0?#`5`c#Jg9i^1lE8t!fI)gb)7wKRfi8p==pehqu?0Aqvyp-sBqNL-m_R}1Tiizg81uJe
"""
"""A file of two records that tensorflow_datasets 4.9.10 wrote for kitti 3.3.0: a pedestrian at 5 m and a van at
12.5 m in a picture of 2 x 1, and no object in one of 1 x 2."""


def test_tfrecord__a_file_that_tfds_wrote(tmp_path: Path) -> None:
    file = tmp_path / "kitti-train.tfrecord-00000-of-00001"
    file.write_bytes(zlib.decompress(base64.b85decode(WRITTEN_BY_TFDS.replace("\n", ""))))
    data = open_records(file)
    first, second = (Features(data, message) for message in messages(data))
    assert first.integers("objects/type") == [3, 1]
    assert first.floats("objects/location").tolist() == [1, 2, 5, 1, 2, 12.5]
    assert second.integers("objects/type") == []
    assert second.floats("objects/location").tolist() == []
    info = {"splits": [{"name": "train", "shardLengths": ["2"]}]}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    export = row("kitti_dist").export
    assert export is not None
    both, none = Slice("train", 0, 2), Slice("train", 2, 2)
    splits, problems = read_export(tmp_path, replace(export, train=both, val=none, test=none), "kitti")
    assert problems == []
    assert splits["train"].labels.tolist() == [1, 3]
    assert [splits["train"].images[index].size for index in range(2)] == [(2, 1), (1, 2)]
    assert splits["train"].images[0].getpixel((0, 0)) == (9, 9, 9)


def test_tfrecord__checksums() -> None:
    """The check value of CRC-32C, and Castagnoli's masked form of it."""
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_tfrecord__numbers_of_every_length() -> None:
    values = [0, 1, 127, 128, 300, 2**40, -1]
    data = memoryview(record(example({"n": values, "x": [0.5, -2.0], "b": b"abc"})))
    (message,) = messages(data)
    features = Features(data, message)
    assert features.integers("n") == values
    assert features.floats("x").tolist() == [0.5, -2.0]
    assert bytes(data[slice(*features.content("b"))]) == b"abc"
    with pytest.raises(ValueError, match="'n' is of another kind"):
        features.floats("n")
    with pytest.raises(ValueError, match="no feature 'm'"):
        features.integers("m")


# Labels as task_adaptation computes them


def picture(side: int = SIDE) -> bytes:
    return encoded(draw("test", 1, side), "PNG")


def objects(depths: list[float], kinds: list[int]) -> Mapping[str, Value]:
    flat = [value for depth in depths for value in (1.0, 2.0, depth)]
    fields = {"objects/type": kinds, "objects/size": kinds}
    return {"image": picture(), "objects/location": flat, "objects/pixel_coords": flat, **fields}


RULES: list[tuple[str, list[Mapping[str, Value]], list[int]]] = [
    ("clevr_count", [objects([9.0] * count, [0] * count) for count in (3, 4, 10)], [0, 1, 7]),
    (
        "clevr_dist",
        [objects([12.0, depth], [0, 0]) for depth in (7.9, 8.0, 8.01, 8.5, 9.2, 9.7, 10.0, 10.1)],
        [0, 0, 1, 1, 3, 4, 4, 5],
    ),
    (
        "kitti_dist",
        [
            *(
                objects([depth, 3.0], [kind, 3])
                for depth, kind in ((7.0, 0), (8.0, 1), (8.1, 2), (20.0, 0), (20.5, 0))
            ),
            objects([5.0, 6.0], [3, 4]),
            objects([], []),
        ],
        [0, 0, 1, 1, 2, 3, 3],
    ),
    (
        "dspr_loc",
        [{"image": picture(), "label_x_position": [one], "label_orientation": [7]} for one in (0, 1, 2, 31)],
        [0, 0, 1, 15],
    ),
    (
        "dspr_ori",
        [
            {"image": picture(), "label_x_position": [7], "label_orientation": [one]}
            for one in (0, 2, 3, 4, 5, 7, 39)
        ],
        [0, 0, 1, 1, 2, 2, 15],
    ),
    (
        "snorb_azim",
        [{"image": picture(), "label_azimuth": [one], "label_elevation": [8]} for one in (0, 17)],
        [0, 17],
    ),
    (
        "snorb_ele",
        [{"image": picture(), "label_azimuth": [9], "label_elevation": [one]} for one in (0, 8)],
        [0, 8],
    ),
    ("eurosat", [{"image": picture(), "label": [one]} for one in (0, 9)], [0, 9]),
    ("sun397", [{"image": picture(), "label": [one]} for one in (0, 396)], [0, 396]),
]


@pytest.mark.parametrize(("key", "examples", "expected"), RULES, ids=[rule[0] for rule in RULES])
def test_export__labels(
    key: str, examples: list[Mapping[str, Value]], expected: list[int], tmp_path: Path
) -> None:
    export = row(key).export
    assert export is not None
    whole, none = Slice("all"), Slice("all", 0, 0)
    export = replace(export, train=whole, val=none, test=none)
    folder = tfds(tmp_path, export, {"all": [*examples]}, shards=3)
    assert folder.relative_to(tmp_path).parts[0] == export.dataset
    splits, problems = read_export(folder, export, key)
    assert problems == []
    assert splits["train"].labels.tolist() == expected


def test_export__pixels_of_sprites_are_scaled(tmp_path: Path) -> None:
    """dSprites are stored as 0 and 1; grey pictures become RGB."""
    export = row("dspr_loc").export
    assert export is not None
    whole, none = Slice("train"), Slice("train", 0, 0)
    export = replace(export, train=whole, val=none, test=none)
    sprite = encoded(draw("train", 0).convert("L").point([1] * 128 + [0] * 128), "PNG")
    folder = tfds(tmp_path, export, {"train": [{"image": sprite, "label_x_position": [1]}]}, shards=1)
    splits, _ = read_export(folder, export, "x")
    image = splits["train"].images[0]
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_export__slices_of_one_split_and_config(tmp_path: Path) -> None:
    """EuroSAT lies under a config, and val and test are cut out of train."""
    export = row("eurosat").export
    assert export is not None
    assert (str(export.train), str(export.val), str(export.test)) == ("train[0:8]", "train[10:14]", "train[20:]")
    examples: list[Mapping[str, Value]] = [{"image": picture(), "label": [index % 3]} for index in range(26)]
    folder = tfds(tmp_path, export, {"train": examples}, shards=5)
    assert folder == tmp_path / "eurosat" / "rgb" / "2.0.0"
    found = look(row("eurosat"), VTAB, tmp_path)
    assert (found.state, found.layout) == ("complete", "TFDS")
    assert found.splits["val"].labels.tolist() == [1, 2, 0, 1]
    assert found.splits["test"].labels.tolist() == [2, 0, 1, 2, 0, 1]


def test_export__the_published_version_is_preferred(tmp_path: Path) -> None:
    folder = cifar_export(tmp_path)
    newer = folder.with_name("3.10.0")
    shutil.copytree(folder, folder.with_name("3.9.0"))
    folder.rename(newer)
    found = look(row("cifar100"), VTAB, tmp_path)
    assert found.folder == newer
    assert found.notes[-1] == "the export's version is 3.10.0; published results used 3.0.2."
    cifar_export(tmp_path)
    assert look(row("cifar100"), VTAB, tmp_path).folder == folder


def test_export__retraining_and_workers(tmp_path: Path) -> None:
    cifar_export(tmp_path)
    found = task("vtab1k:cifar100:trainval", tmp_path)
    assert sizes(found) == {"train": 12, "test": 6}
    wanted = [colour("train", index) for index in range(8)] + [colour("val", index) for index in range(4)]
    assert colours(found, "train") == wanted
    images = pickle.loads(pickle.dumps(found.splits["test"].images))
    assert isinstance(images, RecordImages)
    assert images[5].getpixel((0, 0)) == colour("test", 5)
    assert "test[5] in " in images.name(5)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def told(folder: Path, change: Callable[[str], str]) -> None:
    info = folder / "dataset_info.json"
    info.write_text(change(info.read_text()))


def garbled(folder: Path) -> None:
    """The first picture of test loses its header, within a record that stays whole."""
    file = folder / "cifar100-test.tfrecord-00000-of-00002"
    file.write_bytes(file.read_bytes().replace(b"\x89PNG", b"ABCD", 1))


FIRST, LAST = "cifar100-train.tfrecord-00000-of-00002", "cifar100-test.tfrecord-00001-of-00002"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no file": (lambda f: (f / LAST).unlink(), r"test\.tfrecord-00001-of-00002' is missing"),
    "cut short": (lambda f: cut(f / LAST), r"00001-of-00002' is damaged: it is cut short within record 2"),
    "empty": (lambda f: (f / LAST).write_bytes(b""), r"00001-of-00002' holds 0 records, not 3 as"),
    "no records": (lambda f: (f / FIRST).write_bytes(b"x" * 99), r"damaged: record 0 does not begin as a record"),
    "no examples": (lambda f: (f / FIRST).write_bytes(record(b"\xff" * 9) * 8), r"00000-of-00002' is damaged"),
    "another count": (
        lambda f: told(f, lambda text: text.replace('"3"', '"4"', 1).replace('"3"', '"2"', 1)),
        r"test\.tfrecord-00000-of-00002' holds 3 records, not 4",
    ),
    "no features": (
        lambda f: (f / FIRST).write_bytes(record(example({"label": []})) * 8),
        r"is damaged: a record has no feature 'image'",
    ),
    "picture": (garbled, r"1 of test's pictures cannot be read: 'vtab1k:cifar100/test\[0\] in .*not an image"),
    "no info": (
        lambda f: (f / "dataset_info.json").unlink(),
        r"cifar100' holds none of .* nor <version>/dataset_info\.json",
    ),
    "broken info": (lambda f: told(f, lambda text: text[:50]), r"dataset_info\.json' cannot be read"),
    "no split": (
        lambda f: told(f, lambda text: text.replace('"test"', '"testing"')),
        r"has no split test, only train, testing",
    ),
    "no lengths": (
        lambda f: told(f, lambda text: text.replace("shardLengths", "numShards")),
        r"does not say how many records the files of train hold",
    ),
    "lengths that are none": (
        lambda f: told(f, lambda text: text.replace('"3"', '"²"', 1)),
        r"does not say how many records the files of test hold",
    ),
    "null splits": (
        lambda f: (f / "dataset_info.json").write_text('{"splits": null, "fileFormat": "tfrecord"}'),
        r"has no split train, only none",
    ),
    "format": (
        lambda f: told(f, lambda text: text.replace('"tfrecord"', '"array_record"')),
        r"holds array_record files, and only tfrecord is read here\. Export again with file_format='tfrecord'",
    ),
    "fewer": (
        lambda f: told(
            f, lambda text: text.replace('"test"', '"x"').replace('"train"', '"test"').replace('"x"', '"train"')
        ),
        r"train\.tfrecord-00000-of-00002' holds 8 records, not 3",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_export__a_wrong_copy_is_refused(what: str, tmp_path: Path) -> None:
    damage, message = BAD[what]
    damage(cifar_export(tmp_path))
    with pytest.raises(DataError, match=message):
        task("vtab1k:cifar100", tmp_path)


def test_export__too_few_records(tmp_path: Path) -> None:
    export = row("cifar100").export
    assert export is not None
    plain: list[Mapping[str, Value]] = [{"image": picture(), "label": [index % 3]} for index in range(12)]
    tfds(tmp_path, export, {"train": plain, "test": plain[:6]})
    found = look(row("cifar100"), VTAB, tmp_path)
    assert [problem.what for problem in found.problems] == ["train[10:14] holds 2 images, expected 4."]
    assert "tfds.builder('cifar100:3.0.2')" in found.problems[0].fetch


def test_export__labels_beyond_the_classes(tmp_path: Path) -> None:
    cifar_export(tmp_path)
    found = look(shrunk(row("cifar100"), classes=2), VTAB, tmp_path)
    assert found.problems[0].what.startswith("train[0:8] has labels up to 2, but the classes are 0 to 1")


def test_export__counts_hold_for_the_small_copy(tmp_path: Path) -> None:
    cifar_export(tmp_path)
    found = look(row("cifar100"), VTAB, tmp_path)
    assert {part: len(values) for part, values in found.labels.items()} == COUNTS
    wanted = np.array([label_of("test", index) for index in range(6)])
    assert np.array_equal(found.labels["test"], wanted)
