"""Every mistake is a VitgraftError: the public interface under values of wrong kinds, and files with wrong values.

A call either works or raises a VitgraftError that says what was given. A keyword that does not exist is Python's
own TypeError. Parameters are found by looking at signatures, so that a new one is tried without being named here.
"""

import copy
import dataclasses
import inspect
import json
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import vitgraft
from tests import toy
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.bench import suite
from vitgraft.data.reading.options import Reading
from vitgraft.data.task import Split
from vitgraft.errors import ConfigError, DataError, VitgraftError
from vitgraft.kinds import converted
from vitgraft.results import store
from vitgraft.runs.config import RunConfig, read_toml

FROZEN = backbone()
SPLIT = toy.split(6)
QUICK = vitgraft.Training(epochs=1, device="cpu", cache="off")

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    -(2**70),
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a\0b",
    "\ud800",
    "x" * 5000,
    b"bytes",
    1j,
    Decimal("1.5"),
    [],
    [1],
    ["a", 1],
    [[]],
    (32, 64),
    {},
    {"a": 1},
    {1, 2},
    object(),
    int,
    print,
    range(3),
    np.int64(3),
    np.float32("nan"),
    np.zeros(3),
    np.zeros((4, 4, 3), np.uint8),
    torch.tensor([0, 1]),
    torch.zeros(1, 3, 4, 4),
    torch.nn.Linear(2, 2),
    Path("nowhere"),
)
KINDS = tuple(f"{type(value).__name__}-{number}" for number, value in enumerate(WRONG))


def told(call: Callable[[], Any]) -> str | None:
    """What a call says that refuses, in a message; None if it works."""
    try:
        call()
    except VitgraftError as error:
        text = str(error)
        assert text, "an empty message helps nobody"
        return text
    return None


def model(method: str = "linear") -> vitgraft.Model:
    return vitgraft.graft(FROZEN, method, 3, preprocessing=toy.PREPROCESSING)


def calls(folder: Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """What is public, with arguments that are right."""
    one, picture = model(), Image.new("RGB", (16, 16))
    one.save(folder / "saved")
    bundle = vitgraft.Bundle({"a": one})
    return {
        "Backbone": (vitgraft.Backbone, {"view": FROZEN.view, "name": "tiny", "config": {}}),
        "Bundle": (vitgraft.Bundle, {"members": {"a": one}}),
        "Bundle.load": (vitgraft.Bundle.load, {"folders": [folder / "nowhere"]}),
        "Bundle.predict": (bundle.predict, {"images": [picture], "device": "cpu"}),
        "Model": (vitgraft.Model, {item.name: getattr(one, item.name) for item in dataclasses.fields(one)}),
        "Model.__call__": (one.__call__, {"images": images(FROZEN, 2)}),
        "Model.predict": (one.predict, {"images": [picture]}),
        "Model.with_pixel_range": (one.with_pixel_range, {"pixel_range": "auto"}),
        "Bundle.with_pixel_range": (bundle.with_pixel_range, {"pixel_range": "auto"}),
        "Model.evaluate": (one.evaluate, {"data": SPLIT}),
        "Model.calibrate": (one.calibrate, {"data": SPLIT}),
        "Model.uncalibrated": (one.uncalibrated, {}),
        "Bundle.uncalibrated": (bundle.uncalibrated, {}),
        "Model.save": (one.save, {"folder": folder / "again", "metrics": {"a": 1.0}, "cost": {}}),
        "Training": (vitgraft.Training, {}),
        "Training.changed": (QUICK.changed, {"values": {"epochs": 2}}),
        "auto": (vitgraft.auto, {"data": folder / "nowhere", "minutes": 1.0, "out": folder / "auto"}),
        "export": (vitgraft.export, {"model": one, "out": folder / "one.pt", "overwrite": True}),
        "fit": (vitgraft.fit, {"model": one, "train": SPLIT, "settings": QUICK, "out": folder / "run"}),
        "graft": (vitgraft.graft, {"backbone": FROZEN, "method": "lora", "classes": 3}),
        "load": (vitgraft.load, {"folder": folder / "saved", "backbone": FROZEN}),
        "load_backbone": (vitgraft.load_backbone, {"name": "no_such_model"}),
        "load_task": (vitgraft.load_task, {"source": str(folder / "nowhere")}),
    }


def test_walk__knows_every_public_name(tmp_path: Path) -> None:
    here = {name.partition(".")[0] for name in calls(tmp_path)}
    assert here >= set(vitgraft.__all__) - {"VitgraftError"}
    parts = {
        f"{kind.__name__}.{name}"
        for kind in (vitgraft.Model, vitgraft.Bundle, vitgraft.Training)
        for name, part in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(part) or isinstance(part, classmethod))
    }
    no_values_of_a_user = {"Model.merge", "Model.digest", "Model.keep", "Training.caching"}
    assert parts - no_values_of_a_user <= set(calls(tmp_path))


@pytest.mark.parametrize("value", WRONG, ids=KINDS)
def test_interface__a_value_of_another_kind(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter of everything public, one at a time."""
    monkeypatch.chdir(tmp_path)
    tried = 0
    for name, (function, right) in calls(tmp_path).items():
        parameters = inspect.signature(function).parameters.values()
        named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        for parameter in named:
            before = told(partial(function, **right)) if tried == 0 else None
            assert before is None, f"the right arguments of {name} are wrong"
            try:
                told(partial(function, **{**right, parameter: value}))
            except Exception as error:
                raise AssertionError(f"{name}({parameter}={value!r}) raised {error!r}") from error
            tried += 1
    assert tried > 40


@pytest.mark.parametrize("value", WRONG, ids=KINDS)
def test_options__a_value_of_another_kind(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed on as keywords: fields of Training and of Reading, a list's own, every method's fields."""
    monkeypatch.chdir(tmp_path)
    for item in dataclasses.fields(vitgraft.Training):
        told(partial(vitgraft.Training, **{item.name: value}))
        told(partial(QUICK.changed, {item.name: value}))
    for folder in (tmp_path / "photos", tmp_path / "photos.csv"):
        _some_pictures(tmp_path / "photos")
        for name in (*(item.name for item in dataclasses.fields(Reading)), "root", "classes", "train_on"):
            told(partial(vitgraft.load_task, folder, **{name: value}))


def test_options__of_a_built_in_task() -> None:
    for name, value in {
        "size": "x",
        "test": None,
        "seed": 1.5,
        "root": 3,
        "train_on": [],
        "val_fraction": "x",
    }.items():
        assert told(partial(vitgraft.load_task, "digits", **{name: value})) is not None
    assert told(partial(vitgraft.load_task, "digits", seed=2**70)) is not None


def _some_pictures(folder: Path) -> None:
    if folder.exists():
        return
    lines = ["path,label"]
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / name / f"{index}.png")
            lines.append(f"photos/{name}/{index}.png,{name}")
    folder.with_suffix(".csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", methods.names())
def test_methods__a_field_of_another_kind(name: str) -> None:
    """A method with a wrong field is refused when it is made, or when it is put on a backbone."""
    kind = methods.registry.method_named(name)
    for item in dataclasses.fields(kind):
        for value in WRONG:
            told(lambda item=item, value=value: vitgraft.graft(FROZEN, kind(**{item.name: value}), 3))
            told(partial(vitgraft.graft, FROZEN, {"name": name, item.name: value}, 3))


def test_interface__says_what_was_expected() -> None:
    split = SPLIT
    one = model()
    for call, message in (
        (lambda: vitgraft.graft(FROZEN, 5), r"method=5: expected a text, a mapping, a Method or a PeftConfig\."),
        (
            lambda: vitgraft.graft(FROZEN, classes=3.0),
            r"classes=3\.0: expected ",
        ),
        (lambda: vitgraft.graft(FROZEN, seed=2**70), r"seed=1180591620717411303424: .* below 2\*\*63"),
        (lambda: vitgraft.graft(FROZEN, classes=10**30), r"0 classes: a classifier has at most 1,000,000"),
        (lambda: vitgraft.graft(FROZEN, f"lora:rank={10**23}", 3), "does not fit into memory on plain"),
        (lambda: vitgraft.Bundle([one]), r"members=\[Model.*expected a mapping\. graft"),
        (lambda: vitgraft.LoRA(rank="8"), "lora: rank='8': expected a whole number"),
        (lambda: vitgraft.fit(one, split, [1]), r"val=\[1\]: expected a Split or None\. load_task"),
        (lambda: vitgraft.fit(one, split, epochs="x"), "epochs='x': expected a whole number of at least 1"),
        (lambda: vitgraft.fit(one, split, lr=float("nan")), "lr=nan: expected a number above 0"),
        (lambda: vitgraft.fit(one, split, lr=float("inf")), "lr=inf: expected a number above 0"),
        (lambda: vitgraft.fit(one, split, checkpoint="block"), "'checkpoint' is now called 'recompute'"),
        (lambda: vitgraft.Training(checkpoint="block"), "'checkpoint' is now called 'recompute'"),
        (lambda: vitgraft.load_task("digits", val_fraction=float("nan")), "val_fraction=nan"),
        (lambda: vitgraft.load_task(3), "source=3: expected a path"),
        (lambda: one(torch.zeros(1, 3, 4, 4)), r"torch\.float32 \(1, 3, 4, 4\): .*\(B, 3, 16, 16\)"),
        (lambda: one("a.jpg"), r"'a\.jpg': expected preprocessed images"),
    ):
        with pytest.raises(VitgraftError, match=message):
            call()


def test_numbers_of_numpy__are_numbers() -> None:
    settings = vitgraft.Training(epochs=np.int64(3), lr=np.float32(0.5), legacy_init=np.bool_(True))
    assert [type(value) for value in (settings.epochs, settings.lr, settings.legacy_init)] == [int, float, bool]
    assert settings == vitgraft.Training(epochs=3, lr=0.5, legacy_init=True)
    assert vitgraft.graft(FROZEN, "linear", np.int64(3)).class_names == ("0", "1", "2")
    assert methods.spec_of(vitgraft.LoRA(rank=np.int32(4))) == "lora:rank=4"
    assert converted("size", [np.int64(2), 3], tuple[int, int]) == (2, 3)


@pytest.mark.parametrize("kind", [torch.tensor, list, np.array, partial(np.array, dtype=np.uint8)])
def test_labels__of_any_kind_of_whole_numbers(kind: Any) -> None:
    split = Split(SPLIT.images, kind(SPLIT.labels.tolist()))
    assert split.labels.dtype == np.int64
    assert split.labels.tolist() == SPLIT.labels.tolist()


def test_labels__that_are_none_are_told() -> None:
    for labels in (["cat"] * 6, [0.5] * 6, np.zeros((6, 1), int), None, 3, torch.zeros(6)):
        with pytest.raises(DataError, match="expected one whole number an image"):
            Split(SPLIT.images, labels)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="6 images and 2 labels"):
        Split(SPLIT.images, np.array([0, 1]))


# Files


JSON_VALUES = st.one_of(
    st.sampled_from([None, True, False, -1, 0, 1, 2**70, 1.5, -0.5, float("nan"), float("inf"), "", "x", "none"]),
    st.sampled_from(
        [[], [1], ["a"], [[]], [None], {}, {"a": 1}, {"name": "lora"}, "a\0b", "\ud800", "0", [0, 1, 2]]
    ),
    st.text(max_size=5),
)
FUZZ = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document, itself included."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model("lora").save(folder, metrics={"top1": 1.0})
    return folder


@FUZZ
@given(data=st.data())
def test_graft_json__with_one_wrong_value(saved: Path, data: st.DataObject) -> None:
    card = json.loads((saved / "graft.json").read_text())
    path = data.draw(st.sampled_from(list(places(card))))
    changed = json.dumps(replaced(card, path, data.draw(JSON_VALUES)))
    folder = saved.parent / "changed"
    folder.mkdir(exist_ok=True)
    (folder / "graft.json").write_text(changed)
    (folder / "graft.safetensors").write_bytes((saved / "graft.safetensors").read_bytes())
    told(lambda: vitgraft.load(folder, backbone=FROZEN).merge())
    told(lambda: vitgraft.load(folder, backbone=FROZEN, force=True).predict(Image.new("RGB", (8, 8))))


def test_load__a_size_that_the_backbone_does_not_take(saved: Path) -> None:
    card = json.loads((saved / "graft.json").read_text())
    folder = saved.parent / "narrow"
    folder.mkdir(exist_ok=True)
    (folder / "graft.json").write_text(json.dumps(replaced(card, ("preprocessing", "size", 0), 1)))
    (folder / "graft.safetensors").write_bytes((saved / "graft.safetensors").read_bytes())
    with pytest.raises(VitgraftError, match=r"makes pictures of 1 x 16 pixels, and this .* takes 16 x 16"):
        vitgraft.load(folder, backbone=FROZEN, force=True)


RECORD = Path(__file__).parents[1] / "results" / "records"


@FUZZ
@given(data=st.data())
def test_record_json__with_one_wrong_value(tmp_path: Path, data: st.DataObject) -> None:
    whole = json.loads(next(iter(sorted(RECORD.glob("*.json")))).read_text())
    path = data.draw(st.sampled_from(list(places(whole))))
    file = tmp_path / "record.json"
    file.write_text(json.dumps(replaced(whole, path, data.draw(JSON_VALUES))))
    told(lambda: store.read(file).flat())
    told(lambda: store.read_all(tmp_path).rows())


def _toml(value: Any) -> str:
    """A value in TOML's notation; what it has no word for is an empty text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return '""' if value is None else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


@FUZZ
@given(data=st.data())
def test_run_toml__with_one_wrong_value(tmp_path: Path, data: st.DataObject) -> None:
    table = tomllib.loads(RunConfig.of({"data": "digits"}).toml())
    path = data.draw(st.sampled_from([one for one in places(table) if one]))
    changed = replaced(table, path, data.draw(JSON_VALUES))
    file = tmp_path / "run.toml"
    file.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in changed.items()), errors="replace")
    told(lambda: RunConfig.of(read_toml(file)).toml())


SUITE = {
    "name": "mine",
    "tasks": ["digits", "vtab1k:svhn"],
    "seeds": [0, 1],
    "halving": 1,
    "grid": {"lr": [0.1, 0.2], "rate": [1]},
    "settings": {"epochs": 4, "backbone": "figures"},
    "methods": {"lora": {"method": "lora:rank=2", "epochs": 3}, "linear": {"retrain": False}},
}


@FUZZ
@given(data=st.data())
def test_suite_toml__with_one_wrong_value(tmp_path: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([one for one in places(SUITE) if one]))
    changed = replaced(SUITE, path, data.draw(JSON_VALUES))
    file = tmp_path / "suite.toml"
    file.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in changed.items()), errors="replace")
    told(lambda: suite.load(str(file)))


@FUZZ
@given(line=st.integers(0, 11), column=st.integers(0, 2), text=st.text(max_size=6))
def test_csv__with_one_wrong_cell(tmp_path: Path, line: int, column: int, text: str) -> None:
    _some_pictures(tmp_path / "photos")
    rows = [one.split(",") for one in (tmp_path / "photos.csv").read_text().splitlines()]
    rows = [*rows, ["photos/a/0.png", "a"]][: 11 + line % 2]
    row = rows[min(line, len(rows) - 1)]
    row[column:] = [text, *row[column + 1 :]]
    file = tmp_path / "list.csv"
    file.write_text("\n".join(map(",".join, rows)), encoding="utf-8", errors="surrogatepass")
    told(lambda: vitgraft.load_task(file, check=False))


def test_wrong_values__are_found_by_the_walk() -> None:
    """The guard: what is raised raw comes through."""
    with pytest.raises(ZeroDivisionError):
        told(lambda: 1 // 0)
    with pytest.raises(ConfigError, match="images: expected a whole number"):
        raise ConfigError("images: expected a whole number")


@pytest.mark.parametrize("name", ["seed", "split_seed"])
def test_run__a_seed_beyond_what_files_hold(name: str) -> None:
    """Told by the name that the user gave: split_seed was said to be a wrong seed."""
    with pytest.raises(ConfigError, match=rf"^{name}=1180591620717411303424: .* below 2\*\*63"):
        RunConfig.of({"data": "digits", name: 2**70})
    assert RunConfig.of({"data": "digits", "split_seed": 2**63 - 1}).split_seed == 2**63 - 1
