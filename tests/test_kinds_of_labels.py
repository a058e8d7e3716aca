"""Runs on pictures with any number of labels, and with numbers: from a list to an answer, and what is refused."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

import vitgraft
from tests import toy
from tests.labels import NAMES, in_columns, in_one_cell, numbers
from tests.runs import arguments, done, measured, refused, weights
from tests.tiny import backbone
from vitgraft.data.source import load
from vitgraft.errors import ConfigError, DataError
from vitgraft.models.programs.served import facts, served
from vitgraft.results import store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of three kinds, and a finished run on each."""
    home = tmp_path_factory.mktemp("kinds")
    multi, two = in_one_cell(home, 60), numbers(home, 60)
    in_columns(home, 60)
    options = arguments(weights(home / "w.safetensors"), epochs=6, lr=0.02, image_size=32)
    done("fit", multi, *options, "--out", home / "multi")
    done("fit", two, *options, "--label-column", "heat,moss", "--out", home / "two")
    return home


def test_multi__record_and_artefact(home: Path) -> None:
    record = store.read(home / "multi" / "record.json")
    assert record.task.labels == "multi"
    assert record.test is not None
    assert record.test.top1 is None
    assert record.test.map is not None
    assert record.test.map > 75
    assert record.test.main == record.test.map
    assert record.history.val_top1 == []
    assert len(record.history.val_main) == 6
    assert record.config["labels"] == "auto"
    card = json.loads((home / "multi" / "graft.json").read_text())
    assert card["target"]["kind"] == "multi"
    assert len(card["target"]["thresholds"]) == 3
    assert vitgraft.load(home / "multi").target.to_json() == {
        "kind": "multi",
        "thresholds": tuple(card["target"]["thresholds"]),
    }


def test_multi__eval_gives_the_record_and_reads_columns(home: Path) -> None:
    record = store.read(home / "multi" / "record.json")
    for found in (measured(home / "multi"), measured(home / "multi", home / "b.csv")):
        assert found["map"] == pytest.approx(record.test.map)  # type: ignore[union-attr]
        assert found["f1_macro"] == pytest.approx(record.test.f1_macro)  # type: ignore[union-attr]
        assert found["n"] == record.test.n  # type: ignore[union-attr]
        assert set(found["thresholds"]) == set(NAMES)


def test_multi__predict_says_what_reaches_its_threshold(home: Path) -> None:
    model = vitgraft.load(home / "multi")
    paths = [home / "im" / f"0-{index}.png" for index in range(6)]
    answers = model.predict(paths)
    assert answers.shape == (6, 3)
    cuts = model.target.to_json()["thresholds"]  # type: ignore[index]
    lines = done("predict", home / "multi", *paths, "--format", "jsonl").stdout.splitlines()
    for line, own in zip(lines, answers.tolist(), strict=True):
        expected = {name for name, value, cut in zip(model.class_names, own, cuts, strict=True) if value >= cut}
        assert set(json.loads(line)["labels"]) == expected
    rows = list(
        csv.DictReader(done("predict", home / "multi", *paths, "--format", "csv", "--top", 3).stdout.splitlines())
    )
    assert len(rows) == 18
    assert {row["there"] for row in rows} == {"0", "1"}


def test_numbers__are_in_the_users_units(home: Path) -> None:
    record = store.read(home / "two" / "record.json")
    assert record.task.labels == "number"
    assert record.test is not None
    assert record.test.r2 is not None
    assert record.test.main == 100 * record.test.r2
    found = measured(home / "two")
    assert found["r2"] == pytest.approx(record.test.r2)
    assert set(found["mae_by_name"]) == {"heat", "moss"}
    paths = sorted((home / "im").glob("*.png"))[:8]
    heat, moss = vitgraft.load(home / "two").predict(paths).T
    assert 1900 < float(heat.min()) <= float(heat.max()) < 3300
    assert 0 < float(moss.median()) < 0.2
    row = json.loads(done("predict", home / "two", paths[0], "--format", "jsonl").stdout)
    assert row["numbers"]["heat"] == pytest.approx(float(heat[0]), rel=1e-5)
    both = done("predict", "--with", home / "two", "--with", home / "multi", paths[0], "--format", "csv").stdout
    assert both.splitlines()[0] == "image,run,rank,label,probability,there,value,error"


def test_numbers__new_data_are_matched_by_title(home: Path, tmp_path: Path) -> None:
    file = numbers(tmp_path, 20, seed=5)
    found = measured(home / "two", file, "--label-column", "moss,heat")
    assert found["n"] == 20
    assert found["mae_by_name"]["moss"] < 1 < found["mae_by_name"]["heat"]
    assert "no moss" in refused("eval", home / "two", file, "--label-column", "heat")


@pytest.mark.slow
def test_others__what_is_for_classes_alone_says_so(home: Path, tmp_path: Path) -> None:
    told = "models of one class a picture"
    for run in ("multi", "two"):
        assert told in refused("calibrate", home / run)
        assert told in refused("eval", home / run, "--report", tmp_path / "page.html")
        assert told in refused("analyze", "errors", home / run, "--out", tmp_path)
        assert told in refused("analyze", "embedding", home / run, "--out", tmp_path)
    for analysis in ("samples", "features"):
        assert told in refused("analyze", analysis, home / "a.csv", "--out", tmp_path)
    with pytest.raises(DataError, match=r"labels of the kind multi .*, and these are class"):
        vitgraft.load(home / "multi").evaluate(toy.split(6))
    assert "legacy_test is for models" in refused("fit", home / "a.csv", "--legacy-test", "--out", tmp_path / "x")


@pytest.mark.parametrize(
    "method", ["linear", "head2toe:keep=0.5", "spt-lora:budget=1k,rank=2", "vqt", "ssf", "synqt", "lst", "bias"]
)
@pytest.mark.parametrize("kind", ["multi", "number"])
def test_methods__learn_every_kind(home: Path, method: str, kind: str) -> None:
    task = load(
        home / ("a.csv" if kind == "multi" else "c.csv"), **({} if kind == "multi" else {"label_column": "moss"})
    )
    train = task.splits["train"]
    settings = vitgraft.Training(epochs=3, batch_size=16, lr=0.01, device="cpu", cache="off")
    model = vitgraft.graft(
        backbone(),
        method,
        task.classes,
        kind=task.kind,
        preprocessing=toy.PREPROCESSING,
        data=train,
        settings=settings,
    )
    fitted = vitgraft.fit(model, train, task.splits["val"], settings=settings)
    first, last = fitted.history[0], fitted.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert math.isfinite(fitted.val.main)  # type: ignore[union-attr]
    assert model.predict([task.splits["test"].images[0]]).shape == (1, len(task.classes))


def test_resume__and_saving_keep_what_was_found(home: Path, tmp_path: Path) -> None:
    task = load(home / "c.csv", label_column="heat,moss")
    model = vitgraft.graft(backbone(), "linear", task.classes, kind="number", preprocessing=toy.PREPROCESSING)
    model.save(tmp_path / "fresh")
    assert vitgraft.load(tmp_path / "fresh", backbone=backbone()).target.kind == "number"
    vitgraft.fit(model, task.splits["train"], epochs=1, device="cpu", cache="off")
    model.save(tmp_path / "model")
    again = vitgraft.load(tmp_path / "model", backbone=backbone())
    assert again.target == model.target
    picture = task.splits["val"].images[0]
    assert torch.equal(again.predict([picture]), model.predict([picture]))
    with pytest.raises(DataError, match="kind number"):
        vitgraft.fit(model, load(home / "a.csv").splits["train"], epochs=1, device="cpu")
    with pytest.raises(ConfigError, match="a classifier needs at least two"):
        vitgraft.graft(backbone(), "linear", ["one"])
    assert vitgraft.graft(backbone(), "linear", ["one"], kind="number").class_names == ("one",)


def test_export__says_what_the_model_says(home: Path) -> None:
    for name, outputs in (("multi", ("logits", "probabilities")), ("two", ("deviations", "numbers"))):
        model = vitgraft.load(home / name)
        program, _ = served(model, "normalised")
        assert program.outputs == outputs
        picture = load(home / "a.csv").splits["val"].images[0]
        said = program(model.transform(picture)[None])[1]
        assert torch.allclose(said, model.predict([picture]).float(), rtol=1e-4)
        assert json.loads(facts(model, "normalised")["target"])["kind"] == model.target.kind
