"""FGVC from VPT's splits and from the data sets' own lists, and the copies that must be refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmark_copies import (
    BIRDS_AND_CARS,
    COUNTS,
    SMALL,
    colour,
    draw,
    label_of,
    row,
    save,
    synqt,
    task,
    vpt,
)
from tests.pictures import paths, sizes
from vitgraft.data.augment import AUGMENTATIONS
from vitgraft.data.benchmarks.copy import look
from vitgraft.data.benchmarks.fgvc import FGVC
from vitgraft.data.benchmarks.find import recognised
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.data.preprocessing import Preprocessing, preset
from vitgraft.data.split import stratified
from vitgraft.errors import DataError


def test_table__is_the_benchmark() -> None:
    """VPT's table 8; train and val together are the official train splits."""
    rows = {one.key: one for one in FGVC.rows}
    assert list(rows) == ["cub200", "nabirds", "flowers", "dogs", "cars"]
    assert [one.classes for one in FGVC.rows] == [200, 555, 102, 120, 196]
    assert [one.expected("trainval") for one in FGVC.rows] == [5994, 23929, 2040, 12000, 8144]
    assert [one.counts["test"] for one in FGVC.rows] == [5794, 24633, 6149, 8580, 8041]
    assert [one.images for one in FGVC.rows] == ["images", "images", "", "Images", ""]


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("cub200", ["CUB", "cub", "CUB_200_2011", "CUB-200"]),
        ("flowers", ["OxfordFlowers", "oxfordflower", "OxfordFlower"]),
        ("dogs", ["StanfordDogs", "stanforddog"]),
        ("cars", ["StanfordCars", "stanfordcar"]),
        ("nabirds", ["NABirds"]),
    ],
)
def test_names__of_vpt_spt_and_vpetl(key: str, spellings: list[str]) -> None:
    for spelling in [key, *spellings]:
        mention = mentioned(f"fgvc:{spelling}")
        assert mention is not None
        assert mention.row.key == key


@pytest.mark.parametrize(
    ("folder", "key"), [("CUB_200_2011", "cub200"), ("StanfordDogs", "dogs"), ("cars", "cars")]
)
def test_vpt_splits(folder: str, key: str, tmp_path: Path) -> None:
    images = row(key).images
    vpt(tmp_path / folder, images)
    found = task(f"fgvc:{key}", tmp_path)
    assert not found.notes  # JPEG files are the originals here
    assert (found.name, found.group, found.classes) == (f"fgvc:{key}", None, ("1", "2", "3"))
    assert sizes(found) == COUNTS
    assert paths(found, "val")[0] == f"{images}/001.bird/val_0.jpg".removeprefix("/")
    for part, count in COUNTS.items():
        assert found.splits[part].labels.tolist() == [label_of(part, index) for index in range(count)]
        assert abs(np.array(found.splits[part].images[1].getpixel((0, 0))) - colour(part, 1)).max() < 12


def test_vpt_splits__one_map_of_classes(tmp_path: Path) -> None:
    """A val that lacks class 1 keeps the labels of the others: ids are mapped by train's, not by its own."""
    folder = vpt(tmp_path / "cub", "images")
    entries = json.loads((folder / "val.json").read_text())
    (folder / "val.json").write_text(
        json.dumps({path: 3 if label == 1 else label for path, label in entries.items()})
    )
    assert task("fgvc:cub200", tmp_path).splits["val"].labels.tolist() == [1, 2, 2, 1]


def test_vpt_splits__retraining(tmp_path: Path) -> None:
    vpt(tmp_path / "cub", "images")
    assert sizes(task("fgvc:cub200:trainval", tmp_path)) == {"train": 12, "test": 6}


# The data sets' own lists


def birds(folder: Path) -> None:
    """CUB's and NABirds' text files; NABirds' keys are no numbers and its ids have gaps."""
    rows: list[tuple[str, str, int, int]] = []
    for part in COUNTS:
        for index in range(COUNTS[part]):
            path, label = f"{label_of(part, index)}/{part}_{index}.jpg", label_of(part, index)
            save(folder / "images" / path, draw(part, index))
            rows.append((f"{part}-{index}", path, 10 * label + 7, int(part != "test")))
    (folder / "images.txt").write_text("".join(f"{key} {path}\n" for key, path, _, _ in rows))
    (folder / "image_class_labels.txt").write_text("".join(f"{key} {label}\n" for key, _, label, _ in rows))
    (folder / "train_test_split.txt").write_text("".join(f"{key} {train}\n" for key, _, _, train in rows))


def matlab(file: Path, **values: Any) -> None:
    from scipy import io  # type: ignore[import-untyped]

    file.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(str(file), values)


def cells(names: list[str]) -> Any:
    """A column of MATLAB cells."""
    column = np.empty((len(names), 1), dtype=object)
    column[:, 0] = names
    return column


def flowers(folder: Path) -> None:
    labels: list[int] = []
    sets = {}
    for part, name in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        first = len(labels) + 1
        for index in range(COUNTS[part]):  # type: ignore[index]
            labels.append(label_of(part, index) + 1)
            save(folder / "jpg" / f"image_{len(labels):05d}.jpg", draw(part, index))
        sets[name] = np.arange(first, len(labels) + 1)
    matlab(folder / "imagelabels.mat", labels=np.array(labels))
    matlab(folder / "setid.mat", **sets)


def dogs(folder: Path) -> None:
    for name, parts in (("train", ("train", "val")), ("test", ("test",))):
        members = [(part, index) for part in parts for index in range(COUNTS[part])]  # type: ignore[index]
        files = [f"n0{label_of(part, index)}-dog/{part}_{index}.jpg" for part, index in members]
        for file, (part, index) in zip(files, members, strict=True):
            save(folder / "Images" / file, draw(part, index))
        labels = np.array([[label_of(part, index) + 1] for part, index in members], dtype=np.uint8)
        matlab(folder / "lists" / f"{name}_list.mat", file_list=cells(files), labels=labels)


def cars(folder: Path) -> None:
    lists = {"cars_train": "devkit/cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    kind = [("bbox_x1", object), ("class", object), ("fname", object)]
    for home, parts in (("cars_train", ("train", "val")), ("cars_test", ("test",))):
        rows: list[tuple[object, object, str]] = []
        for part in parts:
            for index in range(COUNTS[part]):  # type: ignore[index]
                name = f"{len(rows) + 1:05d}.jpg"
                save(folder / home / name, draw(part, index))
                rows.append((np.uint8(1), np.uint8(label_of(part, index) + 1), name))
        matlab(folder / lists[home], annotations=np.array(rows, dtype=kind))


OWN: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "cub200": (birds, ("7", "17", "27")),
    "nabirds": (birds, ("7", "17", "27")),
    "dogs": (dogs, ("1", "2", "3")),
    "cars": (cars, ("1", "2", "3")),
}


@pytest.mark.parametrize("key", OWN)
def test_own_lists__val_is_drawn_from_train(key: str, tmp_path: Path) -> None:
    make, classes = OWN[key]
    make(tmp_path / row(key).folder)
    found = task(f"fgvc:{key}", tmp_path)
    assert "val is a tenth of the official train split, drawn by vitgraft" in " ".join(found.notes)
    assert found.classes == classes
    assert found.splits["test"].labels.tolist() == [label_of("test", index) for index in range(6)]
    official = [label_of(part, index) for part in ("train", "val") for index in range(COUNTS[part])]
    chosen = stratified(np.array([int(classes[label]) for label in official]), {"val": 0.1}, 0)
    assert found.splits["val"].labels.tolist() == [official[index] for index in chosen["val"]]
    assert len(found.splits["train"]) + len(found.splits["val"]) == 12
    other = task(f"fgvc:{key}", tmp_path, seed=1)
    assert {*paths(other, "train"), *paths(other, "val")} == {*paths(found, "train"), *paths(found, "val")}
    assert {len(task(f"fgvc:{key}:trainval", tmp_path).splits["train"])} == {12}


def test_own_lists__flowers_have_a_val(tmp_path: Path) -> None:
    flowers(tmp_path / "OxfordFlowers")
    synqt(tmp_path / "oxford_flowers102")  # VTAB-1k's, whose test.json is none of FGVC's lists
    found = task("fgvc:flowers", tmp_path)
    assert not found.notes
    assert sizes(found) == COUNTS
    for part, count in COUNTS.items():
        assert found.splits[part].labels.tolist() == [label_of(part, index) for index in range(count)]
    assert paths(found, "val")[0] == "jpg/image_00009.jpg"


def test_own_lists__splits_of_vpt_come_first(tmp_path: Path) -> None:
    birds(vpt(tmp_path / "CUB_200_2011", "images"))
    assert look(row("cub200"), BIRDS_AND_CARS, tmp_path).layout == "JSON"
    (tmp_path / "CUB_200_2011" / "val.json").unlink()
    found = look(row("cub200"), BIRDS_AND_CARS, tmp_path)
    assert [problem.what.split(" in ")[0] for problem in found.problems] == ["there is no val.json"]


# Wrong copies


def edit(file: Path, **changes: object) -> None:
    entries = json.loads(file.read_text())
    paths = list(entries)
    for key, value in changes.items():
        entries[paths[int(key.removeprefix("of"))]] = value
    file.write_text(json.dumps(entries))


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no test": (lambda f: (f / "test.json").unlink(), r"there is no test\.json"),
    "no picture": (
        lambda f: (f / "images/001.bird/val_0.jpg").unlink(),
        r"in images/001\.bird/ are not there: val_0",
    ),
    "no folder of pictures": (
        lambda f: (f / "images").rename(f / "pics"),
        r"none of the 6 pictures in images/000\.bird",
    ),
    "a class too many": (lambda f: edit(f / "train.json", of0=9), r"train\.json has 4 classes, expected 3"),
    "a class of val alone": (
        lambda f: edit(f / "val.json", of0=9),
        r"val\.json has class 9, which train\.json lacks",
    ),
    "a class that test lacks": (
        lambda f: edit(f / "test.json", of0=1, of3=1),
        r"only 2 of 3 classes occur in test\.json",
    ),
    "a label of many digits": (
        lambda f: edit(f / "val.json", of0="9" * 5000),
        r"val\.json, entry 1: .*label '9+' is not",
    ),
    "a path that no file can have": (
        lambda f: (f / "val.json").write_text((f / "val.json").read_text().replace("val_0", "a\\u0000/b", 1)),
        r"pictures? in images/",
    ),
    "a label that is none": (lambda f: edit(f / "val.json", of0="x"), r"val\.json, entry 1: .*label 'x' is not"),
    "a shared picture": (
        lambda f: (f / "val.json").write_text((f / "train.json").read_text()),
        r"(?s)val\.json holds 8 images, expected 4.*is also at train\.json, entry 1, which would leak",
    ),
    "lists, not an object": (
        lambda f: (f / "test.json").write_text("[1, 2]"),
        r"entry 1: expected one path and its",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_vpt_splits__a_wrong_copy_is_refused(what: str, tmp_path: Path) -> None:
    damage, message = WRONG[what]
    damage(vpt(tmp_path / "CUB_200_2011", "images"))
    with pytest.raises(DataError, match=message):
        task("fgvc:cub200", tmp_path)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another count": (
        lambda f: (f / "train_test_split.txt").write_text(
            (f / "train_test_split.txt").read_text().replace(" 0", " 1", 1)
        ),
        r"(?s)the official train split holds 13 images, expected 12.*the official test split holds 5 images",
    ),
    "a key without a value": (
        lambda f: (f / "images.txt").write_text("1 a.jpg\n2\n"),
        r"cannot be read: images\.txt:2 has one value, expected two",
    ),
    "a label below zero": (
        lambda f: (f / "image_class_labels.txt").write_text(
            (f / "image_class_labels.txt").read_text().replace("test-0 ", "test-0 -")
        ),
        r"cannot be read: images\.txt, image test-0: label -\d+ is not a whole number",
    ),
    "a picture of both splits": (
        lambda f: (f / "images.txt").write_text((f / "images.txt").read_text().replace("2/test_0", "0/train_0")),
        r"images\.txt, image test-0: '0/train_0\.jpg' is also at images\.txt, image train-0, which would leak",
    ),
    "an image without a label": (
        lambda f: (f / "image_class_labels.txt").write_text("train-0 7\n"),
        r"cannot be read: 'train-1'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_own_lists__a_wrong_copy_is_refused(what: str, tmp_path: Path) -> None:
    damage, message = BROKEN[what]
    birds(tmp_path / "nabirds")
    damage(tmp_path / "nabirds")
    with pytest.raises(DataError, match=message):
        task("fgvc:nabirds", tmp_path)


def test_own_lists__damaged_matlab_files(tmp_path: Path) -> None:
    flowers(tmp_path / "OxfordFlowers")
    (tmp_path / "OxfordFlowers" / "setid.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 300)
    with pytest.raises(DataError, match=r"The lists of '.*' \(imagelabels\.mat, setid\.mat\) cannot be read"):
        task("fgvc:flowers", tmp_path)


def test_recognised__by_its_splits_and_its_name(tmp_path: Path) -> None:
    mention = recognised(vpt(tmp_path / "StanfordDogs", "Images"), SMALL)
    assert mention is not None
    assert mention.row.key == "dogs"
    (tmp_path / "StanfordDogs").rename(tmp_path / "mine")
    assert recognised(tmp_path / "mine", SMALL) is None


# The published augmentation


def test_augmentation__crop_flip_is_the_published_one() -> None:
    """Short side 256, a random 224 of it, mirrored half of the time; ImageNet's mean and std, bilinear."""
    pictures = preset("fgvc", Preprocessing(size=(224, 224)))
    assert (pictures.mode, pictures.interpolation, pictures.crop) == ("crop", "bilinear", 224 / 256)
    assert pictures.mean == (0.485, 0.456, 0.406)
    ramp = np.tile(np.arange(512, dtype=np.uint16) // 2, (256, 1)).astype(np.uint8)  # 256 x 512, wider than high
    image = Image.fromarray(ramp).convert("RGB")
    window, flip = AUGMENTATIONS["crop-flip"].steps(pictures)
    torch.manual_seed(0)
    crops = [np.asarray(window(image))[0, :, 0].astype(int) for _ in range(200)]
    assert {crop.shape for crop in crops} == {(224,)}
    assert {int(crop[-1] - crop[0]) for crop in crops} <= {111, 112}  # 224 of 512 columns, half a level each
    starts = [crop[0] for crop in crops]
    assert min(starts) < 10
    assert max(starts) > 134  # the last begins at column 288, level 144
    mirrored = [np.array_equal(np.asarray(flip(image)), np.asarray(image)) for _ in range(200)]
    assert 70 < sum(mirrored) < 130
