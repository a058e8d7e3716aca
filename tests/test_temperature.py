"""Calibration: a temperature that is fitted on validation images alone, kept with the run, and used everywhere."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import vitgraft
from tests.runs import arguments, done, measured, photo, photos, refused, weights
from vitgraft.data.source import load as load_task
from vitgraft.errors import ArtefactError, DataError, DivergedError, Told
from vitgraft.models import artefact
from vitgraft.train.temperature import Temperature, fitted


def answers(gaps: list[float], wrong: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two classes with such gaps between them, and labels."""
    logits = np.array([[gap, 0.0] for gap in gaps], dtype=np.float32)
    return logits, np.array(wrong, dtype=np.int64)


def test_fitted__is_what_one_finds_by_hand() -> None:
    """All gaps are 2 and three of four answers right: calibrated is 3/4, so that 2 / T = ln 3."""
    found = fitted(*answers([2.0] * 8, [False, False, False, True] * 2), "val")
    assert found.value == pytest.approx(2 / math.log(3), rel=1e-6)
    assert (found.n, found.wrong) == (8, 2)
    assert found.loss_before == pytest.approx(math.log1p(math.exp(-2)) + 0.25 * 2)
    assert found.loss_after == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert "fitted on 8 images (val), of which 2 are answered wrongly" in found.told()


def test_fitted__is_the_lowest_loss_of_all() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 5, 200)
    logits = (3 * draw.standard_normal((200, 5)) + 4 * np.eye(5)[labels]).astype(np.float32) * 2.5 + 100
    found = fitted(logits, labels, "val")

    def loss(temperature: float) -> float:
        scaled = torch.tensor(logits, dtype=torch.float64) / temperature
        return float(torch.nn.functional.cross_entropy(scaled, torch.tensor(labels)))

    assert found.loss_after == pytest.approx(loss(found.value))
    assert found.loss_before == pytest.approx(loss(1.0))
    assert all(loss(found.value) < loss(found.value * factor) for factor in (0.9, 0.99, 1.01, 1.1))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_fitted__goes_with_the_scale_of_logits(scale: float) -> None:
    logits, labels = answers([2.0, 1.0, 3.0, 0.5], [False, True, False, False])
    found = fitted(logits * np.float32(scale), labels, "val").value
    assert found == pytest.approx(scale * fitted(logits, labels, "val").value, rel=1e-4)


@pytest.mark.parametrize(
    ("gaps", "wrong", "told"),
    [
        ([2.0, 1.0], [False, False], "All 2 images (val) are answered rightly"),
        ([2.0], [False], "All 1 images"),
        ([2.0, 2.0], [True, False], "no better than saying that all classes are equally likely"),
        ([2.0], [True], "no better than saying"),
        ([0.0, 0.0], [True, False], "none is best"),
    ],
)
def test_fitted__what_has_no_best_temperature_is_told(gaps: list[float], wrong: list[bool], told: str) -> None:
    with pytest.raises(DataError) as error:
        fitted(*answers(gaps, wrong), "val")
    assert told in str(error.value)


def test_fitted__answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        fitted(*answers([2.0, math.nan], [False, True]), "val")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that is wrong about some of its validation images."""
    home = tmp_path_factory.mktemp("calibrated")
    photos(home / "photos", 12)
    for number in range(8):  # red pictures that are called blue: nobody can be right about all
        photo(home / "photos" / "blue" / f"not{number}.png", 0, 9000 + number)
    file = weights(home / "w.safetensors")
    options = arguments(file, method="linear", out=home / "run", epochs=6, lr=0.1, val_fraction=0.4)
    done("fit", home / "photos", *options)
    return home


def test_calibrate__is_kept_and_used_by_all(home: Path) -> None:
    run, picture = home / "run", home / "photos" / "red" / "00.png"
    before, card = measured(run), artefact.read_card(run)
    plain = vitgraft.load(run).predict(picture)
    kept = json.loads(done("calibrate", run, "--json").stdout)
    assert kept["loss_after"] < kept["loss_before"]
    assert kept["of"] == "photos, val"
    assert kept["n"] == measured(run, "--split", "val")["n"]
    model = vitgraft.load(run)
    assert model.temperature == Temperature(**kept)
    expected = (plain.log() / kept["value"]).softmax(1)
    torch.testing.assert_close(model.predict(picture), expected)
    torch.testing.assert_close(vitgraft.Bundle.load(run).predict([picture])[str(run)], expected)
    torch.testing.assert_close(model.uncalibrated().predict(picture), plain)
    together = vitgraft.Bundle.load(run).uncalibrated()
    torch.testing.assert_close(together.predict([picture])[str(run)], plain)
    told = done("predict", run, picture, "--format", "json")
    assert json.loads(told.stdout)[0]["probability"] == pytest.approx(float(expected.max()), abs=1e-6)
    assert "Probabilities are calibrated: temperature" in told.stderr
    told = done("predict", run, picture, "--format", "json", "--uncalibrated")
    assert json.loads(told.stdout)[0]["probability"] == pytest.approx(float(plain.max()), abs=1e-6)
    assert "calibrated" not in told.stderr
    after = measured(run)
    assert {key: after[key] for key in ("top1", "mean_per_class", "n")} == {
        key: before[key] for key in ("top1", "mean_per_class", "n")
    }
    assert measured(run, "--split", "val")["loss"] == pytest.approx(kept["loss_after"], rel=1e-4)
    assert after["temperature"] == kept
    assert measured(run, "--uncalibrated")["loss"] == pytest.approx(before["loss"])
    assert artefact.read_card(run).digest == card.digest
    assert "is not calibrated" in done("calibrate", run, "--undo").stderr
    assert artefact.read_card(run) == card
    assert "was not calibrated" in done("calibrate", run, "--undo").stderr


def test_calibrate__is_fitted_on_validation_images_alone(home: Path, tmp_path: Path) -> None:
    run = home / "run"
    for split in ("test", "train", "all"):
        assert f"--split {split}: a temperature is fitted on images that" in refused(
            "calibrate", run, "--split", split
        )
    task, model = load_task(home / "photos", val_fraction=0.4), vitgraft.load(run)
    with pytest.raises(DataError, match="is tested on"):
        model.calibrate(task.splits["test"])
    with pytest.raises(DataError, match="was trained on"):
        model.calibrate(task.splits["train"])
    assert model.temperature is None
    with pytest.warns(Told, match="the split that it kept is measured"):
        found = model.calibrate(task)
    assert found.of == "photos, val"
    model.save(tmp_path / "mine")
    again = vitgraft.load(tmp_path / "mine", checkpoint=home / "w.safetensors")
    assert again.temperature == model.temperature
    with pytest.warns(Told, match="not calibrated any more"):
        vitgraft.fit(again, task.splits["train"], epochs=1, batch_size=8)
    assert again.temperature is None


def test_merge__says_what_becomes_of_the_temperature(home: Path, tmp_path: Path) -> None:
    run = home / "run"
    done("calibrate", run)
    temperature = vitgraft.load(run).divisor
    said = done("merge", run, "--out", tmp_path / "m.safetensors").stdout
    assert "is calibrated (temperature" in said
    assert f"/ {temperature!r}).softmax(1)" in said
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert json.loads(file.metadata()["temperature"]) == temperature
    done("calibrate", run, "--undo")
    done("merge", run, "--out", tmp_path / "n.safetensors")
    with safe_open(tmp_path / "n.safetensors", "pt") as file:
        assert "temperature" not in file.metadata()


@pytest.mark.parametrize("value", [0, -1.0, "warm", None, [1]])
def test_card__with_a_temperature_that_cannot_be_is_refused(home: Path, tmp_path: Path, value: object) -> None:
    card = json.loads((home / "run" / artefact.CARD).read_text())
    right = {"value": 1.0, "n": 1, "wrong": 1, "of": "val", "loss_before": 1.0, "loss_after": 1.0}
    (tmp_path / artefact.CARD).write_text(json.dumps({**card, "temperature": right}))
    assert artefact.read_card(tmp_path).temperature == Temperature(**right)  # type: ignore[arg-type]
    (tmp_path / artefact.CARD).write_text(json.dumps({**card, "temperature": {**right, "value": value}}))
    with pytest.raises(ArtefactError, match="is not a graft's card"):
        artefact.read_card(tmp_path)
