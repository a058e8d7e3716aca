"""Reading images that a finished model is measured on: nothing is cut, and the classes are those that occur."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import dataset, paths, picture, sizes, write
from vitgraft.data.source import load
from vitgraft.data.task import Task
from vitgraft.errors import DataError


def names(task: Task) -> Mapping[str, list[str]]:
    """The class name of each image, by split."""
    return {name: [task.classes[label] for label in split.labels] for name, split in task.splits.items()}


def read(path: Path, **options: object) -> Task:
    return load(path, to_measure=True, **options)


@pytest.mark.parametrize(
    "counts", [{"cat": 3, "dog": 4}, {"cat": 7}, {"train": 7}, {"cat": 1, "dog": 2, "owl": 4}]
)
def test_folder__is_measured_whole(tmp_path: Path, counts: dict[str, int]) -> None:
    task = read(dataset(tmp_path / "new", counts))
    assert sizes(task) == {"all": 7}
    assert names(task) == {"all": [name for name, count in counts.items() for _ in range(count)]}


def test_folder__keeps_its_own_splits(tmp_path: Path) -> None:
    assert sizes(read(dataset(tmp_path / "a", {"test/cat": 2, "test/dog": 1}))) == {"test": 3}
    assert sizes(read(dataset(tmp_path / "b", {"val/cat": 2}))) == {"val": 2}
    task = read(dataset(tmp_path / "c", {"train/cat": 2, "val/owl": 3, "test/dog": 1}))
    assert names(task) == {"train": ["cat"] * 2, "val": ["owl"] * 3, "test": ["dog"]}


def test_folder__an_empty_class_is_no_class(tmp_path: Path) -> None:
    dataset(tmp_path / "new", {"cat": 2})
    (tmp_path / "new" / "dog").mkdir()
    assert names(read(tmp_path / "new")) == {"all": ["cat"] * 2}
    (tmp_path / "none" / "dog").mkdir(parents=True)
    with pytest.raises(DataError, match="no images in them"):
        read(tmp_path / "none")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [("3 7 3", ("3", "7")), ("10 9 2", ("2", "9", "10")), ("5 5 5", ("5",)), ("owl cat owl", ("cat", "owl"))],
)
def test_list__labels_are_as_they_are_written(tmp_path: Path, labels: str, classes: tuple[str, ...]) -> None:
    dataset(tmp_path, {"x": 3})
    table = "".join(f"x/0{number}.png,{label}\n" for number, label in enumerate(labels.split()))
    task = read(write(tmp_path / "new.csv", f"path,label\n{table}"))
    assert task.classes == classes
    assert names(task) == {"all": labels.split()}
    text = read(write(tmp_path / "new.txt", table.replace(",", " ")))
    assert names(text) == {"all": labels.split()}


def test_list__one_called_test_is_read_alone(tmp_path: Path) -> None:
    dataset(tmp_path, {"x": 3})
    write(tmp_path / "test.csv", "path,label\nx/00.png,cat\n")
    assert names(read(tmp_path / "test.csv")) == {"test": ["cat"]}
    assert names(read(tmp_path)) == {"test": ["cat"]}
    write(tmp_path / "train.csv", "path,label\nx/01.png,dog\n")
    assert names(read(tmp_path / "test.csv")) == {"test": ["cat"]}
    assert names(read(tmp_path)) == {"train": ["dog"], "test": ["cat"]}


def test_list__keeps_its_own_splits(tmp_path: Path) -> None:
    dataset(tmp_path, {"x": 3})
    table = "path,label,split\nx/00.png,cat,test\nx/01.png,dog,test\nx/02.png,owl,val\n"
    assert names(read(write(tmp_path / "new.csv", table))) == {"val": ["owl"], "test": ["cat", "dog"]}


def test_list__what_is_missing_is_left_out_if_that_is_wanted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = write(tmp_path / "new.csv", "path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(DataError, match=r"there is no image .*b\.png"):
        read(file)
    task = read(file, skip_missing=True)
    assert paths(task, "all") == ("a.png",)
    assert task.skipped == (("b.png", "there is no such file"),)
    assert np.array_equal(task.splits["all"].labels, [0])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="Of the 2 images of"):
        read(file, skip_missing=True)
