"""Kinds of labels in lists: what is found without being told, what is told, and what is refused, with its line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.labels import NAMES, in_columns, in_one_cell, numbers, table
from vitgraft.data.kept import Kept
from vitgraft.data.naming import matched
from vitgraft.data.source import load
from vitgraft.data.task import Split
from vitgraft.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    in_one_cell(root)
    in_columns(root)
    numbers(root)
    return root


def rows(pool: Path, name: str, header: str, values: list[Any]) -> Path:
    return table(
        pool, name, ("path", *header.split(",")), [(f"im/0-{i}.png", *one) for i, one in enumerate(values)]
    )


def test_multi__one_cell_and_columns_are_the_same(pool: Path) -> None:
    one, other = load(pool / "a.csv"), load(pool / "b.csv")
    assert one.kind == other.kind == "multi"
    assert one.classes == other.classes == NAMES
    for name in ("train", "val", "test"):
        assert np.array_equal(one.splits[name].labels, other.splits[name].labels)
        assert one.splits[name].labels.dtype == np.bool_
    assert any("are several of a picture (multi-label). Else: --labels class" in note for note in one.notes)
    assert any("from columns of 0 and 1: 'red', 'green', 'blue'" in note for note in other.notes)
    assert any("pictures have none" in note for note in one.notes)
    bare = [text for split in one.splits.values() for text in split.texts()]
    assert "" in bare, "a picture without a label is legal"
    assert len(bare) == 40


def test_multi__splits_are_cut_by_the_rarest_label(pool: Path) -> None:
    values = [["common"]] * 10 + [["common|rare"]] * 3
    task = load(rows(pool, "rare.csv", "label", values))
    assert {name: int(split.labels[:, 1].sum()) for name, split in task.splits.items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }


def test_multi__classes_that_hold_a_bar_stay_classes(pool: Path) -> None:
    task = load(rows(pool, "bar.csv", "label", [["cat|dog"], ["bird"]] * 4))
    assert (task.kind, task.classes) == ("class", ("bird", "cat|dog"))
    asked = load(pool / "bar.csv", labels="multi")
    assert (asked.kind, asked.classes) == ("multi", ("bird", "cat", "dog"))
    again = load(rows(pool, "again.csv", "label", [["a|b"], ["b"]] * 4), labels="class")
    assert (again.kind, again.classes) == ("class", ("a|b", "b"))


@pytest.mark.parametrize(
    ("header", "values", "options", "told"),
    [
        ("cat,dog", [[1, 1], [0, 0], [1, 1], [0.5, 1], [0, 1]], {}, r"x\.csv:5: column 'cat' has '0\.5'"),
        (
            "cat,dog",
            [[1, 1], [0, 3]],
            {"label_column": "cat,dog", "labels": "multi"},
            r"x\.csv:3: .*'dog' has '3'",
        ),
        ("label,split", [["a|b", "train"], ["b", "train"], ["c", "val"]], {}, r"x\.csv:4: There is no class 'c'"),
        (
            "label",
            [[1.5], ["x"], [2.5]],
            {"labels": "number"},
            r"x\.csv:3: label is 'x', which is no finite number",
        ),
        ("label", [[1.5], ["nan"], [2.5]], {"labels": "number"}, r"x\.csv:3: label is 'nan'"),
        ("label", [[1.5], [""], [2.5]], {"labels": "number"}, r"x\.csv:3: label is ''"),
        ("a,b", [[1.5, 2], ["1e999", 2]], {"label_column": "a,b"}, r"x\.csv:3: a is '1e999'"),
        ("label", [[0], [1], [0.5]], {}, r"x\.csv:4: .*no whole number(.|\n)*--labels number"),
        ("cat,dog", [[0, 1], [1, 0]], {"labels": "number"}, r"has no label column"),
    ],
)
def test_lists__what_is_wrong_is_told_with_its_line(
    pool: Path, header: str, values: list[Any], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        load(rows(pool, "x.csv", header, values), **options)


def test_numbers__are_found_and_keep_their_units(pool: Path) -> None:
    task = load(rows(pool, "n.csv", "age", [[f"{10 + i}.5"] for i in range(20)]), label_column="age")
    assert (task.kind, task.classes) == ("number", ("age",))
    assert any(
        "numbers, which are predicted as such (regression). Else: --labels class" in one for one in task.notes
    )
    found = sorted(float(one) for split in task.splits.values() for one in split.labels[:, 0])
    assert found == [10.5 + i for i in range(20)]
    two = load(pool / "c.csv", label_column="heat,moss")
    assert (two.kind, two.classes) == ("number", ("heat", "moss"))
    whole = rows(pool, "w.csv", "label", [[i] for i in range(30)])
    assert any(
        "each is taken for a class of its own" in note and "--labels number" in note for note in load(whole).notes
    )
    assert load(whole, labels="number").splits["train"].labels.shape == (20, 1)
    comma = rows(pool, "d.csv", "label", [[f'"{1 + i % 2},5"'] for i in range(30)])
    assert any("'1,5' look like numbers with a decimal comma" in note for note in load(comma).notes)


def test_labels__of_what_is_no_list(pool: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels='multi' \(--labels\): those of digits are one class a picture"):
        load("digits", labels="multi")
    with pytest.raises(ConfigError, match="no value of labels 'several'"):
        load(pool / "a.csv", labels="several")


def test_split__labels_of_each_kind(pool: Path) -> None:
    images = load(pool / "a.csv").splits["val"].images
    n = len(images)
    assert Split(images, [[0, 1]] * n, kind="multi").labels.dtype == np.bool_
    assert Split(images, [0.5] * n, kind="number").labels.shape == (n, 1)
    with pytest.raises(DataError, match="a column of 0 and 1 for each label"):
        Split(images, [[0, 2]] * n, kind="multi")
    with pytest.raises(DataError, match="finite numbers"):
        Split(images, [float("nan")] * n, kind="number")
    with pytest.raises(ConfigError, match="no kind of labels"):
        Split(images, [0] * n, kind="several")


def test_matched__by_name_whatever_the_order(pool: Path) -> None:
    split = load(pool / "a.csv").splits["val"]
    other = matched(split, ("Red", "green", "blue", "white"))
    assert np.array_equal(other.split.labels[:, [2, 1, 0]], split.labels)
    assert not other.split.labels[:, 3].any()
    with pytest.raises(DataError, match="The model knows no class 'blue'"):
        matched(split, ("red", "green"))
    left = matched(split, ("red", "green"), ignore_unknown=True).split
    assert len(left) == int((~split.labels[:, 0]).sum())
    two = load(pool / "c.csv", label_column="heat,moss").splits["val"]
    assert np.array_equal(matched(two, ("moss",)).split.labels[:, 0], two.labels[:, 1])
    with pytest.raises(DataError, match=r"data have no depth.*--by-index"):
        matched(two, ("depth",))


def test_kept__list_of_labels(pool: Path, tmp_path: Path) -> None:
    task = load(pool / "a.csv")
    kept = Kept.of(task.splits)
    assert kept is not None
    kept.write(tmp_path)
    again = Kept.read(tmp_path)
    assert again == kept
    assert {entry.label for entry in kept.entries} <= {
        "",
        *NAMES,
        "blue|green",
        "blue|red",
        "green|red",
        "blue|green|red",
    }
