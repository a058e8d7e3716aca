"""The list of what a model was trained on, and what of it is there today."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import dataset, picture, sizes, write
from vitgraft.data.kept import FILE, Kept, Today, compared
from vitgraft.data.measured import part_of
from vitgraft.data.reading.folder import load_folder
from vitgraft.data.reading.listing import load_list
from vitgraft.data.split import retraining
from vitgraft.data.task import ArrayImages, Split, Task
from vitgraft.errors import DataError


def kept_of(root: Path) -> Kept:
    kept = Kept.of(load_folder(root).splits)
    assert kept is not None
    return kept


def today(kept: Kept, root: Path) -> Today:
    return compared(kept, load_folder(root, to_measure=True))


def contents(split: Split | None) -> list[tuple[int, int, int]]:
    return [] if split is None else [split[index][0].getpixel((0, 0)) for index in range(len(split))]


def everything(root: Path) -> dict[str, list[tuple[int, int, int]]]:
    return {name: contents(split) for name, split in load_folder(root).splits.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return dataset(tmp_path / "pets", {"cat": 12, "dog": 12})


def test_kept__comes_back_as_it_was(root: Path, tmp_path: Path) -> None:
    (root / "cat" / "01.png").rename(root / "cat" / 'a, "b"\u00e9.png')
    (root / "cat" / "02.png").rename(root / "cat" / "\udcff.png")
    kept = kept_of(root)
    kept.write(tmp_path / "run")
    assert Kept.read(tmp_path / "run") == kept
    assert kept.sizes() == sizes(load_folder(root))
    header, *lines = (tmp_path / "run" / FILE).read_bytes().splitlines()
    assert header == b"path,label,split,digest"
    assert len(lines) == 24
    assert Kept.read(tmp_path) is None


def test_kept__is_of_images_that_are_kept_one_by_one() -> None:
    drawn = Split(ArrayImages(np.zeros((2, 4, 4, 3), np.uint8), "toy"), np.array([0, 1]), ("a", "b"))
    assert Kept.of({"train": drawn}) is None


@pytest.mark.parametrize(
    "text", ["", "path,label\na,b\n", "path,label,split,digest\na,b,nowhere,c\n", "a,b,c,d\n"]
)
def test_kept__a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / FILE, text)
    with pytest.raises(DataError, match="is damaged"):
        Kept.read(tmp_path)


def test_compared__grown_data_keep_their_splits(root: Path) -> None:
    before, kept = everything(root), kept_of(root)
    for name in ("cat", "dog"):
        picture(root / name / "00a.png", (200, 0, 0))  # a new one among the old
        picture(root / name / "99.png", (0, 200, len(name)))
    picture(root / "owl" / "0.png", (9, 9, 9))
    now = today(kept, root)
    assert {name: contents(now.split(name)) for name in before} == before
    assert contents(now.split("new")) == [(200, 0, 0), (0, 200, 3), (200, 0, 0), (0, 200, 3), (9, 9, 9)]
    assert now.differs() == []
    assert "5 images are new (" in now.additions()[0]


def test_compared__moved_and_renamed_images_are_the_same(root: Path, tmp_path: Path) -> None:
    before, kept = everything(root), kept_of(root)
    shutil.move(root, tmp_path / "elsewhere")
    root = tmp_path / "elsewhere"
    (root / "cat" / "00.png").rename(root / "cat" / "zz.png")
    for name in ("01", "02"):  # swapped
        (root / "dog" / f"{name}.png").rename(root / "dog" / f"x{name}.png")
    (root / "dog" / "x01.png").rename(root / "dog" / "02.png")
    (root / "dog" / "x02.png").rename(root / "dog" / "01.png")
    now = today(kept, root)
    assert {name: contents(now.split(name)) for name in before} == before
    assert len(now.renamed) == 3
    assert not now.differs()
    assert not now.additions()


def test_compared__what_is_otherwise_is_told(root: Path) -> None:
    kept = kept_of(root)
    by_split = {name: [entry for entry in kept.entries if entry.split == name] for name in ("train", "test")}
    gone, changed = by_split["test"][0], by_split["train"][0]
    relabelled = next(entry for entry in by_split["train"] if entry.label == "dog")
    (root / gone.path).unlink()
    picture(root / changed.path, (1, 99, 1))
    (root / relabelled.path).rename(root / "cat" / "was_dog.png")
    now = today(kept, root)
    assert now.gone() == now.gone("test") == [gone.path]
    assert now.differs(["test"]) == [f"1 image is gone ({gone.path!r})"]
    assert now.differs(["train"]) == [
        f"1 image has another content ({changed.path!r})",
        f"1 image has another class ({relabelled.path!r})",
    ]
    train = now.split("train")
    assert train is not None
    assert (1, 99, 1) in contents(train)
    assert len(train) == len(by_split["train"])
    assert now.split("new") is None


def test_compared__copies_are_neither_new_nor_counted_twice(root: Path) -> None:
    kept = kept_of(root)
    shutil.copy(root / kept.entries[0].path, root / "cat" / "copy.png")
    now = today(kept, root)
    assert now.split("new") is None
    assert [len(now.split(name) or ()) for name in kept.sizes()] == list(kept.sizes().values())
    assert "copy.png" in now.additions()[0]


def test_with_seen__what_was_trained_on_once_stays_so(root: Path) -> None:
    kept = kept_of(root)
    test = next(entry for entry in kept.entries if entry.split == "test")
    later = Kept((test._replace(split="train"), test._replace(path="other.png", digest="0" * 16)))
    both = kept.with_seen(later)
    assert len(both.entries) == len(kept.entries) + 1
    assert test._replace(split="train") in both.entries
    assert test not in both.entries


def test_with_earlier__what_an_earlier_model_saw_is_no_split_of_this_run(root: Path, tmp_path: Path) -> None:
    kept = kept_of(root)
    other = tmp_path / "others"
    for number in range(12):
        picture(other / "dog" / f"{number}.png", (number, 3, 200))
        picture(other / "cat" / f"{number}.png", (number, 4, 201))
    before = kept_of(other)
    both = kept.with_earlier(before)
    both.write(tmp_path / "run")
    assert Kept.read(tmp_path / "run") == both
    assert both.sizes() == kept.sizes()
    assert both.trained() == kept.trained() | before.trained()
    now = today(both, root)
    assert not now.differs()
    assert {name: len(now.split(name) or ()) for name in kept.sizes()} == kept.sizes()
    part = part_of(load_folder(other, to_measure=True), None, both)
    assert (part.name, len(part.split)) == ("all", 24)
    known = before.sizes()["train"] + before.sizes()["val"]
    assert f"on {known} of these 24 images" in part.notes[0]


def test_compared__another_split_of_the_data_is_told_and_not_taken(root: Path) -> None:
    rows = [f"{name}/{n:02}.png,{name}" for name in ("cat", "dog") for n in range(12)]

    def listed(name: str, *splits: str) -> Path:
        each = [f"{row},{splits[place % len(splits)]}" for place, row in enumerate(rows)]
        return write(root / name, "\n".join(["path,label,split", *each, ""]))

    def told(before: Task, after: Path) -> tuple[int, list[str]]:
        kept = Kept.of(before.splits)
        assert kept is not None
        part = part_of(load_list(after, to_measure=True), "test", kept, own=True)
        return len(part.split), [note for note in part.notes if "another split" in note]

    three = load_list(listed("a.csv", "train", "val", "test"))
    assert told(three, root / "a.csv") == (8, [])
    count, notes = told(three, listed("b.csv", "train", "test", "val"))
    assert count == 8
    assert "b gives 16 images another split than when it was trained on" in notes[0]
    two = listed("c.csv", "train", "test")
    assert told(load_list(two), two) == (12, [])  # val is cut from train
    assert told(retraining(three), root / "a.csv") == (8, [])
    assert told(load_list(two), listed("d.csv", "train")) == (12, [])
