"""SPT: the published model's numbers, choices that follow the data, files that serve every budget."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import vitgraft
from tests import toy
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError
from vitgraft.grafts.low_rank import LowRank
from vitgraft.grafts.sparse import NormDelta, SparseDelta
from vitgraft.methods.base import amount
from vitgraft.methods.spt import AUTO, Spt, SptAdapter, SptLora
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.settings import Training

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "spt_lora_d48.pt"
SETTINGS = Training(epochs=1, batch_size=10, device="cpu")


def graft(spec: str, **more: Any) -> vitgraft.Model:
    given = {"data": toy.split(24), "settings": SETTINGS, "preprocessing": toy.PREPROCESSING, **more}
    return vitgraft.graft(vit(), spec, toy.CLASSES, **given)


@pytest.mark.parametrize(
    ("text", "count"), [("0.4M", 400_000), ("250k", 250_000), ("77", 77), (5, 5), ("1M", 10**6)]
)
def test_budget__is_read(text: int | str, count: int) -> None:
    assert amount(text) == count


def test_budget__what_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'4G' is no number of values\. Write 400000, 400k or 0\.4M"):
        graft("spt-lora:budget=4G")
    with pytest.raises(ConfigError, match="pays for nothing: 24 are trained anyway"):
        graft("spt-lora:budget=24")
    with pytest.raises(ConfigError, match="score='gradiant' is not known"):
        graft("spt-lora:score=gradiant")


def golden_model(golden: dict[str, Any], folder: Path) -> tuple[Tuned, dict[str, Tensor]]:
    """The published model as ours, its selection read from a file as the authors write it; and its state."""
    config, state = golden["config"], golden["state_dict"]
    model = VisionTransformer(
        img_size=config["img"], patch_size=config["patch"], embed_dim=config["dim"], depth=config["depth"],
        num_heads=config["heads"], num_classes=0,
    )  # fmt: skip
    fused = {name: fused_value(name, state) for name in model.state_dict()}
    model.load_state_dict(fused, strict=True)
    frozen = wrap(model, "golden")
    info, width, rank = golden["param_info"], config["dim"], config["lora_rank"]
    costs = [rank * 2 * width] * 4 + [rank * 5 * width] * 2
    modules = sum(cost for row in info["tuned_matrices"] for cost, flag in zip(costs, row, strict=True) if flag)
    vectors = sum(state[name].numel() for name in info["tuned_vectors"])
    total = modules + vectors + len(info["unstructured_indexes"]) + width
    torch.save({**info, "params": torch.tensor(total / 1e6)}, folder / "mask.pth")
    method = SptLora(rank=config["lora_rank"], mask=str(folder / "mask.pth"))
    findings = method.find(frozen, config["classes"], None)  # type: ignore[arg-type]
    return Tuned(frozen, method.plan(frozen, config["classes"], findings)).eval(), state


def fused_value(name: str, state: dict[str, Tensor]) -> Tensor:
    head, middle, kind = name.partition(".qkv.")
    return torch.cat([state[f"{head}.{one}.{kind}"] for one in "qkv"]) if middle else state[name]


def published_name(site: tuple[int, str]) -> str:
    block, place = site
    return f"blocks.{block}.{'mlp' if place.startswith('fc') else 'attn'}"


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the published numbers lie beside the checkout, not in it")
def test_golden__logits_and_gradients(tmp_path: Path) -> None:
    golden = torch.load(GOLDEN, weights_only=True)
    tuned, state = golden_model(golden, tmp_path)
    found: dict[str, Tensor] = {
        "head.weight": tuned.head.classifier.weight,
        "head.bias": tuned.head.classifier.bias,
    }
    for site, grafts in tuned.plan.grafts.items():
        where, place = published_name(site), site[1]
        for one in grafts:
            if isinstance(one, LowRank):
                found[f"{where}.structured_{place}.learnable.0.weight"] = one.down
                found[f"{where}.structured_{place}.learnable.1.weight"] = one.up
            elif isinstance(one, SparseDelta):
                if one.values is not None:
                    found[f"{where}.{place}.sparse_weight"] = one.values
                if one.bias is not None and one.bias.index is not None:
                    found[f"{where}.{place}.sparse_bias"] = one.bias.values
    with torch.no_grad():
        for name, value in found.items():
            value.copy_(state[name])
    trained = {name for name in golden["trainable"] if "sparse" in name or "structured" in name or "head" in name}
    assert trained == found.keys()
    logits = tuned(golden["input"])
    torch.testing.assert_close(logits, golden["logits"], rtol=0, atol=1e-5)
    torch.nn.functional.cross_entropy(logits, golden["labels"]).backward()
    expected = golden["grads_eval_mode"]
    for name, value in found.items():
        assert value.grad is not None
        torch.testing.assert_close(value.grad, expected[name], rtol=0, atol=1e-5, msg=name)
    whole = {(0, "norm1"): ("scale", "blocks.0.norm1.weight"), (3, "norm"): ("shift", "norm.bias")}
    for site, (part, name) in whole.items():
        (norm,) = tuned.plan.grafts[site]
        assert isinstance(norm, NormDelta)
        torch.testing.assert_close(getattr(norm, part).values.grad, expected[name], rtol=0, atol=1e-5)
    plain = tuned.merge()
    with torch.no_grad():
        torch.testing.assert_close(plain(golden["input"]), golden["logits"], rtol=0, atol=1e-5)


def test_choice__follows_the_gradients() -> None:
    """An entry whose gradient is largest is chosen first; one without any is not."""
    frozen, method = backbone(), methods.parse("spt-lora:budget=400,rank=2")
    assert isinstance(method, Spt)
    values = {name: torch.zeros_like(frozen.parameter(name)) for name in frozen.parameter_names()}
    values["blocks.1.attn.qkv.weight"][24 + 5, 7] = 9.0  # k, row 5
    values["blocks.2.mlp.fc2.weight"][3] = 1.0
    values["norm.weight"][:] = 2.0
    (found,) = method.spend(frozen, values, [24 + 1 + 24 + 10])
    forms = {found.candidates[number].name: found.form(number) for number in range(len(found.candidates))}
    assert {name for name, form in forms.items() if form != "frozen"} == {
        "1:k:weight",
        "2:fc2:weight",
        "3:norm:weight",
    }
    assert forms["3:norm:weight"] == "whole"
    (k,) = (index for number, index in found.sparse.items() if found.candidates[number].name == "1:k:weight")
    assert k.tolist() == [5 * 24 + 7]


def test_choice__is_the_same_each_time_and_differs_by_seed() -> None:
    first, again, other = (graft("spt-lora:budget=2k", seed=seed).findings for seed in (0, 0, 1))
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["counts"], other["counts"])


@pytest.mark.parametrize("score", ["gradient", "fisher", "magnitude", "random"])
def test_scores__of_every_kind_fill_the_budget(score: str) -> None:
    model = graft(f"spt-lora:budget=2k,score={score},rank=2")
    assert 1_500 < model.tuned.trained_values().method <= 2_000


def test_merge__changes_the_chosen_values_alone() -> None:
    model = graft("spt-lora:budget=300")
    tuned, frozen = model.tuned, model.backbone
    assert not any(isinstance(one, LowRank) for grafts in tuned.plan.grafts.values() for one in grafts)
    with perturbed(tuned, scale=0.1):
        plain = tuned.merge()
        pictures = images(frozen)
        torch.testing.assert_close(plain(pictures), tuned.eval()(pictures), rtol=1e-4, atol=1e-5)
    names = frozen.parameter_names()
    changed = sum(int((plain.get_parameter(name) != frozen.parameter(name)).sum()) for name in names)
    assert changed == tuned.trained_values().method <= 300


def test_told__is_a_map_of_blocks_and_operations() -> None:
    model = graft("spt-lora:budget=2k,rank=2")
    lines = model.method.told(model.backbone, model.findings)
    assert lines[0].split() == ["block", "norm1", "q", "k", "v", "proj", "norm2", "fc1", "fc2", "norm"]
    assert len(lines) == 1 + 4 + 3
    count = model.tuned.trained_values().method
    assert lines[-1].startswith(f"{count:,} values of 2,000 asked for")


@pytest.mark.parametrize(("budget", "known"), [("300+2k", (300, 2_000)), ("auto", (0.0025, 0.01))])
def test_budget__is_chosen_by_validation(
    budget: str, known: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget whose model has the best score is taken, whichever it is; equal scores mean the smallest."""
    frozen = backbone()
    values = sum(frozen.parameter(name).numel() for name in frozen.parameter_names())
    limits = [round(one * values) if one < 1 else one for one in known]
    spec = f"spt-lora:budget={budget},rank=2"
    for best, limit in ((min, limits[0]), (max, limits[1])):
        scored: list[int] = []

        def score(self: Calibrator, model: Tuned, best: Any = best, scored: list[int] = scored) -> Any:
            scored.append(model.trained_values().method)
            return (float(scored[-1] if best is max else -scored[-1]), 0.0)

        monkeypatch.setattr(Calibrator, "score", score)
        model = graft(spec, val=toy.split(9))
        assert len(scored) == (2 if "+" in budget else 4)
        assert model.tuned.trained_values().method == best(scored) <= limit
    told = model.method.told(model.backbone, model.findings)
    assert "asked for" not in told[-2]
    tried = [round(share * values) for share in AUTO] if budget == "auto" else limits
    assert told[-1] == f"Chosen by validation accuracy among budgets of {', '.join(f'{one:,}' for one in tried)}."


def test_files__are_a_pattern_to_draw() -> None:
    model = graft("spt-adapter:budget=2k,rank=2")
    (text,) = model.method.files(model.backbone, model.findings).values()
    card = json.loads(text)
    assert card["met"] == model.tuned.trained_values().method <= card["budget"] == 2_000
    rows = card["rows"]
    assert sum(row["trained"] for row in rows) == card["met"] - 24  # the class token is trained anyway
    assert {row["form"] for row in rows} >= {"sparse", "frozen"}


def test_save__and_load_give_the_same_model(tmp_path: Path) -> None:
    model = graft("spt-lora:budget=2k,rank=2")
    vitgraft.fit(model, toy.split(24), settings=SETTINGS)
    model.save(tmp_path)
    again = vitgraft.load(tmp_path, backbone=vit())
    pictures = images(model.backbone)
    with torch.no_grad():
        assert torch.equal(again.tuned.eval()(pictures), model.tuned.eval()(pictures))


def frozen_twin() -> Backbone:
    return backbone("other_shape")


def test_load__on_another_backbone_is_told(tmp_path: Path) -> None:
    graft("spt-lora:budget=2k,rank=2").save(tmp_path)
    with pytest.raises(ConfigError, match="other values than this backbone has"):
        vitgraft.load(tmp_path, backbone=frozen_twin(), force=True)


def test_dropout__is_where_it_was_published() -> None:
    """On a module's input, and none at proj."""
    lora, adapter = SptLora(dropout=0.3), SptAdapter(dropout=0.3)
    for method in (lora, adapter):
        rates = {place: method.build(place, 8, 8).dropout.p for place in ("q", "proj", "fc1")}
        assert rates == {"q": 0.3, "proj": 0.0, "fc1": 0.3}
    module = adapter.build("q", 8, 8).train()
    torch.nn.init.normal_(module.up.weight)
    module.activation = lambda hidden: hidden.new_ones(hidden.shape)
    zero = torch.zeros(5, 8)
    assert torch.equal(module(zero, zero), module(zero, zero)), "no hidden value is dropped"


def test_budget__places_are_kept_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on, perhaps elsewhere, trains what it began with: scores may differ by rounding there."""
    spec, more = "spt-lora:budget=300+2k,rank=2", {"val": toy.split(9), "out": tmp_path, "settings": SETTINGS}
    whole = graft(spec, **{**more, "out": tmp_path / "whole"})

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Calibrator, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            graft(spec, **more)
    monkeypatch.setattr(Calibrator, "squared_gradients", stop)
    again = graft(spec, **more, resume=True)
    assert again.findings.keys() == whole.findings.keys()
    assert all(torch.equal(value, whole.findings[name]) for name, value in again.findings.items())
