"""Records: what is written is read back, what is odd is reported, and many may write at once."""

import json
import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitgraft import methods
from vitgraft.results import store
from vitgraft.results.record import (
    BackboneFacts,
    Expense,
    History,
    MethodFacts,
    Record,
    RecordError,
    Scores,
    TaskFacts,
)
from vitgraft.runs.config import RunConfig, keys

CONFIG = {
    "data": "photos/",
    "method": "lora:rank=4",
    "backbone": "figures",
    "seed": 3,
    "lr": 0.001,
    "out": "runs/a",
}


def record(**changes: Any) -> Record:
    whole = Record(
        config=dict(CONFIG),
        seed=3,
        method=MethodFacts("lora", "lora:rank=4", {"rank": 4, "alpha": None}),
        backbone=BackboneFacts("figures", "0123456789abcdef"),
        task=TaskFacts("photos", "fedcba9876543210", None, 3, {"train": 8, "val": 2}, skipped=1),
        val=Scores(0.5, 80.0, None, 75.0, 2),
        test=None,
        history=History(2, 1, False, [1.0, 0.5], [80.0, None]),
        cost=Expense(1000, 51, 77_000, 10**9, 2 * 10**9, 4204, 512.5, 3.25, None),
        versions={"python": "3.11"},
        device="some cpu",
        commit=None,
        started="2025-01-01T00:00:00+00:00",
        ended="2025-01-01T00:01:00+00:00",
    )
    return replace(whole, **changes)


def test_record__survives_the_disk(tmp_path: Path) -> None:
    path = store.add(tmp_path / "not" / "yet", record())
    assert store.read(path) == record()
    assert json.loads(path.read_text())["schema"] == 1


def test_record__keeps_what_was_told_of_the_data(tmp_path: Path) -> None:
    told = replace(record().task, notes=["Column 'id' was not read."])
    path = store.add(tmp_path, record(task=told))
    assert store.read(path).task.notes == ["Column 'id' was not read."]
    older = json.loads(path.read_text())
    del older["task"]["notes"]  # as records were written before there were any
    path.write_text(json.dumps(older))
    assert store.read(path) == record()


def test_record__a_loss_that_is_not_finite_is_null_in_the_file(tmp_path: Path) -> None:
    before = record()
    assert before.val is not None
    broken = replace(before.val, loss=math.inf)
    history = replace(before.history, train_loss=[0.5, math.nan])
    path = store.add(tmp_path, replace(before, val=broken, history=history))
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (values["val"]["loss"], values["history"]["train_loss"]) == (None, [0.5, None])
    read = store.read(path)
    assert read.val is not None
    assert math.isnan(read.val.loss)
    assert (read.val.top1, read.history.train_loss[0]) == (broken.top1, 0.5)
    assert math.isnan(read.history.train_loss[1])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 99, r"schema 99; this vitgraft reads 1"),
        (("seed",), "three", r"record\.seed is 'three', not int"),
        (("seed",), True, r"record\.seed is True"),
        (("val", "top1"), None, r"record\.val\.top1 is None"),
        (("history", "train_loss"), [0.1, "x"], r"train_loss\[1\] is 'x'"),
        (("task", "sizes"), [1], r"record\.task\.sizes"),
        (("cost",), {}, r"record\.cost lacks .*trained_method"),
        (("cost", "colour"), 1, r"record\.cost has unknown colour"),
        (("method",), "lora", r"record\.method is 'lora', not a table"),
    ],
)
def test_record__wrong_values_are_named(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    values = record().to_json()
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file = tmp_path / "x.json"
    file.write_text(json.dumps(values))
    with pytest.raises(RecordError, match=message) as caught:
        store.read(file)
    assert str(file) in str(caught.value)


def test_read_all__skips_and_reports_what_is_no_record(tmp_path: Path) -> None:
    good = store.add(tmp_path, record())
    own = tmp_path / "some-run" / store.FILE
    store.write(own, record(seed=4))
    odd = {
        "empty.json": b"",
        "cut.json": good.read_bytes()[:200],
        "list.json": b"[1, 2]",
        "package.json": b'{"name": "not ours"}',
        "binary.json": b"\xff\xfe\x00",
        "deep.json": b"[" * 100_000,
        "newer.json": json.dumps({**record().to_json(), "schema": 2}).encode(),
    }
    for name, content in odd.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / ".half.json").write_text("another writer's")
    found = store.read_all(tmp_path)
    assert found.records == {good: record(), own: record(seed=4)}
    assert {path.name for path in found.skipped} == {*odd, "folder.json"}
    assert all(str(path) in reason for path, reason in found.skipped.items())
    assert "schema 2" in found.skipped[tmp_path / "newer.json"]


def test_rows__are_flat_and_alike(tmp_path: Path) -> None:
    """A table's cells: numbers, text, None, and lists that have an entry an epoch."""
    tested = store.add(tmp_path, record(test=Scores(0.25, 87.5, 100.0, 75.0, 8)))
    other = store.add(tmp_path, record(config={**CONFIG, "seed": 4}, seed=4, val=None))
    (tmp_path / "cut.json").write_text("{")
    first, second = sorted(store.read_all(tmp_path).rows(), key=lambda row: row["seed"])
    assert first.keys() == second.keys()
    assert (first["file"], second["file"]) == (str(tested), str(other))
    assert (first["test.top1"], first["val.top5"]) == (87.5, None)
    assert (second["test.top1"], second["val.n"]) == (None, None)
    assert (first["config.lr"], first["method.fields.rank"], first["task.sizes.train"]) == (0.001, 4, 8)
    assert (first["cost.trained_method"], first["commit"], first["versions.python"]) == (1000, None, "3.11")
    assert first["history.train_loss"] == [1.0, 0.5]
    assert not any(isinstance(value, dict) for row in (first, second) for value in row.values())


def test_rows__are_what_pandas_takes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is for whoever reads records with it")
    store.add(tmp_path, record(test=Scores(0.25, 87.5, None, 75.0, 8)))
    store.add(tmp_path, record(config={**CONFIG, "seed": 4}, seed=4))
    frame = pandas.DataFrame(store.read_all(tmp_path).rows())
    assert frame.groupby("method.spec")["test.top1"].mean().to_dict() == {"lora:rank=4": 87.5}
    assert frame["seed"].dtype.kind == "i"
    assert frame["val.top1"].dtype.kind == "f"


@pytest.mark.parametrize("content", ["", '{"schema": 1, "config"', "[1]", '{"name": "not ours"}', "newer"])
def test_find__tells_once_of_what_is_no_record(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a suite goes on and does such a run anew."""
    path = tmp_path / "one.json"
    with caplog.at_level(logging.WARNING):
        assert store.find(path) is None
        assert caplog.messages == []
        newer = json.dumps({**record().to_json(), "schema": 2})
        path.write_text(newer if content == "newer" else content)
        assert [store.find(path), store.find(path)] == [None, None]
    (told,) = caplog.messages
    assert told.startswith(f"Taken for a run that is not done: '{path}'")
    store.write(path, record())
    assert store.find(path) == record()


def test_read_all__no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="There is no folder"):
        store.read_all(tmp_path / "nowhere")


def test_file_name__follows_the_configuration_alone() -> None:
    name = store.file_name(CONFIG)
    assert name.startswith("photos-lora-rank-4-figures-s3-")
    assert store.file_name(dict(reversed(CONFIG.items()))) == name
    assert store.file_name({**CONFIG, "out": "elsewhere", "device": "cuda", "workers": 4}) == name
    others = [
        store.file_name({**CONFIG, key: value}) for key, value in (("lr", 0.002), ("seed", 4), ("epochs", 2))
    ]
    assert len({name, *others}) == 4


def test_file_name__keys_left_out_exist() -> None:
    assert set(store.NOT_IDENTITY) <= keys().keys()


FIRST: dict[str, Any] = {  # the configuration of a record that was written when there were no other keys
    "data": "dspr_loc",
    "root": None,
    "val_fraction": 0.15,
    "test_fraction": 0.15,
    "split_seed": 0,
    "skip_unreadable": False,
    "method": "lora",
    "backbone": "figures",
    "checkpoint": None,
    "image_size": None,
    "global_pool": None,
    "preprocessing": "pretrained",
    "out": "runs/side_methods/dspr_loc-lora-lr1-s0",
    "records": "results/side_methods",
    "epochs": 15,
    "batch_size": 32,
    "lr": 0.001,
    "weight_decay": 0.0001,
    "warmup_epochs": 1.5,
    "min_lr": 0.0,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "clip_norm": None,
    "accumulate": 1,
    "precision": "bf16",
    "seed": 0,
    "recompute": "none",
    "patience": None,
    "select": "last",
    "augment": "none",
    "workers": 0,
    "device": "cpu",
    "eval_batch_size": 128,
    "cache": "auto",
    "cache_precision": "fp16",
    "cache_limit": 20.0,
    "views": 0,
    "snapshot_seconds": 60.0,
}
FIRST_NAME = "dspr_loc-lora-figures-s0-ad87ae241eee.json"


def test_file_name__of_a_record_outlives_new_keys() -> None:
    assert store.file_name(FIRST) == FIRST_NAME
    assert store.file_name({**FIRST, **store.LATER}) == FIRST_NAME
    assert store.file_name(RunConfig.of(FIRST).table()) == FIRST_NAME


def test_file_name__stays_when_inputs_are_moved() -> None:
    here = {**FIRST, "data": "vtab1k:cifar100", "root": "/here/vtab-1k", "checkpoint": "weights/model.safetensors"}
    there = {**here, "root": "copies", "checkpoint": "/there/model.safetensors"}
    assert store.file_name(here) == store.file_name(there)
    assert store.file_name({**here, "checkpoint": "weights/other.safetensors"}) != store.file_name(here)
    listed = {**here, "data": "photos.csv"}  # of a list, the root says which images are meant
    assert store.file_name(listed) != store.file_name({**listed, "root": "copies"})


@pytest.mark.parametrize("key", store.LATER)
def test_file_name__tells_what_is_not_as_it_was(key: str) -> None:
    value = store.LATER[key]
    other = not value if isinstance(value, bool) else 0.5 if value is None else value * 2 or 1
    assert store.file_name({**FIRST, **store.LATER, key: other}) != FIRST_NAME


def test_later__holds_every_key_that_came_later() -> None:
    """A key that no old record has, and that is not in `LATER`, would give every record another name."""
    new = keys().keys() - FIRST.keys() - set(store.NOT_IDENTITY)
    assert new == store.LATER.keys()


@pytest.mark.parametrize("data", ["../../etc/passwd", "C:\\photos", "a b/ü\n", "x" * 500, "", "/"])
def test_file_name__stays_in_its_folder(data: str) -> None:
    name = store.file_name({**CONFIG, "data": data})
    assert name == Path(name).name
    assert name.isascii()
    assert len(name) < 120


WRITER = """
import sys
from pathlib import Path
from tests.test_records import CONFIG, record
from vitgraft.results import store
writer = int(sys.argv[1])
for index in range(40):
    store.add(Path(sys.argv[2]), record(config={**CONFIG, "seed": index % 4}, seed=index))
    store.add(Path(sys.argv[2]), record(config={**CONFIG, "seed": 100 + writer}, seed=index))
print({"torch"} & {*sys.modules})
"""


def test_add__writers_of_several_processes_leave_whole_files(tmp_path: Path) -> None:
    """Three write four equal configurations and one of their own; whoever reads meanwhile sees no half."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen([*command, str(writer), str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True)
        for writer in range(3)
    ]
    while any(writer.poll() is None for writer in writers):
        assert store.read_all(tmp_path).skipped == {}
    assert [writer.communicate()[0] for writer in writers] == ["set()\n"] * 3
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = store.read_all(tmp_path)
    assert found.skipped == {}
    assert sorted(one.config["seed"] for one in found.records.values()) == [0, 1, 2, 3, 100, 101, 102]
    assert {one.seed for one in found.records.values()} == {36, 37, 38, 39}
    assert len(list(tmp_path.iterdir())) == 7, "no temporary file is left"


def test_write__failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.add(tmp_path, record())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.add(tmp_path, record(seed=9))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_identity__has_the_methods_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose runs come to other numbers has records of other names; the first revision adds nothing."""
    config = {**CONFIG, "method": "lora:rank=4"}
    first = store.identity(config)
    monkeypatch.setattr(methods.method_named("lora"), "revision", 2)
    assert store.identity(config) != first
    assert store.identity({**config, "method": "of another library"}), "a foreign record has a name, too"
    monkeypatch.undo()
    assert store.identity(config) == first
