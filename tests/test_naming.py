"""Classes are matched by name, never by number."""

import numpy as np
import pytest

from vitgraft.data.naming import matched
from vitgraft.data.task import ArrayImages, Split, chosen
from vitgraft.errors import DataError

OURS = ("cat", "dog", "owl")


def split(classes: tuple[str, ...] | None, *labels: int) -> Split:
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return Split(ArrayImages(pixels, "toy"), np.array(labels), classes)


def test_matched__another_order_and_a_subset() -> None:
    found = matched(split(("owl", "cat"), 0, 1, 0), OURS)
    assert found.split.labels.tolist() == [2, 0, 2]
    assert found.split.classes == OURS
    assert not found.notes


def test_matched__a_class_without_images_need_not_be_known() -> None:
    assert matched(split(("cat", "newt"), 0, 0), OURS).split.labels.tolist() == [0, 0]


def test_matched__without_names_labels_stay() -> None:
    assert matched(split(None, 2, 1), OURS).split.labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("theirs", "ours", "labels"),
    [
        (("CAT", "Owl"), OURS, [0, 2]),
        (("cafe\u0301", "dog"), ("dog", "caf\u00e9"), [1, 0]),
        (("00", "07"), ("0", "7"), [0, 1]),
        (("7", "0"), ("000", "007"), [1, 0]),
        (("Cat", "cat"), ("dog", "cat"), [1, 1]),
    ],
)
def test_matched__folded_names_are_told(theirs: tuple[str, ...], ours: tuple[str, ...], labels: list[int]) -> None:
    found = matched(split(theirs, 0, 1), ours)
    assert found.split.labels.tolist() == labels
    assert f"{theirs[0]!r} as {ours[labels[0]]!r}" in found.notes[0]


@pytest.mark.parametrize(
    ("theirs", "ours"), [(("CAT",), ("Cat", "cat")), (("7",), ("07", "007")), (("1.0",), ("1", "2"))]
)
def test_matched__what_is_not_one_class_is_unknown(theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=f"knows no class '{theirs[0]}'"):
        matched(split(theirs, 0), ours)


def test_matched__an_exact_name_comes_before_a_folded_one() -> None:
    found = matched(split(("cat", "Cat"), 0, 1), ("Cat", "cat"))
    assert found.split.labels.tolist() == [1, 0]


def test_matched__unknown_classes_are_counted_and_may_be_left_out() -> None:
    given = split(("dog", "newt", "yak"), 1, 0, 1, 2, 0)
    with pytest.raises(DataError, match=r"no class 'newt' \(2 images\), 'yak' \(1 image\).*--ignore-unknown"):
        matched(given, OURS)
    found = matched(given, OURS, ignore_unknown=True)
    assert found.split.labels.tolist() == [1, 1]
    assert [np.asarray(found.split.images[i])[0, 0, 0] for i in (0, 1)] == [1, 4]
    assert found.left_out == {"newt": 2, "yak": 1}
    assert "'newt' (2 images), 'yak' (1 image)" in found.notes[0]
    with pytest.raises(DataError, match="None of the classes given is the model's"):
        matched(split(("newt",), 0), OURS, ignore_unknown=True)


def test_matched__numbers_for_names_need_a_word() -> None:
    given = split(("0", "2"), 0, 1)
    with pytest.raises(DataError, match="--by-index"):
        matched(given, OURS)
    found = matched(given, OURS, by_index=True)
    assert found.split.labels.tolist() == [0, 2]
    assert "by their number: '0' as 'cat', '2' as 'owl'" in found.notes[0]
    with pytest.raises(DataError, match=r"'3'.*0 to 2"):
        matched(split(("0", "3"), 0, 1), OURS, by_index=True)
    by_number = matched(split(("3", "7"), 0, 1), ("7", "3"))
    assert by_number.split.labels.tolist() == [1, 0]


def test_chosen__is_those_images() -> None:
    images = split(None, 0, 1, 2).images
    some = chosen(images, [2, 0])
    assert [np.asarray(some[i])[0, 0, 0] for i in range(2)] == [2, 0]
    assert some.name(0) == images.name(2)
    assert some.fingerprint() != chosen(images, [0, 2]).fingerprint()
