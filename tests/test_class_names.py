"""Class names as people give them: names, numbers, mappings either way round, of any library's numbers."""

from typing import Any

import numpy as np
import pytest
import torch

import vitgraft
from tests.tiny import vit
from vitgraft.data.class_names import names_in_order, numbered_names
from vitgraft.errors import ConfigError

RIGHT: list[tuple[Any, tuple[str, ...]]] = [
    (["cat", "dog"], ("cat", "dog")),
    (("dog", "cat"), ("dog", "cat")),
    (np.array(["dog", "cat"]), ("dog", "cat")),
    ([0, 1, 2], ("0", "1", "2")),
    (np.array([2, 1, 0]), ("2", "1", "0")),
    (torch.tensor([0, 1]), ("0", "1")),
    ([np.int64(0), torch.tensor(1)], ("0", "1")),
    (["00", "01"], ("00", "01")),
    ({"cat": 1, "dog": 0}, ("dog", "cat")),
    ({1: "cat", 0: "dog"}, ("dog", "cat")),
    ({"1": "cat", "0": "dog"}, ("dog", "cat")),
    ({"cat": "1", "dog": "0"}, ("dog", "cat")),
    ({"cat": np.int64(1), "dog": np.int32(0)}, ("dog", "cat")),
    ({np.int64(1): "cat", np.int64(0): "dog"}, ("dog", "cat")),
    ({"cat": torch.tensor(1), "dog": torch.tensor(0)}, ("dog", "cat")),
    ({"cat": 1.0, "dog": 0.0}, ("dog", "cat")),
    ({0: "1", 1: "0"}, ("1", "0")),
    ({"01": 0, "00": 1}, ("01", "00")),
    ({"cat": 0, "dog": 1}.keys(), ("cat", "dog")),
]


@pytest.mark.parametrize(("classes", "names"), RIGHT)
def test_names_in_order(classes: Any, names: tuple[str, ...]) -> None:
    assert names_in_order(classes) == names


def test_graft__takes_them() -> None:
    frozen = vit()
    for classes, names in RIGHT:
        assert vitgraft.graft(frozen, "linear", classes=classes).class_names == names
    for number in (3, np.int64(3), torch.tensor(3)):
        assert vitgraft.graft(frozen, "linear", classes=number).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat": 1, "dog": 2}, r"numbers 1, 2; a model's classes count from 0 to 1"),
        ({0: "cat", 2: "dog"}, r"numbers 0, 2"),
        ({"cat": 0, "dog": 0}, r"classes has 0 twice"),
        ({0: "cat", 1: "cat"}, r"classes has 'cat' twice"),
        ({0: 1, 1: 0}, r"can be read both ways"),
        ({"0": "1", "1": "0"}, r"can be read both ways"),
        ({"cat": "feline", "dog": "canine"}, r"whole numbers neither as keys nor as values"),
        ({"cat": 0.5, "dog": 1}, r"whole numbers neither"),
        ({"cat": True, "dog": False}, r"whole numbers neither"),
        ({"cat": -1, "dog": 0}, r"whole numbers neither"),
        ("cat", r"is one name"),
        (b"cat", r"is one name"),
        ({"cat", "dog"}, r"no order"),
        ([0.5, 1], r"has 0\.5, which is no name"),
        ([True, False], r"has True, which is no name"),
        ([None, "a"], r"has None, which is no name"),
        (None, r"expected names"),
        (3.0, r"expected names"),
        (True, r"expected names"),
        (torch.tensor(1.5), r"expected names"),
        (torch.zeros(2, 2), r"which is no name"),
        (["a", "a"], r"named twice"),
        (["a"], r"at least two"),
        (1, r"at least two"),
    ],
)
def test_graft__refuses_what_is_no_names(classes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vitgraft.graft(vit(), "linear", classes=classes)


def test_numbered_names__keep_their_numbers() -> None:
    assert numbered_names({"cat": 7, "dog": 2}) == {2: "dog", 7: "cat"}
    assert list(numbered_names({"cat": 7, "dog": 2})) == [2, 7]
