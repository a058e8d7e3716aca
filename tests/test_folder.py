"""Folders as tasks: the split, both layouts, their mistakes, unreadable images, fingerprints."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import dataset, paths, picture, sizes
from vitgraft.data.reading.files import FileImages
from vitgraft.data.reading.folder import load_folder
from vitgraft.data.split import stratified
from vitgraft.errors import ConfigError, DataError

# The split


def test_stratified__shares_are_disjoint_and_complete() -> None:
    labels = np.repeat([0, 1, 2, 3, 4], [1, 2, 3, 20, 100])
    parts = stratified(labels, {"val": 0.15, "test": 0.15}, seed=3)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(126))
    counts = {name: np.bincount(labels[indices], minlength=5).tolist() for name, indices in parts.items()}
    assert counts == {"train": [1, 1, 1, 14, 70], "val": [0, 1, 1, 3, 15], "test": [0, 0, 1, 3, 15]}


def test_stratified__seed_and_class_decide_alone() -> None:
    labels = np.repeat([0, 1], [40, 40])
    parts = stratified(labels, {"val": 0.2}, seed=1)
    assert not np.array_equal(parts["val"], stratified(labels, {"val": 0.2}, seed=2)["val"])
    alone = stratified(labels[:40], {"val": 0.2}, seed=1)
    assert alone["val"].tolist() == [index for index in parts["val"] if index < 40]
    greedy = stratified(np.zeros(10, np.int64), {"val": 0.5, "test": 0.49})
    assert [len(part) for part in greedy.values()] == [1, 5, 4]


def test_stratified__is_the_same_in_every_release() -> None:
    assert stratified(np.zeros(20, np.int64), {"val": 0.2}, seed=0)["val"].tolist() == [1, 4, 10, 11]


# Folders


def test_load_folder__one_folder_is_cut(tmp_path: Path) -> None:
    task = load_folder(dataset(tmp_path / "pets", {"dog": 20, "cat": 20}))
    assert (task.name, task.classes, sizes(task)) == ("pets", ("cat", "dog"), {"train": 28, "val": 6, "test": 6})
    everything = [path for split in task.splits for path in paths(task, split)]
    assert len(set(everything)) == 40
    for split in task.splits.values():
        image, label = split[0]
        assert image.getpixel((0, 0))[0] == 1 - label  # dog was drawn first
        assert split.labels.dtype == np.int64
    assert paths(load_folder(tmp_path / "pets"), "val") == paths(task, "val")
    assert paths(load_folder(tmp_path / "pets", seed=1), "val") != paths(task, "val")
    assert sizes(load_folder(tmp_path / "pets", val_fraction=0.5, test_fraction=0)) == {"train": 20, "val": 20}


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_load_folder__given_splits(tmp_path: Path, val: str) -> None:
    counts = {f"{split}/{name}": 3 for split in ("train", val) for name in ("a", "b")}
    task = load_folder(dataset(tmp_path, counts | {"test/a": 2}))
    assert list(task.splits) == ["train", "val", "test"]
    assert sizes(task) == {"train": 6, "val": 6, "test": 2}
    assert paths(task, "val")[0] == f"{val}/a/00.png"


def test_load_folder__val_is_cut_out_of_train(tmp_path: Path) -> None:
    counts = {"train/a": 10, "train/b": 10, "test/a": 4, "test/b": 4}
    task = load_folder(dataset(tmp_path, counts), val_fraction=0.2)
    assert sizes(task) == {"train": 16, "test": 8, "val": 4}
    assert not set(paths(task, "train")) & set(paths(task, "val"))
    assert all(path.startswith("train/") for path in paths(task, "val"))


def test_load_folder__train_may_be_a_class(tmp_path: Path) -> None:
    assert load_folder(dataset(tmp_path, {"train": 4, "plane": 4})).classes == ("plane", "train")


def test_load_folder__nested_and_foreign_files(tmp_path: Path) -> None:
    root = dataset(tmp_path, {"a/x/y": 3, "a": 3, "b": 3, "__MACOSX/a": 1, ".cache/a": 1, "a/@eaDir": 1})
    for name in ("a/Thumbs.db", "a/._00.png", "a/notes.txt", "readme.md", "b/.DS_Store"):
        (root / name).write_bytes(b"\0")
    picture(root / "b" / "UPPER.JPG")
    task = load_folder(root, test_fraction=0, val_fraction=0)
    expected = ("a/00.png", "a/01.png", "a/02.png", "a/x/y/00.png", "a/x/y/01.png", "a/x/y/02.png")
    assert paths(task, "train") == (*expected, "b/00.png", "b/01.png", "b/02.png", "b/UPPER.JPG")
    assert task.classes == ("a", "b")


def test_load_folder__order_is_not_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path, {"a": 5, "b": 5, "b/c": 4})
    first = load_folder(root)
    scandir = os.scandir

    class Reversed:
        def __init__(self, folder: str) -> None:
            with scandir(folder) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> Iterable[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Reversed)
    assert [paths(load_folder(root), s) for s in first.splits] == [paths(first, s) for s in first.splits]


def test_load_folder__link_loops_end(tmp_path: Path) -> None:
    root = dataset(tmp_path, {"a": 3, "b": 3})
    (root / "a" / "again").symlink_to(root / "a")
    (root / "b" / "up").symlink_to(root / "b" / "down")
    (root / "b" / "down").symlink_to(root / "b" / "up")
    assert len(paths(load_folder(root, val_fraction=0, test_fraction=0), "train")) == 6
    (root / "a" / "all").symlink_to(root)
    with pytest.raises(DataError, match="are one file reached by two ways"):
        load_folder(root)


FOLDER_MISTAKES: list[tuple[dict[str, int], str]] = [
    ({}, r"holds no images\. Images lie in <folder>/<class>/"),
    ({"": 3}, r"holds 3 images but no class folders"),
    ({"": 1, "a": 2, "b": 2}, r"holds 1 images \('00\.png'\) next to class folders.*Move them"),
    ({"a": 2, "b": 2, "c": 0}, r"Class folder '.*c' holds no images\. Fill it, or delete it"),
    ({"train/a": 2, "train/b": 2, "test/a": 1, "test/zebra": 1}, r"Class 'zebra' of '.*test' is not in '.*train'"),
    ({"train/a": 2, "train/b": 2, "val/c": 1}, r"Class 'c' of .*Add it to train, or remove"),
    ({"Cat": 2, "cat": 2}, r"Classes 'Cat' and 'cat' .* differ by case.*Merge them"),
    ({"a": 4}, r"at least two classes; .* has only one, 'a'"),
    ({"pets/a": 2, "pets/b": 2}, r"one class only, 'pets', which itself holds folders\. Did you mean '.*pets'"),
    ({"val/a": 2, "test/a": 2}, r"has .*/ but no train/"),
    ({"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1}, r"two folders for val, 'val' and 'valid'"),
    ({"train/a": 2, "train/b": 2, "vall/a": 1}, r"vall' holds classes of train/ but is no known split"),
    ({"train": 2, "test": 2}, r"train' holds 2 images but no class folders"),
    (
        {f"{split}/{name}": 2 for split in ("seg_train", "seg_test") for name in "ab"},
        r"look like splits, since all",
    ),
    (
        {f"fold{number}/{name}": 2 for number in range(3) for name in "ab"},
        r"'fold0', 'fold1', 'fold2' in .* splits",
    ),
]


@pytest.mark.parametrize(("counts", "message"), FOLDER_MISTAKES)
def test_load_folder__mistakes(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    for folder in dataset(tmp_path, counts) and counts:
        (tmp_path / folder).mkdir(exist_ok=True, parents=True)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_load_folder__no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no folder '.*nope'"):
        load_folder(tmp_path / "nope")
    with pytest.raises(DataError, match=r"is a file, not a folder"):
        load_folder(picture(tmp_path / "a.png"))
    (tmp_path / "a.png").unlink()
    for name in ("x.heic", "y.heic", "z.txt"):
        (tmp_path / name).write_bytes(b"0")
    with pytest.raises(DataError, match=r"holds no images, only other files \(2 \.heic, 1 \.txt\)"):
        load_folder(tmp_path)


def test_load_folder__unreadable_images(tmp_path: Path) -> None:
    root = dataset(tmp_path, {"a": 4, "b": 4})
    (root / "a" / "02.png").write_bytes(b"")
    (root / "b" / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError) as error:
        load_folder(root)
    text = str(error.value)
    assert text.startswith("2 of 9 images cannot be read. Replace or convert them, or leave them out with skip_un")
    assert f"'{root}/a/02.png': it is empty (0 bytes)" in text
    assert f"'{root}/b/gone.png': there is no such file" in text
    task = load_folder(root, skip_unreadable=True)
    assert task.skipped == (("a/02.png", "it is empty (0 bytes)"), ("b/gone.png", "there is no such file"))
    assert sum(sizes(task).values()) == 7
    assert sum(sizes(load_folder(root, check=False)).values()) == 9
    for index in range(4):
        (root / "a" / f"{index:02}.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"Every training image of class 'a' .* is unreadable: 'a/00\.png'"):
        load_folder(root, skip_unreadable=True)


def test_load_folder__many_unreadable_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path, {"a": 8, "b": 8})
    for file in root.glob("b/*"):
        file.write_bytes(b"GIF89a")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # with the progress bar
    with pytest.raises(DataError) as error:
        load_folder(root)
    lines = str(error.value).split("\n")
    assert lines[0].startswith("8 of 16 images cannot be read")
    assert [line.split("/")[-1][:6] for line in lines[1:6]] == [f"{index:02}.png" for index in range(5)]
    assert lines[6] == "  ... and 3 more"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sed": 1}, r"no reading option 'sed'\. Did you mean 'seed'"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave nothing to train on"),
        ({"val_fraction": -0.1}, "at least 0"),
        ({"val_fraction": "0.1"}, r"val_fraction='0\.1': expected a number"),
        ({"seed": True}, "seed=True: expected a whole number"),
        ({"seed": -1}, "seed=-1: expected a whole number of at least 0"),
        ({"check": 0}, "check=0: expected True or False"),
        ({"check": False, "skip_unreadable": True}, "skip_unreadable needs check"),
    ],
)
def test_reading__wrong_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_folder(tmp_path, **options)


# Fingerprints


def test_fingerprint__follows_content_not_place(tmp_path: Path) -> None:
    first = load_folder(dataset(tmp_path / "one" / "pets", {"a": 3, "b": 3}))
    second = load_folder(dataset(tmp_path / "two" / "pets", {"a": 3, "b": 3}))
    assert first.fingerprint() == second.fingerprint()
    os.utime(tmp_path / "one" / "pets" / "a" / "00.png", (1, 1))
    assert first.fingerprint() == second.fingerprint()
    picture(tmp_path / "one" / "pets" / "a" / "00.png", (9, 9, 9))
    assert first.fingerprint() != second.fingerprint()
    (tmp_path / "two" / "pets" / "a" / "00.png").unlink()
    with pytest.raises(DataError, match=r"00\.png': No such file or directory\. Restore it"):
        second.fingerprint()


@pytest.mark.parametrize("where", [0, 1_000_000, 1_999_999])
def test_fingerprint__large_files(tmp_path: Path, where: int) -> None:
    content = bytearray(2_000_000)
    (tmp_path / "a.bmp").write_bytes(content)
    images = FileImages(tmp_path, ("a.bmp",))
    before = images.fingerprint()
    content[where] = 1
    (tmp_path / "a.bmp").write_bytes(content)
    assert images.fingerprint() != before
