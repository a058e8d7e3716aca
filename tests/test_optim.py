"""Optimizers, learning rates and first values, ours and the published ones, against arithmetic and other code."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn

from tests import test_resume, toy
from vitgraft.core.tuned import Tuned
from vitgraft.data.transforms import evaluation
from vitgraft.train import loop
from vitgraft.train.initial import start
from vitgraft.train.optim import Schedule, adamw, optimizer_of
from vitgraft.train.settings import Training

HALF = math.sqrt(3) / 2  # the cosine of 30 degrees


def rates(steps: int = 1, **changes: Any) -> list[float]:
    """The rate of every step, epoch by epoch."""
    settings = Training(**{"epochs": 8, "warmup_epochs": 2, "lr": 1.0, "min_lr": 0.2, **changes})
    schedule = Schedule(settings, steps)
    return [schedule.at(epoch, step) for epoch in range(settings.epochs) for step in range(steps)]


def test_schedule__ours_by_hand() -> None:
    """The peak is reached in the last step of warm-up, and no step is spent at 0."""
    cosine = [1.0, (1 + HALF) / 2, 0.75, 0.5, 0.25, (1 - HALF) / 2]
    assert rates() == pytest.approx([0.5, 1.0] + [0.2 + 0.8 * value for value in cosine])
    by_step = rates(steps=3, epochs=2, warmup_epochs=1, min_lr=0.0)
    assert by_step == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 0.75, 0.25])


def test_schedule__by_epochs_is_one_rate_an_epoch() -> None:
    by_epoch = rates(steps=3, lr_changes="epoch")
    assert by_epoch[::3] == by_epoch[1::3] == by_epoch[2::3] == rates(steps=1)


def test_schedule__warmup_from_a_rate_by_hand() -> None:
    found = rates(warmup_epochs=4, warmup_lr=0.1, min_lr=0.0, lr=0.9)
    assert found[:5] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert rates(steps=2, warmup_lr=0.0)[:5] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_schedule__lags_by_whole_epochs() -> None:
    plain, late = rates(steps=2), rates(steps=2, lag_epochs=1)
    assert late[:2] == [plain[0]] * 2
    assert late[2:] == plain[:-2]


@pytest.mark.parametrize(("ahead", "lag"), [(0, 1), (1, 0)], ids=["NOAH and SPT", "SSF"])
def test_schedule__timms_stepped_behind_an_epoch(ahead: int, lag: int) -> None:
    """timm's scheduler, told the number of the epoch that is over (two wasted epochs) or of the next (one)."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    timms = CosineLRScheduler(optimizer, t_initial=100, lr_min=1e-5, warmup_t=10, warmup_lr_init=1e-6)
    expected = []
    for epoch in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        timms.step(epoch + ahead)
    found = rates(
        epochs=100,
        lr=1e-3,
        min_lr=1e-5,
        warmup_epochs=10,
        warmup_lr=1e-6,
        lr_changes="epoch",
        cosine="whole-run",
        lag_epochs=lag,
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_adamw__decays_matrices_alone_whatever_their_names() -> None:
    model = nn.Module()
    model.bias = nn.Parameter(torch.ones(2, 3))
    model.weight = nn.Parameter(torch.ones(3))
    model.scale = nn.Parameter(torch.ones(()))
    model.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    groups = adamw(model, lr=1e-3, weight_decay=0.1).param_groups
    found = [(group["weight_decay"], [tuple(value.shape) for value in group["params"]]) for group in groups]
    assert found == [(0.1, [(2, 3)]), (0.0, [(3,), ()])]


@pytest.mark.parametrize("decay", ["matrices", "timm", "all"])
def test_decay__acts_on_what_it_says(decay: Any) -> None:
    model = toy.model("full")
    groups = optimizer_of(model, Training(lr=1.0, weight_decay=0.1, decay=decay)).param_groups
    decayed = {id(value) for group in groups if group["weight_decay"] for value in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, value in model.named_parameters():
        token = value is model.values["cls_token"]
        expected = {"matrices": value.ndim > 1, "timm": value.ndim > 1 and not token, "all": True}
        assert (id(value) in decayed) == expected[decay], name


@pytest.mark.parametrize("decay", ["matrices", "timm", "all"])
def test_decay__of_a_model_whose_class_token_is_frozen(decay: Any) -> None:
    groups = optimizer_of(toy.model("lora"), Training(lr=1.0, weight_decay=0.1, decay=decay)).param_groups
    assert [group["weight_decay"] for group in groups] == ([0.1] if decay == "all" else [0.1, 0.0])


def moved(kind: Any, gradients: list[float], **changes: Any) -> float:
    """Where a value of 1 comes to by these gradients, one a step, at a rate of 0.1 and a decay of 0.5."""
    model = toy.model("linear")
    settings = Training(optimizer=kind, lr=0.1, weight_decay=0.5, decay="all", **changes)
    optimizer = optimizer_of(model, settings)
    weight = model.head.classifier.weight
    with torch.no_grad():
        weight.fill_(1.0)
    for gradient in gradients:
        for value in model.parameters():
            value.grad = torch.full_like(value, gradient)
        optimizer.step()
    return float(weight.detach()[0, 0])


def test_optimizers__take_the_steps_of_their_formulas() -> None:
    # SGD: v1 = 1 + 0.5, w1 = 0.85; v2 = 0.9 v1 + 1 + 0.5 w1, w2 = w1 - 0.1 v2; nothing is dampened.
    assert moved("sgd", [1.0, 1.0]) == pytest.approx(0.85 - 0.1 * (1.35 + 1.425))
    assert moved("sgd", [1.0], momentum=0.0) == pytest.approx(0.85)
    # Adam's first step is the sign of gradient and decay together, AdamW's that of the gradient, beside the decay.
    assert moved("adam", [-0.4]) == pytest.approx(0.9, abs=1e-6)
    assert moved("adamw", [-0.4]) == pytest.approx(0.95 + 0.1, abs=1e-6)


def begun(method: str, **changes: Any) -> Tuned:
    model = toy.model(method)
    start(model, Training(device="cpu", **changes))
    return model


def test_start__leaves_the_plans_own_values() -> None:
    for method in ("lora", "adapter"):
        plain, found = toy.model(method).state_dict(), begun(method).state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in found.items())


@pytest.mark.parametrize("method", ["linear", "mlp", "vqt", "synqt", "lst", "bias"])
def test_start__classifiers_as_published(method: str) -> None:
    model = toy.model(method, classes=50)
    start(model, Training(head_init="kaiming"))
    classifier = model.head.classifier
    assert float(classifier.weight.detach().std()) == pytest.approx(math.sqrt(2 / 50), rel=0.05)
    assert classifier.bias.tolist() == pytest.approx([-math.log(99)] * 50)
    start(model, Training(head_init="uniform"))
    bound = classifier.in_features**-0.5
    for value in (classifier.weight, classifier.bias):
        assert 0.8 * bound < float(value.detach().abs().max()) <= bound
        assert abs(float(value.detach().mean())) < 0.2 * bound


def test_start__depends_on_the_seed_alone() -> None:
    first, again = begun("linear", head_init="kaiming"), begun("linear", head_init="kaiming")
    other = begun("linear", head_init="kaiming", seed=1)
    weights = [model.head.classifier.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_start__noise_in_grafts_as_in_noahs_code(method: str) -> None:
    model = begun(method, legacy_init=True)
    values = dict(model.grafts.named_parameters())
    matrices = torch.cat([value.flatten() for value in values.values() if value.ndim > 1])
    assert float(matrices.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not any(value.any() for value in values.values() if value.ndim == 1)
    assert torch.equal(model.head.classifier.weight, toy.model(method).head.classifier.weight)
    images = evaluation(toy.PREPROCESSING)(toy.split(1).images[0])[None]
    assert not torch.allclose(model(images), toy.model(method)(images))


PUBLISHED = replace(
    test_resume.EVERY_STEP,
    optimizer="sgd",
    decay="all",
    lr=0.05,
    warmup_lr=0.0,
    lr_changes="epoch",
    cosine="whole-run",
    lag_epochs=1,
    head_init="kaiming",
    legacy_init=True,
)


def test_fit__goes_on_bit_for_bit_with_published_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = test_resume.train("lora", None, PUBLISHED)
    with monkeypatch.context() as patched:
        patched.setattr(*test_resume._bomb("os.replace"))
        with pytest.raises(test_resume.Killed):
            test_resume.train("lora", tmp_path, PUBLISHED)
    test_resume.assert_same(test_resume.train("lora", tmp_path, PUBLISHED), expected, tmp_path)
    assert [entry["lr"] for entry in expected[0].history[:2]] == [0.0, 0.0]


def test_fit__an_epoch_at_a_rate_of_0_changes_nothing() -> None:
    model = toy.model("linear")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = Training(epochs=3, batch_size=10, lr=0.1, warmup_epochs=1, warmup_lr=0.0, lr_changes="epoch")
    loop.fit(model, toy.split(), None, replace(settings, device="cpu"), preprocessing=toy.PREPROCESSING)
    after = model.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    model.load_state_dict(before)
    wasted = replace(settings, lag_epochs=2, device="cpu")
    loop.fit(model, toy.split(), None, wasted, preprocessing=toy.PREPROCESSING)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
