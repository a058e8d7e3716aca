"""Lists as tasks, the one entry point for all sources, and the images that `predict` is given."""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from tests.pictures import dataset, paths, picture, sizes, write
from vitgraft.data.reading.listing import load_list
from vitgraft.data.source import expand_images, load
from vitgraft.errors import ConfigError, DataError

# Lists


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder with images/0.png to images/9.png."""
    for index in range(10):
        picture(tmp_path / "images" / f"{index}.png", (index, 0, 0))
    return tmp_path


def lines(labels: Iterable[object], form: str = "images/{0}.png {1}", start: int = 0) -> str:
    return "\n".join(form.format(index, label) for index, label in enumerate(labels, start)) + "\n"


def test_load_list__csv(pool: Path) -> None:
    form = '"images/{0}.png",{1},{2}'
    rows = [form.format(i, "cat, small" if i % 2 else "dog", ("train", "Val", "test")[i % 3]) for i in range(10)]
    rows = [row.replace("cat, small", '"cat, small"') for row in rows]
    task = load_list(write(pool / "pets.csv", "Path,Label,Split\n" + "\n\n".join(rows) + "\n"))
    assert (task.name, task.classes) == ("pets", ("cat, small", "dog"))
    assert sizes(task) == {"train": 4, "val": 3, "test": 3}
    assert paths(task, "val") == ("images/1.png", "images/4.png", "images/7.png")
    assert task.splits["val"].labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "header", "form"),
    [
        ("a.csv", "image,class\n", "images/{0}.png,{1}"),
        ("a.csv", "\ufefffilename;target;x\n", "images/{0}.png;{1};0"),
        ("a.tsv", "id\tlabel\tfile\n", "7\t{1}\timages/{0}.png"),
        ("a.csv", "", "images/{0}.png,{1}"),
        ("a.csv", "", "images\\{0}.png , {1}"),
        ("a.txt", "", "images/{0}.png {1}\r"),
        ("a.txt", "\n", "  images/{0}.png\t{1}"),
    ],
)
def test_load_list__forms(pool: Path, name: str, header: str, form: str) -> None:
    task = load_list(write(pool / name, header + lines("ababababab", form)), val_fraction=0, test_fraction=0)
    assert task.classes == ("a", "b")
    assert [task.splits["train"][i][0].getpixel((0, 0))[0] for i in range(10)] == list(range(10))
    assert task.splits["train"].labels.tolist() == [0, 1] * 5


def test_load_list__siblings_and_folder(pool: Path) -> None:
    write(pool / "train.txt", lines([0, 1, 2, 0]))
    write(pool / "val.txt", lines([1, 2], start=4))
    write(pool / "test.txt", lines([0, 0], start=6))
    for task in (load_list(pool / "train.txt"), load(pool), load(f"{pool}/train.txt")):
        assert sizes(task) == {"train": 4, "val": 2, "test": 2}
        assert (task.name, task.classes) == (pool.name, ("0", "1", "2"))
    with pytest.raises(DataError, match=r"val\.txt' is a val list\. Name the train list"):
        load_list(pool / "val.txt")
    write(pool / "train.csv", "path,label\n")
    with pytest.raises(DataError, match=r"two lists for train, 'train\.csv' and 'train\.txt'"):
        load(pool)


def test_load_list__spaces_and_other_root(pool: Path, tmp_path: Path) -> None:
    picture(pool / "images" / "my cat.png")
    file = write(tmp_path / "lists" / "mine.txt", "my cat.png cat\n0.png dog\n" + f"{pool}/images/1.png dog\n")
    task = load_list(file, root=pool / "images", val_fraction=0, test_fraction=0)
    assert paths(task, "train") == ("my cat.png", "0.png", "1.png")


def test_load_list__given_classes(pool: Path) -> None:
    file = write(pool / "a.txt", lines([0, 2, "cat", 2]))
    task = load_list(file, classes=["ape", "bee", "cat"], val_fraction=0, test_fraction=0)
    assert task.classes == ("ape", "bee", "cat")
    assert task.splits["train"].labels.tolist() == [0, 2, 2, 2]


LIST_MISTAKES: list[tuple[str, str, dict[str, object], str]] = [
    ("a.txt", lines([0, 1, -1]), {}, r"a\.txt:3: label -1 is negative"),
    ("a.txt", lines([0, 1, "cat"]), {}, r"a\.txt:3: label 'cat' is no integer, but .*a\.txt:1 has 0"),
    ("a.txt", lines(["cat", 1]), {}, r"a\.txt:2: label 1 is an integer, but .*a\.txt:1 has 'cat'"),
    ("a.txt", lines([0, 1, "1.5"]), {}, r"a\.txt:3: label '1\.5' is no whole number"),
    ("a.txt", lines(["cat", "1.5"]), {}, r"a\.txt:2: label '1\.5' is neither a name nor an integer"),
    (
        "a.txt",
        lines([0, 5]),
        {"classes": ["x", "y"]},
        r"a\.txt:2: label '5' is out of range: there are 2 classes, 0",
    ),
    (
        "a.txt",
        lines(["x", "yy"]),
        {"classes": ["x", "yz"]},
        r"a\.txt:2: There is no class 'yy'\. Did you mean 'yz'",
    ),
    ("a.txt", lines([0, 0]), {}, r"at least two classes; .*a\.txt' has only one, '0'"),
    ("a.txt", lines(["Cat", "cat"]), {}, r"'Cat' and 'cat' .* differ by case"),
    ("a.txt", lines([0, 1]), {"classes": ["x", "x"]}, r"Class 'x' is there twice in 'classes'"),
    ("a.txt", "images/0.png\n", {}, r"a\.txt:1: 'images/0\.png' has no label.*\.csv"),
    (
        "a.txt",
        lines([0, 1]) + "\nnope.png 1\n",
        {},
        r"a\.txt:4: there is no image '.*nope\.png'.*relative to.*`root`",
    ),
    ("a.txt", lines([0, 1]) + "images/0.png 0\n", {}, r"a\.txt:3: image .* is also at .*a\.txt:1\. Remove"),
    ("a.txt", lines([0, 1]) + "images/../images/0.png 1\n", {}, r"a\.txt:3: .*labelled '0' there and '1' here"),
    ("a.txt", " \n\n", {}, r"names no images\. Each line is a path and a label"),
    ("a.txt", lines([0, 1]), {"sede": 1}, r"no reading option 'sede'"),
    (
        "a.csv",
        "name,label\nimages/0.png,1\n",
        {},
        r"has no path column; its first line is 'name', 'label'.*path, im",
    ),
    ("a.csv", "path,labels\nimages/0.png,1\n", {}, r"has no label column.*label, class, target"),
    (
        "a.csv",
        "path,label\nimages/0.png,a,b\n",
        {},
        r"a\.csv:2: 3 values, but the first line has 2.*double quotes",
    ),
    ("a.csv", 'path,label\n"images/0.png,a\n', {}, r"a\.csv:2: unexpected end of data\. Check the quotes"),
    ("a.csv", "path,label\nimages/0.png,a\nimages/1.png,\n", {}, r"a\.csv:3: the label is empty"),
    ("a.csv", "path,label\n,a\nimages/1.png,b\n", {}, r"a\.csv:2: the path is empty"),
    (
        "a.csv",
        "path,label,split\nimages/0.png,a,trian\n",
        {},
        r"a\.csv:2: There is no split 'trian'\. Did you mean",
    ),
    ("a.csv", "path,label,split\nimages/0.png,a,test\n", {}, r"has no train rows, only test"),
]


@pytest.mark.parametrize(("name", "text", "options", "message"), LIST_MISTAKES)
def test_load_list__mistakes(pool: Path, name: str, text: str, options: dict[str, object], message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        load_list(write(pool / name, text), **options)  # type: ignore[arg-type]


def test_load_list__mistakes_across_splits(pool: Path) -> None:
    write(pool / "train.txt", lines(["a", "b", "a"]))
    write(pool / "test.txt", lines(["a", "zebra"], start=5))
    with pytest.raises(DataError, match=r"test\.txt:2: There is no class 'zebra'.*Train names every class"):
        load(pool)
    write(pool / "test.txt", lines(["a", "b"], start=2))
    with pytest.raises(
        DataError, match=r"test\.txt:1: .*also at .*train\.txt:3, in train there and in test here.*leak"
    ):
        load(pool)
    write(pool / "train.txt", lines([0, 1]))
    write(pool / "test.txt", lines([2], start=5))
    with pytest.raises(DataError, match=r"test\.txt:1: label '2' is out of range: there are 2 classes, 0 to 1"):
        load(pool)


def test_load_list__unreadable(pool: Path) -> None:
    file = write(pool / "a.txt", lines("abababab") + "nope.png a\n")
    (pool / "images" / "3.png").write_bytes(b"")
    task = load_list(file, skip_unreadable=True)
    assert task.skipped == (("images/3.png", "it is empty (0 bytes)"), ("nope.png", "there is no such file"))
    file.write_bytes(b"images/0.png \x81\n")
    with pytest.raises(DataError, match=r"is not UTF-8 text, nor cp1252 .*Save it as UTF-8"):
        load_list(file)
    file.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x05")
    with pytest.raises(DataError, match=r"is not UTF-8 text.*Save it as"):
        load_list(file)
    write(file, "x" * 5000 + " 0\n")
    with pytest.raises(DataError, match=r"a\.txt:1: there is no image"):
        load_list(file, classes=["a", "b"])
    with pytest.raises(DataError, match=r"There is no list '.*nope\.csv'"):
        load_list(pool / "nope.csv")


# One entry point


@pytest.fixture
def builtin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two stand-in built-in tasks, and a working folder."""
    module = ModuleType("vitgraft.data.builtin")
    module.names = lambda: ("shapes", "digits")  # type: ignore[attr-defined]
    module.load = lambda name, **options: f"built-in {name} {options}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vitgraft.data.builtin", module)
    monkeypatch.setattr("vitgraft.data.builtin", module, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("builtin")
def test_load__which_one_wins(tmp_path: Path) -> None:
    dataset(tmp_path / "digits", {"a": 3, "b": 3})
    dataset(tmp_path / "pets", {"a": 3, "b": 3})
    assert str(load("digits", seed=1, check=True, size=64)) == "built-in digits {'seed': 1, 'size': 64}"
    assert load("./digits").classes == load(Path("digits")).classes == ("a", "b")
    assert load("pets").name == "pets"
    assert str(load(Path("shapes"))) == "built-in shapes {}"
    with pytest.raises(ConfigError, match="no reading option 'sed'"):
        load("digits", sed=1)
    with pytest.raises(ConfigError, match="'digits' has its own splits: remove val_fraction"):
        load("digits", val_fraction=0.3)


@pytest.mark.usefixtures("builtin")
def test_load__nothing_of_that_name(tmp_path: Path) -> None:
    dataset(tmp_path / "petals", {"a": 3, "b": 3})
    with pytest.raises(
        DataError, match=r"no task 'digit': no built-in .* Did you mean 'digits'\? Built-in tasks: digi"
    ):
        load("digit")
    with pytest.raises(DataError, match=r"no file or folder '.*petal'\. Did you mean 'petals'"):
        load("petal")
    for name in ("x" * 5000, "~nobody-here/x", "a\0b"):
        with pytest.raises(DataError, match="There is no task"):
            load(name)
        with pytest.raises(DataError, match="There is no file or folder"):
            expand_images([name])
    with pytest.raises(DataError, match=r"There is no task ''"):
        load("")
    with pytest.raises(DataError, match=r"is one image, not a task"):
        load(picture(tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"is no list: those end in \.csv, \.tsv, \.txt, \.lst.*unpack"):
        load(write(tmp_path / "a.zip", "x"))


def test_load__the_real_built_in_tasks() -> None:
    with pytest.raises(DataError, match=r"no task 'digit': .*Did you mean 'digits'"):
        load("digit")


def test_expand_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path, {"a": 2, "a/b": 1})
    odd = write(tmp_path / "odd.bin", "x")
    bracket = picture(tmp_path / "c" / "[1].png")
    monkeypatch.chdir(tmp_path)
    names = [str(path) for path in expand_images(["a", "a/*.png", str(odd), "c/[1].png"])]
    assert names == ["a/00.png", "a/01.png", "a/b/00.png", str(odd), "c/[1].png"]
    assert expand_images(["**/b/*"]) == [Path("a/b/00.png")]
    assert expand_images([bracket]) == [bracket]
    for pattern, message in {
        "nope.jpg": r"There is no file or folder 'nope\.jpg'\. Name",
        "*.jpg": r"'\*\.jpg' matches no images\. Name",
        "*.bin": r"'\*\.bin' matches no images, only other files \(1 \.bin\)\. Name",
    }.items():
        with pytest.raises(DataError, match=message):
            expand_images(["a", pattern])
    with pytest.raises(DataError, match="No images were named"):
        expand_images([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"Folder 'empty' holds no images"):
        expand_images(["empty"])
