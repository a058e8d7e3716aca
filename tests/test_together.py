"""Configurations trained at once end as each does alone; one that diverges leaves the others be."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import toy
from tests.tiny import backbone
from vitgraft.core.tuned import Tuned
from vitgraft.errors import TrainingError
from vitgraft.train import loop
from vitgraft.train.loop import Fitted
from vitgraft.train.settings import Training
from vitgraft.train.together import Stack

SETTINGS = Training(epochs=3, batch_size=9, device="cpu", weight_decay=1e-2, select="best", cache_precision="fp32")
RATES = (1e-3, 3e-3, 3e-2)
TRAIN, VAL = toy.split(20), toy.split(34, seed=5)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITGRAFT_CACHE", str(tmp_path))


def settings(**more: object) -> list[Training]:
    told = [replace(SETTINGS, lr=rate, **more) for rate in RATES]  # type: ignore[arg-type]
    return [*told, replace(told[0], weight_decay=0.5)]


def alone(method: str, one: Training) -> tuple[Tuned, Fitted]:
    model = toy.model(method)
    return model, loop.fit(model, TRAIN, VAL, one, preprocessing=toy.PREPROCESSING)


def at_once(method: str, told: list[Training]) -> tuple[list[Tuned], list[Fitted | TrainingError]]:
    frozen = backbone()
    models = [toy.model(method, frozen) for _ in told]
    return models, loop.fit_together(models, TRAIN, VAL, told, preprocessing=toy.PREPROCESSING)


@pytest.mark.parametrize("more", [{}, {"clip_norm": 0.1, "class_weights": "balanced"}, {"cache": "off"}])
@pytest.mark.parametrize("method", ["linear", "vqt:tokens=2", "vqt:tokens=2,summary=weighted"])
def test_fit_together__is_each_alone(method: str, more: dict[str, object]) -> None:
    told = settings(**more)
    models, fitted = at_once(method, told)
    for model, found, one in zip(models, fitted, told, strict=True):
        other, expected = alone(method, one)
        assert isinstance(found, Fitted)
        assert found.val is not None
        assert expected.val is not None
        assert (found.best_epoch, found.steps) == (expected.best_epoch, expected.steps)
        assert found.val.loss == pytest.approx(expected.val.loss, abs=1e-5)
        for mine, theirs in zip(found.history, expected.history, strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
            assert (mine["lr"], mine["val_top1"]) == (theirs["lr"], theirs["val_top1"])
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=2e-6)
            assert value.untyped_storage().nbytes() == value.nbytes, "it shares no memory with the others"


def test_fit_together__learning_rates_differ() -> None:
    models, _ = at_once("linear", settings())
    weights = [model.head.classifier.weight for model in models]
    assert all(not torch.equal(weights[0], other) for other in weights[1:])


def test_fit_together__shares_time_and_cache_among_all() -> None:
    _, fitted = at_once("vqt", settings())
    found = [one for one in fitted if isinstance(one, Fitted)]
    assert {one.cached.place for one in found} == {"disk"}
    assert len({one.cached.seconds for one in found}) == 1
    assert found[0].cached.size > 0


def test_fit_together__one_that_diverges_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [*settings(), replace(SETTINGS, lr=float("1e38"))]
    models, fitted = at_once("linear", told)
    assert [isinstance(one, Fitted) for one in fitted] == [True] * 4 + [False]
    assert "learning rate of" in str(fitted[-1])
    assert "finite" in str(fitted[-1])
    expected, _ = at_once("linear", settings())
    for model, other in zip(models, expected, strict=False):
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "mlp", "synqt"])
def test_stack__refuses_what_cannot_run_as_one(method: str) -> None:
    frozen = backbone()
    with pytest.raises(AssertionError, match="cannot run as one"):
        Stack([toy.model(method, frozen) for _ in range(2)])
