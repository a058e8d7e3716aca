"""Losses and metrics of each kind of labels, beside scikit-learn's and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs

from vitgraft.errors import ConfigError, DataError
from vitgraft.train.settings import Training
from vitgraft.train.targets import CLASSES, from_json, target_of
from vitgraft.train.targets.numbers import Numbers
from vitgraft.train.targets.several import SeveralClasses, best_threshold

CPU = torch.device("cpu")


def several(n: int = 60, seed: int = 0, levels: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of few levels, so that there are equal ones, and labels; the last label is nobody's."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(n, 4, generator=generator) < torch.tensor([0.5, 0.2, 0.05, 0.0])
    labels[0, 2] = True
    return torch.randint(-levels, levels, (n, 4), generator=generator) / 2 + labels.float(), labels


@pytest.mark.parametrize("seed", range(4))
def test_several__as_scikit_learn(seed: int) -> None:
    logits, labels = several(seed=seed)
    cuts = (0.3, 0.5, 0.7, 0.5)
    tally = SeveralClasses(cuts).tally(labels, 4, CPU)
    for part in torch.arange(60).split(13):
        tally.add(logits[part], labels[part], part)
    found = tally.metrics()
    there, said = labels[:, :3].numpy(), (logits.double().sigmoid() >= torch.tensor(cuts).double()).numpy()
    scores = logits[:, :3].numpy()
    assert found.map == pytest.approx(100 * theirs.average_precision_score(there, scores, average="macro"))
    assert found.f1_macro == pytest.approx(
        100 * theirs.f1_score(there, said[:, :3], average="macro", zero_division=0)
    )
    assert found.f1_micro == pytest.approx(100 * theirs.f1_score(labels.numpy(), said, average="micro"))
    assert found.exact == pytest.approx(100 * theirs.accuracy_score(labels.numpy(), said))
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert found.loss == pytest.approx(float(each), rel=1e-5)
    assert (found.n, found.main) == (60, found.map)


def test_several__loss_of_parts_adds_up_and_is_balanced() -> None:
    logits, labels = several()
    for settings in (Training(), Training(class_weights="balanced", label_smoothing=0.1)):
        loss = target_of("multi").loss(labels, 4, settings)
        parts = sum(loss(logits[part], labels[part]) for part in torch.arange(60).split(7))
        assert torch.allclose(parts, loss(logits, labels), rtol=1e-5)
    plain = target_of("multi").loss(labels, 4, Training())
    weighted = target_of("multi").loss(labels, 4, Training(class_weights="balanced"))
    one = torch.zeros(1, 4)
    rare = torch.tensor([[False, True, False, False]])
    there = int(labels[:, 1].sum())
    gain = float(weighted(one, rare) - plain(one, rare))
    assert gain == pytest.approx(np.log(2) / 4 * ((60 - there) / there - 1), rel=1e-5)


def test_threshold__has_the_best_f1() -> None:
    scores, labels = np.array([0.9, 0.8, 0.6, 0.4, 0.2]), np.array([1, 1, 0, 1, 0], bool)
    assert best_threshold(scores, labels) == pytest.approx(0.3)  # 3 of 4 right, F1 6/7; above 0.6 it is 4/5
    assert best_threshold(scores, np.array([1, 1, 0, 0, 0], bool)) == pytest.approx(0.7)
    assert best_threshold(np.array([0.9, 0.1]), np.array([True, False])) == 0.5
    assert best_threshold(scores, np.zeros(5, bool)) == 0.5
    logits, wanted = several(200, seed=3)
    target = target_of("multi").decided(logits, wanted)
    assert isinstance(target, SeveralClasses)
    assert target.thresholds is not None
    for column, cut in enumerate(target.thresholds[:3]):
        own = logits[:, column].double().sigmoid().numpy()
        reached = theirs.f1_score(wanted[:, column], own >= cut)
        assert all(reached >= theirs.f1_score(wanted[:, column], own >= other) - 1e-9 for other in np.unique(own))


@pytest.mark.parametrize("shape", ["huber", "l2"])
def test_numbers__as_scikit_learn_in_the_users_units(shape: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(50, 2, generator=generator, dtype=torch.float64) * torch.tensor([300.0, 1e-3]) + 5000
    target = target_of("number").prepared(labels, Training(regression_loss=shape))  # type: ignore[arg-type]
    outputs = target.scaled(labels) + torch.randn(50, 2, generator=generator)  # type: ignore[attr-defined]
    tally = target.tally(labels, 2, CPU)
    for part in torch.arange(50).split(8):
        tally.add(outputs[part], labels[part], part)
    found, said = tally.metrics(), target.answers(outputs)
    for column in range(2):
        pair = labels[:, column].numpy(), said[:, column].numpy()
        assert found.maes[column] == pytest.approx(theirs.mean_absolute_error(*pair), rel=1e-4)  # type: ignore[attr-defined]
        assert found.r2s[column] == pytest.approx(theirs.r2_score(*pair), abs=1e-4)  # type: ignore[attr-defined]
    off = outputs - target.scaled(labels)  # type: ignore[attr-defined]
    each = off.square() / 2 if shape == "l2" else torch.where(off.abs() < 1, off.square() / 2, off.abs() - 0.5)
    assert found.loss == pytest.approx(float(each.mean()), rel=1e-5)
    loss = target.loss(labels, 2, Training())
    assert float(loss(outputs, labels)) / 50 == pytest.approx(found.loss, rel=1e-5)


def test_numbers__beyond_what_can_be_counted_are_refused() -> None:
    """Their scale would be infinite, and the graft's card could not be read again."""
    labels = torch.tensor([[1.0], [1e308], [-1e308]], dtype=torch.float64)
    with pytest.raises(DataError, match=r"go up to 1e\+308"):
        target_of("number").prepared(labels, Training())


def test_numbers__that_do_not_vary() -> None:
    labels = torch.full((5, 1), 7.0, dtype=torch.float64)
    target = target_of("number").prepared(labels, Training())
    assert target == Numbers((7.0,), (1.0,))
    for said, share in ((torch.zeros(5, 1), 1.0), (torch.ones(5, 1), 0.0)):
        tally = target.tally(labels, 1, CPU)
        tally.add(said, labels, torch.arange(5))
        assert tally.metrics().r2 == share  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("number", {"label_smoothing": 0.1}, "label_smoothing=0.1 is for classes"),
        ("number", {"class_weights": "balanced"}, "class_weights=balanced is for classes"),
        ("class", {"regression_loss": "l2"}, "regression_loss=l2 is for labels that are numbers"),
        ("multi", {"regression_loss": "l2"}, "regression_loss=l2 is for labels that are numbers"),
    ],
)
def test_settings__of_other_kinds_are_refused(kind: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        target_of(kind).prepared(torch.zeros(4, 1), Training().changed(settings))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "several"},
        {"kind": "multi", "thresholds": [0.5]},
        {"kind": "multi", "thresholds": [0.5, 1.5]},
        {"kind": "multi", "other": 1},
        {"kind": "number", "mean": [1.0, 2.0], "scale": [1.0, 0.0]},
        {"kind": "number", "mean": [1.0, float("nan")], "scale": [1.0, 1.0]},
        {"kind": "number", "mean": [1.0], "scale": [1.0]},
        ["multi"],
    ],
)
def test_card__with_a_wrong_target_is_refused(values: object) -> None:
    with pytest.raises((ConfigError, ValueError, TypeError)):
        from_json(values).check(2)


def test_card__tells_what_was_found() -> None:
    for target in (CLASSES, SeveralClasses((0.25, 0.5)), Numbers((1.0, 2.0), (3.0, 4.0), "l2")):
        assert from_json(target.to_json()) == target
