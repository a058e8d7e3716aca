"""Tasks and splits: labels know their classes, images their names and digests."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import dataset, paths, picture
from vitgraft.data.reading import digests
from vitgraft.data.reading.files import FileImages
from vitgraft.data.reading.folder import load_folder
from vitgraft.data.task import ArrayImages, Split, Task, joined, listed
from vitgraft.errors import DataError


def split(classes: tuple[str, ...] | None = None) -> Split:
    return Split(ArrayImages(np.zeros((2, 4, 4, 3), np.uint8), "black"), np.array([0, 1]), classes)


def test_task__its_splits_know_its_classes() -> None:
    task = Task("pets", ("cat", "dog"), {"train": split(), "test": split(("cat", "dog"))})
    assert [one.classes for one in task.splits.values()] == [("cat", "dog")] * 2
    assert joined(list(task.splits.values())).classes == ("cat", "dog")


def test_task__refuses_a_split_of_other_classes() -> None:
    with pytest.raises(DataError, match="labels of train are 'dog', 'cat', those of the task 'cat', 'dog'"):
        Task("pets", ("cat", "dog"), {"train": split(("dog", "cat"))})
    with pytest.raises(DataError, match="different classes cannot be joined"):
        joined([split(("cat", "dog")), split(("dog", "cat"))])


def test_listed__is_equal_wherever_the_images_lie(tmp_path: Path) -> None:
    here, there = (dataset(tmp_path / name, {"cat": 4, "dog": 4}) for name in ("a", "b"))
    one, other = (load_folder(root).splits["train"].images for root in (here, there))
    assert listed(one) == listed(other)
    assert [path for path, _ in listed(one) or ()] == list(paths(load_folder(here), "train"))
    assert len({digest for _, digest in listed(one) or ()}) == 4
    assert listed(split().images) is None
    assert listed(joined([split(), split()]).images) is None


def test_digests__a_file_is_read_once_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = digests._read
    monkeypatch.setattr(digests, "_read", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(digests, "time_ns", lambda: 2 * 10**18)  # long after
    file = picture(tmp_path / "a.png")
    images = FileImages(tmp_path, ("a.png",))
    before = images.fingerprint(), images.listed()
    assert (images.fingerprint(), images.listed()) == before
    assert len(read) == 1
    picture(file, (1, 2, 3))
    os.utime(file, (5, 5))
    assert images.listed() != before[1]
    assert images.fingerprint() != before[0]
    assert len(read) == 2
