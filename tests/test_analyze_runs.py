"""What is drawn of finished runs: SynQT's weights, and what classifiers read."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runs import CHANNELS, SIZE, arguments, done, photos, refused, weights
from vitgraft.analyze.embedding import classifier_features, embed, frozen_features, leave_one_out
from vitgraft.analyze.importance import GROUPS, Importance, importance
from vitgraft.backbones.loading import load_backbone
from vitgraft.data.task import Split
from vitgraft.heads.synqt import SynqtHead
from vitgraft.models.model import graft, load
from vitgraft.runs.kept_split import part_of_run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, a run of an epoch on them (vqt), and grafts that were saved as they began."""
    home = tmp_path_factory.mktemp("runs")
    file, folder = weights(home / "weights.safetensors"), photos(home / "photos", 12)
    done("fit", folder, *arguments(file, method="vqt", epochs=1), "--out", home / "vqt")
    frozen = load_backbone("test_vit", checkpoint=file, image_size=SIZE)
    for method in ("synqt:tokens=2", "lora:rank=2"):
        graft(frozen, method, sorted(CHANNELS)).save(home / method.partition(":")[0])
    graft(frozen, "linear", ["red", "green"]).save(home / "other")
    return home


def images_of(home: Path, part: str = "test") -> Split:
    return part_of_run(home / "vqt", part).split


def test_importance__is_what_the_head_weighs_by(home: Path) -> None:
    model, split = load(home / "synqt"), images_of(home, "val")
    head, places = model.tuned.head, [2, 0]
    assert isinstance(head, SynqtHead)
    pictures = torch.stack([split.tensors(model.transform)[at][0] for at in places])
    with torch.no_grad():
        expected = head.weights(head.extract(model.tuned.features(pictures), model.backbone))
    found = importance(model, split, places, device="cpu", batch_size=1)
    depth = model.backbone.depth
    assert found.weights.shape == (2, len(GROUPS), depth)
    for group in range(len(GROUPS)):
        part = expected[:, 1 + group * depth : 1 + (group + 1) * depth].numpy()
        np.testing.assert_allclose(found.weights[:, group], part, rtol=1e-4, atol=1e-5)
    assert found.labels == [split.classes[split.labels[at]] for at in places]  # type: ignore[index]
    assert [name.partition("/")[0] for name in found.names] == found.labels


def test_importance__counts_shares() -> None:
    weights = np.zeros((2, 3, 2), dtype=np.float32)
    weights[:, 0] = 0.9
    weights[0, 1] = 0.5
    found = Importance(weights, ["a", "b"], ["x", "y"])
    assert (found.high(), found.high(0), found.low(0)) == (pytest.approx(100 / 3), 100, 0)
    assert found.low(1) == 50
    same = Importance(np.repeat(weights[:1], 2, axis=0), ["a", "b"], ["x", "y"])
    assert same.between == 0 < found.between < 100


def test_importance_command__writes_its_figure(home: Path, tmp_path: Path) -> None:
    data = ("--data", home / "photos")
    done("analyze", "importance", home / "synqt", *data, "--count", 3, "--out", tmp_path)
    rows = list(csv.DictReader((tmp_path / "importance.csv").open()))
    assert len(rows) == 3 * 3 * load(home / "synqt").backbone.depth
    assert {row["class"] for row in rows} == {"red", "green", "blue"}
    card = json.loads((tmp_path / "importance.json").read_text())
    high = 100 * np.mean([float(row["weight"]) > 0.8 for row in rows])
    assert card["found"]["above 0.8"]["all"] == pytest.approx(high)
    said = refused("analyze", "importance", home / "vqt", "--out", tmp_path / "other")
    assert "only synqt weighs features" in said


@pytest.mark.parametrize("run", ["synqt", "vqt", "lora"])
def test_embedding__is_what_the_classifier_reads(home: Path, run: str) -> None:
    model, split = load(home / run), images_of(home)
    seen: list[int] = []
    found = classifier_features(model, split.images, "cpu", lambda: seen.append(1))
    assert len(seen) == len(split)
    pictures = torch.stack([split.tensors(model.transform)[at][0] for at in range(len(split))])
    with torch.no_grad():
        expected = model(pictures)
        answers = model.tuned.head.classifier(torch.from_numpy(found))
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)
    assert not model.tuned.head.classifier._forward_pre_hooks
    plain = frozen_features(model.backbone, split.images, model.preprocessing, "cpu", lambda: None)
    assert plain.shape == (len(split), model.backbone.width)


def test_neighbours__vote_and_the_image_itself_does_not() -> None:
    points = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]], dtype=np.float32)
    labels = np.array([0, 0, 0, 1, 1, 0])
    assert leave_one_out(points, labels, 1) == pytest.approx(100 * 5 / 6)  # 9.0 lies by the others' class
    assert leave_one_out(points, np.array([0, 1, 2, 3, 4, 5]), 3) == 0
    noise = np.random.default_rng(0).normal(0, 0.01, (12, 8))
    apart = (np.repeat(np.eye(2, 8), 6, axis=0) + noise).astype(np.float32)
    close = embed("two", apart, np.repeat([0, 1], 6), 3, seed=0)
    assert close.knn == 100
    assert close.silhouette > 0.9
    again = embed("two", apart, np.repeat([0, 1], 6), 3, seed=0)
    assert (again.tsne == close.tsne).all()
    assert close.tsne.shape == close.pca.shape == (12, 2)


def test_embedding_command__draws_runs_beside_the_frozen_model(home: Path, tmp_path: Path) -> None:
    runs = [home / name for name in ("vqt", "synqt", "lora")]
    asked = ("analyze", "embedding", *runs, "--split", "train", "--count", 12, "--out", tmp_path)
    said = done(*asked)
    rows = list(csv.DictReader((tmp_path / "embedding.csv").open()))
    assert list(dict.fromkeys(row["model"] for row in rows)) == ["frozen", "vqt", "synqt", "lora"]
    assert len(rows) == 4 * 12
    assert len({row["image"] for row in rows}) == 12
    card = json.loads((tmp_path / "embedding.json").read_text())
    assert set(card["found"]) == {"frozen", "synqt", "vqt", "lora"}
    assert "12 images of 3 classes" in card["caption"]
    assert "trained or selected on" in said.stderr


def test_embedding_command__refuses_runs_of_other_tasks(home: Path, tmp_path: Path) -> None:
    said = refused("analyze", "embedding", home / "vqt", home / "other", "--out", tmp_path)
    assert "different classes" in said
