"""VTAB-1k from copies in every layout of lists, and the copies that must be refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.benchmark_copies import (
    COUNTS,
    VTAB,
    cifar_export,
    colour,
    colours,
    draw,
    label_of,
    noah,
    row,
    save,
    shrunk,
    synqt,
    task,
)
from tests.pictures import sizes
from vitgraft.data import source
from vitgraft.data.benchmarks.copy import look
from vitgraft.errors import ConfigError, DataError, command

# Layouts


@pytest.mark.parametrize("folder", ["cifar", "cifar100", "CIFAR-100", "processed_vtab-cifar", "."])
def test_lists__as_noah_writes_them(folder: str, tmp_path: Path) -> None:
    noah(tmp_path / "copy" / folder)
    assert (
        (tmp_path / "copy" / folder / "val200.txt")
        .read_bytes()
        .startswith(b"images/val200/000000.jpg 1\nimages/val200/000001.jpg 2\n")
    )
    found = task("vtab1k:cifar", tmp_path / "copy")
    assert (found.name, found.group, found.classes) == ("vtab1k:cifar100", "natural", ("0", "1", "2"))
    assert sizes(found) == COUNTS
    for part, count in COUNTS.items():
        assert found.splits[part].labels.tolist() == [label_of(part, index) for index in range(count)]
        assert np.abs(np.array(colours(found, part)) - [colour(part, index) for index in range(count)]).max() < 12
    assert "JPEG files" in " ".join(found.notes)
    both = task("vtab1k:cifar:trainval", tmp_path / "copy")
    assert "JPEG files" in " ".join(both.notes)


def test_lists__retraining_has_both_and_no_val(tmp_path: Path) -> None:
    noah(tmp_path / "cifar", ".png")
    found, apart = task("vtab1k:cifar100:trainval", tmp_path), task("vtab1k:cifar100", tmp_path)
    assert sizes(found) == {"train": 12, "test": 6}
    assert colours(found, "train") == colours(apart, "train") + colours(apart, "val")
    both = [*apart.splits["train"].labels, *apart.splits["val"].labels]
    assert found.splits["train"].labels.tolist() == both
    assert found.name == apart.name
    assert found.fingerprint() != apart.fingerprint()


def test_lists__png_copies_are_not_warned_of(tmp_path: Path) -> None:
    noah(tmp_path / "cifar", ".png")
    assert not task("vtab1k:cifar100", tmp_path).notes


@pytest.mark.parametrize("layout", ["json", "text"])
def test_union_alone__is_cut_and_says_so(layout: str, tmp_path: Path) -> None:
    """The last images are val: which the official ones are, such a copy does not say."""
    if layout == "json":
        synqt(tmp_path / "cifar")
    else:
        noah(tmp_path / "cifar", ".png")
        for name in ("train800", "val200"):
            (tmp_path / "cifar" / f"{name}.txt").unlink()
    retrained = task("vtab1k:cifar100:trainval", tmp_path)
    assert not retrained.notes
    found = task("vtab1k:cifar100", tmp_path)
    assert "val is the end of the list: it is not val200" in " ".join(found.notes)
    assert sizes(found) == COUNTS
    assert colours(found, "train") == [colour("train", index) for index in range(8)]
    assert colours(found, "val") == [colour("val", index) for index in range(4)]
    assert colours(retrained, "train") == colours(found, "train") + colours(found, "val")


def test_json__is_a_list_of_one_entry_objects(tmp_path: Path) -> None:
    folder = synqt(tmp_path / "cifar")
    assert (folder / "test.json").read_text().startswith('[{"test/000000.png": 2}, {"test/000001.png": 0}, ')
    assert task("vtab1k:cifar100", tmp_path).splits["test"].labels.tolist() == [2, 0, 1, 2, 0, 1]


def test_export__is_read_without_tensorflow(tmp_path: Path) -> None:
    cifar_export(tmp_path)
    found = task("vtab1k:cifar100", tmp_path)
    assert not found.notes
    assert sizes(found) == COUNTS
    for part, count in COUNTS.items():
        assert colours(found, part) == [colour(part, index) for index in range(count)]
        assert found.splits[part].labels.tolist() == [label_of(part, index) for index in range(count)]
    assert found.fingerprint() == task("vtab1k:cifar100", tmp_path).fingerprint()


# Wrong copies


def edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def swap(folder: Path, first: str, second: str) -> None:
    texts = (folder / first).read_text(), (folder / second).read_text()
    (folder / second).write_text(texts[0])
    (folder / first).write_text(texts[1])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def misspelt(text: str) -> str:
    return text.replace("images/test/000002", "images/test/00 0002")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no list": (lambda f: (f / "val200.txt").unlink(), r"there is no val200\.txt in"),
    "no test list": (lambda f: (f / "test.txt").unlink(), r"there is no test\.txt in"),
    "no picture": (
        lambda f: (f / "images/test/000003.jpg").unlink(),
        r"1 picture of 6 in images/test/ are not there: 000003\.jpg",
    ),
    "no pictures": (
        lambda f: shutil.rmtree(f / "images/val200"),
        r"none of the 4 pictures in images/val200/ is there",
    ),
    "empty picture": (
        lambda f: (f / "images/train800/000007.jpg").write_bytes(b""),
        r"1 picture of 8 in images/train800/ are empty files",
    ),
    "corrupt picture": (
        lambda f: (f / "images/test/000005.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more"),
        r"1 of test's pictures cannot be read: '.*000005\.jpg'",
    ),
    "line too few": (
        lambda f: edit(f / "test.txt", lambda text: text[: text.rindex("images")]),
        r"test\.txt holds 5 images, expected 6",
    ),
    "label too great": (
        lambda f: edit(f / "train800.txt", lambda text: text.replace("000004.jpg 1", "000004.jpg 3")),
        r"train800\.txt has labels up to 3, but the classes are 0 to 2: perhaps it is another task's",
    ),
    "negative label": (
        lambda f: edit(f / "train800.txt", lambda text: text.replace("000004.jpg 1", "000004.jpg -1")),
        r"train800\.txt:5: label '-1' is not a whole number",
    ),
    "label of another kind": (
        lambda f: edit(f / "train800.txt", lambda text: text.replace("000004.jpg 1", "000004.jpg 1.0")),
        r"train800\.txt:5: label '1\.0' is not a whole number",
    ),
    "no label": (
        lambda f: edit(f / "val200.txt", lambda text: text.replace("000001.jpg 2", "000001.jpg")),
        r"val200\.txt:2: 'images/val200/000001\.jpg' has no label",
    ),
    "space in a path": (
        lambda f: edit(f / "test.txt", misspelt),
        r"1 picture of 6 in images/test/ are not there: 00 0002\.jpg",
    ),
    "lists swapped": (
        lambda f: swap(f, "train800.txt", "val200.txt"),
        r"train800\.txt holds 4 images, expected 8",
    ),
    "pictures of another split": (
        lambda f: edit(f / "val200.txt", lambda text: text.replace("val200/000003", "train800/000003")),
        r"val200\.txt:4: 'images/train800/000003\.jpg' is of train800: were the lists swapped",
    ),
    "classes that do not occur": (
        lambda f: edit(f / "test.txt", lambda text: text.replace(" 2\n", " 0\n")),
        r"only 2 of 3 classes occur in test\.txt",
    ),
    "a picture twice": (
        lambda f: edit(f / "test.txt", lambda text: text.replace("000005", "000004")),
        r"test\.txt:6: 'images/test/000004\.jpg' is also at .*test\.txt:5",
    ),
    "union of another copy": (
        lambda f: edit(f / "train800val200.txt", lambda text: text.replace("000.jpg 0", "000.jpg 1")),
        r"train800val200\.txt has other labels than train800\.txt and val200\.txt",
    ),
    "list is no text": (lambda f: (f / "test.txt").write_bytes(b"\xff\xfe\0"), r"is not UTF-8 text"),
    "list is empty": (lambda f: (f / "test.txt").write_text("\n"), r"test\.txt' names no images"),
    "folder is empty": (empty, r"cifar' holds none of train800, val200, train800val200 \(\.txt or \.json\)"),
    "no folder": (shutil.rmtree, r"has no folder cifar"),
}


@pytest.mark.parametrize("what", WRONG)
def test_lists__a_wrong_copy_is_refused(what: str, tmp_path: Path) -> None:
    damage, message = WRONG[what]
    root = tmp_path / "copies"
    damage(noah(root / "cifar"))
    with pytest.raises(DataError, match=message) as refused:
        task("vtab1k:cifar100", root)
    assert command("data", "check", root, "vtab1k:cifar100") in str(refused.value)


BAD_JSON: dict[str, tuple[Callable[[str], str], str]] = {
    "cut short": (lambda text: text[:-10], r"test\.json' is no JSON"),
    "two entries": (
        lambda text: text.replace("}, {", ", ", 1),
        r"test\.json, entry 1: expected one path and its label",
    ),
    "label is a name": (
        lambda text: text.replace(": 2}", ': "cat"}', 1),
        r"entry 1: label 'cat' is not a whole number",
    ),
    "label is half": (
        lambda text: text.replace(": 2}", ": 2.5}", 1),
        r"entry 1: label 2\.5 is not a whole number",
    ),
    "label is true": (
        lambda text: text.replace(": 2}", ": true}", 1),
        r"entry 1: label True is not a whole number",
    ),
    "no list": (lambda text: "7", r"test\.json' holds no list of paths"),
    "nothing": (lambda text: "[]", r"test\.json' names no images"),
    "another picture": (
        lambda text: text.replace("000000", "999999"),
        r"in images/test/ are not there: 999999\.png",
    ),
}


@pytest.mark.parametrize("what", BAD_JSON)
def test_json__a_wrong_copy_is_refused(what: str, tmp_path: Path) -> None:
    change, message = BAD_JSON[what]
    edit(synqt(tmp_path / "cifar") / "test.json", change)
    with pytest.raises(DataError, match=message):
        task("vtab1k:cifar100", tmp_path)


def flat(folder: Path) -> None:
    """All pictures in images/ itself, where those of train and val have the names of the test's."""
    for file in folder.glob("*.json"):
        file.write_text(file.read_text().replace(f"{file.stem}/", ""))
    shutil.copytree(folder / "images/train800val200", folder / "images", dirs_exist_ok=True)


def test_json__train_and_val_share_no_picture_with_test(tmp_path: Path) -> None:
    flat(synqt(tmp_path / "cifar"))
    leak = r"test\.json, entry 1: '000000\.png' is also at train800val200\.json, entry 1, which would leak"
    for name in ("vtab1k:cifar100", "vtab1k:cifar100:trainval"):
        with pytest.raises(DataError, match=leak):
            task(name, tmp_path)


@pytest.mark.parametrize("number", [1, 11])  # in train, and in val
def test_json__train_and_val_list_no_picture_twice(number: int, tmp_path: Path) -> None:
    edit(synqt(tmp_path / "cifar") / "train800val200.json", lambda text: text.replace(f"{number:06d}", "000000"))
    with pytest.raises(DataError, match=rf"entry {number + 1}: '.*000000\.png' is also at .*200\.json, entry 1"):
        task("vtab1k:cifar100", tmp_path)


def test_lists__a_rare_class_may_miss_the_test(tmp_path: Path) -> None:
    """Ten of eleven classes are told as right: it is another task's labels that are looked for."""
    folder = noah(tmp_path / "dtd", ".png")
    for name, count in {"train800": 8, "val200": 4, "train800val200": 12, "test": 12}.items():
        for index in range(count):
            save(folder / f"images/{name}/{index:06d}.png", draw("test", 1))
        labels = [index % 8 for index in range(8)] + [index % 8 for index in range(4)]
        chosen = {"train800": labels[:8], "val200": labels[8:], "train800val200": labels}.get(name, range(12))
        lines = [f"images/{name}/{index:06d}.png {label % 10}\n" for index, label in enumerate(chosen)]
        (folder / f"{name}.txt").write_text("".join(lines))
    for classes, kinds in ((11, []), (12, ["wrong"])):
        one = shrunk(row("dtd"), classes=classes, counts=COUNTS | {"test": 12})
        assert [problem.kind for problem in look(one, VTAB, tmp_path).problems] == kinds


def test_load__options_that_would_change_the_benchmark(tmp_path: Path) -> None:
    noah(tmp_path / "cifar", ".png")
    for key, value in {"val_fraction": 0.2, "test_fraction": 0.2, "skip_unreadable": True}.items():
        with pytest.raises(ConfigError, match=f"vtab1k:cifar100 has its own splits.*remove {key}"):
            task("vtab1k:cifar100", tmp_path, **{key: value})
    assert task("vtab1k:cifar100", tmp_path).notes == ()
    (idle,) = task("vtab1k:cifar100", tmp_path, seed=3).notes
    assert idle == "split_seed = 3 (--split-seed) has no effect: vtab1k:cifar100 has its own splits."
    with pytest.raises(ConfigError, match="no reading option 'clases'"):
        task("vtab1k:cifar100", tmp_path, clases=3)
    with pytest.raises(DataError, match=r"read from a copy of yours.*--root FOLDER"):
        source.load("vtab1k:cifar100")
    with pytest.raises(DataError, match=r"there is no folder '.*nowhere'\. Check --root"):
        source.load("vtab1k:cifar100", root=tmp_path / "nowhere")


def test_load__check_may_be_left_out(tmp_path: Path) -> None:
    (noah(tmp_path / "cifar") / "images/test/000005.jpg").write_bytes(b"no picture")
    assert sizes(task("vtab1k:cifar100", tmp_path, check=False)) == COUNTS
