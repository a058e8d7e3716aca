"""The training loop: what a step computes, what an epoch sees, what is kept, and every sentence it fails with."""

import io
import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests import tiny, toy
from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.plan import Plan
from vitgraft.core.tuned import Tuned
from vitgraft.data.pictures.decode import read_image
from vitgraft.data.task import Split
from vitgraft.data.transforms import evaluation
from vitgraft.errors import ConfigError, DataError, TrainingError, VitgraftError
from vitgraft.heads.linear import LinearHead
from vitgraft.machine import placement
from vitgraft.train import loop, prepared
from vitgraft.train.batches import Layout, in_order
from vitgraft.train.loop import Fitted, evaluate, fit, predict
from vitgraft.train.metrics import Tally
from vitgraft.train.objective import Objective, balanced_weights
from vitgraft.train.settings import Training

CPU = torch.device("cpu")
SHORT = Training(epochs=2, batch_size=10, lr=3e-3, device="cpu")


def trained(model: Tuned, settings: Training = SHORT, **keywords: Any) -> tuple[Fitted, dict[str, Tensor]]:
    """The result of training on the toy task, and the values that came out."""
    train = keywords.pop("train", toy.split())
    val = keywords.pop("val", None)
    fitted = fit(model, train, val, settings, preprocessing=toy.PREPROCESSING, **keywords)
    return fitted, {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor], atol: float = 0.0) -> bool:
    """True if two models hold the same values, bit for bit unless a tolerance is given."""
    assert first.keys() == second.keys()
    if atol:
        return all(torch.allclose(value, second[name], atol=atol, rtol=0) for name, value in first.items())
    return all(torch.equal(value, second[name]) for name, value in first.items())


# Batches, loss, metrics


@pytest.mark.parametrize(
    ("n", "batch", "processes", "least", "sizes"),
    [
        (10, 4, 1, 1, [4, 4, 2]),
        (9, 4, 1, 1, [4, 4, 1]),
        (9, 4, 1, 2, [4, 5]),
        (15, 4, 2, 2, [4, 4, 7]),
        (3, 64, 1, 2, [3]),
        (8, 4, 1, 1, [4, 4]),
        (11, 10, 3, 1, [11]),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_layout__drops_no_image_and_makes_no_tiny_part(
    n: int, batch: int, processes: int, least: int, sizes: list[int], accumulate: int
) -> None:
    layout = Layout(n, batch, 1, accumulate, processes, least)
    batches = layout.epoch(0)
    assert [len(one) for one in batches] == sizes
    assert layout.steps == len(sizes)
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    for one in batches:
        shares = [layout.shares(one, rank) for rank in range(processes)]
        assert len({len(parts) for parts in shares}) == 1, (
            "processes that take another number of turns wait forever"
        )
        assert len(shares[0]) <= accumulate
        assert min(len(part) for parts in shares for part in parts) >= least


def test_layout__order_depends_on_seed_and_epoch_alone() -> None:
    layout = Layout(50, 10, seed=1)
    first, again = torch.cat(layout.epoch(3)), torch.cat(Layout(50, 10, seed=1).epoch(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat(layout.epoch(4)))
    assert not torch.equal(first, torch.cat(Layout(50, 10, seed=2).epoch(3)))


def test_layout__processes_share_every_batch() -> None:
    layout = Layout(23, 8, seed=0, accumulate=2, processes=2)
    for batch in layout.epoch(0):
        shared = [part for rank in range(2) for part in layout.shares(batch, rank)]
        assert sorted(torch.cat(shared).tolist()) == sorted(batch.tolist())
    dealt = [part for rank in range(3) for part in in_order(7, 2, rank, 3)]
    assert sorted(torch.cat(dealt).tolist()) == list(range(7))
    assert in_order(1, 4, rank=2, processes=3) == []


def test_layout__too_few_images_for_the_processes() -> None:
    with pytest.raises(DataError, match=r"A step has 3 images .* each of 4 processes needs at least one image\."):
        Layout(3, 64, seed=0, processes=4)
    with pytest.raises(DataError, match=r"at least 2 images \(the model has a BatchNorm"):
        Layout(9, 1, seed=0, least=2)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 0.0])])
def test_objective__parts_add_up_to_torchs_mean(weights: Tensor | None) -> None:
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 1, 0, 1, 1, 0])
    objective = Objective(weights, smoothing=0.1)
    first, rest = objective(logits[:3], labels[:3]), objective(logits[3:], labels[3:])
    expected = nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1)
    assert torch.allclose((first + rest) / objective.mass(labels), expected)


def test_balanced_weights__as_computed_by_hand() -> None:
    found = balanced_weights(torch.tensor([0, 0, 0, 1]), 3)
    assert found.tolist() == pytest.approx([4 / 9, 4 / 3, 0.0])


def test_tally__as_computed_by_hand() -> None:
    logits = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]])
    labels = torch.tensor([0, 0, 1, 2])
    tally = Tally(4, CPU)
    tally.add(logits, labels)
    found = tally.metrics()
    assert (found.top1, found.top5, found.n) == (75.0, None, 4)
    assert found.mean_per_class == pytest.approx(100 * (0.5 + 1 + 1) / 3)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))


def test_tally__sums_of_processes_are_the_whole() -> None:
    logits, labels = torch.randn(31, 8), torch.randint(8, (31,))
    whole, parts = Tally(8, CPU), [Tally(8, CPU) for _ in range(3)]
    whole.add(logits, labels)
    for rank, part in enumerate(parts):
        part.add(logits[rank::3], labels[rank::3])
    parts[0].sums += parts[1].sums + parts[2].sums
    expected, found = whole.metrics(), parts[0].metrics()
    in_top = (logits.argsort(1, descending=True)[:, :5] == labels[:, None]).any(1)
    assert found.top5 == pytest.approx(100 * float(in_top.float().mean()))
    assert (found.top1, found.mean_per_class, found.n) == (expected.top1, expected.mean_per_class, 31)
    assert found.loss == pytest.approx(expected.loss)


# Training


def test_fit__learns_and_leaves_everything_else_alone(tmp_path: Path) -> None:
    frozen = tiny.backbone()
    model = toy.model("lora", frozen)
    before, train, val = frozen.fingerprint(), toy.split(40), toy.split(21, seed=1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    fitted, _ = trained(model, replace(SHORT, epochs=5), train=train, val=val, out=tmp_path)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert frozen.fingerprint() == before
    assert not model.training
    assert fitted.val is not None
    assert fitted.val.top1 > 80, "20 steps must beat chance (33 %)"
    assert fitted.val == evaluate(model, val, toy.PREPROCESSING, device="cpu")
    assert (fitted.steps, fitted.stopped_early) == (20, False)
    assert fitted.images_per_second is not None
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == list(fitted.history)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]


def test_fit__first_log_entry_is_what_torch_computes() -> None:
    model = toy.model("linear")
    train = toy.split(10)
    images = torch.stack([evaluation(toy.PREPROCESSING)(train.images[index]) for index in range(10)])
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(images), torch.from_numpy(train.labels))
    fitted, _ = trained(model, replace(SHORT, epochs=1), train=train)
    assert fitted.history[0]["train_loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"class_weights": "balanced", "label_smoothing": 0.1, "clip_norm": 0.05}])
def test_fit__accumulation_equals_the_big_batch(changes: dict[str, Any]) -> None:
    train = toy.split(24)
    train = Split(train.images, np.where(np.arange(24) < 15, 0, train.labels))
    settings = replace(SHORT, batch_size=11, epochs=3, **changes)
    whole, expected = trained(toy.model(), settings, train=train)
    parts, found = trained(toy.model(), replace(settings, accumulate=3), train=train)
    assert same(found, expected, atol=2e-5)
    assert not same(expected, toy.model().state_dict(), atol=1e-3)
    for first, second in zip(whole.history, parts.history, strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-4)


def test_fit__same_seed_same_values() -> None:
    settings = replace(SHORT, epochs=1)
    _, first = trained(toy.model("vpt-deep"), settings)
    torch.rand(3), np.random.rand(3), random.random()
    _, again = trained(toy.model("vpt-deep"), settings)
    _, other = trained(toy.model("vpt-deep"), replace(settings, seed=1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize(
    "changes",
    [
        {"clip_norm": 1e-3},
        {"class_weights": "balanced"},
        {"label_smoothing": 0.3},
        {"weight_decay": 1.0},
        {"lr": 1e-4},
        {"warmup_epochs": 1.0},
        {"min_lr": 1e-3},
        {"precision": "bf16"},
        {"augment": "crop-flip"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_fit__every_setting_changes_the_result(changes: dict[str, Any]) -> None:
    train = toy.split(19)
    settings = replace(SHORT, epochs=2)
    _, plain = trained(toy.model("bias"), settings, train=train)
    model = toy.model("bias")
    _, changed = trained(model, replace(settings, **changes), train=train)
    assert not same(plain, changed)
    assert all(value.dtype is torch.float32 for value in model.parameters())
    assert all(value.isfinite().all() for value in changed.values())


def test_fit__in_fp32_where_there_is_no_bf16(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A processor that only emulates bf16 would take ten times as long with it."""
    _, plain = trained(toy.model("bias"), SHORT)
    monkeypatch.setattr(placement, "computes_bf16", lambda device: False)
    _, asked = trained(toy.model("bias"), replace(SHORT, precision="bf16"))
    assert same(plain, asked)
    assert "no bf16 arithmetic" in capsys.readouterr().err


def test_fit__recipe_fills_what_settings_leave_open() -> None:
    recipe = replace(loop.DEFAULT, lr=7e-3, weight_decay=0.3)
    _, filled = trained(toy.model(), replace(SHORT, lr=None), recipe=recipe)
    _, explicit = trained(toy.model(), replace(SHORT, lr=7e-3, weight_decay=0.3))
    assert same(filled, explicit)


def test_fit__checkpointing_computes_the_same_and_is_undone() -> None:
    model = toy.model("vpt-deep")
    _, kept = trained(toy.model("vpt-deep"))
    _, twice = trained(model, replace(SHORT, recompute="block"))
    assert same(kept, twice, atol=2e-4)
    assert model.recompute == "none"


def test_fit__images_read_on_demand_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, kept = trained(toy.model())
    monkeypatch.setattr(prepared, "MEMORY_LIMIT", 0)
    _, on_demand = trained(toy.model())
    assert same(kept, on_demand)


def test_fit__workers_do_not_change_the_result() -> None:
    settings = replace(SHORT, augment="inception", epochs=2)
    _, alone = trained(toy.model(), settings, train=toy.split(20))
    _, helped = trained(toy.model(), replace(settings, workers=2), train=toy.split(20))
    assert same(alone, helped)


def test_fit__batchnorm_survives_a_last_batch_of_one() -> None:
    model = toy.model("mlp")
    fitted, values = trained(model, train=toy.split(21))
    assert fitted.steps == 4
    assert values["head.hidden.2.num_batches_tracked"] == 4, "the probe must leave the statistics alone"


@pytest.mark.parametrize("n", [1, 3])
def test_fit__batch_size_above_n_is_one_batch(n: int) -> None:
    fitted, _ = trained(toy.model(), replace(SHORT, batch_size=64), train=toy.split(n))
    assert fitted.steps == 2


# Selection


def worse_and_worse() -> Split:
    """A validation split that a model does the worse on the better it learns."""
    return toy.split(30, seed=2, shift=1)


def test_select__best_keeps_the_values_of_that_epoch() -> None:
    train, val = toy.split(), worse_and_worse()
    settings = replace(SHORT, epochs=4, select="best")
    best_model, last_model = toy.model(), toy.model()
    best, _ = trained(best_model, settings, train=train, val=val)
    last, _ = trained(last_model, replace(settings, select="last"), train=train, val=val)
    tops = [(entry["val_top1"], -entry["val_loss"]) for entry in best.history]
    assert best.best_epoch == last.best_epoch == tops.index(max(tops)) + 1 < 4
    assert best.val == evaluate(best_model, val, toy.PREPROCESSING, device="cpu")
    assert last.val == evaluate(last_model, val, toy.PREPROCESSING, device="cpu")
    assert best.val is not None
    assert last.val is not None
    assert best.val.loss == best.history[best.best_epoch - 1]["val_loss"]
    assert best.val.loss < last.val.loss


def test_patience__stops_after_so_many_epochs_without_a_better_one() -> None:
    fitted, _ = trained(toy.model(), replace(SHORT, epochs=20, patience=2), val=worse_and_worse())
    assert fitted.stopped_early
    assert fitted.best_epoch is not None
    assert len(fitted.history) == fitted.best_epoch + 2 < 20


# The probe


class Unread(LinearHead):
    """A head with a value that no logit depends on."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.forgotten = nn.Parameter(torch.ones(2))


class Writing(LinearHead):
    """A head that writes to the backbone."""

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        if self.training:
            next(backbone.model.parameters()).data.add_(1e-3)
        return super().forward(features, backbone)


class Infinite(LinearHead):
    """A head whose logits are not finite."""

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        return super().forward(features, backbone) * math.inf


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Unread, "head.forgotten would never learn"),
        (Writing, "weights of the backbone plain changed"),
        (Infinite, "gradient of head.classifier.weight, head.classifier.bias is not finite"),
    ],
)
def test_probe__finds_what_is_wrong_before_training(head: type[LinearHead], message: str, tmp_path: Path) -> None:
    frozen = tiny.backbone()
    model = Tuned(frozen, Plan(head(frozen.width, toy.CLASSES)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match=message):
        trained(model, out=tmp_path)
    assert same(before, model.state_dict())
    assert all(value.grad is None for value in model.parameters())
    assert not (tmp_path / "snapshot.pt").exists()


# Sentences


def test_loss__not_finite_stops_and_keeps_the_snapshot(tmp_path: Path) -> None:
    settings = replace(SHORT, lr=1e36, epochs=3, snapshot_seconds=0.0)
    with pytest.raises(
        TrainingError, match=r"no longer finite in epoch \d of 3, at a learning rate of .* lower lr"
    ):
        trained(toy.model("full"), settings, out=tmp_path)
    kept = torch.load(tmp_path / "snapshot.pt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"batch_size": True}, "batch_size=True"),
        ({"lr": 0}, "lr=0: expected a number above 0"),
        ({"lr": "1e-3"}, "lr='1e-3': expected a number"),
        ({"lr": math.nan}, "lr=nan"),
        ({"lr": math.inf}, "lr=inf"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: expected a number at least 0 and below 1"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"precision": "fp16"}, "precision='fp16' is not known. Known: fp32, bf16"),
        ({"select": "first"}, "select='first'"),
        ({"class_weights": "some"}, "class_weights='some'"),
        ({"patience": 0}, "patience=0"),
        ({"recompute": "yes"}, "recompute='yes'"),
        ({"warmup_epochs": 30}, "warmup_epochs=30 leaves none of 30 epochs"),
        ({"lr": 1e-3, "min_lr": 1e-2}, "min_lr=0.01 is above lr=0.001"),
        ({"accumulate": 65}, "accumulate=65 cuts 64 images"),
        ({"device": "gpu"}, "device='gpu' is not known"),
        ({"augment": "flop"}, "There is no augmentation 'flop'. Did you mean 'flip'"),
        ({"seed": -1}, "seed=-1"),
        ({"optimizer": "adagrad"}, "optimizer='adagrad' is not known. Known: adamw, adam, sgd"),
        ({"momentum": 1.0}, "momentum=1.0: expected a number at least 0 and below 1"),
        ({"lr": 1e-3, "warmup_lr": 1e-2}, "warmup_lr=0.01 is above lr=0.001"),
        ({"lag_epochs": 30}, "lag_epochs=30 leaves none of 30 epochs"),
    ],
)
def test_settings__say_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Training(**change)
    assert message in str(caught.value)


def test_settings__every_key_has_help() -> None:
    assert all(item.metadata["help"] for item in Training.__dataclass_fields__.values())


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"train": toy.split(0)}, DataError, "The train split is empty"),
        ({"val": toy.split(0)}, DataError, "The val split is empty"),
        (
            {"train": toy.split(9), "classes": 2},
            DataError,
            r"3 train images have a label outside 0 to 1, such as 'toy\[2\]' with 2",
        ),
        ({"select": "best"}, ConfigError, "select='best' needs a validation split"),
        ({"patience": 1}, ConfigError, "patience needs a validation split"),
        ({"device": "cuda:63"}, ConfigError, "device='cuda:63': torch finds"),
        ({"batch_size": 1, "method": "mlp"}, DataError, "at least 2 images"),
    ],
)
def test_fit__says_what_does_not_fit(arguments: dict[str, Any], kind: type[VitgraftError], message: str) -> None:
    model = toy.model(arguments.pop("method", "lora"), classes=arguments.pop("classes", toy.CLASSES))
    splits = {name: arguments.pop(name) for name in ("train", "val") if name in arguments}
    with pytest.raises(kind, match=message):
        trained(model, replace(SHORT, **arguments), **splits)


class Broken:
    """Images of which one is no image."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Image.Image:
        if index == 7:
            return read_image(b"no picture", "album/seven.png")
        return toy.split(20).images[index]

    def name(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize("changes", [{}, {"augment": "flip"}, {"augment": "flip", "workers": 1}])
def test_fit__names_a_broken_image(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"^Cannot read image 'album/seven.png'"):
        trained(toy.model(), replace(SHORT, **changes), train=Split(Broken(), toy.split(20).labels))


# Measuring and asking


def test_predict__gives_probabilities_of_each_picture_in_turn() -> None:
    model, task = toy.model(), toy.split(10)
    trained(model)
    found = predict(model, (task.images[i] for i in range(10)), toy.PREPROCESSING, batch_size=4, device="cpu")
    assert found.shape == (10, toy.CLASSES)
    assert torch.allclose(found.sum(1), torch.ones(10))
    alone = torch.cat([predict(model, [task.images[i]], toy.PREPROCESSING, device="cpu") for i in range(10)])
    assert torch.allclose(found, alone, atol=1e-6)
    metrics = evaluate(model, task, toy.PREPROCESSING, batch_size=3, device="cpu")
    hits = found.argmax(1) == torch.from_numpy(task.labels)
    assert metrics.top1 == pytest.approx(100 * float(hits.float().mean()))
    assert metrics.loss == pytest.approx(float(-found[range(10), task.labels].log().mean()), abs=1e-5)
    assert predict(model, [], toy.PREPROCESSING, device="cpu").shape == (0, toy.CLASSES)


def test_evaluate__leaves_the_mode_and_refuses_an_empty_split() -> None:
    model = toy.model("mlp").train()
    evaluate(model, toy.split(1), toy.PREPROCESSING, device="cpu")
    assert model.training
    with pytest.raises(DataError, match="split is empty"):
        evaluate(model, toy.split(0), toy.PREPROCESSING, device="cpu")


# What a person sees


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_display__a_line_an_epoch_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    trained(toy.model(), val=toy.split(9, seed=3))
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "val loss" in lines[0]
    assert "img/s" in lines[0]


def test_display__a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    trained(toy.model())
    assert "8/8" in screen.getvalue()
    assert "epoch 2/2" in screen.getvalue()
