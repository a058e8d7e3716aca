"""Columns of a list: the user's own split, one-hot labels, titles of one's own, encodings, defects at once."""

import random
from pathlib import Path

import pytest

from tests.pictures import paths, picture, sizes, write
from vitgraft.data.reading.listing import load_list
from vitgraft.data.source import load
from vitgraft.data.task import Task
from vitgraft.errors import ConfigError, DataError, VitgraftError
from vitgraft.runs.config import RunConfig
from vitgraft.runs.kept_split import load_task


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A folder with 0.png to 9.png."""
    for index in range(10):
        picture(tmp_path / f"{index}.png", (index, 0, 0))
    return tmp_path


def table(pool: Path, titles: str, form: str, *columns: list[object]) -> Path:
    """pool/a.csv with ten rows of `form`: {0} is the number, {1} the label, {2} and more are of `columns`."""
    rows = [form.format(index, "ab"[index % 2], *(one[index] for one in columns)) for index in range(10)]
    return write(pool / "a.csv", "\n".join([titles, *rows]) + "\n")


def everything(task: Task) -> list[str]:
    return sorted(path for split in task.splits for path in paths(task, split))


LAST = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
NAMED = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


@pytest.mark.parametrize(
    ("title", "values", "expected"),
    [
        ("set", NAMED, {"train": 6, "val": 2, "test": 2}),
        ("Phase", [name.upper() for name in NAMED], {"train": 6, "val": 2, "test": 2}),
        ("partition", ["tr"] * 6 + ["dev"] * 2 + ["hold-out"] * 2, {"train": 6, "val": 2, "test": 2}),
        ("subset", ["Training"] * 6 + ["validation"] * 2 + ["testing"] * 2, {"train": 6, "val": 2, "test": 2}),
        ("fold", ["train"] * 6 + ["eval"] * 2 + ["test"] * 2, {"train": 6, "val": 2, "test": 2}),
        ("where from", ["train"] * 8 + ["test"] * 2, {"train": 8, "test": 2}),
        ("is_test", LAST, {"train": 8, "test": 2}),
        ("Is Test", ["False"] * 8 + ["True"] * 2, {"train": 8, "test": 2}),
        ("is_valid", LAST, {"train": 8, "val": 2}),
        ("test", ["no"] * 8 + ["yes"] * 2, {"train": 8, "test": 2}),
        ("is_train", ["1.0"] * 8 + ["0.0"] * 2, {"train": 8, "test": 2}),
        ("held_out", ["no"] * 8 + ["yes"] * 2, {"train": 8, "test": 2}),
        ("isTest", LAST, {"train": 8, "test": 2}),
        ("testset", LAST, {"train": 8, "test": 2}),
        ("val_set", LAST, {"train": 8, "val": 2}),
        ("is_training_image", [1] * 8 + [0] * 2, {"train": 8, "test": 2}),
        ("used for training", [1] * 8 + [0] * 2, {"train": 8, "test": 2}),
        ("is_eval", LAST, {"train": 8, "val": 2}),
    ],
)
def test_split_column__is_the_users_own(
    pool: Path, title: str, values: list[object], expected: dict[str, int]
) -> None:
    file = table(pool, f"path,label,{title}", "{0}.png,{1},{2}", values)
    task = load(file, val_fraction=0.0) if "val" not in expected else load(file)
    assert sizes(task) == expected
    name = "val" if "test" not in expected else "test"
    assert paths(task, name) == ("8.png", "9.png")
    told = f"Column {title!r} is taken as the split: "
    plain = title == "subset"
    assert any(note.startswith(told) for note in task.notes) is not plain


def test_split_column__several_are_read_together(pool: Path) -> None:
    valid = [0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    task = load(table(pool, "path,label,is_test,is_valid", "{0}.png,{1},{2},{3}", LAST, valid))
    assert sizes(task) == {"train": 6, "val": 2, "test": 2}
    assert "Columns 'is_test' and 'is_valid' are taken as the split: 6 train, 2 val, 2 test." in task.notes
    train = [1] * 6 + [0] * 4
    task = load(table(pool, "path,label,is_test,is_train", "{0}.png,{1},{2},{3}", LAST, train))
    assert paths(task, "val") == ("6.png", "7.png")
    task = load(table(pool, "path,label,split,is_test", "{0}.png,{1},{2},{3}", NAMED, LAST))
    assert sizes(task) == {"train": 6, "val": 2, "test": 2}


def test_split_column__contradictions_are_refused(pool: Path) -> None:
    file = table(pool, "path,label,split,is_test", "{0}.png,{1},{2},{3}", NAMED, [1, *LAST[1:]])
    with pytest.raises(DataError) as error:
        load(file)
    text = str(error.value)
    assert "a.csv:2: column 'split' says 'train' and column 'is_test' says '1', which no split is" in text
    assert "--split-column" in text
    assert sizes(load(file, split_column="split")) == {"train": 6, "val": 2, "test": 2}
    assert sizes(load(file, split_column="is_test", val_fraction=0.0)) == {"train": 7, "test": 3}


def test_split_column__no_names_of_splits(pool: Path) -> None:
    for title in ("fold", "split", "Partition", "set", "kfold", "split_id", "cv_fold"):
        file = table(pool, f"path,label,{title}", "{0}.png,{1},{2}", [index % 5 for index in range(10)])
        with pytest.raises(
            DataError, match=rf"column '{title}' holds '0', '1', '2', '3', '4'.*--split-column none"
        ):
            load(file)
        task = load(file, split_column="none", val_fraction=0.2, test_fraction=0.2)
        assert sizes(task) == {"train": 6, "val": 2, "test": 2}
        assert f"Columns not read: {title!r}." in task.notes
    moon = table(pool, "path,label,phase", "{0}.png,{1},{2}", ["full", "new"] * 5)
    notes = load(moon).notes
    assert "Column 'phase' holds 'full', 'new': it is not taken as the split." in notes
    config = RunConfig.of({"data": str(moon), "split_column": "none", "test_fraction": 0.2})
    assert sizes(load_task(config))["test"] == 2
    with pytest.raises(DataError, match=r"a\.csv:3: There is no split 'tarin'\. Did you mean 'train'"):
        load(table(pool, "path,label,split", "{0}.png,{1},{2}", ["train", "tarin", *NAMED[2:]]))
    with pytest.raises(DataError, match=r"no train rows, only test.*--split-column none"):
        load(table(pool, "path,label,is_test", "{0}.png,{1},1"))


def test_split_column__what_is_not_clear(pool: Path) -> None:
    folds = [index % 5 for index in range(10)]
    task = load(table(pool, "path,label,split,fold", "{0}.png,{1},{2},{3}", NAMED, folds))
    assert sizes(task) == {"train": 6, "val": 2, "test": 2}
    assert any("column 'fold' holds '0', '1', '2', '3', '4'" in note for note in task.notes)
    good = table(pool, "path,label,valid", "{0}.png,{1},{2}", [1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    with pytest.raises(
        DataError, match=r"'valid' is true of 9 of 10 images: it may mark good ones.*--split-column"
    ):
        load(good)
    assert sizes(load(good, split_column="none"))["train"] == 6
    empty = table(pool, "path,label,split", "{0}.png,{1},")
    assert "Column 'split' is empty: it is not taken as the split." in load(empty).notes
    with pytest.raises(DataError, match=r"column 'is_test' holds '', '1', not just 1 and 0"):
        load(table(pool, "path,label,is_test", "{0}.png,{1},{2}", ["", *[1] * 9]))


def test_split_column__and_lists_called_like_splits(pool: Path) -> None:
    write(pool / "train.csv", "path,label,split\n0.png,a,train\n1.png,b,train\n2.png,b,train\n3.png,a,train\n")
    test = write(pool / "test.csv", "path,label,split\n4.png,a,test\n5.png,b,test\n")
    assert sizes(load(pool, val_fraction=0.0)) == {"train": 4, "test": 2}
    assert f"The list '{pool}/train.csv' is read." in load(pool).notes
    write(test, "path,label,split\n4.png,a,test\n5.png,b,train\n")
    with pytest.raises(DataError, match=r"test\.csv:3: the row says train, and its list is called 'test\.csv'"):
        load(pool)
    write(pool / "train.csv", "path,label,split\n0.png,a,train\n1.png,b,train\n2.png,b,test\n3.png,a,train\n")
    task = load(pool, val_fraction=0.0)
    assert sizes(task) == {"train": 3, "test": 1}
    assert f"'{pool}/test.csv' is not read, since 'train.csv' says the splits itself." in task.notes


def test_split__is_what_folders_in_the_paths_say(pool: Path) -> None:
    for index in range(10):
        picture(pool / "x" / ("Train" if index < 6 else "validation" if index < 8 else "test") / f"{index}.png")
    where = ["Train"] * 6 + ["validation"] * 2 + ["test"] * 2
    file = table(pool, "path,label", "x/{2}/{0}.png,{1}", where)
    task = load(file)
    assert sizes(task) == {"train": 6, "val": 2, "test": 2}
    told = "Folders in the paths are taken as the split: 6 train, 2 val, 2 test. Else: --split-column none."
    assert told in task.notes
    assert paths(task, "test") == ("x/test/8.png", "x/test/9.png")
    assert sizes(load(file, split_column="none")) == {"train": 6, "val": 2, "test": 2}
    assert paths(load(file, split_column="none"), "test") != ("x/test/8.png", "x/test/9.png")
    named = write(
        pool / "b.txt", "".join(f"x/{name}/{index}.png {index % 2}\n" for index, name in enumerate(where))
    )
    assert paths(load(named), "test") == ("x/test/8.png", "x/test/9.png")
    given = load(table(pool, "path,label,split", "x/{2}/{0}.png,{1},{3}", where, ["train"] * 8 + ["test"] * 2))
    assert sizes(given)["test"] == 2
    assert not any("Folders in" in note for note in given.notes)


def test_options__without_effect_are_told(pool: Path) -> None:
    file = table(pool, "path,label,split", "{0}.png,{1},{2}", NAMED)
    notes = load(file, val_fraction=0.3, test_fraction=0.2, seed=3).notes
    text = "\n".join(notes)
    assert "val_fraction = 0.3 (--val-fraction) has no effect: the data have a val of their own (2 images)" in text
    assert "test_fraction = 0.2 (--test-fraction) has no effect: the data have a val" in text
    assert "split_seed = 3 (--split-seed) has no effect" in text
    assert load(file).notes == ()
    config = RunConfig.of({"data": str(file), "val_fraction": 0.3})
    assert "val_fraction = 0.3" in load_task(config).notes[0]
    assert load_task(RunConfig.of({"data": str(file)})).notes == ()
    cut = load(table(pool, "path,label", "{0}.png,{1}"))
    assert cut.notes == (
        "The data have no val and no test: val (15 %) and test (15 %) are cut from train, class by class.",
    )


def test_options__of_a_built_in_task() -> None:
    (note,) = load("digits", skip_unreadable=True).notes
    assert note == "skip_unreadable (--skip-unreadable) has no effect: the pictures of digits are drawn."
    with pytest.raises(ConfigError, match=r"remove val_fraction \(--val-fraction\)"):
        load("digits", val_fraction=0.3)


def test_columns__of_ones_own(pool: Path) -> None:
    file = table(pool, "File Name,Species,Role,x,,label", "{0}.png,{1},{2},7,,z{1}", NAMED)
    names = {"path_column": "file name", "label_column": "Species", "split_column": "ROLE"}
    task = load(file, **names)
    assert (task.classes, sizes(task)) == (("a", "b"), {"train": 6, "val": 2, "test": 2})
    assert "Columns not read: 'x', 'label'. To take 'label' for the label: --label-column." in task.notes
    assert load_task(RunConfig.of({"data": str(file), **names})).fingerprint() == task.fingerprint()
    with pytest.raises(DataError, match=r"no column 'Specie'\. Did you mean 'Species'"):
        load(file, label_column="Specie")
    with pytest.raises(DataError, match=r"no label column.*--label-column \(in Python label_column=\)"):
        load(table(pool, "path,breed", "{0}.png,{1}"))
    with pytest.raises(DataError, match=r"columns 2 and 3 are both called 'label'"):
        load(table(pool, "path,label,label", "{0}.png,{1},{1}"))
    with pytest.raises(ConfigError, match=r"is a list of 'path label' lines.*leave out label_column"):
        load(write(pool / "b.txt", "0.png a\n1.png b\n"), label_column="x")
    with pytest.raises(ConfigError, match=r"'digits' is no list.*leave out path_column \(--path-column\)"):
        load("digits", path_column="x")


def test_columns__one_hot(pool: Path) -> None:
    one = [int(index % 3 == 0) for index in range(10)]
    other = [f"{int(index % 3 != 0)}.0" for index in range(10)]
    task = load(table(pool, "image,MEL,NV,UNK,is_test", "{0}.png,{2},{3},0,{4}", one, other, LAST))
    assert task.classes == ("MEL", "NV")
    assert task.splits["test"].labels.tolist() == [1, 0]
    assert "One-hot columns are taken as the label: 'MEL', 'NV'; 'UNK' is 1 in no row, and no class." in task.notes
    third = [int(one[index] == 0 and index > 6) for index in range(10)]
    plane = [1 - one[index] - third[index] for index in range(10)]
    task = load(table(pool, "image,car,train,plane", "{0}.png,{2},{3},{4}", one, third, plane))
    assert task.classes == ("car", "plane", "train")
    with pytest.raises(DataError) as error:
        load(table(pool, "image,MEL,NV", "{0}.png,{2},{3}", [1, *one[1:]], [1, *other[1:-1], 0]))
    assert "a.csv:2: the row has 2 classes ('MEL', 'NV') in its one-hot columns" in str(error.value)


def test_paths__without_suffix_are_found(pool: Path) -> None:
    file = table(pool, "id,label", "{0},{1}")
    task = load(file)
    assert everything(task) == [f"{index}.png" for index in range(10)]
    assert "10 paths have no suffix; their images were found with .png (10)." in task.notes
    assert load(file, suffix="png").fingerprint() == task.fingerprint()
    picture(pool / "3.jpg")
    with pytest.raises(DataError, match=r"a\.csv:5: '3' may be '3\.jpg', '3\.png'\. Say which with --suffix"):
        load(file)
    assert load(file, suffix=".png").fingerprint() == task.fingerprint()
    file = table(pool, "id,label", "{0}.PNG,{1}")
    task = load(file)
    assert everything(task) == [f"{index}.png" for index in range(10)]
    assert any("written in another form than their files, such as '0.PNG': '0.png'" in one for one in task.notes)


def test_paths__of_other_formats_are_found_and_named(pool: Path) -> None:
    (pool / "x.jxl").write_bytes(b"\xff\x0a" + bytes(30))
    for name, text in (("a.csv", "id,label\nx,a\n1,b\n"), ("b.csv", "x.jxl,a\n1.png,b\n")):
        with pytest.raises(DataError, match=r"1 of 2 images cannot be read.*\n.*x\.jxl.*JPEG XL"):
            load(write(pool / name, text))


def test_paths__elsewhere(pool: Path) -> None:
    picture(pool / "images" / "x" / "a.png")
    rows = "path,label\nx/a.png,a\nx/b.png,b\n"
    with pytest.raises(DataError, match=rf"Did you mean --root {pool}/images\?"):
        load(write(pool / "a.csv", rows))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "path,label\n{0}"),
        ("utf-16", "path;label\n{0}"),
        ("utf-16-le", "path,label\n{0}"),
        ("cp1252", "path\tlabel\n{0}"),
        ("utf-8", "sep=;\npath;label\n{0}"),
        ("utf-8", '"path",label,\r\n{0}'),
    ],
)
def test_encodings(pool: Path, encoding: str, text: str) -> None:
    mark = next(mark for mark in ",;\t" if f"path{mark}label" in text or f'"path"{mark}' in text)
    end = "," if text.startswith('"') else ""
    rows = "".join(f"{index}.png{mark}{('Köln', 'Bär')[index % 2]}{end}\n" for index in range(10))
    (pool / "a.csv").write_bytes(text.format(rows).encode(encoding))
    task = load(pool / "a.csv")
    assert task.classes == ("Bär", "Köln")
    assert any("was read as cp1252" in note for note in task.notes) is (encoding == "cp1252")


def test_defects__are_told_at_once(pool: Path) -> None:
    rows = ["path,label,split", "0.png,a,train", "gone.png,b,train", "1.png,b,trian", "2.png,,train", "3.png,b"]
    rows += ["4.png,b,train", "4.png,b,train", *(f"no{index}.png,a,train" for index in range(8))]
    with pytest.raises(DataError) as error:
        load(write(pool / "a.csv", "\n".join(rows)))
    lines = str(error.value).split("\n")
    assert lines[0].endswith("a.csv' has 13 defects:")
    text = str(error.value)
    for part in ("a.csv:6: 2 values", "a.csv:4: There is no split 'trian'", "a.csv:5: the label is empty"):
        assert part in text
    assert "a.csv:3: there is no image" in text
    assert "a.csv:8: image '4.png' is also at" in text
    assert "  ... and 3 more" in lines
    assert len(set(lines)) == len(lines) <= 18


def labelled(pool: Path, labels: list[str]) -> Path:
    return write(pool / "a.csv", "path,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)))


@pytest.mark.parametrize(
    ("labels", "classes", "indices", "note"),
    [
        (["0", "1", "2", "1"], ("0", "1", "2"), [0, 1, 2, 1], None),
        (
            ["1", "2", "10", "2"],
            ("1", "2", "10"),
            [0, 1, 2, 1],
            "Labels are whole numbers, 3 of 1 to 10: these are",
        ),
        (
            ["2", "1", "5"],
            ("1", "2", "5"),
            [1, 0, 2],
            "1 to 5 without 3 and 4: these are the names of the classes.",
        ),
        (["0.0", "1.0", "1"], ("0", "1"), [0, 1, 1], "Labels such as '0.0' are read as whole numbers, '0'."),
        (
            ["00", "01", "10"],
            ("00", "01", "10"),
            [0, 1, 2],
            "Labels such as '00' are names, and keep their zeros.",
        ),
        (["07", "x", "07"], ("07", "x"), [0, 1, 0], "Labels such as '07' are names"),
        (["10", "9", "010x"], ("010x", "9"), None, None),
    ],
)
def test_labels(
    pool: Path, labels: list[str], classes: tuple[str, ...], indices: list[int] | None, note: str | None
) -> None:
    file = labelled(pool, labels)
    if indices is None:
        with pytest.raises(DataError, match="no integer"):
            load(file, val_fraction=0.0, test_fraction=0.0)
        return
    task = load(file, val_fraction=0.0, test_fraction=0.0)
    assert task.classes == classes
    assert task.splits["train"].labels.tolist() == indices
    assert any(note in one for one in task.notes) if note else task.notes == ()


def test_labels__one_number_in_two_ways(pool: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:3: label '1' is also written '01'"):
        load_list(labelled(pool, ["01", "1", "02"]))


@pytest.mark.parametrize("classes", [{"cat": 1, "dog": 0}, {0: "dog", 1: "cat"}, {"1": "cat", "0": "dog"}])
def test_classes__either_way_round(pool: Path, classes: object) -> None:
    for labels in (["1", "0", "1"], ["cat", "dog", "cat"], ["1.0", "0.0", "1.0"]):
        task = load_list(labelled(pool, labels), classes=classes, val_fraction=0.0, test_fraction=0.0)
        assert task.classes == ("dog", "cat")
        assert task.splits["train"].labels.tolist() == [1, 0, 1]


def test_classes__numbers_that_begin_at_1(pool: Path) -> None:
    classes = {2: "dog", 1: "cat"}
    task = load_list(labelled(pool, ["2", "1", "1"]), classes=classes, val_fraction=0.0, test_fraction=0.0)
    assert task.classes == ("cat", "dog")
    assert task.splits["train"].labels.tolist() == [1, 0, 0]
    with pytest.raises(DataError, match=r"a\.csv:2: label '0' is out of range: there are 2 classes, 1 to 2"):
        load_list(labelled(pool, ["0", "1", "1"]), classes=classes)
    task = load_list(labelled(pool, ["1", "0", "1"]), classes=["1", "0"], val_fraction=0.0, test_fraction=0.0)
    assert task.splits["train"].labels.tolist() == [0, 1, 0]  # by name, never by place


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_lists__of_mutated_bytes_are_read_or_refused(pool: Path, name: str) -> None:
    mark = {"a.csv": ",", "a.tsv": "\t", "a.txt": " "}[name]
    titles = "" if name == "a.txt" else mark.join(("path", "label", "is_test\n"))
    last = "" if name == "a.txt" else f"{mark}0"
    whole = (titles + "".join(f"{i}.png{mark}{i % 2}{last}\n" for i in range(10))).encode()
    draw = random.Random(name)
    read, told = 0, []
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(draw.randint(0, 3)):
            place = draw.randrange(len(content))
            content[place : place + draw.randint(0, 2)] = draw.choices(
                b',;\t\n\0"0 \xe9\xff', k=draw.randint(0, 2)
            )
        (pool / name).write_bytes(content)
        try:
            classes = draw.choice([None, ["0", "1"], {0: "a", 1: "b"}])
            load(pool / name, check=False, to_measure=draw.random() < 0.3, classes=classes)
            read += 1
        except VitgraftError as error:
            told.append(str(error))
    assert read > 5
    assert len(told) > 5
    assert all(text.endswith((".", "?")) for text in told)


@pytest.mark.parametrize("titles", ["", "path   label      split"])
def test_spaces__line_up_columns(pool: Path, titles: str) -> None:
    """As in labels.csv of a data set of solar cells, which is a table in columns of a fixed width."""
    task = load(table(pool, titles, "{0}.png  {1}                 {2}", NAMED))
    assert (sizes(task), task.classes) == ({"train": 6, "val": 2, "test": 2}, ("a", "b"))


@pytest.mark.parametrize("kind", ["label_column", "path_column"])
def test_columns__one_is_not_both(pool: Path, kind: str) -> None:
    with pytest.raises(DataError, match="would be both the path and the label"):
        load(table(pool, "path,label", "{0}.png,{1}"), **{kind: "path" if kind == "label_column" else "label"})
