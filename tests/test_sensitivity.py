"""Sensitivity: sums of squared batch gradients, what they hold in memory, the file, the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import vitgraft
from tests import toy
from tests.tiny import backbone, vit
from vitgraft import methods
from vitgraft.cli import app
from vitgraft.core.backbone import Backbone
from vitgraft.errors import ArtefactError, TrainingError
from vitgraft.machine.placement import Placement
from vitgraft.search.sensitivity import Sensitivity, read, write
from vitgraft.train import gradients as sensitivity
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.gradients import Look, squared_gradients
from vitgraft.train.settings import Training

HERE = Placement(torch.device("cpu"))


class Pictures:
    """A feed of tensors."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def stream(self, chunks):  # type: ignore[no-untyped-def]
        for _, index in chunks:
            yield self.images[index]


def look(frozen: Backbone, options: Look, scale: float = 1.0, n: int = 12) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = toy.model("linear", frozen)
    images = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.head.classifier.weight.mul_(scale)
    return squared_gradients(model, Pictures(images), torch.arange(n) % 3, options, HERE)  # type: ignore[arg-type]


def test_sums__are_those_of_plain_autograd() -> None:
    """Σ_b (∂ mean loss of batch b)², through timm's own forward pass."""
    frozen, options = backbone(), Look(images=10, batch=4)
    found = look(frozen, options)
    plain, probe = vit(), toy.model("linear", frozen).head.classifier
    images = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = {name: torch.zeros_like(value) for name, value in plain.named_parameters()}
    batches = options.batches(12)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    for batch in batches:
        features = plain.forward_head(plain.forward_features(images[batch]), pre_logits=True)
        loss = torch.nn.functional.cross_entropy(probe(features), batch % 3)
        grads = torch.autograd.grad(loss, list(plain.parameters()))
        for total, grad in zip(expected.values(), grads, strict=True):
            total += grad.square()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-8)
    assert not any(value.requires_grad for value in frozen.parameters())


def test_sums__do_not_depend_on_the_order_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, options = backbone(), Look(images=12, batch=4)
    found, order = look(frozen, options), options.batches(12)
    monkeypatch.setattr(Look, "batches", lambda self, n: order[::-1])
    again = look(frozen, options)
    for name, value in found.items():
        torch.testing.assert_close(again[name], value, rtol=1e-5, atol=1e-9)


def test_sums__are_the_same_each_time_and_drop_path_is_seeded() -> None:
    frozen = backbone()
    plain, again = look(frozen, Look(8, 4)), look(frozen, Look(8, 4))
    assert all(torch.equal(value, again[name]) for name, value in plain.items())
    dropped, same = look(frozen, Look(8, 4, 0.5)), look(frozen, Look(8, 4, 0.5))
    assert all(torch.equal(value, same[name]) for name, value in dropped.items())
    assert not torch.equal(dropped["blocks.2.mlp.fc1.weight"], plain["blocks.2.mlp.fc1.weight"])


def test_sums__that_are_not_finite_are_told() -> None:
    with pytest.raises(TrainingError, match="are not finite"):
        look(backbone(), Look(4, 4), scale=float("nan"))


def test_memory__holds_one_gradient_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No parameter still has a gradient when the next one's hook runs."""
    there: list[Tensor] = []
    most = 0
    plain = sensitivity._squaring

    def watched(*arguments: Any) -> Callable[[Tensor], None]:
        square = plain(*arguments)

        def hook(value: Tensor) -> None:
            nonlocal most
            there.append(value)
            most = max(most, sum(one.grad is not None for one in there))
            square(value)

        return hook

    monkeypatch.setattr(sensitivity, "_squaring", watched)
    look(backbone(), Look(8, 8))
    assert most == 1


def test_file__is_read_on_its_own_backbone_alone(tmp_path: Path) -> None:
    frozen, path = backbone(), tmp_path / "s.safetensors"
    scores = look(frozen, Look(4, 4))
    write(path, Sensitivity(scores, frozen.name, frozen.fingerprint(), {"task": "toy"}))
    again = read(path, frozen)
    assert again.origin == {"task": "toy"}
    assert all(torch.equal(value, again.scores[name]) for name, value in scores.items())
    with pytest.raises(ArtefactError, match=r"holds the sensitivity of plain .* Make one for it"):
        read(path, backbone("qk_norm"))
    path.write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match="is no sensitivity that can be read"):
        read(path, frozen)


def test_file__serves_every_budget_and_both_kinds(tmp_path: Path) -> None:
    frozen, path = backbone(), tmp_path / "s.safetensors"
    settings = Training(device="cpu")
    calibrator = Calibrator(methods.parse("spt-lora"), frozen, 3, toy.split(24), toy.PREPROCESSING, settings)
    torch.manual_seed(0)
    method = methods.parse("spt-lora:budget=2k")
    write(path, Sensitivity(method.scores(frozen, 3, calibrator), frozen.name, frozen.fingerprint()))  # type: ignore[attr-defined]
    torch.manual_seed(0)
    expected = method.find(frozen, 3, calibrator)
    found = methods.parse(f"spt-lora:budget=2k,sensitivity={path}").find(frozen, 3, calibrator)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    for spec in ("spt-lora:budget=3k,rank=2", "spt-adapter:budget=1k,rank=1"):
        assert methods.parse(f"{spec},sensitivity={path}").find(frozen, 3, calibrator)


def test_command__writes_scores_and_a_record_and_draws_the_map(tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    arguments = ["sensitivity", "digits", "--out", str(out), "--budgets", "5k,20k", "--device", "cpu"]
    arguments += ["--method", "spt-lora:images=16,batch=8"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "of 20,000 asked for" in done.output
    assert "blocks.0.attn.qkv.weight" in load_file(out)
    record = json.loads(out.with_suffix(".json").read_text())
    assert [one["budget"] for one in record["patterns"]] == [5_000, 20_000]
    for one in record["patterns"]:
        rows = one["rows"]
        assert sum(row["trained"] for row in rows) <= one["met"] <= one["budget"]
        assert sum(row["chosen"] for row in rows) == one["level"]
        assert {"block", "operation", "kind", "values", "form", "score"} <= rows[0].keys()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "is there already" in again.output
    other = CliRunner().invoke(
        app, ["sensitivity", "digits", "--out", str(tmp_path / "t.safetensors"), "--method", "lora"]
    )
    assert "has no sensitivity" in other.output
    model = vitgraft.load_backbone("figures")
    assert read(out, model).origin["task"] == "digits"
