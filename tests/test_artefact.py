"""A graft on disk: replaced in one moment, tied to its card, and no number in it that is none."""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vitgraft
from tests.tiny import vit
from vitgraft.atomic import json_of
from vitgraft.errors import ArtefactError, VitgraftError
from vitgraft.models.artefact import CARD, TENSORS
from vitgraft.models.model import Model

CLASSES = ("cat", "dog", "owl")


class Killed(BaseException):
    """Ends a write where it stands."""


def graft(offset: float, method: str = "lora:rank=2") -> Model:
    """A model whose trained values are all moved by `offset`."""
    model = vitgraft.graft(vit(), method, classes=CLASSES)
    with torch.no_grad():
        for value in model.tuned.parameters():
            value.add_(offset)
    return model


def first_value(folder: Path) -> float:
    """A trained value of the graft that `load` finds, which tells grafts of `graft` apart."""
    model = vitgraft.load(folder, backbone=vit())
    assert all(value.isfinite().all() for value in model.tuned.parameters())
    return round(float(model.tuned.state_dict()["head.classifier.bias"][0]), 4)


def older(folder: Path) -> None:
    """Make a graft what versions wrote that knew no digest."""
    card = json.loads((folder / CARD).read_text())
    del card["digest"]
    (folder / CARD).write_text(json.dumps(card))
    save_file(load_file(folder / TENSORS), folder / TENSORS)


def killed_at(calls: Iterator[int], moment: int, then: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if next(calls) == moment:
            raise Killed
        return then(*arguments)

    return call


@pytest.mark.parametrize("age", ["new", "old"])
@pytest.mark.parametrize("moment", range(5))
def test_save__a_kill_leaves_one_graft_or_the_other(
    moment: int, age: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graft(0.25).save(tmp_path)
    if age == "old":
        older(tmp_path)
    calls = iter(range(100))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed_at(calls, moment, os.fsync))
        patched.setattr(os, "replace", killed_at(calls, moment, os.replace))
        with pytest.raises(Killed):
            graft(0.75).save(tmp_path)
    assert first_value(tmp_path) == (0.25 if moment < 4 else 0.75)
    graft(0.5).save(tmp_path)
    assert first_value(tmp_path) == 0.5
    assert {path.name for path in tmp_path.iterdir()} == {CARD, TENSORS}, "nothing of the killed one is left"


def test_save__has_as_many_moments_as_the_test_before_kills_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    monkeypatch.setattr(os, "fsync", killed_at(calls, 99, os.fsync))
    monkeypatch.setattr(os, "replace", killed_at(calls, 99, os.replace))
    graft(0.5).save(tmp_path)
    assert next(calls) == 5


def test_load__files_of_two_grafts_are_refused_where_shapes_fit(tmp_path: Path) -> None:
    graft(0.25).save(tmp_path / "a")
    graft(0.5).save(tmp_path / "b")
    (tmp_path / "a" / TENSORS).write_bytes((tmp_path / "b" / TENSORS).read_bytes())
    with pytest.raises(ArtefactError, match="belong to two different grafts") as caught:
        vitgraft.load(tmp_path / "a", backbone=vit())
    said = json.loads((tmp_path / "b" / CARD).read_text())["digest"]
    assert said in str(caught.value)
    with safe_open(tmp_path / "b" / TENSORS, "pt") as file:
        assert file.metadata()["digest"] == said


def test_load__a_changed_value_is_seen(tmp_path: Path) -> None:
    graft(0.25).save(tmp_path)
    content = bytearray((tmp_path / TENSORS).read_bytes())
    content[-3] ^= 1
    (tmp_path / TENSORS).write_bytes(content)
    with pytest.raises(ArtefactError, match="is damaged, or was changed"):
        vitgraft.load(tmp_path, backbone=vit())


def test_load__older_grafts_have_no_digest(tmp_path: Path) -> None:
    graft(0.25).save(tmp_path)
    older(tmp_path)
    assert first_value(tmp_path) == 0.25


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite__are_neither_saved_nor_loaded(bad: float, tmp_path: Path) -> None:
    model = graft(0.25)
    model.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        model.tuned.state_dict()["head.classifier.bias"][1] = bad
    with pytest.raises(ArtefactError, match=r"1 trained tensors are not finite, such as head\.classifier\.bias"):
        model.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    older(tmp_path)
    tensors = load_file(tmp_path / TENSORS)
    tensors["head.classifier.bias"][1] = bad
    save_file(tensors, tmp_path / TENSORS)
    with pytest.raises(ArtefactError, match=r"1 tensors with values that are not finite.*--force"):
        vitgraft.load(tmp_path, backbone=vit())
    forced = vitgraft.load(tmp_path, backbone=vit(), force=True)
    assert not math.isfinite(float(forced.tuned.state_dict()["head.classifier.bias"][1]))


def test_json__has_null_where_a_number_is_not_finite() -> None:
    values = {"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf, "d": True, "e": "NaN"}}
    assert json.loads(json_of(values), parse_constant=pytest.fail) == {
        "a": [None, 1.5, [None]],
        "b": {"c": None, "d": True, "e": "NaN"},
    }


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=2)), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested JSON values."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def kind(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return "number" if number else type(value).__name__


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    graft(0.25).save(folder)
    return folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_card__one_value_of_a_wrong_kind_is_a_sentence(data: st.DataObject, saved: Path) -> None:
    """It is refused in a sentence; or it is loaded, and is of the same kind, or says nothing of numbers."""
    text = (saved / CARD).read_text()
    values = json.loads(text)
    place = data.draw(st.sampled_from(sorted(_places(values), key=repr)))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    changed = copy.deepcopy(inner[place[-1]])
    inner[place[-1]] = data.draw(WRONG)
    frozen = vit()
    try:
        (saved / CARD).write_text(json.dumps(values))
        model = vitgraft.load(saved, backbone=frozen)
    except VitgraftError:
        return
    else:
        now = inner[place[-1]]
        free = {"metrics", "cost", "versions", "trained_values", "backbone", "class_names"}
        optional = place[0] == "method" and None in (changed, now)
        told = f"{place}: {changed!r} became {now!r}, unseen"
        assert place[0] in free or optional or kind(changed) == kind(now), told
        assert len(model.class_names) == 3
    finally:
        (saved / CARD).write_text(text)
